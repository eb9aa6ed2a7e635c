"""Images with lines of text below them, and sheets of many images."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from fishnet.prediction.drawing.text import DARK, LIGHT, fitted, font

_BAR = (72, 149, 239)
_MIN_WIDTH = 240  # px, so that a panel is readable


def score_panel(image: Image.Image, rows: Sequence[tuple[str, float]]) -> Image.Image:
    """The image above a panel with one labelled bar per row, scores in 0..1.

    Small images are enlarged by repeating pixels so that the panel is readable. Narrow images are centred above it.
    """
    image = image.convert("RGB")
    factor = max(1, min(-(-_MIN_WIDTH // image.width), 4 * _MIN_WIDTH // image.height))
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width = max(_MIN_WIDTH, image.width)
    text = max(13, width // 28)
    line = round(text * 1.6)
    canvas = Image.new("RGB", (width, image.height + line * len(rows) + line // 2), DARK)
    canvas.paste(image, ((width - image.width) // 2, 0))
    pen, letters = ImageDraw.Draw(canvas), font(text)
    for i, (label, score) in enumerate(rows):
        top = image.height + line // 4 + i * line
        percent = f"{100 * score:.1f} %"
        pen.rectangle((0, top + 1, max(1, round(score * (width - 1))), top + line - 2), fill=_BAR)
        right = width - 6 - pen.textlength(percent, font=letters)
        pen.text((right, top + line / 2), percent, fill=LIGHT, font=letters, anchor="lm")
        pen.text((6, top + line / 2), fitted(pen, label, right - 12, letters), fill=LIGHT, font=letters, anchor="lm")
    return canvas


def card(
    image: Image.Image, captions: Sequence[tuple[str, str, tuple[int, int, int]]], side: int = _MIN_WIDTH
) -> Image.Image:
    """An image in a square with lines of text below it.

    Args:
        image: reduced to fit the square, or enlarged by a whole number by repeating pixels.
        captions: for each line the text on the left (shortened to fit), the text on the right, and the colour.
        side: side of the square, px.

    Returns:
        An image of width ``side``, whose height is ``side`` plus one line per caption.
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
        pen.text((0, middle), fitted(pen, left, room - 6, letters), fill=colour, font=letters, anchor="lm")
    return canvas


def sheet(images: Sequence[Image.Image], columns: int = 4, gap: int = 8) -> Image.Image:
    """Images side by side on one sheet, in cells as large as the largest image."""
    columns = min(columns, len(images))
    width, height = max(i.width for i in images), max(i.height for i in images)
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        page.paste(image, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page
