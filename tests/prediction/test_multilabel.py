"""The labels of an image: which are reported, and how they are shown."""

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.options import PredictOptions
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Classification, MultiLabel
from fishnet.prediction.results.classification import sigmoid

CLASSES = Classes(("cat", "dog", "cow"), (7, 8, 9))
LOGITS = np.array([0.0, 2.0, -3.0], np.float32)


def result(k: int = 2, thresholds: tuple[float, ...] = (0.5, 0.9, 0.01), **options: float) -> MultiLabel:
    made = Classification.from_logits(LOGITS, CLASSES, k, thresholds=thresholds, **options)  # type: ignore[arg-type]
    assert isinstance(made, MultiLabel)
    return made


def test_labels_are_the_classes_at_or_above_their_thresholds() -> None:
    made = result()
    assert made.names == ["cat", "cow"]
    assert made.to_dict() == {
        "task": "classify",
        "labels": [
            {"id": 7, "name": "cat", "score": 0.5, "threshold": 0.5},
            {"id": 9, "name": "cow", "score": 0.047426, "threshold": 0.01},
        ],
        "predictions": [{"id": 8, "name": "dog", "score": 0.880797}, {"id": 7, "name": "cat", "score": 0.5}],
    }
    assert [row["present"] for row in made.rows()] == [False, True, True], "the best two, and all labels"
    assert list(made.rows()[0]) == list(MultiLabel.columns)
    assert made.summary() == "cat 50.0 %, cow 4.7 %"
    assert [name for name, _ in made.bars()] == ["cat", "cow"]


def test_one_threshold_replaces_all() -> None:
    assert result(threshold=0.6).names == ["dog"]
    none = result(k=1, threshold=0.99)
    assert (none.names, none.to_dict()["labels"], len(none.rows())) == ([], [], 1)
    assert none.summary() == "no label (best: dog 88.1 %)"
    assert none.draw(Image.new("RGB", (64, 64))).height > 64


def test_sigmoid_of_any_size() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        values = sigmoid(np.array([-1000, -30, 0, 30, 1000], np.float32))
    assert values.tolist() == pytest.approx([0, 9.3576e-14, 0.5, 1, 1], rel=1e-4)


def bundle(**head: object) -> Bundle:
    return Bundle.single("classify", "fishnet_nano", CLASSES, Preprocess((32, 32)), **head)  # type: ignore[arg-type]


def test_a_predictor_reads_thresholds_from_the_bundle() -> None:
    labels = bundle(head_args={"multi_label": True}, thresholds={"class:dog": 0.9, "class:cow": 0.01})
    predictor = Predictor(labels, lambda images: [LOGITS] * len(images))
    image = Image.new("RGB", (40, 40))
    made = predictor.predict(image, k=1)
    assert isinstance(made, MultiLabel)
    assert made.names == ["cat", "cow"], "one half where the bundle has no threshold"
    again = predictor.predict(image, threshold=0.6)
    assert isinstance(again, MultiLabel)
    assert again.names == ["dog"]
    assert PredictOptions.of(labels, {}).result_options["classify"] == {"thresholds": (0.5, 0.9, 0.01)}
    with pytest.raises(InputError, match="threshold: not an option of classify"):
        PredictOptions.of(bundle(), {"threshold": 0.5})
