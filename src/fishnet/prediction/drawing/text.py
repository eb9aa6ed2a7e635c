"""Text, and the legend below an image."""

import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fishnet.files.text import printable
from fishnet.prediction.drawing.colours import Colour

DARK, LIGHT = (24, 28, 36), (240, 243, 248)
Letters = ImageFont.FreeTypeFont | ImageFont.ImageFont
Entry = tuple[str, Colour | None]
"""A legend's text and the colour that it stands for."""

_MIN_LONG_SIDE = 480  # px; images with a shorter longer side are enlarged


@functools.lru_cache(8)
def font(size: int) -> Letters:
    """Pillow's built-in scalable font: no font file is needed."""
    return ImageFont.load_default(size)


def fitted(pen: ImageDraw.ImageDraw, label: str, width: float, letters: Letters) -> str:
    """The beginning of a label that fits into a width, px."""
    label = printable(label)  # Pillow cannot measure several lines
    if pen.textlength(label, font=letters) <= width:
        return label
    while label and pen.textlength(f"{label}…", font=letters) > width:
        label = label[:-1]
    return f"{label}…"


def enlargement(size: tuple[int, int]) -> int:
    """The factor by which an image of this width and height, px, is enlarged before drawing; 1 for large images."""
    return max(1, -(-_MIN_LONG_SIDE // max(size)))


def legend_page(size: tuple[int, int], entries: Sequence[Entry]) -> Image.Image:
    """A page with a legend at the bottom and room above it for an image of this width and height, px."""
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


def in_rows(entries: Sequence[Entry], width: int, size: int, max_rows: int = 4) -> list[list[Entry]]:
    """Breaks a legend's entries into rows. The last of ``max_rows`` rows ends with the number of entries left out."""
    rows: list[list[Entry]] = [[]]
    room = width + size * 0.2
    for entry in entries:
        if rows[-1] and sum(_width(e, size) for e in [*rows[-1], entry]) > room:
            rows.append([])
        rows[-1].append(entry)
    if len(rows) > max_rows:
        left_out, last = sum(map(len, rows[max_rows:])), rows[max_rows - 1]
        while last and sum(_width(e, size) for e in [*last, (f"and {left_out} more", None)]) > room:
            last.pop()
            left_out += 1
        last.append((f"and {left_out} more", None))
    return rows[:max_rows]
