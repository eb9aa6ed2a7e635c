"""A prediction step by step, as a server takes it, and from several threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

import fishnet
from fishnet.errors import InputError
from fishnet.prediction.predictor import Predictor
from tests.bright import bright
from tests.makers import image

THREADS, TIMES = 8, 5


def scores(result: Any) -> dict[str, float]:
    return {row["name"]: row["score"] for row in result.rows()}


def test_the_steps_give_what_predict_gives(bundle: Path) -> None:
    predictor = fishnet.load(bundle, "cpu")
    photos = [image(name, i, size) for i, (name, size) in enumerate([("red", (40, 60)), ("blue", (70, 50))] * 3)]
    inputs = [predictor.preprocess(photo) for photo in photos]
    outputs = predictor.compute(inputs)
    assert len(outputs) == len(photos)
    for photo, given, output in zip(photos, inputs, outputs, strict=True):
        stepped, whole = scores(predictor.postprocess(given, output, k=3)), scores(predictor.predict(photo, k=3))
        assert stepped == pytest.approx(whole, abs=1e-6)  # a batch adds up in another order
    assert len(predictor.postprocess(inputs[0], outputs[0], k=1).rows()) == 1
    assert predictor.compute([]) == []


def test_inputs_of_several_sizes_are_computed_together() -> None:
    predictor = bright()
    images = [np.zeros((side, 2 * side, 3), np.uint8) for side in (64, 96, 64)]
    inputs = [predictor.preprocess(image) for image in images]
    results: list[Any] = [
        predictor.postprocess(given, output) for given, output in zip(inputs, predictor.compute(inputs), strict=True)
    ]
    assert [result.size for result in results] == [(64, 128), (96, 192), (64, 128)]
    with pytest.raises(InputError, match="tile and tta need several passes: call predict"):
        predictor.postprocess(inputs[0], predictor.compute(inputs[:1])[0], tile=64)


def test_a_predictor_can_be_copied_and_sent() -> None:
    predictor = bright()
    for other in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert other.bundle == predictor.bundle
        assert len(other.predict(np.zeros((64, 64, 3), np.uint8))) == 0


class Counting:
    """An engine that says how many threads were in it at once."""

    def __init__(self, safe: bool) -> None:
        self.thread_safe, self.inside, self.peak = safe, 0, 0

    def __call__(self, batch: Any) -> Any:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        sleep(0.01)
        self.inside -= 1
        return np.zeros((len(batch), 3), np.float32)


@pytest.mark.parametrize("safe", [False, True])
def test_one_lock_around_an_engine_that_is_not_thread_safe(safe: bool, bundle: Path) -> None:
    engine = Counting(safe)
    predictor = Predictor(fishnet.load(bundle, "cpu").bundle, engine)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: predictor.predict(image("red", 0)), range(THREADS * TIMES)))
    assert (engine.peak > 1) == safe


@pytest.mark.slow
@pytest.mark.parametrize("to", ["bundle", "onnx", "openvino"])
def test_eight_threads_get_what_one_gets(to: str, bundle: Path, tmp_path: Path) -> None:
    model = bundle
    if to != "bundle":
        suffix = {"onnx": ".onnx", "openvino": ".xml"}[to]
        model = fishnet.export(bundle, to=to, out=tmp_path / f"model{suffix}").path  # type: ignore[arg-type]
    predictor = fishnet.load(model, "cpu")
    photos = [image(name, i, (40 + i, 60)) for i, name in enumerate(["red", "green", "blue"] * 4)]
    alone = [scores(predictor.predict(photo, k=3)) for photo in photos]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda i: scores(predictor.predict(photos[i % 12], k=3)), range(12 * TIMES)))
    for i, result in enumerate(found):
        assert result == pytest.approx(alone[i % 12], abs=1e-6)
