"""Draws objects on images: boxes, masks and names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fishnet.files.text import printable
from fishnet.prediction.drawing.colours import PALETTE, Colour, colour_of
from fishnet.prediction.drawing.text import DARK, Entry, enlargement, font, legend_page

if TYPE_CHECKING:
    from fishnet.prediction.results import CroppedMask

Box = tuple[float, float, float, float]

MAX_LABELLED = 25  # with more objects, none is labelled
_OPACITY = 0.4  # of masks


def draw_objects(
    image: Image.Image,
    boxes: NDArray[Any],
    names: Sequence[str],
    colours_by: Sequence[int] | None,
    scores: Sequence[float] | NDArray[Any] | None = None,
    cropped_masks: Sequence["CroppedMask"] | None = None,
) -> Image.Image:
    """Draws objects on an image, above a legend that counts them by name.

    Masks are tinted and outlined; if there are none, boxes are drawn. Up to 25 objects are labelled, where there is
    room between the others. Small images are enlarged by repeating pixels, so that all of this is visible.

    Args:
        image: the image of the objects, in its original size.
        boxes: (n, 4) x1, y1, x2, y2 in px.
        names: (n,) names for labels and legend.
        colours_by: (n,) numbers of colours, usually class indices. If None, each object has another colour than its
            neighbours.
        scores: (n,) 0..1, shown after the names.
        cropped_masks: (n,) masks.
    """
    image = image.convert("RGB")
    factor = enlargement(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    colours = [colour_of(number) for number in (spread_colours(corners) if colours_by is None else colours_by)]
    image = paint_objects(image, boxes, names, colours, scores, cropped_masks, factor)
    page = legend_page(image.size, counted_names(names, colours) or [("no objects", None)])
    page.paste(image)
    return page


def paint_objects(
    image: Image.Image,
    boxes: NDArray[Any],
    names: Sequence[str],
    colours: Sequence[Colour],
    scores: Sequence[float] | NDArray[Any] | None = None,
    cropped_masks: Sequence["CroppedMask"] | None = None,
    factor: int = 1,
) -> Image.Image:
    """Draws objects on an image without a legend; see :func:`draw_objects`.

    Args:
        image: the image of the objects, enlarged by ``factor``; it may change.
        boxes, names, scores, cropped_masks: see :func:`draw_objects`; in px of the image before it was enlarged.
        colours: (n,) the objects' colours.
        factor: a whole number.
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    sides = np.sqrt((corners[:, 2:] - corners[:, :2]).clip(min=0).prod(1))
    thin = max(1, round(max(image.size) / 400))
    line = max(1, min(thin, round(float(np.median(sides)) / 10))) if len(sides) else thin
    order = np.argsort(-sides, kind="stable").tolist()  # small objects on top of large ones
    if cropped_masks is None:
        pen = ImageDraw.Draw(image)
        for i in order:
            _frame(pen, corners[i], colours[i], line)
    else:
        image = _tinted(image, [(cropped_masks[i], colours[i]) for i in order], factor, line)
    if len(names) <= MAX_LABELLED:
        texts = [name if scores is None else f"{name} {scores[i]:.2f}" for i, name in enumerate(names)]
        write_labels(image, corners, texts, colours)
    return image


def counted_names(names: Sequence[str], colours: Sequence[Colour]) -> list[Entry]:
    """Legend entries of the objects' names with their counts, the most frequent first."""
    by_name: dict[str, set[Colour]] = {}
    for name, colour in zip(names, colours, strict=True):
        by_name.setdefault(name, set()).add(colour)
    return [  # objects with one name may have many colours
        (f"{name}  {count}", min(by_name[name]) if len(by_name[name]) == 1 else None)
        for name, count in Counter(names).most_common()
    ]


