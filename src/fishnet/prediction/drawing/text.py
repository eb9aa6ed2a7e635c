"""Letters, and the legend below an image."""

import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fishnet.files.text import printable
from fishnet.prediction.drawing.colours import Colour

DARK, LIGHT = (24, 28, 36), (240, 243, 248)
Letters = ImageFont.FreeTypeFont | ImageFont.ImageFont
Entry = tuple[str, Colour | None]
"""A legend's text, and the colour that it explains."""

_SMALL = 480  # px; images whose longer side is below are enlarged


@functools.lru_cache(8)
def font(size: int) -> Letters:
    """Pillow's own scalable font, so that no font file is needed."""
    return ImageFont.load_default(size)


def fitted(pen: ImageDraw.ImageDraw, label: str, width: float, letters: Letters) -> str:
    """As much of a label as fits into a width, px."""
    label = printable(label)  # a name of several lines has no length
    if pen.textlength(label, font=letters) <= width:
        return label
    while label and pen.textlength(f"{label}…", font=letters) > width:
        label = label[:-1]
    return f"{label}…"


def enlargement(size: tuple[int, int]) -> int:
    """The whole number of times that a small image of this width and height, px, is enlarged to be drawn on."""
    return max(1, -(-_SMALL // max(size)))


def legend_page(size: tuple[int, int], entries: Sequence[Entry]) -> Image.Image:
    """A page with a legend at its foot, and room above it for an image of this width and height, px."""
    text = max(13, round(max(size) / 55))
    letters, line = font(text), round(text * 1.6)
    rows = in_rows(entries, size[0], text)
    page = Image.new("RGB", (size[0], size[1] + line * len(rows) + line // 3), DARK)
    pen = ImageDraw.Draw(page)
    for i, row in enumerate(rows):
        x, middle = text * 0.5, size[1] + line // 6 + (i + 0.5) * line
        for words, colour in row:
            if colour:
                pen.rectangle((x, middle - text * 0.4, x + text * 0.8, middle + text * 0.4), fill=colour)
            shown = fitted(pen, words, size[0] - 2 * text, letters)
            pen.text((x + text * 1.2 * bool(colour), middle), shown, fill=LIGHT, font=letters, anchor="lm")
            x += _width((words, colour), text)
    return page


def _width(entry: Entry, size: int) -> float:
    return font(size).getlength(printable(entry[0])) + size * (2.4 if entry[1] else 1.2)


def in_rows(entries: Sequence[Entry], width: int, size: int, most: int = 4) -> list[list[Entry]]:
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
