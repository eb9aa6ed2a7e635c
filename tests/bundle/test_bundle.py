"""Bundles: what is written is read again, and nothing else is taken for it."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fishnet.bundle.bundle import (
    CONFIG,
    SCHEMA,
    WEIGHTS,
    Bundle,
    config_text,
    is_bundle,
    read_bundle,
    read_with_weights,
    write_bundle,
)
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.files.tensors import TensorFile
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.loading import load
from fishnet.tasks.store import build_from, load_model, save_state
from tests.detection_makers import scene
from tests.makers import CLASSES, image
from tests.segmentation_makers import scene as labelled_scene

KEPT = Path(__file__).parents[1] / "bundles"

BUNDLE = Bundle.single(
    "classify",
    "fishnet_nano",
    Classes(("chat", "chien", "été", "人"), (7, 3, 90, 1)),
    Preprocess((96, 128), 0.9, "bicubic", (0.4,), (0.2,)),
    thresholds={"score": 0.25},
    backbone_args={"drop_rate": 0.1},
    metrics={"acc@1": 91.25},
    recipe={"lr": 0.1, "crop_scale": [0.5, 1.0]},
    versions={"torch": "2"},
)


def save(content: bytes) -> Callable[[Path], None]:
    """Writes content as the weights."""

    def call(path: Path) -> None:
        path.write_bytes(content)

    return call


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "mine", BUNDLE, save(b"weights"))
    return tmp_path / "mine"


def config_of(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return values


def test_round_trip(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "mine"
    written = write_bundle(folder, BUNDLE, save(b"weights"))
    found = read_bundle(folder)
    assert found == written
    assert found == replace(BUNDLE, sha256=written.sha256)
    assert len(found.sha256) == 64
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS], "no partial file stays"
    assert config_of(folder)["schema"] == SCHEMA


def test_class_table_keeps_the_original_ids(written: Path) -> None:
    classes = read_bundle(written).classes
    assert classes.ids == (7, 3, 90, 1), "gaps, no zero and no order"
    assert classes.names == ("chat", "chien", "été", "人")
    assert "été" in (written / CONFIG).read_text(encoding="utf-8"), "a person can read the config"


def test_is_bundle(written: Path, tmp_path: Path) -> None:
    assert is_bundle(written)
    assert is_bundle(str(written))
    assert not is_bundle(tmp_path)
    assert not is_bundle(written / WEIGHTS)
    assert not is_bundle(tmp_path / "nowhere")


def test_weights_are_as_readable_as_the_config(tmp_path: Path) -> None:
    write_bundle(tmp_path, BUNDLE, lambda path: save_state({"a": torch.ones(2)}, path))
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (CONFIG, WEIGHTS)]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (SCHEMA + 1, "newer than this version's .*: upgrade fishnet-vision"),
        (0, "schema 0 is not a bundle schema"),
        (-1, "not a bundle schema"),
        ("1", "schema '1' is not a bundle schema"),
        (None, "schema None is not a bundle schema"),
    ],
)
def test_other_schemas(schema: object, words: str, written: Path) -> None:
    values = config_of(written)
    values["schema"] = schema
    if schema is None:
        del values["schema"]
    (written / CONFIG).write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"config.json: .*{words}"):
        read_bundle(written)


def kept(schema: int) -> Path:
    """A bundle as it was written: a later version must read it and compute the same."""
    folder = KEPT / f"schema-{schema}"
    assert config_of(folder)["schema"] == schema
    return folder


def test_a_bundle_of_every_schema_is_kept() -> None:
    assert {path.name for path in KEPT.iterdir()} == {f"schema-{number}" for number in range(1, SCHEMA + 1)}


def test_a_classifier_of_schema_1_predicts_as_it_did() -> None:
    folder = kept(1)
    predictor = load(folder, "cpu")
    assert (predictor.bundle.preprocess.fit, predictor.bundle.preprocess.sixteen_bit) == ("crop", "shift")
    assert predictor.bundle.classes == Classes.of(CLASSES)
    images = torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) * 0.37).reshape(2, 3, 32, 32)
    expected = json.loads((folder / "logits.json").read_text())
    torch.testing.assert_close(
        torch.from_numpy(predictor.engine(images.float().numpy())), torch.tensor(expected), atol=1e-3, rtol=1e-3
    )
    for name in CLASSES:
        best = predictor.predict(image(name, 900)).to_dict()["predictions"][0]
        assert best["name"] == name
        assert best["score"] > 0.6


def test_a_detector_of_schema_2_predicts_as_it_did() -> None:
    """Boxes to a pixel, as other builds of torch add up in another order."""
    folder = kept(2)
    predictor = load(folder, "cpu")
    expected = json.loads((folder / "objects.json").read_text())
    found: Any = predictor.predict([scene(i).image for i in range(len(expected))], threshold=0.2, max_detections=3)
    for objects, known in zip(found, expected, strict=True):
        assert objects.names == [one["name"] for one in known]
        np.testing.assert_allclose(objects.boxes, [one["box"] for one in known], atol=1)
        np.testing.assert_allclose(objects.scores, [one["score"] for one in known], atol=0.02)
        np.testing.assert_allclose(objects.areas, [one["area"] for one in known], rtol=0.1)


def test_a_segmenter_of_schema_3_predicts_as_it_did() -> None:
    """Areas to some px along the boundaries, as other builds of torch add up in another order."""
    folder = kept(3)
    predictor = load(folder, "cpu")
    assert predictor.bundle.preprocess.fit == "native"
    expected = json.loads((folder / "labels.json").read_text())
    found: Any = predictor.predict([labelled_scene(i).image for i in range(len(expected))])
    for labels, known in zip(found, expected, strict=True):
        rows, told = labels.rows(), known["rows"]
        assert [(row["id"], row["name"]) for row in rows] == [(row["id"], row["name"]) for row in told]
        np.testing.assert_allclose([row["pixels"] for row in rows], [row["pixels"] for row in told], atol=20)


def test_loading_reads_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash, header, check and load share one read: what happens to the file afterwards does not matter."""
    folder = shutil.copytree(kept(1), tmp_path / "bundle")
    expected = load(folder, "cpu").predict(image("red", 900)).to_dict()
    opened: list[str] = []
    os_open, read = os.open, TensorFile.read

    def counting_open(path: Any, *args: Any, **options: Any) -> int:
        opened.append(Path(path).name)
        return os_open(path, *args, **options)

    def read_and_overwrite(path: Path) -> TensorFile:
        file = read(path)
        path.write_bytes(b"other bytes")
        return file

    monkeypatch.setattr(os, "open", counting_open)
    monkeypatch.setattr(TensorFile, "read", read_and_overwrite)
    assert load(folder, "cpu").predict(image("red", 900)).to_dict() == expected
    assert opened.count(WEIGHTS) == 1
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
        load(folder, "cpu")


