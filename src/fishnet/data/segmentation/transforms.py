"""The transforms of an image and its label map, for training and for validation."""

import math

import numpy as np
import torch
from torch import Tensor

from fishnet.data.augment import WholeImageTransform, refuse_crop
from fishnet.data.crops import Window, crop_to_fit
from fishnet.data.decode import to_tensor
from fishnet.data.segmentation.base import IGNORE, LabelMap, SegmentationTarget
from fishnet.data.views import View
from fishnet.images.decoding import ImageLike
from fishnet.images.preprocess import Preprocess, padded

TRIES = 10  # at most so many crops are drawn until one is not mostly of one class


class SegmentationTrainTransform(WholeImageTransform):
    """Scale jitter, a crop of a fixed size, mirroring and photometric distortion of an image and its label map.

    An image is scaled as by :meth:`~fishnet.images.preprocess.Preprocess.place`, times a factor drawn from ``jitter``,
    uniform in its logarithm. A larger result is cropped at random; a smaller one is padded on the right and
    below, with the mean colour and ignored labels. The visible part of the image is resized once; labels are those
    of the nearest px.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        crop_size: side of the square result, px; rounded up to a multiple of 32.
        flip, flip_vertical: probabilities of mirroring left to right and upside down, 0..1.
        jitter: smallest and largest factor of the scale; (1, 1) keeps the scale.
        single_class: the largest share, 0..1, of a crop's labels that may be of one class (0.75 in common recipes). Up
            to ten crops are drawn until one qualifies; otherwise the last one is used. 1 accepts any crop.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.

    Raises:
        InputError: preprocessing that crops; factors that are not a range above 0; photometric distortion of images
            with other than 1 or 3 channels.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        crop_size: int,
        flip: float,
        flip_vertical: float,
        jitter: tuple[float, float],
        single_class: float,
        photometric: float,
    ) -> None:
        super().__init__(preprocess, flip=flip, flip_vertical=flip_vertical, jitter=jitter, photometric=photometric)
        self.side, self.single_class = padded(crop_size), single_class

    def __call__(self, image: ImageLike | Tensor, labels: LabelMap) -> tuple[Tensor, SegmentationTarget]:
        """Transforms an image and its label map of the same size.

        Args:
            image: an image, or a tensor of shape (channels, height, width).
            labels: (height, width).

        Returns:
            A tensor of shape (channels, side, side) and the image's dtype, channels last in memory; and its label map.
        """
        pixels = image if isinstance(image, Tensor) else to_tensor(image)
        view = self._view(labels)
        return self.render([pixels], [view]), SegmentationTarget(torch.from_numpy(view.labels(labels, IGNORE)))

    def _view(self, labels: LabelMap) -> View:
        full: Window = (0, 0, labels.shape[1], labels.shape[0])
        scale, crop = self.scale(*labels.shape), (self.side, self.side)
        for _ in range(TRIES):
            window, inner = crop_to_fit(full, scale, crop, None)
            if window == full or self.single_class >= 1 or _largest_share(labels, window) <= self.single_class:
                break
        return View(window, inner, (0, 0), crop, self.flips())


class SegmentationEvalTransform:
    """The deterministic preprocessing that is stored with the model, applied to an image and its label map.

    Args:
        preprocess: its ``fit`` must not be ``crop``.

    Raises:
        InputError: preprocessing that crops.
    """

    min_side: int | None = None

    def __init__(self, preprocess: Preprocess) -> None:
        refuse_crop(preprocess)
        self.preprocess = preprocess

    def __call__(self, image: ImageLike, labels: LabelMap) -> tuple[Tensor, SegmentationTarget]:
        """Makes the same input of an image as prediction does, and maps the label map to the input.

        Returns:
            A tensor of shape (channels, height, width), uint8, or float32 for float arrays; and the target, with the
            given labels as ``truth`` and the ``placement``.
        """
        height, width = labels.shape
        return torch.from_numpy(self.preprocess.pixels(image)), self.target((height, width), labels)

    def target(self, size: tuple[int, int], labels: LabelMap) -> SegmentationTarget:
        """The label map of an image of this height and width, as :meth:`__call__` gives it."""
        height, width = size
        placement = self.preprocess.place(height, width)
        view = View((0, 0, width, height), placement.inner, (0, 0), placement.outer)
        return SegmentationTarget(torch.from_numpy(view.labels(labels, IGNORE)), labels, placement)


def _largest_share(labels: LabelMap, window: Window) -> float:
    """The largest share of a window's labels that is of one class; 1 if all are ignored."""
    left, top, right, bottom = window
    step = max(1, int(math.sqrt((right - left) * (bottom - top)) / 256))  # of a large window, a sample is enough
    counts = np.bincount(labels[top:bottom:step, left:right:step].ravel(), minlength=IGNORE + 1)[:IGNORE]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
