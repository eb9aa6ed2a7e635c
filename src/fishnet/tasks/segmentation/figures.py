"""Cards of a segmentation report: an image's true labels, its predicted labels, and where the two differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.views import View
from fishnet.prediction.drawing import card, draw_labels
from fishnet.prediction.drawing.text import DARK, Entry, enlargement, legend_page
from fishnet.tasks.report_files import RIGHT, SIDE, WRONG

_IGNORED = (70, 90, 160)  # ignored px on the card of wrong px


def error_cards(
    image: Image.Image, truth: LabelMap, predicted: LabelMap, names: Sequence[str], name: str
) -> list[Image.Image]:
    """Three cards for a sheet: the true classes, the predicted classes, and the image in grey with wrong px in red and
    ignored px in blue.

    Args:
        image: RGB, in its own size.
        truth, predicted: label maps of that size.
        names: the names of the classes.
        name: the image's name.
    """
    labelled = truth != IGNORE
    wrong = labelled & (truth != predicted)
    step = max(1.0, max(image.size) / SIDE)
    width, height = (max(1, round(side / step)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    pick = np.ix_(*View((0, 0, *image.size), (height, width), (0, 0), (height, width)).sampled())
    pages = [
        *(draw_labels(small, labels[pick], names) for labels in (truth, predicted)),
        _draw_wrong(small, labelled[pick], wrong[pick]),
    ]
    height = max(page.height for page in pages)
    share = 100 * wrong.sum() / max(1, labelled.sum())
    captions = (
        (f"true: {name}", "", RIGHT),
        ("predicted", "", WRONG),
        ("wrong", f"{share:.1f} % of {labelled.sum():,} px", WRONG),
    )
    cards = []
    for page, caption in zip(pages, captions, strict=True):
        padded = Image.new("RGB", (page.width, height), DARK)  # of the same height, so that the images align
        padded.paste(page)
        cards.append(card(padded, [caption], SIDE))
    return cards


def _draw_wrong(image: Image.Image, labelled: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Image.Image:
    factor = enlargement(image.size)
    pixels = np.array(ImageOps.grayscale(image).convert("RGB")) // 2 + 110
    pixels[wrong] = WRONG
    pixels[~labelled] = pixels[~labelled] // 2 + np.array(_IGNORED, np.uint8) // 2
    pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    legend: list[Entry] = [("wrong", WRONG), *[("ignored", _IGNORED)] * (not labelled.all())]
    page = legend_page((pixels.shape[1], pixels.shape[0]), legend)
    page.paste(Image.fromarray(pixels))
    return page
