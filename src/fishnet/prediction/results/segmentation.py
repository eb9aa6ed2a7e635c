"""A class for every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, WorkError
from fishnet.prediction.drawing import draw_labels, label_colour
from fishnet.prediction.drawing.labels import count_labels
from fishnet.prediction.drawing.text import percent
from fishnet.prediction.results.base import upright

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement

_BAND = 512  # rows of the image worked on at once
_MOST = 65535  # of an id in a 16-bit PNG


@dataclass(frozen=True)
class Segmentation:
    """The class of each pixel of one image.

    Attributes:
        labels: (height, width) uint8 class indices, in px of the image.
        classes: names and original ids of all classes; at most 255.
    """

    columns: ClassVar[tuple[str, ...]] = ("id", "name", "pixels", "share")

    labels: NDArray[np.uint8]
    classes: Classes

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32], classes: Classes, *, placement: "Placement") -> "Segmentation":
        """The likeliest class of each pixel of the image.

        Args:
            logits: (classes, height, width) of the input's size.
            classes: of the model.
            placement: how the image lies in the input.
        """
        return cls.from_probabilities(probabilities(logits, placement.inner), classes, placement.size)

    @classmethod
    def from_probabilities(cls, likely: NDArray[np.float32], classes: Classes, size: tuple[int, int]) -> "Segmentation":
        """The likeliest class of each pixel, of several equally likely ones the first.

        Args:
            likely: (classes, height, width) probabilities over the image, of any size.
            classes: of the model.
            size: height and width of the image, px, which each class's probabilities are resized to.
        """
        labels = np.zeros(size, np.uint8)
        least = 0.999 / len(likely)  # what is below it everywhere is nowhere the largest: the mean is more
        rivals = [i for i, plane in enumerate(likely) if not plane.max() < least]
        for rows in bands(size[0]):
            largest(((i, resized(likely[i], size, rows)) for i in rivals), labels[rows])
        return cls(labels, classes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        height, width = self.labels.shape
        return height, width

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(classes,) px of each class."""
        return count_labels(self.labels)[: len(self.classes)]

    @property
    def shares(self) -> NDArray[np.float64]:
        """(classes,) of the image, 0..1."""
        shares: NDArray[np.float64] = self.areas / self.labels.size
        return shares

    def to_dict(self) -> dict[str, Any]:
        """``{"task": "segment", "size": [height, width], "classes": rows}``, see :meth:`rows`."""
        return {"task": "segment", "size": list(self.size), "classes": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """One row a class that is there, the largest first: original id, name, px, and share of the image, 0..1."""
        areas, shares = self.areas.tolist(), self.shares.tolist()
        return [
            {
                "id": self.classes.ids[i],
                "name": self.classes.names[i],
                "pixels": areas[i],
                "share": round(shares[i], 6),
            }
            for i in np.argsort(-self.areas, kind="stable").tolist()
            if areas[i]
        ]

    def summary(self, most: int = 5) -> str:
        """The ``most`` largest classes with their shares."""
        rows = self.rows()
        shown = ", ".join(f"{row['name']} {percent(row['share'])}" for row in rows[:most])
        return shown + (f", {len(rows) - most} more" if len(rows) > most else "")

    def draw(self, image: Image.Image) -> Image.Image:
        """The image tinted by class, above a legend; see :func:`fishnet.prediction.drawing.draw_labels`.

        Args:
            image: the image that was predicted, upright or with its EXIF orientation.

        Raises:
            InputError: an image of another size.
        """
        return draw_labels(upright(image, self.size), self.labels, self.classes.names, self.shares)

    def index_image(self) -> Image.Image:
        """Each pixel's original id, for a PNG file: with a palette where all ids are 0..255, else 16-bit grey.

        Raises:
            InputError: ids that a PNG file cannot hold.
        """
        mode = index_mode(self.classes)
        ids = np.full(256, 255, np.uint8 if mode == "P" else np.uint16)
        ids[: len(self.classes)] = self.classes.ids
        image = Image.fromarray(ids[self.labels])
        if mode == "P":
            colours = np.zeros((256, 3), np.uint8)
            colours[list(self.classes.ids)] = [label_colour(i) for i in range(len(self.classes))]
            image.putpalette(colours.tobytes())
        return image


def index_mode(classes: Classes) -> str:
    """Pillow's mode of an image of these classes' ids: ``P``, or ``I;16`` for ids above 255.

    Raises:
        InputError: ids that neither holds.
    """
    low, high = min(classes.ids), max(classes.ids)
    if low < 0 or high > _MOST:
        raise InputError(f"classes with ids from {low} to {high}: masks as PNG files hold 0 to {_MOST}")
    return "P" if high <= 255 else "I;16"


def probabilities(logits: NDArray[np.float32], inner: tuple[int, int]) -> NDArray[np.float32]:
    """Softmax of the image's part of the input.

    Args:
        logits: (classes, height, width) of the input's size.
        inner: height and width of the image's part, px, at the upper left.

    Raises:
        WorkError: logits that are not finite.
    """
    part = logits[:, : inner[0], : inner[1]]
    if not np.isfinite(part).all():
        raise WorkError("the model's scores are not finite (NaN or infinite): its weights are of no use")
    likely: NDArray[np.float32] = part - part.max(0)
    np.exp(likely, out=likely)
    likely /= likely.sum(0)
    return likely


def bands(height: int) -> Iterator[slice]:
    """The rows of an image, some hundred at a time."""
    return (slice(top, min(top + _BAND, height)) for top in range(0, height, _BAND))


def resized(plane: NDArray[np.float32], size: tuple[int, int], rows: slice) -> NDArray[np.float32]:
    """Some rows of what a plane is at another size, by bilinear interpolation; at the same size just its rows."""
    if plane.shape == size:
        return plane[rows]
    height, width = plane.shape
    box = 0, rows.start * height / size[0], width, rows.stop * height / size[0]
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((size[1], rows.stop - rows.start), Image.Resampling.BILINEAR, box))


def largest(planes: Iterator[tuple[int, NDArray[np.float32]]], labels: NDArray[np.uint8]) -> None:
    """Fills in for each pixel the number of the plane that is the largest there, of equals the first."""
    number, best = next(planes)
    labels[:] = number
    best = best.copy()
    for number, plane in planes:
        better = plane > best
        labels[better] = number
        np.copyto(best, plane, where=better)
