"""Predictions that take several passes through the network: tiles of large images, and averages. Torch-free.

All heads that predict in px of the image share the tiles' passes. Classifiers see the image as a whole, in one more
pass: the class of an image is not the mean of the classes of its parts, most of which may show only background. Only
label maps are averaged over scales and mirrored images, so these passes compute no other head.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import LARGEST
from fishnet.prediction.batching import BatchRunner, unwrap
from fishnet.prediction.blending import Mosaic
from fishnet.prediction.heads import by_head, heads_of, make_result
from fishnet.prediction.inputs import Input, cut, prepare_input
from fishnet.prediction.options import OVERLAP, PredictOptions
from fishnet.prediction.results import Detections, Result, Segmentation
from fishnet.prediction.results.segmentation import probabilities, resized
from fishnet.prediction.tiling import Tile, merge, tile_count, tiles

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
    preprocess, label_maps = bundle.preprocess, heads_of(bundle, "label map")
    if preprocess.fit != "native" or not label_maps:
        return None
    classes = sum(len(bundle.heads[name].classes) for name in label_maps)
    if size[0] * size[1] * max(_USUAL_CLASSES, classes) <= LARGEST * _USUAL_CLASSES:
        return None
    rows = _MAX_PROBABILITIES // (4 * classes * size[1])  # rows of px whose probabilities fit
    return min(max(_TILE, *preprocess.size), max(_MIN_TILE, rows)), OVERLAP


def pass_count(bundle: Bundle, size: tuple[int, int], options: PredictOptions) -> int:
    """How many times an image goes through the network.

    Args:
        bundle: the model's config.
        size: height and width of the image, px.
        options: those of the prediction.
    """
    tiling = options.tiling or (None if options.single_pass else default_tiling(bundle, size))
    count = 1 if tiling is None else tile_count(*size, *tiling)
    averaged = 2 * len(_SCALES) * count if options.tta else count
    return averaged + bool(tiling and heads_of(bundle, "scores"))


class MultiPass:
    """Predicts single images in several passes.

    Args:
        bundle: the model's config.
        runner: runs the model.
    """

    def __init__(self, bundle: Bundle, runner: BatchRunner) -> None:
        self.bundle, self.runner = bundle, runner

    def predict(
        self, image: ImageLike, options: PredictOptions, tiling: tuple[int, float] | None, batch_size: int | None
    ) -> dict[str, Result]:
        """The results of all heads for an image.

        Args:
            image: upright, with the model's channels.
            options: those of the prediction. ``max_detections`` applies to the image, not to each tile.
            tiling: side of the tiles, px, and overlap; None for the whole image.
            batch_size: tiles per batch; None for the default.

        Raises:
            NotFiniteError: outputs are not finite.
        """
        size = size_of(image)
        parts = {name: self._part(name, size, options, tiling is not None) for name in self.bundle.heads}
        whole = heads_of(self.bundle, "scores") if tiling is not None else ()
        if whole:
            self._add_whole_image(image, parts, whole)
        remaining = [name for name in self.bundle.heads if name not in whole]
        for batch in self._batches([(0, 0, *size)] if tiling is None else tiles(*size, *tiling), batch_size):
            self._add_batch(image, batch, parts, remaining, options.tta, batch_size)
        return {name: part.result() for name, part in parts.items()}

    def _part(self, name: str, size: tuple[int, int], options: PredictOptions, tiled: bool) -> "_Part":
        label_map = name in heads_of(self.bundle, "label map")
        if label_map:
            return (_BlendedLabels if tiled else _WholeLabels)(self.bundle, name, size)
        if tiled and name in heads_of(self.bundle, "objects"):
            return _MergedObjects(self.bundle, name, size, options.result_options[name])
        return _OneResult(self.bundle, name, options.result_options[name])

    def _add_whole_image(self, image: ImageLike, parts: Mapping[str, "_Part"], heads: Sequence[str]) -> None:
        """Adds the outputs of some heads for the whole image, which is reduced if it is too large for one pass."""
        height, width = size_of(image)
        native = self.bundle.preprocess.fit == "native"
        scale = min(1.0, math.sqrt(LARGEST / (height * width))) if native else 1.0
        prepared = prepare_input(self.bundle.preprocess, image, scale)
        for _, output in self.runner.checked_outputs([prepared.pixels], 1, only=heads):
            for name, raw in by_head(self.bundle, unwrap(output)).items():
                parts[name].add((0, 0, height, width), prepared, raw)

    def _add_batch(
        self,
        image: ImageLike,
        batch: Sequence[Tile],
        parts: Mapping[str, "_Part"],
        heads: Sequence[str],
        tta: bool,
        batch_size: int | None,
    ) -> None:
        """Predicts some tiles of an image and adds the outputs to the results.

        With ``tta`` the probabilities of label maps are the mean over scales of the input and mirrored images.
        """
        images = [cut(image, tile) for tile in batch]
        averages = {name: _Averages() for name in heads if name in heads_of(self.bundle, "label map")}
        variants = [(scale, mirrored) for scale in _SCALES for mirrored in (False, True)] if tta else [(1.0, False)]
        for number, (scale, mirrored) in enumerate(variants):
            inputs = [prepare_input(self.bundle.preprocess, each, scale, mirrored) for each in images]
            computed = list(averages) if number else heads
            pixels = [item.pixels for item in inputs]
            for i, output in self.runner.checked_outputs(pixels, batch_size, only=computed):
                outputs = by_head(self.bundle, unwrap(output))
                del output
                for name in computed:
                    if name in averages:
                        averages[name].add(i, outputs.pop(name), inputs[i], mirrored)
                    else:
                        parts[name].add(batch[i], inputs[i], outputs.pop(name))
        for name, average in averages.items():
            for i, tile in enumerate(batch):
                parts[name].add(tile, None, average.mean(i))

    def _batches(self, places: Sequence[Tile], batch_size: int | None) -> Iterator[Sequence[Tile]]:
        top, left, bottom, right = places[0]
        step = batch_size or self.runner.batch_size_of(bottom - top, right - left)
        return (places[start : start + step] for start in range(0, len(places), step))


class _Part(Protocol):
    """One head's result for an image, built up tile by tile."""

    def add(self, tile: Tile, prepared: Input | None, output: Any) -> None:
        """Adds a tile: its input, and its raw output or, for a label map, its probabilities."""

    def result(self) -> Result:
        """The result, after all tiles were added."""


