"""The worst pictures of a segmenter's report: truth beside what is said, and where the two differ."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from fishnet.data.pixels.base import IGNORE, LabelMap
from fishnet.data.views import View
from fishnet.draw import card, draw_labels
from fishnet.tasks.report_files import RIGHT, WRONG

_SIDE = 480  # of a picture on the sheet, px
_UNKNOWN = (70, 90, 160)  # ignored px, where errors are shown


def truth_said_and_wrong(
    picture: Image.Image, truth: LabelMap, said: LabelMap, names: Sequence[str], name: str
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Three cards for a sheet: the true classes, those said, and the wrong px in red on the picture in grey, ignored
    ones in blue.

    Args:
        picture: RGB, in its own size.
        truth, said: of that size.
        names: of the classes.
        name: of the picture.
    """
    known = truth != IGNORE
    wrong = known & (truth != said)
    share = f"{100 * wrong.sum() / max(1, known.sum()):.1f} % of {known.sum():,} px"
    step = max(1.0, max(picture.size) / _SIDE)
    width, height = (max(1, round(side / step)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BOX)
    pick = np.ix_(*View((0, 0, *picture.size), (height, width), (0, 0), (height, width)).sampled())
    marked = np.array(ImageOps.grayscale(small).convert("RGB")) // 2 + 110
    marked[wrong[pick]] = WRONG
    marked[~known[pick]] = marked[~known[pick]] // 2 + np.array(_UNKNOWN, np.uint8) // 2
    return (
        card(draw_labels(small, truth[pick], names), [(name, "true", RIGHT)], _SIDE),
        card(draw_labels(small, said[pick], names), [("", "said", WRONG)], _SIDE),
        card(Image.fromarray(marked.astype(np.uint8)), [("wrong", share, WRONG)], _SIDE),
    )
