"""What happens to an image and its label map between the file and the batch, in training and in validation."""

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

TRIES = 10  # crops that are drawn until one is of more than one class


class SegmentationTrainTransform(WholeImageTransform):
    """Scale jitter, a crop of a fixed size, mirroring and photometric distortion of an image and its label map.

    An image is resized in its own proportions as :meth:`~fishnet.images.preprocess.Preprocess.place` does, times a
    factor drawn from ``jitter``, evenly in its logarithm. What is larger than the crop is cut at random, what is
    smaller is padded right and below, with the mean colour and ignored labels. All that is done to the pixels is one
    resizing of what will be seen; labels are those of the nearest px.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        crop_size: side of the square result, px; rounded up to a multiple of 32.
        flip, flip_vertical: probabilities of mirroring left to right and upside down, 0..1.
        jitter: smallest and largest factor of the scale; (1, 1) leaves the scale.
        single_class: the largest share, 0..1, that one class may have of a crop's labels (0.75 in the field's usual
            recipes): up to ten crops are drawn until one keeps it, else the last one is taken; 1: any crop.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.

    Raises:
        InputError: preprocessing that crops, factors that are no range above 0, or photometric distortion for another
            number of channels than 1 and 3.
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
        """An image and its label map, of one size.

        Args:
            image: an image, or a tensor of shape (channels, height, width).
            labels: (height, width).

        Returns:
            (channels, side, side), of the image's number type, channels last in memory; and its label map.
        """
        pixels = image if isinstance(image, Tensor) else to_tensor(image)
        view = self._view(labels)
        return self.page([pixels], [view]), SegmentationTarget(torch.from_numpy(view.labels(labels, IGNORE)))

    def _view(self, labels: LabelMap) -> View:
        whole: Window = (0, 0, labels.shape[1], labels.shape[0])
        scale, page = self.scale(*labels.shape), (self.side, self.side)
        for _ in range(TRIES):
            window, inner = crop_to_fit(whole, scale, page, None)
            if window == whole or self.single_class >= 1 or _share(labels, window) <= self.single_class:
                break
        return View(window, inner, (0, 0), page, self.flips())


class SegmentationEvalTransform:
    """The deterministic preprocessing that travels with the model, of an image and its label map.

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
        """The very input that prediction makes of the image, and its label map in px of it.

        Returns:
            (channels, height, width), uint8 or, for arrays of floats, float32; and the labels, of the input's size,
            with the ``truth`` as given and the ``placement``.
        """
        height, width = labels.shape
        place = self.preprocess.place(height, width)
        view = View((0, 0, width, height), place.inner, (0, 0), place.outer)
        target = SegmentationTarget(torch.from_numpy(view.labels(labels, IGNORE)), labels, place)
        return torch.from_numpy(self.preprocess.pixels(image)), target


def _share(labels: LabelMap, window: Window) -> float:
    """The largest share that one class has of a window's labels; of ignored ones alone 1."""
    left, top, right, bottom = window
    step = max(1, int(math.sqrt((right - left) * (bottom - top)) / 256))  # a large window's px tell no more than some
    counts = np.bincount(labels[top:bottom:step, left:right:step].ravel(), minlength=IGNORE + 1)[:IGNORE]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
