"""The examples give what fishnet.load gives, in a process that knows no fishnet."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fishnet
from fishnet.prediction.results import Classification, Detections, Segmentation
from tests.exporting.files import Store, images, store

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store(tmp_path_factory.mktemp("exported"))


def said(name: str, *arguments: object) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"onnx_{name}.py", *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def saved(folder: Path, task: str) -> list[Path]:
    """Images of several sizes; the last is turned by its EXIF."""
    some = images(task)
    paths = [folder / f"{i}.png" for i in range(len(some))]
    for path, image in zip(paths, some, strict=True):
        image.save(path)
    turned = Image.Exif()
    turned[0x0112] = 6
    some[-1].save(paths[-1], exif=turned)
    return paths


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_need_little(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert modules - {"math"} == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    assert len(path.read_text(encoding="utf-8").splitlines()) < 50


def test_classify(files: Store, tmp_path: Path) -> None:
    path, paths = files("classify", "default").path("onnx"), saved(tmp_path, "classify")
    given = said("classify", path, *paths)
    for one, name, expected in zip(given, paths, fishnet.load(path).predict(paths), strict=True):
        assert isinstance(expected, Classification)
        assert one["source"] == str(name)
        assert [row["name"] for row in one["predictions"]] == [row["name"] for row in expected.rows()]
        assert [row["score"] for row in one["predictions"]] == pytest.approx(expected.scores.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("task", "head"),
    [("detect", "retinanet"), ("detect", "fcos"), pytest.param("instances", "mask-rcnn", marks=pytest.mark.slow)],
)
def test_detect(files: Store, task: str, head: str, tmp_path: Path) -> None:
    path, paths = files(task, head).path("onnx"), saved(tmp_path, task)
    for one, expected in zip(said("detect", path, *paths), fishnet.load(path).predict(paths), strict=True):
        assert isinstance(expected, Detections)
        objects = one["objects"]
        assert len(objects) == len(expected) > 3
        assert [each["name"] for each in objects] == list(expected.names)
        assert [each["score"] for each in objects] == pytest.approx(expected.scores.tolist(), abs=1e-4)
        np.testing.assert_allclose([each["box"] for each in objects], expected.boxes, atol=0.1)
        if task == "instances":
            assert expected.cropped_masks is not None
            areas = [int(cropped_mask.bits.sum()) for cropped_mask in expected.cropped_masks]
            np.testing.assert_allclose([each["area"] for each in objects], areas, rtol=0.005, atol=1)


def test_segment(files: Store, tmp_path: Path) -> None:
    path = files("segment", "body").path("onnx")
    paths = saved(tmp_path, "segment")
    for image, expected in zip(paths, fishnet.load(path).predict(paths), strict=True):
        assert isinstance(expected, Segmentation)
        (one,) = said("segment", path, image, tmp_path / "labels.png")
        labels = np.asarray(Image.open(tmp_path / "labels.png"))
        assert labels.shape == expected.size == tuple(one["size"])
        ids = np.array(expected.classes.ids)[expected.labels]
        assert (labels == ids).mean() >= 0.9999
        assert list(one["shares"].values()) == pytest.approx(expected.shares.tolist(), abs=1e-3)