def test_reading_a_config_holds_no_weights_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_bundle(kept(1))

    def read(path: Path) -> TensorFile:
        raise MemoryError

    monkeypatch.setattr(TensorFile, "read", read)
    assert read_bundle(kept(1)) == expected


def test_an_interrupted_writing_of_weights_and_config_loads(tmp_path: Path) -> None:
    """Of an older config, of new weights, and of the config that waits beside these, the latter two count."""
    folder = shutil.copytree(kept(1), tmp_path / "bundle")
    shutil.copy(folder / CONFIG, folder / f".{CONFIG}.partial")
    (folder / CONFIG).write_text((kept(2) / CONFIG).read_text())
    bundle, weights = read_with_weights(folder)
    assert bundle == read_bundle(kept(1))
    assert weights.sha256 == bundle.sha256


@torch.no_grad()
def test_a_model_of_two_heads_of_schema_4_computes_as_it_did() -> None:
    """A classifier and a segmenter on one trunk."""
    folder = kept(4)
    bundle, model = load_model(folder)
    assert {name: head.task for name, head in bundle.heads.items()} == {"classify": "classify", "segment": "segment"}
    images = torch.sin(torch.arange(2 * 3 * 64 * 64, dtype=torch.float64) * 0.37).reshape(2, 3, 64, 64).float()
    expected = json.loads((folder / "outputs.json").read_text())
    found = model(images)
    torch.testing.assert_close(found["classify"], torch.tensor(expected["classify"]), atol=1e-3, rtol=1e-3)
    means = found["segment"].mean((2, 3))
    torch.testing.assert_close(means, torch.tensor(expected["segment"]), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": None}, "heads: must be an object"),
        ({"heads": {}}, "0 heads: must be from 1 to 64"),
        ({"heads": {"Two.": {}}}, "'Two.' is not a valid name"),
        ({"heads": {"a": [1]}}, "heads: a: must be an object"),
        ({"heads": {"a": {"task": "classify", "classes": None}}}, "classes: must be a list"),
        ({"heads": {"a": {"task": "classify", "classes": [{"name": "a"}]}}}, "'id'"),
        (
            {"heads": {"a": {"task": "classify", "classes": [{"id": 0, "name": "a"}, {"id": 1, "name": "a"}]}}},
            "not unique: a",
        ),
        ({"heads": {"a": {"task": "classify", "head": None, "classes": [{"id": 0, "name": "a"}]}}}, "head: must be a"),
        ({"heads": {"a": {"classes": [{"id": 0, "name": "a"}]}}}, "task"),
        ({"preprocess": {"interpolation": "cubist"}}, "cubist.*bicubic"),
        ({"preprocess": {"crop_pct": 0}}, "crop_pct"),
        ({"preprocess": {"size": [224]}}, "size"),
        ({"preprocess": {"size": 224}}, "not a valid bundle config"),
        ({"preprocess": {"mean": [0.5]}}, "mean and std"),
        ({"colour": "red"}, "colour"),
        ({"backbone": 5}, "backbone: must be a string"),
        ({"backbone_args": []}, "backbone_args: must be an object"),
        ({"preprocess": [1]}, "preprocess: must be an object"),
        ({"recipe": None}, "recipe: must be an object"),
    ],
)
def test_wrong_values(change: dict[str, object], words: str, written: Path) -> None:
    (written / CONFIG).write_text(json.dumps({**config_of(written), **change}))
    with pytest.raises(InputError, match=f"config.json: .*{words}") as caught:
        read_bundle(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["heads", "backbone", "preprocess"])
