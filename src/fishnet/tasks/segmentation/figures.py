"""The worst images of a segmenter's report: truth beside what is said, and where the two differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.views import View
from fishnet.prediction.drawing import card, draw_labels
from fishnet.prediction.drawing.text import DARK, Entry, enlargement, legend_page
from fishnet.tasks.report_files import RIGHT, SIDE, WRONG

_UNKNOWN = (70, 90, 160)  # ignored px, where errors are shown


def truth_said_and_wrong(
    image: Image.Image, truth: LabelMap, said: LabelMap, names: Sequence[str], name: str
) -> list[Image.Image]:
    """Three cards for a sheet: the true classes, those said, and the wrong px in red on the image in grey, ignored
    ones in blue.

    Args:
        image: RGB, in its own size.
        truth, said: of that size.
        names: of the classes.
        name: of the image.
    """
    known = truth != IGNORE
    wrong = known & (truth != said)
    step = max(1.0, max(image.size) / SIDE)
    width, height = (max(1, round(side / step)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    pick = np.ix_(*View((0, 0, *image.size), (height, width), (0, 0), (height, width)).sampled())
    pages = [
        *(draw_labels(small, labels[pick], names) for labels in (truth, said)),
        _marked(small, known[pick], wrong[pick]),
    ]
    highest = max(page.height for page in pages)
    share = 100 * wrong.sum() / max(1, known.sum())
    captions = (
        (f"true: {name}", "", RIGHT),
        ("said", "", WRONG),
        ("wrong", f"{share:.1f} % of {known.sum():,} px", WRONG),
    )
    cards = []
    for page, caption in zip(pages, captions, strict=True):
        whole = Image.new("RGB", (page.width, highest), DARK)  # of one height, so that the images lie side by side
        whole.paste(page)
        cards.append(card(whole, [caption], SIDE))
    return cards


def _marked(image: Image.Image, known: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Image.Image:
    factor = enlargement(image.size)
    pixels = np.array(ImageOps.grayscale(image).convert("RGB")) // 2 + 110
    pixels[wrong] = WRONG
    pixels[~known] = pixels[~known] // 2 + np.array(_UNKNOWN, np.uint8) // 2
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    legend: list[Entry] = [("wrong", WRONG), *[("ignored", _UNKNOWN)] * (not known.all())]
    page = legend_page((pixels.shape[1], pixels.shape[0]), legend)
    page.paste(Image.fromarray(pixels))
    return page
