"""Predictions that take several passes through the network: tiles of large images, and averages. Torch-free."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import LARGEST
from fishnet.prediction.batching import BatchRunner, unwrap
from fishnet.prediction.blending import Mosaic
from fishnet.prediction.inputs import cut, prepare_input
from fishnet.prediction.options import OVERLAP
from fishnet.prediction.results import Detections, Segmentation
from fishnet.prediction.results.segmentation import probabilities, resized
from fishnet.prediction.tiling import Tile, merge, tiles
from fishnet.tasks.info import task_info

_USUAL_CLASSES = 32  # with more classes, fewer px than LARGEST go through the network in one pass
_TILE = 1024  # px, side of the tiles of larger images, unless training used larger inputs
_MIN_TILE = 256  # px; tiles become smaller, down to this, if a row of them needs more than _MAX_PROBABILITIES
_MAX_PROBABILITIES = 1 << 30  # bytes
_SCALES = (1.0, 0.75, 1.25)  # of the input; its own size first


def default_tiling(bundle: Bundle, size: tuple[int, int]) -> tuple[int, float] | None:
    """Side and overlap of the tiles that a large image needs even if the user sets no ``tile``.

    Args:
        bundle: the model's config.
        size: height and width of the image, px.

    Returns:
        None if the image goes through the network in one pass. Only models that predict a label map in the image's own
        size need tiles, for large images.
    """
    preprocess, classes = bundle.preprocess, len(bundle.classes)
    if preprocess.fit != "native" or task_info(bundle.task).output != "label map":
        return None
    if size[0] * size[1] * max(_USUAL_CLASSES, classes) <= LARGEST * _USUAL_CLASSES:
        return None
    rows = _MAX_PROBABILITIES // (4 * classes * size[1])  # rows of px whose probabilities fit
    return min(max(_TILE, *preprocess.size), max(_MIN_TILE, rows)), OVERLAP


class MultiPass:
    """Predicts single images in several passes.

    Args:
        bundle: the model's config.
        runner: runs the model.
    """

    def __init__(self, bundle: Bundle, runner: BatchRunner) -> None:
        self.bundle, self.runner = bundle, runner

    def detect(
        self, image: ImageLike, tiling: tuple[int, float], options: dict[str, Any], batch_size: int | None
    ) -> Detections:
        """The objects of an image, from its tiles.

        Args:
            image: upright, with the model's channels.
            tiling: side of the tiles, px, and overlap.
            options: the result's options. ``max_detections`` applies to the image, not to each tile.
            batch_size: tiles per batch; None for the default.

        Raises:
            NotFiniteError: outputs of a tile are not finite.
        """
        size, info = size_of(image), task_info(self.bundle.task)
        tile_options = {name: value for name, value in options.items() if name != "max_detections"}
        detections: list[tuple[Tile, Detections]] = []
        for batch in self._batches(tiles(*size, *tiling), batch_size):
            inputs = [prepare_input(self.bundle.preprocess, cut(image, tile)) for tile in batch]
            for i, output in self.runner.checked_outputs([item.pixels for item in inputs], batch_size):
                placement = inputs[i].placement
                detected = info.make_result(unwrap(output), self.bundle.classes, placement=placement, **tile_options)
                detections.append((batch[i], detected))
        merged = merge(detections, size)
        return merged.take(np.arange(len(merged))[: options.get("max_detections")])

    def segment(
        self, image: ImageLike, tiling: tuple[int, float] | None, tta: bool, batch_size: int | None
    ) -> Segmentation:
        """The label map of an image, from its tiles, or from averages over the whole image.

        Args:
            image: upright, with the model's channels.
            tiling: side of the tiles, px, and overlap; None for the whole image.
            tta: whether to average over scales and mirrored images.
            batch_size: tiles per batch; None for the default.

        Raises:
            NotFiniteError: outputs are not finite.
        """
        size, classes = size_of(image), self.bundle.classes
        if tiling is None:
            return Segmentation.from_probabilities(self._probabilities([image], tta, batch_size)[0], classes, size)
        mosaic = Mosaic(size, len(classes))
        for batch in self._batches(tiles(*size, *tiling), batch_size):
            planes = self._probabilities([cut(image, tile) for tile in batch], tta, batch_size)
            for tile, tile_planes in zip(batch, planes, strict=True):
                mosaic.add(tile, tile_planes)
        return Segmentation(mosaic.labels(), classes)

    def _batches(self, places: Sequence[Tile], batch_size: int | None) -> Iterator[Sequence[Tile]]:
        top, left, bottom, right = places[0]
        step = batch_size or self.runner.batch_size_of(bottom - top, right - left)
        return (places[start : start + step] for start in range(0, len(places), step))

    def _probabilities(
        self, images: Sequence[ImageLike], tta: bool, batch_size: int | None
    ) -> list[NDArray[np.float32]]:
        """(classes, height, width) probabilities of each image, without the input's padding.

        With ``tta`` they are the mean over scales of the input and mirrored images, each resized to the input's own
        size.
        """
        variants = [(scale, mirrored) for scale in _SCALES for mirrored in (False, True)] if tta else [(1.0, False)]
        sums: dict[int, NDArray[np.float32]] = {}
        for scale, mirrored in variants:
            inputs = [prepare_input(self.bundle.preprocess, image, scale, mirrored) for image in images]
            for i, output in self.runner.checked_outputs([item.pixels for item in inputs], batch_size):
                placement, logits = inputs[i].placement, unwrap(output)
                assert placement is not None
                del output
                planes = probabilities(logits, placement.inner)[..., :: -1 if mirrored else 1]
                del logits  # before the next batch is computed
                if i not in sums:
                    sums[i] = planes
                    continue
                height, width = sums[i].shape[1:]
                for total, plane in zip(sums[i], planes, strict=True):
                    np.add(total, resized(plane, (height, width), slice(0, height)), out=total)
        return [np.divide(sums[i], len(variants), out=sums[i]) for i in range(len(images))]
