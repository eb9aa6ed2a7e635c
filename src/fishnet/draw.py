"""Drawing on pictures. Torch-free."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from fishnet.results import Cutout

_DARK, _LIGHT, _BAR = (24, 28, 36), (240, 243, 248), (72, 149, 239)
_LEAST = 240  # width of a readable panel, px
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
Letters = ImageFont.FreeTypeFont | ImageFont.ImageFont


@functools.lru_cache(8)
def font(size: int) -> Letters:
    """Pillow's own scalable font, so that no font file is needed."""
    return ImageFont.load_default(size)


def score_panel(image: Image.Image, rows: Sequence[tuple[str, float]]) -> Image.Image:
    """The picture with a panel below it: one labelled bar per row, scores in 0..1.

    Small pictures are enlarged (pixels kept) so that the panel can be read; narrow ones stand in the middle above it.
    """
    image = image.convert("RGB")
    factor = max(1, min(-(-_LEAST // image.width), 4 * _LEAST // image.height))
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width = max(_LEAST, image.width)
    text = max(13, width // 28)
    line = round(text * 1.6)
    canvas = Image.new("RGB", (width, image.height + line * len(rows) + line // 2), _DARK)
    canvas.paste(image, ((width - image.width) // 2, 0))
    pen, letters = ImageDraw.Draw(canvas), font(text)
    for i, (label, score) in enumerate(rows):
        top = image.height + line // 4 + i * line
        percent = f"{100 * score:.1f} %"
        pen.rectangle((0, top + 1, max(1, round(score * (width - 1))), top + line - 2), fill=_BAR)
        right = width - 6 - pen.textlength(percent, font=letters)
        pen.text((right, top + line / 2), percent, fill=_LIGHT, font=letters, anchor="lm")
        pen.text((6, top + line / 2), _fitted(pen, label, right - 12, letters), fill=_LIGHT, font=letters, anchor="lm")
    return canvas


def _fitted(pen: ImageDraw.ImageDraw, label: str, width: float, letters: Letters) -> str:
    if pen.textlength(label, font=letters) <= width:
        return label
    while label and pen.textlength(f"{label}…", font=letters) > width:
        label = label[:-1]
    return f"{label}…"


def card(
    image: Image.Image, captions: Sequence[tuple[str, str, tuple[int, int, int]]], side: int = _LEAST
) -> Image.Image:
    """A picture in a square with lines below it.

    Args:
        image: is reduced to the square, or enlarged by a whole number with its pixels kept.
        captions: of each line the text on the left (shortened to fit), the text on the right, and the colour.
        side: of the square, px.

    Returns:
        A picture ``side`` wide and a line higher for each caption.
    """
    image = image.convert("RGB")
    longest = max(image.size)
    if longest > side:
        size = [max(1, round(length * side / longest)) for length in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    elif factor := side // longest:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    text = max(13, side // 17)
    line = round(text * 1.5)
    canvas = Image.new("RGB", (side, side + line * len(captions)), "white")
    canvas.paste((232, 234, 238), (0, 0, side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    pen, letters = ImageDraw.Draw(canvas), font(text)
    for i, (left, right, colour) in enumerate(captions):
        middle, room = side + (i + 0.5) * line, side - pen.textlength(right, font=letters)
        pen.text((side, middle), right, fill=colour, font=letters, anchor="rm")
        pen.text((0, middle), _fitted(pen, left, room - 6, letters), fill=colour, font=letters, anchor="lm")
    return canvas


def sheet(images: Sequence[Image.Image], columns: int = 4, gap: int = 8) -> Image.Image:
    """Pictures side by side on one sheet, each in a cell of the largest size."""
    columns = min(columns, len(images))
    width, height = max(i.width for i in images), max(i.height for i in images)
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        page.paste(image, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page


# Objects

_PALETTE: tuple[Colour, ...] = (  # Okabe and Ito's "Color Universal Design" (2008)
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178), (204, 121, 167),
)  # fmt: skip
_MANY = 25  # objects; with more there are no labels beside them
_SMALL = 480  # px; pictures whose longer side is below are enlarged
_FILL = 0.4  # of a mask, how much it covers


def colour_of(number: int) -> Colour:
    """The colour of class ``number``: seven that colour-blind people can tell apart, then these lighter and darker."""
    turn, place = divmod(number, len(_PALETTE))
    towards, share = ((0, 0.0), (255, 0.5), (0, 0.45))[turn % 3]
    red, green, blue = (round(value + (towards - value) * share) for value in _PALETTE[place])
    return red, green, blue


def draw_objects(
    image: Image.Image,
    boxes: NDArray[Any],
    names: Sequence[str],
    colours_by: Sequence[int] | None,
    scores: Sequence[float] | NDArray[Any] | None = None,
    cutouts: Sequence["Cutout"] | None = None,
) -> Image.Image:
    """The picture with objects marked, above a legend that counts them by name.

    Masks are tinted and outlined; without masks boxes are drawn. Up to 25 objects are labelled, as far as there is room
    beside the others. Small pictures are enlarged (pixels kept), so that all of that can be seen.

    Args:
        image: in the size that the objects are in.
        boxes: (n, 4) x1, y1, x2, y2 in px.
        names: (n,) names for labels and legend.
        colours_by: (n,) numbers of colours, as a rule the classes'; None for another colour than its neighbours' for
            each object.
        scores: (n,) 0..1, put beside the names.
        cutouts: (n,) masks.
    """
    image = image.convert("RGB")
    factor = max(1, -(-_SMALL // max(image.size)))
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    colours = [colour_of(number) for number in (_spread(corners) if colours_by is None else colours_by)]
    sides = np.sqrt((corners[:, 2:] - corners[:, :2]).clip(min=0).prod(1))
    thin = max(1, round(max(image.size) / 400))
    line = max(1, min(thin, round(float(np.median(sides)) / 10))) if len(sides) else thin
    order = np.argsort(-sides, kind="stable").tolist()  # small ones above large ones
    if cutouts is None:
        pen = ImageDraw.Draw(image)
        for i in order:
            _frame(pen, corners[i], colours[i], line)
    else:
        image = _tinted(image, [(cutouts[i], colours[i]) for i in order], factor, line)
    if len(names) <= _MANY:
        texts = [name if scores is None else f"{name} {scores[i]:.2f}" for i, name in enumerate(names)]
        _label(image, corners, texts, colours)
    return _with_legend(image, names, colours)


def _spread(boxes: NDArray[np.float64]) -> list[int]:
    """Numbers of colours, such that objects near each other differ, as far as seven colours go."""
    reach = 0.15 * (boxes[:, 2:] - boxes[:, :2])
    low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
    given = np.full(len(boxes), -1)
    totals = np.zeros(len(_PALETTE), int)
    for i in range(len(boxes)):
        near = given[:i][((low[i] < high[:i]) & (low[:i] < high[i])).all(1)]
        worst = np.bincount(near, minlength=len(_PALETTE)) * len(boxes) + totals
        given[i] = worst.argmin()
        totals[given[i]] += 1
    return given.tolist()


def _frame(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: Colour, line: int) -> None:
    left, top, right, bottom = (round(value) for value in box.tolist())
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if line > 1:  # a dark edge, for pictures of the line's own colour
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_DARK, width=line + 2)
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)


def _tinted(image: Image.Image, masks: Sequence[tuple["Cutout", Colour]], factor: int, line: int) -> Image.Image:
    pixels = np.array(image)
    for cutout, colour in masks:
        bits = cutout.bits.repeat(factor, 0).repeat(factor, 1)
        top, left = cutout.top * factor, cutout.left * factor
        part = pixels[top : top + bits.shape[0], left : left + bits.shape[1]]
        bits = bits[: part.shape[0], : part.shape[1]]
        inside = np.pad(bits, 1)
        for _ in range(line):
            inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        inside = inside[1:-1, 1:-1]
        part[inside] = (part[inside] * (1 - _FILL) + np.array(colour) * _FILL).astype(np.uint8)
        part[bits & ~inside] = colour
    return Image.fromarray(pixels)


def _label(
    image: Image.Image, boxes: NDArray[np.float64], texts: Sequence[str], colours: Sequence[Colour]
) -> NDArray[np.float64]:
    """Writes beside each box what fits without covering another label or much of another object; says where."""
    size = max(12, round(max(image.size) / 55))
    pen, letters, taken = ImageDraw.Draw(image), font(size), np.empty((0, 4))
    for i, text in enumerate(texts):
        wide, high = pen.textlength(text, font=letters) + size * 0.5, size * 1.25
        others = np.delete(boxes, i, 0)
        best, least = None, 0.5
        for place in _places(boxes[i], wide, high):
            beyond = min(place[:2]) < 0 or place[2] > image.width or place[3] > image.height
            if beyond or _overlap(place, taken).any():
                continue
            covered = float((_overlap(place, others) / _areas(others)).sum())
            if covered < least:
                best, least = place, covered
        if best is None:
            continue
        taken = np.vstack([taken, best])
        pen.rectangle((best[0], best[1], best[2] - 1, best[3] - 1), fill=colours[i])
        bright = np.dot(colours[i], (0.299, 0.587, 0.114)) > 125
        middle = best[0] + size * 0.25, (best[1] + best[3]) / 2
        pen.text(middle, text, fill=_DARK if bright else "white", font=letters, anchor="lm")
    return taken


def _places(box: NDArray[np.float64], wide: float, high: float) -> Iterator[Box]:
    """Where a label may stand: above the box, below, inside at its top, beside; on the left and on the right."""
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
    """(n,) px that one box has in common with each of others."""
    sides = np.minimum(place[2:], boxes[:, 2:]) - np.maximum(place[:2], boxes[:, :2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(1)
    return areas


Entry = tuple[str, Colour | None]


def _with_legend(image: Image.Image, names: Sequence[str], colours: Sequence[Colour]) -> Image.Image:
    """The picture above its objects' names, colours and counts, the most frequent first."""
    size = max(13, round(max(image.size) / 55))
    letters, line = font(size), round(size * 1.6)
    shades: dict[str, set[Colour]] = {}
    for name, shade in zip(names, colours, strict=True):
        shades.setdefault(name, set()).add(shade)
    entries: list[Entry] = [  # objects of one name may have many colours
        (f"{name}  {count}", min(shades[name]) if len(shades[name]) == 1 else None)
        for name, count in Counter(names).most_common()
    ]
    rows = _in_rows(entries or [("no objects", None)], image.width, size)
    page = Image.new("RGB", (image.width, image.height + line * len(rows) + line // 3), _DARK)
    page.paste(image)
    pen = ImageDraw.Draw(page)
    for i, row in enumerate(rows):
        x, middle = size * 0.5, image.height + line // 6 + (i + 0.5) * line
        for text, colour in row:
            if colour:
                pen.rectangle((x, middle - size * 0.4, x + size * 0.8, middle + size * 0.4), fill=colour)
            shown = _fitted(pen, text, image.width - 2 * size, letters)
            pen.text((x + size * 1.2 * bool(colour), middle), shown, fill=_LIGHT, font=letters, anchor="lm")
            x += _width((text, colour), size)
    return page


def _width(entry: Entry, size: int) -> float:
    return font(size).getlength(entry[0]) + size * (2.4 if entry[1] else 1.2)


def _in_rows(entries: Sequence[Entry], width: int, size: int, most: int = 4) -> list[list[Entry]]:
    """A legend's entries in lines; what the ``most`` lines do not hold is counted at their end."""
    rows: list[list[Entry]] = [[]]
    room = width + size * 0.2
    for entry in entries:
        if rows[-1] and sum(_width(e, size) for e in [*rows[-1], entry]) > room:
            rows.append([])
        rows[-1].append(entry)
    if len(rows) > most:
        rest, last = sum(map(len, rows[most:])), rows[most - 1]
        while last and sum(_width(e, size) for e in [*last, (f"and {rest} more", None)]) > room:
            last.pop()
            rest += 1
        last.append((f"and {rest} more", None))
    return rows[:most]
