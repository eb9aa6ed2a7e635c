"""Drawing on pictures. Torch-free."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_DARK, _LIGHT, _BAR = (24, 28, 36), (240, 243, 248), (72, 149, 239)
_LEAST = 240  # width of a readable panel, px


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
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


def _fitted(
    pen: ImageDraw.ImageDraw, label: str, width: float, letters: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    if pen.textlength(label, font=letters) <= width:
        return label
    while label and pen.textlength(f"{label}…", font=letters) > width:
        label = label[:-1]
    return f"{label}…"


def sheet(images: Sequence[Image.Image], columns: int = 4, gap: int = 8) -> Image.Image:
    """Pictures side by side on one sheet, each in a cell of the largest size."""
    columns = min(columns, len(images))
    width, height = max(i.width for i in images), max(i.height for i in images)
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        page.paste(image, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page
