"""Exports by the command line: every task head to every format that takes it, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fishnet
from fishnet.bundle.bundle import WEIGHTS, read_bundle
from fishnet.exporting import export as module
from fishnet.exporting import graphs
from fishnet.runtime.engines import open_engine, openvino_has_bf16
from fishnet.runtime.exported import SUFFIXES
from tests.conftest import Run
from tests.exporting.models import SETS, bundle_of, bundle_of_set, made_set
from tests.makers import image
from tests.marks import slow

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch.onnx needs it")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of unlike sizes."""
    folder = tmp_path_factory.mktemp("photos")
    image("red", 0, (160, 120)).save(folder / "a.png")
    image("blue", 1, (100, 140)).save(folder / "b.jpg")
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a detector of one stage: the quickest to export."""
    return bundle_of(tmp_path_factory.mktemp("cells") / "run", "detect", "fcos", width=64)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has logits exported as objects are, in a twentieth of the time; other tests here use the first exporter."""
    monkeypatch.setattr(module, "exporters", lambda model: (graphs._export_traced,))


def left_over(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.startswith(".export")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "task", "head"),
    [
        ("openvino", "detect", "fcos"),
        ("onnx", "detect", "faster-rcnn"),
        ("pt2", "detect", "faster-rcnn"),
        ("openvino", "instances", "mask-rcnn"),
    ],
)
def test_detectors_in_each_format(
    to: str, task: str, head: str, tmp_path: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison within the export passes, and what was kept predicts what the bundle does.

    tests/runtime runs every head's files.
    """
    bundle = bundle_of(tmp_path / "run", task, head, width=64)
    code, out, err = run("export", bundle, "--to", to, "--images", photos, "--json")
    if to == "pt2":
        assert code == 2
        assert "pt2" in err
        assert len(err.splitlines()) == 1
        assert not (bundle / "model.pt2").exists()
        return
    assert code == 0, err
    made = json.loads(out)
    file = Path(made["file"])
    assert file == bundle / f"model{SUFFIXES[to]}"  # type: ignore[index]
    assert made["check"]["faults"] == []
    assert len(made["check"]["inputs"]) == 6
    assert made["check"]["objects"] > 20
    assert left_over(bundle) == []
    mine, theirs = fishnet.load(bundle, "cpu"), fishnet.load(file, trust=True)
    assert theirs.bundle == mine.bundle == read_bundle(bundle)
    one, other = (predictor.predict(photos / "a.png") for predictor in (mine, theirs))
    assert np.allclose(one.scores, other.scores, atol=1e-4)  # type: ignore[attr-defined]


def test_default_place_and_one_file(cells: Path, photos: Path, run: Run) -> None:
    code, out, _ = run("export", cells, "--images", photos)
    assert code == 0
    assert str(cells / "model.onnx") in out
    import onnx

    graph = onnx.load(str(cells / "model.onnx"), load_external_data=False)
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.graph.initializer)
    assert not list(cells.glob("*.data"))
    text = (cells / "model.onnx").read_bytes()
    assert b"site-packages" not in text
    assert str(Path(module.__file__).parents[2]).encode() not in text, "this machine's paths do not travel"
    assert left_over(cells) == []


def test_a_file_that_differs_is_not_kept(
    cells: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose boxes are off by half a px: exit 1, and an older file stays as it was."""
    engine_of = module._engine

    def shifted(path: Path) -> Any:
        engine = engine_of(path)
        return lambda batch: [{**found, "boxes": found["boxes"] + 0.5} for found in engine(batch)]

    monkeypatch.setattr(module, "_engine", shifted)
    old = tmp_path / "model.onnx"
    old.write_text("old")
    code, _, err = run("export", cells, "--images", photos, "--out", old)
    assert code == 1
    assert "boxes differ by" in err.splitlines()[-1]
    assert "not kept" in err
    assert old.read_text() == "old"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--precision", "int8"], "give data"),
        (["--to", "pt2", "--precision", "fp16"], "fp32 only"),
        (["--precision", "bf16", "--data", "cells"], "onnx files compute as they were written: choose openvino"),
        (["--to", "openvino", "--precision", "bf16"], "precision=bf16 needs labelled data to evaluate on"),
        (["--out", "model.bin"], ".onnx"),
        (["--out", "nowhere/model.onnx"], "no such folder"),
        (["--images", "nothing.jpg"], "nothing.jpg"),
        (["--to", "tflite"], "onnx"),
        (["--precision", "int8", "--data", "nowhere"], "nowhere"),
        (["--max-drop", "-1"], "max_drop=-1"),
        (["--max-drop", "nan"], "max_drop=nan"),
        (["--out", "MODEL.ONNX"], ".onnx"),
        (["--images", "clip.mp4"], "videos"),
    ],
)
def test_refused_before_the_work(
    cells: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr(module, "write_onnx", never)
    monkeypatch.setattr(module, "write_pt2", never)
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    code, out, err = run("export", cells, *words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]


def test_a_split_that_the_data_lack(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run(
        "export", bundle, "--precision", "int8", "--data", folder, "--split", "test", "--out", tmp_path / "m.onnx"
    )
    assert code == 2
    assert "'test'" in err.splitlines()[-1]


def test_a_way_that_fails_is_not_the_last(
    bundle: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first exporter's file cannot be run: the second one's is compared and kept. A broken image is left out."""
    data = shutil.copytree(folder, tmp_path / "data")
    first = sorted(data.rglob("*.png"))[0]
    first.write_bytes(b"broken")
    engine_of, opened = module._engine, []

    def once_broken(path: Path) -> Any:
        opened.append(path)
        if len(opened) == 1:
            raise RuntimeError("no such operation")
        return engine_of(path)

    monkeypatch.setattr(module, "_engine", once_broken)
    monkeypatch.setattr(module, "exporters", lambda model: (graphs._export_traced, graphs._export_traced))
    code, _, err = run("export", bundle, "--data", data, "--out", tmp_path / "small.onnx")
    assert code == 0, err
    assert len(opened) == 2
    assert "compared with the bundle" in err


def test_a_package_that_is_missing(cells: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "openvino" else object())
    code, _, err = run("export", cells, "--to", "openvino")
    assert code == 2
    assert "fishnet-vision[openvino]" in err


def test_a_broken_image_and_no_bundle(cells: Path, tmp_path: Path, run: Run) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no image")
    code, _, err = run("export", cells, "--images", broken)
    assert code == 2
    assert str(broken) in err
    code, _, err = run("export", tmp_path / "none")
    assert code == 2
    assert "none" in err


def test_no_objects_nothing_to_compare(tmp_path: Path, photos: Path, run: Run) -> None:
    """A detector that finds nothing in the images cannot be vouched for."""
    from safetensors.torch import load_file, save_file

    from fishnet.bundle.bundle import write_bundle

    folder = bundle_of(tmp_path / "run", "detect", "fcos", width=64)
    state = load_file(folder / WEIGHTS)
    name = next(key for key in state if key.endswith("cls_logits.bias"))
    state[name] -= 1000
    write_bundle(folder, read_bundle(folder), lambda path: save_file(state, path))
    code, _, err = run("export", folder, "--images", photos)
    assert code == 2, err
    assert "nothing to compare" in err
    assert not (folder / "model.onnx").exists()


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_8_bits(to: str, bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    """A trained classifier: smaller files, as good on its data; what it has cost is in the file."""
    if to == "openvino":
        pytest.importorskip("nncf", reason="nncf is not installed")
    source = shutil.copytree(bundle, tmp_path / "run")
    assert run("export", source, "--to", to, "--data", folder)[0] == 0
    small = source / f"small{SUFFIXES[to]}"  # type: ignore[index]
    code, out, err = run(
        "export", source, "--to", to, "--precision", "int8", "--data", folder, "--out", small, "--json"
    )
    assert code == 0, err
    made = json.loads(out)
    whole = sum(file.stat().st_size for file in source.glob("model.*") if file.suffix in (".onnx", ".bin"))
    less = sum(file.stat().st_size for file in source.glob("small.*") if file.suffix in (".onnx", ".bin"))
    assert less < 0.55 * whole
    predictor = fishnet.load(made["file"])
    before, after = made["metrics"]["fp32"]["acc@1"], made["metrics"]["int8"]["acc@1"]
    assert before - after <= 1
    photo = next(folder.rglob("*.png"))
    assert fishnet.load(source, "cpu").predict(photo).name == predictor.predict(photo).name


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
def test_int8_that_costs_too_much(
    bundle: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([{"acc@1": 90.0}, {"acc@1": 87.5}])
    monkeypatch.setattr(module, "_evaluate", lambda *_: next(measured))
    source = shutil.copytree(bundle, tmp_path / "run")
    code, _, err = run("export", source, "--precision", "int8", "--data", folder, "--max-drop", 2)
    assert code == 1
    assert "lowers acc@1 by 2.50 points, more than max_drop=2" in err.splitlines()[-1]
    assert not (source / "model-int8.onnx").exists()
    assert left_over(source) == []


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
def test_bf16(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    """The file asks its engine for bf16, and says what that costs. What the machine cannot compute is not promised."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    source = shutil.copytree(bundle, tmp_path / "run")
    code, out, err = run("export", source, "--to", "openvino", "--precision", "bf16", "--data", folder, "--json")
    if not openvino_has_bf16():
        assert code == 2
        assert "this machine does not compute in bf16, so the file cannot be evaluated here" in err
        return
    assert code == 0, err
    made = json.loads(out)
    file = Path(made["file"])
    assert file == source / "model-bf16.xml"
    assert set(made["metrics"]) == {"fp32", "bf16"}
    assert left_over(source) == []
    assert fishnet.load(file).precision == "bf16"
    assert fishnet.load(file, precision="fp32").precision == "fp32"
    photo = next(folder.rglob("*.png"))
    ours, theirs = (fishnet.load(file, precision=precision).predict(photo) for precision in ("auto", "fp32"))
    assert ours.name == theirs.name
    assert not np.array_equal(ours.scores, theirs.scores)


def test_bf16_on_a_machine_without_it(bundle: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(module, "openvino_has_bf16", lambda: False)
    code, _, err = run("export", bundle, "--to", "openvino", "--precision", "bf16", "--data", folder)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "this machine does not compute in bf16" in err


@pytest.mark.usefixtures("traced")
def test_bf16_that_costs_too_much(
    bundle: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    measured = iter([{"acc@1": 90.0}, {"acc@1": 87.5}])
    monkeypatch.setattr(module, "openvino_has_bf16", lambda: True)
    monkeypatch.setattr(module, "_evaluate", lambda *_: next(measured))
    source = shutil.copytree(bundle, tmp_path / "run")
    code, _, err = run("export", source, "--to", "openvino", "--precision", "bf16", "--data", folder, "--max-drop", 2)
    assert code == 1
    assert "bf16 lowers acc@1 by 2.50 points, more than max_drop=2" in err.splitlines()[-1]
    assert not list(source.glob("model-bf16*"))
    assert left_over(source) == []


# --- several heads ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a classifier, a detector and a segmenter on one trunk."""
    return bundle_of_set(tmp_path_factory.mktemp("scene") / "run", "two-stage")


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("two-stage", "onnx"),
        slow("two-stage", "pt2"),
        slow("maps", "pt2"),
        slow("one-stage", "openvino"),
        slow("panoptic", "onnx"),
        slow("classifiers", "openvino"),
    ],
)
def test_several_heads(name: str, to: str, tmp_path: Path, photos: Path, run: Run) -> None:
    """One file, compared head by head; what was kept predicts what the bundle does."""
    bundle = bundle_of_set(tmp_path / "run", name)
    code, out, err = run("export", bundle, "--to", to, "--images", photos, "--json")
    two_stage = [head for head, config in SETS[name].items() if config.head in ("faster-rcnn", "mask-rcnn")]
    if to == "pt2" and two_stage:
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"{two_stage[0]}: " in err
        assert not (bundle / "model.pt2").exists()
        return
    assert code == 0, err
    made = json.loads(out)
    assert made["task"] == {head: config.task for head, config in SETS[name].items()}
    assert set(made["check"]) == set(SETS[name])
    for head, check in made["check"].items():
        assert check["faults"] == []
        assert len(check["inputs"]) == 6
        if SETS[name][head].task in ("detect", "instances"):
            assert check["objects"] > 20
        else:
            assert check["outputs"] <= 1e-4
    assert {output.partition("/")[0] for output in made["outputs"]} == set(SETS[name])
    assert made["dynamic_batch"] == (name not in ("two-stage", "panoptic") and (name, to) != ("one-stage", "pt2"))
    assert left_over(bundle) == []
    mine, theirs = fishnet.load(bundle, "cpu"), fishnet.load(made["file"], trust=True)
    assert theirs.bundle == mine.bundle == read_bundle(bundle)
    one, other = (predictor.predict(photos / "a.png").to_dict() for predictor in (mine, theirs))
    assert list(one) == list(other)


def test_lines_name_the_head(scene: Path, photos: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("export", scene, "--images", photos, "--out", tmp_path / "m.onnx")
    assert code == 0
    assert [line.partition(":")[0] for line in err.splitlines()] == ["classify", "detect", "segment"]
    assert all("compared with the bundle on 2 images, 6 inputs" in line for line in err.splitlines())
    code, out, _ = run("info", tmp_path / "m.onnx", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["takes"] == "one image at a time, any size from 64 px, in multiples of 32"
    assert set(facts["heads"]) == {"classify", "detect", "segment"}


@pytest.mark.parametrize(
    ("head", "change", "fault"),
    [
        ("classify", lambda logits: logits + 0.1 * np.ptp(logits), "classify: outputs differ by 0."),
        (
            "detect",
            lambda objects: [{**one, "boxes": one["boxes"] + 0.5} for one in objects],
            "detect: boxes differ by",
        ),
        ("segment", lambda logits: logits * np.nan, "segment: outputs for 6 of 6 inputs are not finite"),
    ],
)
def test_a_head_that_differs(
    scene: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, head: str, change: Any,
    fault: str,
) -> None:  # fmt: skip
    """One head is enough for the file not to be kept, and no other head is blamed."""
    engine_of = module._engine

    def changed(path: Path) -> Any:
        engine = engine_of(path)
        return lambda batch: {name: change(it) if name == head else it for name, it in engine(batch).items()}

    monkeypatch.setattr(module, "_engine", changed)
    code, _, err = run("export", scene, "--images", photos, "--out", tmp_path / "m.onnx")
    assert code == 1
    last = err.splitlines()[-1]
    assert fault in last
    faults = [part for part in last.split("; ") if "compared with" not in part]
    assert {part.partition(":")[0] for part in faults} == {head}
    assert not list(tmp_path.iterdir())


def test_a_detector_without_objects_is_named(tmp_path: Path, photos: Path, run: Run) -> None:
    from safetensors.torch import load_file, save_file

    from fishnet.bundle.bundle import write_bundle

    folder = bundle_of_set(tmp_path / "run", "one-stage")
    state = load_file(folder / WEIGHTS)
    state["heads.detect.net.head.classification_head.cls_logits.bias"] -= 1000
    write_bundle(folder, read_bundle(folder), lambda path: save_file(state, path))
    code, _, err = run("export", folder, "--images", photos)
    assert code == 2, err
    assert "detect: nothing to compare" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--precision", "int8", "--data", "cells"], "several heads (classify, detect, segment), and int8 is only"),
        (["--data", "cells"], "give images"),
    ],
)
def test_labelled_data_of_several_heads(scene: Path, run: Run, words: list[str], said: str) -> None:
    code, out, err = run("export", scene, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_several_heads_in_16_bits(
    photos: Path, tmp_path: Path, run: Run, to: str, request: pytest.FixtureRequest
) -> None:
    """Without objects: which proposals of random weights survive 16 bits depends on the processor."""
    if to == "openvino":
        request.getfixturevalue("traced")
    bundle = bundle_of_set(tmp_path / "run", "maps")
    code, said, err = run("export", bundle, "--to", to, "--precision", "fp16", "--images", photos, "--json")
    assert code == 0, err
    made = json.loads(said)
    numbers = Path(made["file"]).with_suffix(".bin" if to == "openvino" else ".onnx")
    assert numbers.stat().st_size < 0.75 * (bundle / WEIGHTS).stat().st_size
    assert all(check["outputs"] < 2e-2 for check in made["check"].values())


def crop_bundle(folder: Path, size: tuple[int, int]) -> Path:
    """The set ``maps`` with images that are cropped, as a classifier's are."""
    from fishnet.bundle.bundle import write_bundle
    from fishnet.images.preprocess import Preprocess
    from fishnet.tasks.store import save_weights

    bundle, model = made_set("maps")
    write_bundle(folder, replace(bundle, preprocess=Preprocess(size)), lambda path: save_weights(model, path))
    return folder


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("size", "inputs", "fixed"),
    [
        ((64, 96), [[64, 96], [64, 128], [96, 128]], None),
        pytest.param((100, 100), [[100, 100]], [100, 100], marks=pytest.mark.slow),
    ],
)
def test_cropped_images(
    size: tuple[int, int], inputs: list[list[int]], fixed: list[int] | None, tmp_path: Path, photos: Path, run: Run
) -> None:
    """Label maps need multiples of 32: another crop is padded within the graph, which then takes only that size."""
    bundle = crop_bundle(tmp_path / "run", size)
    code, out, err = run("export", bundle, "--images", photos / "a.png", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["size"] == fixed
    assert made["check"]["segment"]["inputs"] == inputs
    assert open_engine(made["file"])(np.zeros((1, 3, *size), np.float32))["segment"].shape == (1, 2, *size)
