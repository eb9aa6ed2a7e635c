"""The transforms of an image and the targets of several heads: one geometric view moves them all."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fishnet.data.augment import WholeImageTransform
from fishnet.data.crops import Window, crop_to_fit, scaled_size
from fishnet.data.decode import to_tensor
from fishnet.data.detection.views import DetectionView
from fishnet.data.loading import EvalTransform
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import Preprocess, padded

ViewTarget = Callable[[DetectionView, Any], Any]
"""(view, target of an image) -> the target as the view shows it."""


class JointTrainTransform(WholeImageTransform):
    """Scale jitter, mirroring and photometric distortion of an image and all of its targets.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        heads: for each head by name, how its target looks in a view.
        canvas: whether all results are squares of the same size: the longer side of ``preprocess.size``, rounded up to
            a multiple of 32. Larger images are cropped at random; smaller ones are padded on the right and below with
            the mean colour. Otherwise each result is complete and padded to multiples of 32.
        flip, flip_vertical, jitter, photometric: see :class:`~fishnet.data.augment.WholeImageTransform`.

    Raises:
        InputError: see :class:`~fishnet.data.augment.WholeImageTransform`.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        heads: Mapping[str, ViewTarget],
        *,
        canvas: bool,
        flip: float,
        flip_vertical: float,
        jitter: tuple[float, float],
        photometric: float,
    ) -> None:
        super().__init__(preprocess, flip=flip, flip_vertical=flip_vertical, jitter=jitter, photometric=photometric)
        self.heads, self.fixed, self.canvas = dict(heads), canvas, (padded(max(preprocess.size)),) * 2

    def __call__(self, image: ImageLike | Tensor, targets: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Transforms an image and its targets by head.

        Returns:
            (channels, height, width), of the image's dtype, channels last in memory; and the targets in its px.
        """
        pixels = image if isinstance(image, Tensor) else to_tensor(image)
        view = self._view(pixels.shape[1], pixels.shape[2])
        return self.render([pixels], [view]), {name: self.heads[name](view, target) for name, target in targets.items()}

    def _view(self, height: int, width: int) -> DetectionView:
        window: Window = (0, 0, width, height)
        scale = self.scale(height, width)
        if self.fixed:
            window, inner = crop_to_fit(window, scale, self.canvas, None)
            return DetectionView(window, inner, (0, 0), self.canvas, self.flips())
        inner = scaled_size(window, scale)
        return DetectionView(window, inner, (0, 0), (padded(inner[0]), padded(inner[1])), self.flips())


class JointEvalTransform:
    """The deterministic preprocessing that is stored with the model, applied to an image and its targets by head.

    Args:
        preprocess: turns the image into the input.
        heads: each head's transform by name; only their targets are used.
    """

    min_side: int | None = None

    def __init__(self, preprocess: Preprocess, heads: Mapping[str, EvalTransform]) -> None:
        self.preprocess, self.heads = preprocess, dict(heads)

    def __call__(self, image: ImageLike, targets: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """(channels, height, width), uint8, or float32 for float arrays; and the targets of the input."""
        return torch.from_numpy(self.preprocess.pixels(image)), self.target(size_of(image), targets)

    def target(self, size: tuple[int, int], targets: Mapping[str, Any]) -> dict[str, Any]:
        """The targets of an image of this height and width."""
        return {name: self.heads[name].target(size, target) for name, target in targets.items()}
