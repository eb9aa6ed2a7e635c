"""Runs an engine on inputs of any sizes, in batches of one size. Torch-free."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.files.numbers import is_finite

Engine = Callable[..., Any]
"""From (batch, channels, height, width), normalized, to raw outputs: a sequence with one item per image.

The engine of a model with several heads returns a dict of such sequences by head. Its second argument, ``only``, names
the heads to compute; by default all.
"""

_USUAL_BATCH = 32  # images of up to _USUAL_PIXELS in a batch by default; fewer if they are larger
_USUAL_PIXELS = 224 * 224


class BatchRunner:
    """Runs a model's engine in batches. Prediction and evaluation share it, so that both compute the same.

    Thread-safe: threads wait for each other unless the engine's attribute ``thread_safe`` is true.

    Args:
        bundle: the model's config.
        engine: see :class:`~fishnet.prediction.predictor.Predictor`.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.preprocess, self.engine = bundle.preprocess, engine
        self.several_heads = len(bundle.heads) > 1
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    @property
    def batch_size(self) -> int:
        """The default batch size; see :attr:`fishnet.prediction.predictor.Predictor.batch_size`."""
        if self.preprocess.fit == "crop":
            return _USUAL_BATCH
        return 1 if self.preprocess.fit == "native" else _batch_size(*self.preprocess.size)

    def batch_size_of(self, height: int, width: int) -> int:
        """The default batch size for inputs of this size, px."""
        return _batch_size(height, width) if self.preprocess.fit == "native" else self.batch_size

    def run(self, pixels: NDArray[Any], engine: Engine | None = None, only: Sequence[str] | None = None) -> Any:
        """Normalizes a batch and returns the engine's raw outputs for it; for several heads a dict by head.

        Args:
            pixels: (batch, channels, height, width), not yet normalized.
            engine: another way to call the model's engine, such as :meth:`embedding_engine`.
            only: the heads to compute, if the model has several; by default all.
        """
        batch, engine = self.preprocess.normalize(pixels), engine or self.engine
        arguments = (batch, only) if only is not None and self.several_heads else (batch,)
        if getattr(self.engine, "thread_safe", False):
            return engine(*arguments)
        with self._lock:
            return engine(*arguments)

    def outputs(
        self,
        inputs: Sequence[NDArray[Any]],
        batch_size: int | None = None,
        engine: Engine | None = None,
        only: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Yields the number and the raw output of each input, batch by batch: only one batch is kept in memory.

        The raw output of a model with several heads is a dict by head. Only inputs of one size share a batch. No input
        is padded to the size of another.

        Args:
            inputs: (channels, height, width) each, not yet normalized.
            batch_size: inputs per batch; by default :meth:`batch_size_of` their size.
            engine, only: see :meth:`run`.
        """
        return self._batched(inputs, batch_size, lambda batch: by_image(self.run(batch, engine, only)))

    def checked_outputs(
        self,
        inputs: Sequence[NDArray[Any]],
        batch_size: int | None = None,
        engine: Engine | None = None,
        only: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Like :meth:`outputs`, with a NotFiniteError for each output that is not finite; see :func:`unwrap`."""
        return self._batched(inputs, batch_size, lambda batch: self._checked(batch, engine, only))

    def embedding_engine(self) -> Engine:
        """An engine that returns pairs of raw output and embedding.

        Raises:
            InputError: the engine has no embeddings.
        """
        embed = getattr(self.engine, "embed", None)
        if embed is None:
            raise InputError("this engine computes no embeddings: use the bundle that training wrote")

        def pairs(batch: NDArray[np.float32]) -> list[tuple[Any, NDArray[np.float32]]]:
            outputs, vectors = embed(batch)
            return list(zip(by_image(outputs), vectors, strict=True))

        return pairs

    def _batched(
        self, inputs: Sequence[NDArray[Any]], batch_size: int | None, run: Callable[[NDArray[Any]], Any]
    ) -> Iterator[tuple[int, Any]]:
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, pixels in enumerate(inputs):
            by_shape.setdefault(pixels.shape, []).append(i)
        for (_, height, width), indices in by_shape.items():
            step = batch_size or self.batch_size_of(height, width)
            for start in range(0, len(indices), step):
                batch = indices[start : start + step]
                yield from zip(batch, run(np.stack([inputs[i] for i in batch])), strict=True)

    def _checked(self, batch: NDArray[Any], engine: Engine | None, only: Sequence[str] | None) -> Iterator[Any]:
        try:
            outputs = self.run(batch, engine, only)
        except NotFiniteError as error:
            if len(batch) == 1:
                yield error
                return
            for i in range(len(batch)):  # one by one: other outputs of the batch may be finite
                yield from self._checked(batch[i : i + 1], engine, only)
            return
        for output in by_image(outputs):
            values = output if isinstance(output, tuple) else (output,)
            yield output if all(map(is_finite, values)) else NotFiniteError(*self._not_finite_heads(values[0]))

    def _not_finite_heads(self, output: Any) -> list[str]:
        """Names of the heads of a model with several heads whose outputs for an image are not finite."""
        return [name for name, values in output.items() if not is_finite(values)] if self.several_heads else []


def by_image(outputs: Any) -> Iterable[Any]:
    """The raw outputs of a batch, one item per image. Those of several heads become one dict by head per image."""
    if not isinstance(outputs, Mapping):
        return outputs  # type: ignore[no-any-return]
    return [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]


def unwrap(output: Any) -> Any:
    """Returns an output or a result; raises it if it is a NotFiniteError."""
    if isinstance(output, NotFiniteError):
        raise output
    return output


def _batch_size(height: int, width: int) -> int:
    return max(1, min(_USUAL_BATCH, round(_USUAL_BATCH * _USUAL_PIXELS / (height * width))))
