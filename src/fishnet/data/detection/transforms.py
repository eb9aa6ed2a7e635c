"""The transforms of an image and its objects, for training and for validation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fishnet.data.augment import WholeImageTransform, refuse_crop
from fishnet.data.crops import Window, crop_to_fit, random_bool, random_crop, scaled_size, uniform
from fishnet.data.decode import to_tensor
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.views import DetectionView
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import Preprocess, padded

MIN_CROP = 0.3  # share of the image's side
CENTRE = (0.3, 0.7)  # range of the point where a mosaic's images meet, in shares of the canvas


class DetectionTrainTransform(WholeImageTransform):
    """Crop, scale jitter, mirroring and photometric distortion of an image and its objects, or a mosaic of four.

    The image, or a crop of it, is resized as by :meth:`~fishnet.images.preprocess.Preprocess.place`, times a factor
    drawn from ``jitter``. The factor is uniform in its logarithm, so that half the size is as frequent as double.
    Aspect ratios are kept. Only pixels that end up in the result are resized, and only once. For objects that are cut
    off see :meth:`~fishnet.data.detection.views.DetectionView.target`.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        canvas: whether all results are squares of the same size: the longer side of ``preprocess.size``, so that images
            of either orientation fit, rounded up to a multiple of 32. Larger images are cropped at random, smaller ones
            are padded on the right and below with the mean colour. With a wide ``jitter``, 0.1 to 2, this is
            large-scale jitter (arXiv 2012.07177). Otherwise each result is complete and padded to multiples of 32.
        flip, flip_vertical: probabilities of mirroring left to right and upside down, 0..1.
        jitter: smallest and largest scale factor; (1, 1) keeps the scale.
        crop: probability of a random crop that contains at least one complete object; its sides are 0.3 to 1 of the
            image's.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.
        mosaic: probability of a mosaic (arXiv 2004.10934): four images, each at half its jittered scale, around a
            random centre of a canvas, which has the size given above even without ``canvas``. See :meth:`partners`.
        with_masks: whether targets have masks.

    Raises:
        InputError: preprocessing that crops, factors that are not a range above 0, or photometric distortion of images
            with other than 1 or 3 channels.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        canvas: bool,
        flip: float,
        flip_vertical: float,
        jitter: tuple[float, float],
        crop: float,
        photometric: float,
        mosaic: float,
        with_masks: bool,
    ) -> None:
        super().__init__(preprocess, flip=flip, flip_vertical=flip_vertical, jitter=jitter, photometric=photometric)
        self.fixed, self.with_masks, self.crop, self.mosaic = canvas, with_masks, crop, mosaic
        self.canvas = (padded(max(preprocess.size)),) * 2

    def partners(self, length: int) -> list[int]:
        """The indices of three other images for a mosaic, in a dataset of this length; empty if no mosaic is drawn."""
        return torch.randint(length, (3,)).tolist() if random_bool(self.mosaic) else []

    def __call__(
        self, image: ImageLike | Tensor, objects: Objects, *others: tuple[ImageLike | Tensor, Objects]
    ) -> tuple[Tensor, DetectionTarget]:
        """Transforms an image and its objects; with three others, makes a mosaic of all four.

        Args:
            image: an image, or a tensor of shape (channels, height, width).
            objects: its objects, clipped to the image by :meth:`~fishnet.data.detection.objects.Objects.clean`.
            *others: no other images, or three with their objects.

        Returns:
            (channels, height, width), of the image's dtype, channels last in memory; and the objects in its px, with
            masks of its size.
        """
        samples = [(_as_tensor(image), objects) for image, objects in ((image, objects), *others)]
        views = self._mosaic(samples) if others else [self._single(*samples[0])]
        canvas = self.render([image for image, _ in samples], views)
        targets = [view.target(objects, self.with_masks) for view, (_, objects) in zip(views, samples, strict=True)]
        return canvas, targets[0] if len(targets) == 1 else _concatenated(targets)

    def _single(self, image: Tensor, objects: Objects) -> DetectionView:
        """The view of a single image, in the top left corner of the canvas."""
        window: Window = (0, 0, image.shape[2], image.shape[1])
        kept = None
        if random_bool(self.crop):
            kept = _random_box(objects)
            window = _crop(window, kept)
        scale = self.scale(*_size(window))
        if self.fixed:
            window, inner = crop_to_fit(window, scale, self.canvas, kept)
            return DetectionView(window, inner, (0, 0), self.canvas, self.flips())
        inner = scaled_size(window, scale)
        return DetectionView(window, inner, (0, 0), (padded(inner[0]), padded(inner[1])), self.flips())

    def _mosaic(self, samples: Sequence[tuple[Tensor, Objects]]) -> list[DetectionView]:
        """Views of four images that meet in the centre of a mosaic, clockwise from the top left."""
        height, width = self.canvas
        x, y = round(width * uniform(*CENTRE)), round(height * uniform(*CENTRE))
        views, corners = [], ((True, True), (False, True), (False, False), (True, False))
        for (image, _), (left, above) in zip(samples, corners, strict=True):
            limit = y if above else height - y, x if left else width - x
            window: Window = (0, 0, image.shape[2], image.shape[1])
            window, inner = crop_to_fit(window, self.scale(*_size(window)) / 2, limit, None)
            corner = x - inner[1] if left else x, y - inner[0] if above else y
            views.append(DetectionView(window, inner, corner, self.canvas, self.flips()))
        return views