def test_a_missing_key(key: str, written: Path) -> None:
    values = config_of(written)
    del values[key]
    (written / CONFIG).write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"config.json: .*{key}"):
        read_bundle(written)


@pytest.mark.parametrize("text", ["", "{", "[1]", '["abc"]', "3", "null", '"text"'])
def test_damaged_json(text: str, written: Path) -> None:
    (written / CONFIG).write_text(text)
    with pytest.raises(InputError, match=r"config\.json: "):
        read_bundle(written)


def test_a_config_that_is_no_text(written: Path) -> None:
    (written / CONFIG).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"config\.json: damaged"):
        read_bundle(written)


def test_missing_and_altered_weights(written: Path) -> None:
    (written / WEIGHTS).write_bytes(b"weightz")
    with pytest.raises(InputError, match=r"model\.safetensors: is not the file .* altered or damaged"):
        read_bundle(written)
    (written / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        read_bundle(written)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such bundle"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json is missing"):
        read_bundle(tmp_path)


def test_a_failing_write_leaves_the_old_bundle(written: Path) -> None:
    def fails_halfway(path: Path) -> None:
        path.write_bytes(b"wei")
        raise OSError(28, "No space left on device")

    before = read_bundle(written)
    with pytest.raises(OSError, match="No space"):
        write_bundle(written, replace(BUNDLE, backbone="other"), fails_halfway)
    assert read_bundle(written) == before
    assert sorted(path.name for path in written.iterdir()) == [CONFIG, WEIGHTS], "a full disk gets its room back"


def test_a_config_that_cannot_be_written_leaves_the_old_bundle(written: Path) -> None:
    before = read_bundle(written)
    odd = replace(BUNDLE, metrics={"acc@1": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        write_bundle(written, odd, save(b"new"))
    assert read_bundle(written) == before


def test_a_new_bundle_replaces_the_old_one(written: Path) -> None:
    before = read_bundle(written)
    write_bundle(written, BUNDLE, save(b"new"))
    assert read_bundle(written).sha256 != before.sha256


KILLED = """
import json, os, signal, sys
from pathlib import Path
from fishnet.bundle.bundle import Bundle, write_bundle

rename, left = Path.replace, [int(sys.argv[2])]

def count_down(self, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(self, target)

Path.replace = count_down
bundle = Bundle.from_dict({**json.loads(sys.argv[3]), "backbone": "new"})
write_bundle(sys.argv[1], bundle, lambda path: path.write_bytes(b"new weights"))
"""


def killed(folder: Path, renames: int) -> None:
    """Another process writes a bundle there, and is killed before the next rename after this many."""
    done = subprocess.run([sys.executable, "-c", KILLED, folder, str(renames), config_text(BUNDLE)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("renames", "backbone"), [(0, "fishnet_nano"), (1, "new")])
def test_a_kill_leaves_a_whole_bundle(renames: int, backbone: str, written: Path) -> None:
    killed(written, renames)
    assert (written / f".{CONFIG}.partial").is_file(), "between the renames"
    found = read_bundle(written)
    assert (found.backbone, found.classes) == (backbone, BUNDLE.classes)
    killed(written, 0 if renames == 0 else 1)  # the first rename is now the one that had been left
    assert read_bundle(written).backbone == backbone
    write_bundle(written, BUNDLE, save(b"third"))
    assert sorted(path.name for path in written.iterdir()) == [CONFIG, WEIGHTS]
    assert config_of(written)["backbone"] == "fishnet_nano"


def test_a_kill_of_the_first_writing(tmp_path: Path) -> None:
    killed(tmp_path, 0)
    assert not is_bundle(tmp_path)
    killed(tmp_path, 1)
    assert is_bundle(tmp_path)
    assert read_bundle(tmp_path).backbone == "new"
    (tmp_path / WEIGHTS).write_bytes(b"others")
    assert not is_bundle(tmp_path), "a config beside other weights says nothing"


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay"])
def test_a_bundle_loads_no_other_files(key: str) -> None:
    with pytest.raises(InputError, match=f"backbone_args: {key} does not belong in a bundle"):
        build_from(replace(BUNDLE, backbone_args={key: "/elsewhere.pth"}))
