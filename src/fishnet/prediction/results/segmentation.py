"""The results of segmentation: a class for every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, WorkError
from fishnet.files.text import percent
from fishnet.prediction.drawing import draw_labels, label_colour
from fishnet.prediction.drawing.labels import count_labels
from fishnet.prediction.results.base import upright

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement

_BAND = 512  # rows of the image processed at once
_MAX_ID = 65535  # the largest id in a 16-bit PNG


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
        """Finds the likeliest class of each pixel of the image.

        Args:
            logits: (classes, height, width), as large as the input.
            classes: the model's classes.
            placement: where the image lies in the input.
        """
        return cls.from_probabilities(probabilities(logits, placement.inner), classes, placement.size)

    @classmethod
    def from_probabilities(cls, planes: NDArray[np.float32], classes: Classes, size: tuple[int, int]) -> "Segmentation":
        """Finds the likeliest class of each pixel, or the first of equally likely classes.

        Args:
            planes: (classes, height, width) probabilities over the image, of any size.
            classes: the model's classes.
            size: height and width of the image, px, to which the probabilities are resized.
        """
        labels = np.zeros(size, np.uint8)
        lowest = 0.999 / len(planes)  # a class below this everywhere is never the likeliest: the mean is higher
        candidates = [i for i, plane in enumerate(planes) if not plane.max() < lowest]
        for rows in bands(size[0]):
            fill_argmax(((i, resized(planes[i], size, rows)) for i in candidates), labels[rows])
        return cls(labels, classes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        height, width = self.labels.shape
        return height, width

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(classes,) number of px of each class."""
        return count_labels(self.labels)[: len(self.classes)]

    @property
    def shares(self) -> NDArray[np.float64]:
        """(classes,) share of the image, 0..1."""
        shares: NDArray[np.float64] = self.areas / self.labels.size
        return shares

    def to_dict(self) -> dict[str, Any]:
        """``{"task": "segment", "size": [height, width], "classes": rows}``, see :meth:`rows`."""
        return {"task": "segment", "size": list(self.size), "classes": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """One row per class in the image, the largest first: original id, name, px, and share of the image, 0..1."""
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

    def id_map(self) -> NDArray[np.int64]:
        """(height, width): each pixel's original class id."""
        ids: NDArray[np.int64] = np.asarray(self.classes.ids, np.int64)[self.labels]
        return ids

    def summary(self, limit: int = 5) -> str:
        """The largest classes, at most ``limit``, with their shares."""
        rows = self.rows()
        shown = ", ".join(f"{row['name']} {percent(row['share'])}" for row in rows[:limit])
        return shown + (f", {len(rows) - limit} more" if len(rows) > limit else "")

    def draw(self, image: Image.Image) -> Image.Image:
        """The image tinted by class, above a legend; see :func:`fishnet.prediction.drawing.draw_labels`.

        Args:
            image: the image that was predicted, upright or with its EXIF orientation.

        Raises:
            InputError: an image of another size.
        """
        return draw_labels(upright(image, self.size), self.labels, self.classes.names, self.shares)

    def index_image(self) -> Image.Image:
        """Each pixel's original id as an image for a PNG file: with a palette if all ids are 0..255, else 16-bit grey.

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
    """Pillow's mode for an image of these classes' ids: ``P``, or ``I;16`` for ids above 255.

    Raises:
        InputError: ids that neither mode can hold.
    """
    low, high = min(classes.ids), max(classes.ids)
    if low < 0 or high > _MAX_ID:
        raise InputError(f"classes with ids from {low} to {high}: a PNG mask holds ids from 0 to {_MAX_ID}")
    return "P" if high <= 255 else "I;16"


def probabilities(logits: NDArray[np.float32], inner: tuple[int, int]) -> NDArray[np.float32]:
    """Softmax of the logits over the image, without the padding.

    Args:
        logits: (classes, height, width), as large as the input.
        inner: height and width of the image in the input, px, at the upper left.

    Raises:
        WorkError: logits that are not finite.
    """
    logits = logits[:, : inner[0], : inner[1]]
    if not np.isfinite(logits).all():
        raise WorkError("the model's scores are not finite (NaN or infinite): its weights are broken")
    planes: NDArray[np.float32] = logits - logits.max(0)
    np.exp(planes, out=planes)
    planes /= planes.sum(0)
    return planes


def bands(height: int) -> Iterator[slice]:
    """The rows of an image, some hundred at a time."""
    return (slice(top, min(top + _BAND, height)) for top in range(0, height, _BAND))


def resized(plane: NDArray[np.float32], size: tuple[int, int], rows: slice) -> NDArray[np.float32]:
    """Resizes a plane by bilinear interpolation and returns some rows of the result."""
    if plane.shape == size:
        return plane[rows]
    height, width = plane.shape
    box = 0, rows.start * height / size[0], width, rows.stop * height / size[0]
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((size[1], rows.stop - rows.start), Image.Resampling.BILINEAR, box))


def fill_argmax(planes: Iterator[tuple[int, NDArray[np.float32]]], labels: NDArray[np.uint8]) -> None:
    """Sets each pixel's label to the number of the plane that is the largest there, or to the first of equal planes."""
    number, best = next(planes)
    labels[:] = number
    best = best.copy()
    for number, plane in planes:
        better = plane > best
        labels[better] = number
        np.copyto(best, plane, where=better)