class DetectionEvalTransform:
    """The deterministic preprocessing that is stored with the model, applied to an image and its objects.

    Args:
        preprocess: its ``fit`` must not be ``crop``.
        with_masks: whether targets have masks.

    Raises:
        InputError: preprocessing that crops.
    """

    min_side: int | None = None

    def __init__(self, preprocess: Preprocess, with_masks: bool) -> None:
        refuse_crop(preprocess)
        self.preprocess, self.with_masks = preprocess, with_masks

    def __call__(self, image: ImageLike, objects: Objects) -> tuple[Tensor, DetectionTarget]:
        """Makes the same input of an image as prediction does, and maps all its objects to the input.

        Returns:
            (channels, height, width), uint8, or float32 for float arrays; and the objects in px of the input, with
            masks of its size, the ``truth`` as given and the ``placement``.
        """
        return torch.from_numpy(self.preprocess.pixels(image)), self.target(size_of(image), objects)

    def target(self, size: tuple[int, int], objects: Objects) -> DetectionTarget:
        """The objects of an image of this height and width, as :meth:`__call__` gives them."""
        height, width = size
        placement = self.preprocess.place(height, width)
        view = DetectionView((0, 0, width, height), placement.inner, (0, 0), placement.outer)
        return DetectionTarget(
            torch.from_numpy(placement.to_input(objects.boxes)),
            torch.from_numpy(objects.labels),
            torch.from_numpy(objects.crowd),
            torch.from_numpy(view.masks(objects)) if self.with_masks else None,
            objects,
            placement,
        )


def _size(window: Window) -> tuple[int, int]:
    """Height and width of a window."""
    return window[3] - window[1], window[2] - window[0]


def _as_tensor(image: ImageLike | Tensor) -> Tensor:
    return image if isinstance(image, Tensor) else to_tensor(image)


def _concatenated(targets: Sequence[DetectionTarget]) -> DetectionTarget:
    """The objects of all views on one canvas."""
    masks = [target.masks for target in targets if target.masks is not None]
    return DetectionTarget(
        torch.cat([target.boxes for target in targets]),
        torch.cat([target.labels for target in targets]),
        torch.cat([target.crowd for target in targets]),
        torch.cat(masks) if masks else None,
    )


def _random_box(objects: Objects) -> Window | None:
    """The box of a random object that is not a crowd, rounded outwards to integers; None if there is none."""
    boxes = objects.boxes[~objects.crowd]
    if not len(boxes):
        return None
    x1, y1, x2, y2 = boxes[int(torch.randint(len(boxes), ()))].tolist()
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def _crop(window: Window, kept: Window | None) -> Window:
    """A random crop of a window, with random aspect ratio, that contains ``kept``."""
    width, height = (
        max(
            math.ceil((window[axis + 2] - window[axis]) * uniform(MIN_CROP, 1)),
            0 if kept is None else kept[axis + 2] - kept[axis],
        )
        for axis in (0, 1)
    )
    return random_crop(window, (height, width), kept)
