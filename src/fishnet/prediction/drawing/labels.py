"""Draws label maps on images."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.text import percent
from fishnet.prediction.drawing.colours import label_colour
from fishnet.prediction.drawing.text import Entry, enlargement, legend_page

_IGNORED = 255
_OPACITY = 0.5  # of the classes' colours
_BLOCK = 2**21  # px processed at once
_BACKGROUND = {"background", "bg", "unlabelled", "unlabeled"}


def draw_labels(
    image: Image.Image,
    labels: NDArray[np.uint8],
    names: Sequence[str],
    shares: NDArray[np.float64] | Sequence[float] | None = None,
    *,
    title: str = "",
    first_colour: int = 0,
) -> Image.Image:
    """Tints the image, in grey, by each pixel's class and draws outlines, above a legend of the classes present.

    Pixels labelled 255 and pixels of a class called background (also ``_background_``, ``bg``, unlabelled, in any case)
    keep their colour. Small images are enlarged by repeating pixels. Needs little memory besides the image and the
    result.

    Args:
        image: as large as the labels.
        labels: (height, width) class indices, 255 where there is no class.
        names: the names of all classes.
        shares: the shares of all classes, 0..1, for the legend; by default those of the labels other than 255.
        title: written before the legend.
        first_colour: number of the first class's colour.

    Raises:
        InputError: labels and image differ in size.
    """
    if image.size != labels.shape[::-1]:
        raise InputError(
            f"labels of {labels.shape[1]}x{labels.shape[0]} px cannot be drawn on an image of "
            f"{image.width}x{image.height} px"
        )
    counts = count_labels(labels)[:_IGNORED]
    if shares is None:
        shares = counts / max(1, counts.sum())
    tinted = np.array([name.strip("_").casefold() not in _BACKGROUND for name in names], bool)
    entries: list[Entry] = [
        (f"{names[i]}  {percent(float(shares[i]))}", label_colour(first_colour + i) if tinted[i] else None)
        for i in np.argsort(-counts, kind="stable").tolist()
        if counts[i]
    ]
    factor = enlargement(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        labels = labels.repeat(factor, 0).repeat(factor, 1)
    before: list[Entry] = [(f"{title}:", None)] if title else []
    page = legend_page(image.size, [*before, *(entries or [("no classes", None)])])
    cover = np.zeros(_IGNORED + 1, np.float32)
    cover[: len(names)] = _OPACITY * tinted
    colours = np.zeros((_IGNORED + 1, 3), np.float32)
    colours[: len(names)] = [label_colour(first_colour + i) for i in range(len(names))]
    tint(image, labels, colours, cover, page)
    return page


def tint(
    image: Image.Image,
    labels: NDArray[np.integer],
    colours: NDArray[np.float32],
    cover: NDArray[np.float32],
    page: Image.Image,
    outlined: NDArray[np.bool_] | None = None,
) -> None:
    """Tints an image, in grey, by its pixels' labels, draws outlines, and pastes it at the top left of a page.

    Args:
        image: as large as the labels.
        labels: (height, width).
        colours: (labels, 3) the colour of each label, 0..255.
        cover: (labels,) the opacity of each colour, 0..1. Pixels with 0 keep their colour and have no outline.
        page: the page.
        outlined: (labels,) the labels that have outlines; by default all that are tinted.
    """
    line = max(1, round(max(image.size) / 900))
    outlined = cover > 0 if outlined is None else outlined
    for top, bottom in _blocks(labels):
        block, outline = labels[top:bottom], _outlines(labels, top, bottom, line)
        share = cover[block]
        share[outline & outlined[block]] = 1
        pixels = image.crop((0, top, image.width, bottom))
        grey = np.asarray(pixels.convert("L"))[..., None]  # below the tint, so that only classes have a hue
        mixed = grey * (1 - share)[..., None] + colours[block] * share[..., None]
        page.paste(pixels, (0, top))
        page.paste(Image.fromarray(mixed.round().astype(np.uint8)), (0, top), Image.fromarray(share > 0))


def count_labels(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,) number of pixels with each label."""
    counts = np.zeros(_IGNORED + 1, np.int64)
    for top, bottom in _blocks(labels):
        counts += np.bincount(labels[top:bottom].ravel(), minlength=_IGNORED + 1)
    return counts


def _blocks(labels: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """The first row of each block of rows, and the row after its last."""
    height, width = labels.shape
    step = max(1, _BLOCK // max(1, width))
    return ((top, min(top + step, height)) for top in range(0, height, step))


def _outlines(labels: NDArray[np.integer], top: int, bottom: int, line: int) -> NDArray[np.bool_]:
    """(rows, width) bool, for some rows: a pixel ``line`` px beside, above or below has another label."""
    block = labels[top:bottom]
    rows = np.arange(top, bottom)
    outline: NDArray[np.bool_] = block != labels[(rows - line).clip(0)]
    outline |= block != labels[(rows + line).clip(max=len(labels) - 1)]
    beside = block[:, line:] != block[:, :-line]
    outline[:, line:] |= beside
    outline[:, :-line] |= beside
    return outline