class _OneResult:
    """The result of a head that sees the image in one pass."""

    def __init__(self, bundle: Bundle, name: str, options: Mapping[str, Any]) -> None:
        self.make = partial(make_result, bundle, name, options=options)

    def add(self, tile: Tile, prepared: Input | None, output: Any) -> None:
        assert prepared is not None
        self.only = self.make(output, prepared.placement)

    def result(self) -> Result:
        return self.only


class _MergedObjects:
    """The objects of all tiles."""

    def __init__(self, bundle: Bundle, name: str, size: tuple[int, int], options: Mapping[str, Any]) -> None:
        self.size, self.max_detections = size, options.get("max_detections")
        tile_options = {option: value for option, value in options.items() if option != "max_detections"}
        self.make = partial(make_result, bundle, name, options=tile_options)
        self.detections: list[tuple[Tile, Detections]] = []

    def add(self, tile: Tile, prepared: Input | None, output: Any) -> None:
        assert prepared is not None
        detected = self.make(output, prepared.placement)
        assert isinstance(detected, Detections)
        self.detections.append((tile, detected))

    def result(self) -> Result:
        merged = merge(self.detections, self.size)
        return merged.take(np.arange(len(merged))[: self.max_detections])


class _WholeLabels:
    """A label map from probabilities over the whole image."""

    def __init__(self, bundle: Bundle, name: str, size: tuple[int, int]) -> None:
        self.size, self.classes = size, bundle.heads[name].classes

    def add(self, tile: Tile, prepared: Input | None, planes: NDArray[np.float32]) -> None:
        self.only = Segmentation.from_probabilities(planes, self.classes, self.size)

    def result(self) -> Result:
        return self.only


class _BlendedLabels:
    """A label map from the probabilities over the tiles, which come row by row."""

    def __init__(self, bundle: Bundle, name: str, size: tuple[int, int]) -> None:
        self.classes = bundle.heads[name].classes
        self.mosaic = Mosaic(size, len(self.classes))

    def add(self, tile: Tile, prepared: Input | None, planes: NDArray[np.float32]) -> None:
        self.mosaic.add(tile, planes)

    def result(self) -> Result:
        return Segmentation(self.mosaic.labels(), self.classes)


class _Averages:
    """(classes, height, width) mean probabilities of some images over passes, each resized to the first one's size."""

    def __init__(self) -> None:
        self.sums: dict[int, NDArray[np.float32]] = {}
        self.counts: dict[int, int] = {}

    def add(self, i: int, logits: NDArray[np.float32], prepared: Input, mirrored: bool) -> None:
        """Adds a pass of image ``i``, without the input's padding."""
        assert prepared.placement is not None
        planes = probabilities(logits, prepared.placement.inner)[..., :: -1 if mirrored else 1]
        self.counts[i] = self.counts.get(i, 0) + 1
        if i not in self.sums:
            self.sums[i] = planes
            return
        height, width = self.sums[i].shape[1:]
        for total, plane in zip(self.sums[i], planes, strict=True):
            np.add(total, resized(plane, (height, width), slice(0, height)), out=total)

    def mean(self, i: int) -> NDArray[np.float32]:
        """The mean of image ``i``, computed in place."""
        return np.divide(self.sums[i], self.counts[i], out=self.sums[i])
