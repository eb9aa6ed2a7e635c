"""Batches of one size: the one loop of prediction and evaluation."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError, NotFiniteError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.batching import BatchRunner, unwrap
from tests.bright import bright

COLOURS = Classes.of(("red", "green", "blue"))
SIDES = (32, 64, 32, 96, 64, 32)


class Means:
    """Returns the mean of each channel, and keeps the shapes of its batches."""

    def __init__(self) -> None:
        self.shapes = list[tuple[int, ...]]()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        return batch.mean((2, 3))


def runner(fit: Any = "native", engine: Any = None) -> BatchRunner:
    preprocess = Preprocess((32, 32), fit=fit, mean=(0.0,), std=(1.0,))
    return BatchRunner(Bundle.single("segment", "fishnet_nano", COLOURS, preprocess), engine or Means())


def inputs(*values: float) -> list[NDArray[np.uint8]]:
    return [np.full((3, side, side), value, np.uint8) for side, value in zip(SIDES, values or range(6), strict=True)]


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_inputs_of_one_size_share_batches(batch_size: int | None) -> None:
    batches = runner()
    outputs = dict(batches.outputs(inputs(), batch_size))
    assert sorted(outputs) == list(range(6))
    for i, output in outputs.items():
        np.testing.assert_allclose(output, i / 255, rtol=1e-5)
    counts = {None: [3, 2, 1], 1: [1] * 6, 2: [2, 1, 2, 1]}[batch_size]
    sides = {None: [32, 64, 96], 1: [32, 32, 32, 64, 64, 96], 2: [32, 32, 64, 96]}[batch_size]
    engine: Any = batches.engine
    assert engine.shapes == [(count, 3, side, side) for count, side in zip(counts, sides, strict=True)]


def test_default_batch_sizes() -> None:
    assert (runner("crop").batch_size, runner("whole").batch_size, runner("native").batch_size) == (32, 32, 1)
    assert [runner().batch_size_of(side, side) for side in (32, 224, 448, 4096)] == [32, 32, 8, 1]
    assert runner("crop").batch_size_of(4096, 4096) == 32


def test_outputs_that_are_not_finite_have_an_error_in_their_place() -> None:
    def engine(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if (batch > 0.9).any():
            raise NotFiniteError
        return np.where(batch.mean((2, 3)) > 0.5, np.nan, batch.mean((2, 3)))

    outputs = dict(runner(engine=engine).checked_outputs(inputs(0, 0, 255, 0, 200, 0)))
    assert {i for i, output in outputs.items() if isinstance(output, NotFiniteError)} == {2, 4}
    assert unwrap(outputs[0]) is outputs[0]
    with pytest.raises(NotFiniteError):
        unwrap(outputs[2])
    with pytest.raises(NotFiniteError):
        list(runner(engine=engine).outputs(inputs(0, 0, 255, 0, 0, 0)))


def test_an_engine_without_embeddings() -> None:
    with pytest.raises(InputError, match="this engine computes no embeddings"):
        runner().embedding_engine()


def test_a_tile_whose_outputs_are_not_finite_is_not_left_out() -> None:
    predictor = bright()
    engine = predictor.engine

    def breaks(batch: NDArray[np.float32]) -> Any:
        outputs = engine(batch)
        if batch.max() > 0.4:  # of -0.5..0.5
            outputs[0]["scores"] = np.full(1, np.nan, np.float32)
        return outputs

    image = np.zeros((64, 256, 3), np.uint8)
    predictor.engine = breaks
    assert len(predictor.predict(image, tile=64)) == 0  # type: ignore[arg-type]
    image[20:40, 200:220] = 255
    with pytest.raises(NotFiniteError):
        predictor.predict(image, tile=64)