def spread_colours(boxes: NDArray[Any]) -> list[int]:
    """Numbers of colours: objects near each other differ, as far as seven colours allow."""
    reach = 0.15 * (boxes[:, 2:] - boxes[:, :2])
    low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
    numbers = np.full(len(boxes), -1)
    totals = np.zeros(len(PALETTE), int)
    for i in range(len(boxes)):
        neighbours = numbers[:i][((low[i] < high[:i]) & (low[:i] < high[i])).all(1)]
        conflicts = np.bincount(neighbours, minlength=len(PALETTE)) * len(boxes) + totals
        numbers[i] = conflicts.argmin()
        totals[numbers[i]] += 1
    return numbers.tolist()


def _frame(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: Colour, line: int) -> None:
    left, top, right, bottom = (round(value) for value in box.tolist())
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if line > 1:  # a dark edge, visible on images of the line's colour
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=DARK, width=line + 2)
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)


def _tinted(image: Image.Image, masks: Sequence[tuple["CroppedMask", Colour]], factor: int, line: int) -> Image.Image:
    pixels = np.array(image)
    for cropped_mask, colour in masks:
        bits = cropped_mask.bits.repeat(factor, 0).repeat(factor, 1)
        top, left = cropped_mask.top * factor, cropped_mask.left * factor
        region = pixels[top : top + bits.shape[0], left : left + bits.shape[1]]
        bits = bits[: region.shape[0], : region.shape[1]]
        inside = np.pad(bits, 1)
        for _ in range(line):
            inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        inside = inside[1:-1, 1:-1]
        region[inside] = (region[inside] * (1 - _OPACITY) + np.array(colour) * _OPACITY).astype(np.uint8)
        region[bits & ~inside] = colour
    return Image.fromarray(pixels)


def write_labels(
    image: Image.Image, boxes: NDArray[np.float64], texts: Sequence[str], colours: Sequence[Colour]
) -> NDArray[np.float64]:
    """Writes a label at each box if it covers no other label and not much of another object.

    Returns:
        (labels, 4) x1, y1, x2, y2 of the labels, px.
    """
    size = max(12, round(max(image.size) / 55))
    pen, letters, taken = ImageDraw.Draw(image), font(size), np.empty((0, 4))
    for i, text in enumerate(map(printable, texts)):
        wide, high = pen.textlength(text, font=letters) + size * 0.5, size * 1.25
        others = np.delete(boxes, i, 0)
        best, lowest = None, 0.5
        for place in _places(boxes[i], wide, high):
            beyond = min(place[:2]) < 0 or place[2] > image.width or place[3] > image.height
            if beyond or _overlap(place, taken).any():
                continue
            covered = float((_overlap(place, others) / _areas(others)).sum())
            if covered < lowest:
                best, lowest = place, covered
        if best is None:
            continue
        taken = np.vstack([taken, best])
        pen.rectangle((best[0], best[1], best[2] - 1, best[3] - 1), fill=colours[i])
        bright = np.dot(colours[i], (0.299, 0.587, 0.114)) > 125
        middle = best[0] + size * 0.25, (best[1] + best[3]) / 2
        pen.text(middle, text, fill=DARK if bright else "white", font=letters, anchor="lm")
    return taken


def _places(box: NDArray[np.float64], wide: float, high: float) -> Iterator[Box]:
    """Places for a label: above the box, below it, inside at its top, and beside it; each on the left and the right."""
    left, top, right, bottom = box.tolist()
    for x, y in (
        (left, top - high), (right - wide, top - high), (left, bottom), (right - wide, bottom),
        (left, top), (right - wide, top), (right, top), (left - wide, top), (right, bottom - high),
        (left - wide, bottom - high),
    ):  # fmt: skip
        yield round(x), round(y), round(x) + round(wide), round(y) + round(high)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).clip(min=1).prod(1)
    return areas


def _overlap(place: Box, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) areas of the intersections of one box with several, px."""
    sides = np.minimum(place[2:], boxes[:, 2:]) - np.maximum(place[:2], boxes[:, :2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(1)
    return areas
