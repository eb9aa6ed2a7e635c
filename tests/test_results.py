"""Results: what the numbers of a model mean."""

import json

import numpy as np
import pytest
from PIL import Image

from fishnet.data.labels import Classes
from fishnet.results import RESULTS, Classification, Result
from fishnet.tasks import TASKS

TABLE = Classes(("ant", "bee", "cat", "dog"), (11, 7, 90, 1))


def of(*logits: float, k: int = 5, classes: Classes = TABLE) -> Classification:
    return Classification.from_logits(np.array(logits, np.float32), classes, k)


def test_softmax_best_first() -> None:
    result = of(0.0, np.log(6.0), np.log(2.0), 0.0)
    assert result.labels.tolist() == [1, 2, 0, 3]
    # 1e-6: float32's 7 digits
    np.testing.assert_allclose(result.scores, [0.6, 0.2, 0.1, 0.1], atol=1e-6)
    assert (result.name, result.labels.dtype, result.scores.dtype) == ("bee", np.int64, np.float32)
    assert result.score == pytest.approx(0.6, abs=1e-6)


def test_ties_keep_the_order_of_the_classes() -> None:
    assert of(1.0, 1.0, 1.0, 1.0).labels.tolist() == [0, 1, 2, 3]
    assert of(0.0, 1.0, 1.0, 0.0, k=3).labels.tolist() == [1, 2, 0]
    many = of(*[0.0, 1.0] * 50, k=100, classes=Classes.of(map(str, range(100))))
    assert many.labels.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize(("k", "given"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_no_more_than_there_are(k: int, given: int) -> None:
    result = of(3.0, 1.0, 2.0, 0.0, k=k)
    assert result.labels.tolist() == [0, 2, 1, 3][:given]
    assert len(result.scores) == given
    if given < 4:
        assert result.scores.sum() < 1, "the probabilities are over all classes, not over the given ones"


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_logits(scale: float) -> None:
    result = of(0.0, scale, -scale, 0.0)
    assert result.scores.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_original_ids_in_plain_values() -> None:
    result = of(0.0, 4.0, 2.0, 1.0, k=2)
    assert result.rows() == [
        {"id": 7, "name": "bee", "score": pytest.approx(0.8311, abs=1e-3)},
        {"id": 90, "name": "cat", "score": pytest.approx(0.1125, abs=1e-3)},
    ]
    assert json.loads(json.dumps(result.to_dict())) == {"task": "classify", "predictions": result.rows()}


def test_the_panel_has_the_best_three() -> None:
    image = Image.new("RGB", (300, 200), "white")
    heights = {k: of(3.0, 1.0, 2.0, 0.0).draw(image, k).height for k in (1, 2, 3)}
    assert heights[2] - heights[1] == heights[3] - heights[2] > 0
    assert of(3.0, 1.0, 2.0, 0.0).draw(image).height == heights[3]
    assert image.size == (300, 200), "the picture itself stays as it is"


def test_every_task_has_a_result() -> None:
    assert set(RESULTS) == set(TASKS)


def test_a_classification_is_a_result() -> None:
    result: Result = of(0.0, 1.0, 2.0, 3.0)
    assert set(result.to_dict()) == {"task", "predictions"}
