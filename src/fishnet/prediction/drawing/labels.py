"""Label maps on images."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.text import percent
from fishnet.prediction.drawing.colours import label_colour
from fishnet.prediction.drawing.text import Entry, enlargement, legend_page

_IGNORED = 255
_FILL = 0.5  # how much of an image its classes' colours cover
_BLOCK = 2**21  # px worked on at once
_NOTHING = {"background", "bg", "unlabelled", "unlabeled"}


def draw_labels(
    image: Image.Image,
    labels: NDArray[np.uint8],
    names: Sequence[str],
    shares: NDArray[np.float64] | Sequence[float] | None = None,
) -> Image.Image:
    """The image in grey tinted by each pixel's class, with outlines, above a legend of the classes that are there.

    Pixels labelled 255, and those of a class that is called background (also ``_background_``, ``bg``, unlabelled; in
    letters of any case), keep their own colour. Small images are enlarged (pixels kept). Beside the image and the
    result this takes little memory.

    Args:
        image: of the size of the labels.
        labels: (height, width) class indices, and 255 where there are none.
        names: of all classes.
        shares: of all classes, 0..1, for the legend; by default those of the labels that are not 255.

    Raises:
        InputError: labels of another size than the image.
    """
    if image.size != labels.shape[::-1]:
        raise InputError(
            f"labels of {labels.shape[1]}x{labels.shape[0]} px, to be drawn on {image.width}x{image.height} px"
        )
    counts = count_labels(labels)[:_IGNORED]
    if shares is None:
        shares = counts / max(1, counts.sum())
    tinted = np.array([name.strip("_").casefold() not in _NOTHING for name in names], bool)
    entries: list[Entry] = [
        (f"{names[i]}  {percent(float(shares[i]))}", label_colour(i) if tinted[i] else None)
        for i in np.argsort(-counts, kind="stable").tolist()
        if counts[i]
    ]
    factor = enlargement(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        labels = labels.repeat(factor, 0).repeat(factor, 1)
    page = legend_page(image.size, entries or [("no classes", None)])
    cover = np.zeros(_IGNORED + 1, np.float32)
    cover[: len(names)] = _FILL * tinted
    colours = np.zeros((_IGNORED + 1, 3), np.float32)
    colours[: len(names)] = [label_colour(i) for i in range(len(names))]
    line = max(1, round(max(image.size) / 900))
    for top, bottom in _blocks(labels):
        part, outline = labels[top:bottom], _outlines(labels, top, bottom, line)
        share = cover[part]
        share[outline & (share > 0)] = 1
        pixels = image.crop((0, top, image.width, bottom))
        grey = np.asarray(pixels.convert("L"))[..., None]  # under a tint: hues then are the classes'
        mixed = grey * (1 - share)[..., None] + colours[part] * share[..., None]
        page.paste(pixels, (0, top))
        page.paste(Image.fromarray(mixed.round().astype(np.uint8)), (0, top), Image.fromarray(share > 0))
    return page


def count_labels(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,) how often each label is there."""
    counts = np.zeros(_IGNORED + 1, np.int64)
    for top, bottom in _blocks(labels):
        counts += np.bincount(labels[top:bottom].ravel(), minlength=_IGNORED + 1)
    return counts


def _blocks(labels: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """First row and the row after the last of each block of rows."""
    height, width = labels.shape
    step = max(1, _BLOCK // max(1, width))
    return ((top, min(top + step, height)) for top in range(0, height, step))


def _outlines(labels: NDArray[np.uint8], top: int, bottom: int, line: int) -> NDArray[np.bool_]:
    """(rows, width) of some rows: another label lies so many px beside, above or below."""
    part = labels[top:bottom]
    rows = np.arange(top, bottom)
    found: NDArray[np.bool_] = part != labels[(rows - line).clip(0)]
    found |= part != labels[(rows + line).clip(max=len(labels) - 1)]
    beside = part[:, line:] != part[:, :-line]
    found[:, line:] |= beside
    found[:, :-line] |= beside
    return found
