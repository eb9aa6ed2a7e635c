"""Bundles, checkpoints and exported files with the keys of earlier versions: resumed, exported, measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fishnet.bundle.bundle import CONFIG, read_bundle
from fishnet.bundle.renamed import DATA_KEYS, KEYS
from fishnet.cli import main
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.loading import load
from tests.bundle.test_bundle import kept
from tests.bundle.test_renamed import old_config, old_keys
from tests.conftest import Run
from tests.detection_makers import coco_folder, scene
from tests.recipes.test_recipe import trained  # noqa: F401 (a fixture)
from tests.training.test_detection import small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file whose validation split the training holds out."""
    return coco_folder(tmp_path_factory.mktemp("data"), layout="file", train=8)


@pytest.fixture
def old_run(data: Path, tmp_path: Path) -> Path:
    """A detector's training of one epoch, with the keys that earlier versions wrote."""
    out = tmp_path / "old"
    assert main(["train", "detect", str(data), "--out", str(out), *small("--epochs", 1)]) == 0
    (out / CONFIG).write_text(json.dumps(old_config(json.loads((out / CONFIG).read_text()))))
    recipe = out / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(old_keys(yaml.safe_load(recipe.read_text()))))
    assert "nms: 0.5" in recipe.read_text()
    checkpoint = out / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    state = content["callbacks"]["BundleWriter"]["data"]
    state["marks"] = old_keys(state["marks"], DATA_KEYS)
    torch.save(content, checkpoint)
    return out


def test_a_training_of_before_resumes_and_is_measured(data: Path, old_run: Path, run: Run) -> None:
    code, text, err = run("val", old_run, data, "--workers", 0)
    assert code == 0, err
    assert "(val)" in text, "its own data, whose held-out split is measured"
    assert "not recognised" not in err
    code, text, err = run("train", "detect", data, "--resume", old_run, "--epochs", 2)
    assert code == 0, err
    assert "continuing after epoch 1" in text
    assert "not the images that" not in text
    recipe = yaml.safe_load((old_run / "recipe.yaml").read_text())
    assert set(KEYS.values()) <= set(recipe)
    assert not set(KEYS) & set(recipe)


def test_weights_of_before_bring_their_numbers(trained: list[Recipe], tmp_path: Path, run: Run) -> None:  # noqa: F811
    code, _, err = run("train", "instances", "data", "--weights", kept(2), "--out", tmp_path / "new", "--quiet")
    assert code == 0, err
    known = json.loads((kept(2) / CONFIG).read_text())["recipe"]
    assert {new: getattr(trained[0], new) for new in KEYS.values()} == {KEYS[old]: known[old] for old in KEYS}


def test_a_bundle_of_before_is_exported_and_the_old_file_runs(tmp_path: Path, run: Run) -> None:
    onnx = pytest.importorskip("onnx")
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        scene(number).image.save(images / f"{number}.png")
    file = tmp_path / "model.onnx"
    code, _, err = run("export", kept(2), "--out", file, "--images", images)
    assert code == 0, err
    expected = [result.to_dict() for result in load(file).predict(sorted(images.iterdir()))]  # type: ignore[union-attr]

    model = onnx.load(file)
    (prop,) = (prop for prop in model.metadata_props if prop.key == "fishnet")
    values: dict[str, Any] = json.loads(prop.value)
    prop.value = json.dumps({**values, "bundle": old_config(values["bundle"])})
    assert '"nms"' in prop.value
    onnx.save(model, file)
    assert [result.to_dict() for result in load(file).predict(sorted(images.iterdir()))] == expected  # type: ignore[union-attr]
    assert load(file).bundle.head_args == read_bundle(kept(2)).head_args
