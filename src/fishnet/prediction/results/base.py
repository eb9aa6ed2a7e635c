"""What all results have in common."""

from typing import Any, Protocol

from PIL import Image, ImageOps

from fishnet.errors import InputError


class Result(Protocol):
    """The interface of every task's result, and of a scene."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of its rows, even if there are no rows."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with the result drawn on it."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows for tables and CSV."""
        ...

    def summary(self) -> str:
        """One line of text."""
        ...


def upright(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Rotates the predicted image by its EXIF orientation. An image without one is returned unchanged.

    Args:
        image: upright or not.
        size: height and width of the upright image, px.

    Raises:
        InputError: an image of another size.
    """
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    height, width = size
    if image.size != (width, height):
        raise InputError(
            f"the result of an image of {width}x{height} px cannot be drawn on one of {image.width}x{image.height} px: "
            "give the same image"
        )
    return image
