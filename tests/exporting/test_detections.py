"""The detections of a batch in rows: torchvision's, image by image, are the reference."""

from typing import Any

import numpy as np
import pytest
import torch

from fishnet.errors import InputError, NotFiniteError
from fishnet.exporting.detections import NO_LABEL, batched_detections
from fishnet.runtime.objects import objects_of
from tests.exporting.models import made

ONE_STAGE = ["retinanet", "fcos"]


@pytest.mark.parametrize("head", ONE_STAGE)
@pytest.mark.parametrize(
    ("settings", "size", "wanted"),
    [
        ({}, (96, 160), "all rows are taken"),
        ({"max_detections": 2000, "score_threshold": 0.4}, (96, 160), "some rows are left"),
        ({"max_detections": 5000, "score_threshold": 0.0}, (64, 64), "fewer candidates than rows"),
        ({"score_threshold": 0.9999}, (64, 96), "no row is taken"),
        ({"nms_iou": 0.1, "max_detections": 1000}, (96, 96), "some rows are left"),
    ],
)
def test_rows_are_torchvision_s_detections(
    head: str, settings: dict[str, Any], size: tuple[int, int], wanted: str
) -> None:
    _, model = made("detect", head, **settings)
    detector: Any = model.only_head[1]
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = detector(model.features(images))
        found = batched_detections(detector, model.features(images))
    rows = detector.spec.max_detections
    assert {name: values.shape for name, values in found.items()} == {
        "boxes": (3, rows, 4), "scores": (3, rows), "labels": (3, rows),
    }  # fmt: skip
    counts = []
    for i, image in enumerate(expected):
        count = len(image["scores"])
        counts.append(count)
        torch.testing.assert_close(found["scores"][i, :count], image["scores"])
        assert (found["scores"][i, count:] == 0).all()
        assert (found["labels"][i, count:] == NO_LABEL).all()
        assert (found["boxes"][i, count:] == 0).all()
        assert _sorted(image) == pytest.approx(_sorted({name: found[name][i, :count] for name in image}), abs=1e-3)
    said = {
        "all rows are taken": all(count == rows for count in counts),
        "some rows are left": all(0 < count < rows for count in counts),
        "fewer candidates than rows": all(0 < count < rows for count in counts),
        "no row is taken": not any(counts),
    }
    assert said[wanted], counts


def _sorted(objects: dict[str, torch.Tensor]) -> Any:
    """Rows of label, score and box in an order of their own, since equal scores have none."""
    table = torch.cat([objects["labels"][:, None], objects["scores"][:, None], objects["boxes"]], 1).double().numpy()
    return table[np.lexsort(table.round(2).T)].ravel()


CONFIG = made("detect", "retinanet")[0].only_head
BATCH = {
    "boxes": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "scores": np.array([[0.9, 0.4, 0], [0, 0, 0]], np.float32),
    "labels": np.array([[2, 0, -1], [-1, -1, -1]]),
}


def test_rows_become_the_objects_of_each_image() -> None:
    first, second = objects_of(BATCH, CONFIG, (64, 64), 2, "")
    assert {name: values.tolist() for name, values in first.items()} == {
        "boxes": [[0, 1, 2, 3], [4, 5, 6, 7]], "scores": BATCH["scores"][0, :2].tolist(), "labels": [2, 0],
    }  # fmt: skip
    assert {name: values.shape for name, values in second.items()} == {"boxes": (0, 4), "scores": (0,), "labels": (0,)}


@pytest.mark.parametrize(
    ("changed", "images", "words"),
    [
        ({}, 3, "of 2 images for 3"),
        ({"scores": BATCH["scores"][:1]}, 2, r"different numbers of objects: boxes \(2, 3, 4\), scores \(1, 3\)"),
        ({"boxes": BATCH["boxes"][:, :2]}, 2, "different numbers of objects"),
        ({"labels": np.full((2, 3), 3)}, 2, "labels from 3 to 3, but its description has 3 classes"),
    ],
)
def test_rows_that_do_not_fit(changed: dict[str, Any], images: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        objects_of({**BATCH, **changed}, CONFIG, (64, 64), images, "file: ")


def test_rows_that_are_not_finite() -> None:
    with pytest.raises(NotFiniteError):
        objects_of({**BATCH, "scores": np.full((2, 3), np.nan, np.float32)}, CONFIG, (64, 64), 2, "")
