"""What happens to an image and its objects between the file and the batch, in training and in validation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fishnet.data.augment import WholeImages, check_whole
from fishnet.data.crops import Window, fitting, happens, part_of, resized, uniform
from fishnet.data.decode import to_tensor
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.views import DetectionView
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import Preprocess, padded

SMALLEST_CROP = 0.3  # of either side of the image
CENTRE = (0.3, 0.7)  # where a mosaic's four images meet, of either side of the canvas


class DetectionTrainTransform(WholeImages):
    """Crop, scale jitter, mirroring and photometric distortion of an image and its objects, or a mosaic of four.

    An image, or the crop that is taken of it, is resized in its own proportions as
    :meth:`~fishnet.images.preprocess.Preprocess.place` does, times a factor drawn from ``jitter``, evenly in its
    logarithm, so that half the size is as frequent as double. All that is done to the pixels is one crop and one
    resizing of what will be seen. What becomes of objects that are cut:
    :meth:`~fishnet.data.detection.views.DetectionView.target`.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        canvas: every result has one size, that of ``preprocess.size`` where its two numbers are equal, else of the
            longer side squared (whole images of either orientation fit), rounded up to a multiple of 32: larger ones
            are cropped at random, smaller ones padded right and below with the mean colour. With a wide ``jitter``,
            0.1 to 2, that is large-scale jitter (arXiv 2012.07177). Otherwise each result is whole, and padded to
            multiples of 32.
        flip, flip_vertical: probabilities of mirroring left to right and upside down, 0..1.
        jitter: smallest and largest factor of the scale; (1, 1) leaves the scale.
        crop: probability of a random crop, each side 0.3 to 1 of the image's, in which one of the objects lies whole.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.
        mosaic: probability of a mosaic (arXiv 2004.10934): four images, each at half its scale, jittered, around a
            random centre of the canvas, which is as large as said above also without ``canvas``. Only where there are
            others (see :meth:`partners`).
        with_masks: whether targets have masks.

    Raises:
        InputError: preprocessing that crops, factors that are no range above 0, or photometric distortion for another
            number of channels than 1 and 3.
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
        """Three other images of a set of so many, with the probability of a mosaic, else none."""
        return torch.randint(length, (3,)).tolist() if happens(self.mosaic) else []

    def __call__(
        self, image: ImageLike | Tensor, objects: Objects, *others: tuple[ImageLike | Tensor, Objects]
    ) -> tuple[Tensor, DetectionTarget]:
        """An image and its objects; with three others, a mosaic of all four.

        Args:
            image: an image, or a tensor of shape (channels, height, width).
            objects: of a known size, cut off at the image's edges; see
                :meth:`~fishnet.data.detection.objects.Objects.clean`.
            *others: none, or three more.

        Returns:
            (channels, height, width), of the image's number type, channels last in memory; and the objects in its
            px, with masks of its size.
        """
        images = [(_as_tensor(pixels), found) for pixels, found in ((image, objects), *others)]
        views = self._four(images) if others else [self._single(*images[0])]
        page = self.page([pixels for pixels, _ in images], views)
        targets = [view.target(found, self.with_masks) for view, (_, found) in zip(views, images, strict=True)]
        return page, targets[0] if len(targets) == 1 else _together(targets)

    def _single(self, image: Tensor, objects: Objects) -> DetectionView:
        """A view of one image, its corner at the page's."""
        window: Window = (0, 0, image.shape[2], image.shape[1])
        kept = None
        if happens(self.crop):
            kept = _one_of(objects)
            window = _crop(window, kept)
        scale = self.scale(*_size(window))
        if self.fixed:
            window, inner = fitting(window, scale, self.canvas, kept)
            return DetectionView(window, inner, (0, 0), self.canvas, self.flips())
        inner = resized(window, scale)
        return DetectionView(window, inner, (0, 0), (padded(inner[0]), padded(inner[1])), self.flips())

    def _four(self, images: Sequence[tuple[Tensor, Objects]]) -> list[DetectionView]:
        """Views of four images that touch in the centre of a mosaic, clockwise from above and left of it."""
        height, width = self.canvas
        x, y = round(width * uniform(*CENTRE)), round(height * uniform(*CENTRE))
        views = []
        for (image, _), left, above in zip(images, (True, False, False, True), (True, True, False, False), strict=True):
            room = y if above else height - y, x if left else width - x
            window: Window = (0, 0, image.shape[2], image.shape[1])
            window, inner = fitting(window, self.scale(*_size(window)) / 2, room, None)
            corner = x - inner[1] if left else x, y - inner[0] if above else y
            views.append(DetectionView(window, inner, corner, self.canvas, self.flips()))
        return views


class DetectionEvalTransform:
    """The deterministic preprocessing that travels with the model, of an image and its objects.

    Args:
        preprocess: its ``fit`` must not be ``crop``.
        with_masks: whether targets have masks.

    Raises:
        InputError: preprocessing that crops.
    """

    least: int | None = None

    def __init__(self, preprocess: Preprocess, with_masks: bool) -> None:
        check_whole(preprocess)
        self.preprocess, self.with_masks = preprocess, with_masks

    def __call__(self, image: ImageLike, objects: Objects) -> tuple[Tensor, DetectionTarget]:
        """The very input that prediction makes of the image, and all its objects in px of it.

        Returns:
            (channels, height, width), uint8 or, for arrays of floats, float32; and the objects, with masks of the
            input's size, the ``truth`` as given and the ``placement``.
        """
        height, width = size_of(image)
        place = self.preprocess.place(height, width)
        view = DetectionView((0, 0, width, height), place.inner, (0, 0), place.outer)
        target = DetectionTarget(
            torch.from_numpy(place.to_input(objects.boxes)),
            torch.from_numpy(objects.labels),
            torch.from_numpy(objects.crowd),
            torch.from_numpy(view.masks(objects)) if self.with_masks else None,
            objects,
            place,
        )
        return torch.from_numpy(self.preprocess.pixels(image)), target


def _size(window: Window) -> tuple[int, int]:
    """Height and width."""
    return window[3] - window[1], window[2] - window[0]


def _as_tensor(image: ImageLike | Tensor) -> Tensor:
    return image if isinstance(image, Tensor) else to_tensor(image)


def _together(targets: Sequence[DetectionTarget]) -> DetectionTarget:
    """The objects of several views of one page."""
    masks = [target.masks for target in targets if target.masks is not None]
    return DetectionTarget(
        torch.cat([target.boxes for target in targets]),
        torch.cat([target.labels for target in targets]),
        torch.cat([target.crowd for target in targets]),
        torch.cat(masks) if masks else None,
    )


def _one_of(objects: Objects) -> Window | None:
    """Whole px around an object that is drawn at random, crowds apart; None without any."""
    single = objects.boxes[~objects.crowd]
    if not len(single):
        return None
    x1, y1, x2, y2 = single[int(torch.randint(len(single), ()))].tolist()
    return math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)


def _crop(window: Window, kept: Window | None) -> Window:
    """A random part of a window, of random proportions, around what is to be kept whole."""
    width, height = (
        max(
            math.ceil((window[axis + 2] - window[axis]) * uniform(SMALLEST_CROP, 1)),
            0 if kept is None else kept[axis + 2] - kept[axis],
        )
        for axis in (0, 1)
    )
    return part_of(window, (height, width), kept)
