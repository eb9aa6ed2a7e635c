"""Exported files under the Predictor, against the same model under torch; no file here is checked by export itself."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import fishnet
from fishnet.errors import InputError
from fishnet.evaluation.evaluate import evaluate
from fishnet.exporting.graphs import describe_onnx, rewrite_description
from fishnet.exporting.outputs import Outputs
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Classification, Detections, Segmentation
from fishnet.runtime.decode import RAW
from fishnet.runtime.engines import RuntimeEngine, open_engine, read_exported
from fishnet.runtime.exported import Exported
from fishnet.tasks.detection.heads import OneStage
from fishnet.tasks.model import Model
from tests import detection_makers, makers, segmentation_makers
from tests.conftest import Run
from tests.exporting.files import Store, assert_alike, images, store
from tests.exporting.models import HEADS
from tests.test_imports import heavy_after

FAST = [("classify", "default"), ("detect", "retinanet"), ("segment", "body")]
FORMS = ("onnx", "xml", "pt2")
ONE_STAGE = ("retinanet", "fcos")
PT2 = ("default", "retinanet", "body")
XML = (*PT2, "faster-rcnn", "mask-rcnn", "htc", "upernet")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The files of each task and head. Not to be changed by a test."""
    return store(tmp_path_factory.mktemp("exported"))


def cases() -> list[Any]:
    """Every head in ONNX, and one of each kind in OpenVINO and in pt2, whose programs take long to write."""
    forms = {"onnx": [head for _, head in HEADS], "xml": XML, "pt2": PT2}
    every = [(*kind, form) for kind in HEADS for form in FORMS if kind[1] in forms[form]]
    return [pytest.param(*case, marks=marks(*case)) for case in every]


def marks(task: str, head: str, form: str) -> list[pytest.MarkDecorator]:
    if (task, head) in FAST and (head, form) != ("retinanet", "pt2"):
        return []
    return [pytest.mark.slow]


@pytest.mark.parametrize(("task", "head", "form"), cases())
def test_as_torch(files: Store, task: str, head: str, form: str) -> None:
    it = files(task, head)
    predictor = fishnet.load(it.path(form), trust=True)
    assert predictor.bundle == it.bundle
    assert predictor.batch_size == it.torch.batch_size
    some = images(task)
    ours, theirs = predictor.predict(some), it.torch.predict(some)
    for one, other in zip(ours, theirs, strict=True):
        assert_alike(one, other)
    if isinstance(theirs[0], Detections):
        assert sum(len(found) for found in theirs if isinstance(found, Detections)) > 5
    elif isinstance(theirs[0], Segmentation):
        assert len({label for one in theirs if isinstance(one, Segmentation) for label in np.unique(one.labels)}) > 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_raw_outputs(files: Store, task: str, form: str) -> None:
    """Logits of a batch, to 1e-4 of their range, of the smallest size and of one that is not square."""
    it = files(task, dict(FAST)[task])
    engine = fishnet.load(it.path(form), trust=True).engine
    for size in ((64, 64), (96, 192)):
        batch = np.random.default_rng(0).standard_normal((3, 3, *size), np.float32)
        theirs = it.torch.engine(batch)
        ours = engine(batch)
        assert len(ours) == 3
        assert {one.dtype for one in ours} == {np.dtype(np.float32)}
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(np.ptp(theirs)))


def raw_onnx(model: Model, exported: Exported, path: Path) -> Path:
    """A detector's raw outputs as an ONNX file, such as other exporters would leave them."""
    names = RAW[exported.bundle.head]
    raw = Outputs(model, {"detect": names})
    torch.onnx.export(
        raw, (torch.randn(1, 3, 288, 256),), str(path), input_names=["image"], output_names=list(names), dynamo=False,
        opset_version=17, dynamic_axes={"image": {2: "height", 3: "width"}, **{name: {1: "all"} for name in names}},
    )  # fmt: skip
    graph = onnx.load(str(path))
    describe_onnx(graph, replace(exported, outputs=names, dynamic_batch=False))
    onnx.save(graph, str(path))
    return path


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("head", ONE_STAGE)
def test_raw_outputs_in_onnx_are_decoded(files: Store, head: str, tmp_path: Path) -> None:
    it = files("detect", head)
    assert isinstance(it.model.only_head[1], OneStage)
    path = raw_onnx(it.model, read_exported(it.path("onnx")), tmp_path / "raw.onnx")
    predictor = fishnet.load(path)
    assert isinstance(predictor.engine, RuntimeEngine)
    assert predictor.engine.exported.outputs == RAW[head]
    for one, other in zip(predictor.predict(images("detect")), it.torch.predict(images("detect")), strict=True):
        assert_alike(one, other)


@pytest.mark.parametrize("form", ["onnx", "xml", pytest.param("pt2", marks=pytest.mark.slow)])
def test_a_detectors_images_do_not_change_each_other(files: Store, form: str) -> None:
    """The objects of an image in a batch are those of the image alone."""
    it = files("detect", "retinanet")
    engine = fishnet.load(it.path(form), trust=True).engine
    batch = np.random.default_rng(0).standard_normal((3, 3, 64, 96), np.float32)
    together = engine(batch)
    assert len(together) == 3
    for i, one in enumerate(together):
        (alone,) = engine(batch[i : i + 1])
        assert set(one) == {"boxes", "scores", "labels"}
        assert len(one["scores"])
        for name, values in one.items():  # a batch is summed in another order
            np.testing.assert_allclose(values, alone[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{"tile": 64}, {"tta": True}, {"tile": 64, "overlap": 0.4, "tta": True}])
def test_label_maps_in_tiles_and_averages(files: Store, form: str, options: dict[str, Any]) -> None:
    it = files("segment", "body")
    image = segmentation_makers.scene(3, (150, 110)).image
    theirs, ours = (
        it.torch.predict(image, **options),
        fishnet.load(it.path(form), trust=True).predict(image, **options),
    )
    assert_alike(ours, theirs)
    whole = it.torch.predict(image)
    assert isinstance(whole, Segmentation)
    assert isinstance(theirs, Segmentation)
    assert (whole.labels != theirs.labels).any()


def test_objects_in_tiles(files: Store) -> None:
    it = files("detect", "retinanet")
    image = detection_makers.scene(3, (150, 110)).image
    theirs = it.torch.predict(image, tile=64, threshold=0.4)
    assert_alike(fishnet.load(it.path("onnx")).predict(image, tile=64, threshold=0.4), theirs)
    assert isinstance(theirs, Detections)
    assert len(theirs) > 3


def test_files_give_no_embeddings(files: Store) -> None:
    predictor = fishnet.load(files("classify", "default").path("onnx"))
    with pytest.raises(InputError, match="this engine computes no embeddings: use the bundle"):
        predictor.embed(images("classify"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts this process's threads as Linux tells them")
def test_threads(files: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime keeps one thread less than compute: the caller's is one of them."""
    path = files("classify", "default").path("onnx")
    open_engine(path, threads=1)

    def begun(threads: int | None) -> tuple[int, RuntimeEngine]:
        before = len(list(Path("/proc/self/task").iterdir()))
        engine = open_engine(path, threads=threads)
        return len(list(Path("/proc/self/task").iterdir())) - before, engine

    assert begun(1)[0] == 0
    assert begun(4)[0] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    count, engine = begun(None)
    assert count == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert begun(None)[0] == 2
    batch = np.random.default_rng(0).standard_normal((2, 3, 96, 96), np.float32)
    np.testing.assert_allclose(engine(batch), open_engine(path, threads=1)(batch), atol=1e-4)


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(files: Store, form: str, threads: int) -> None:
    with pytest.raises(InputError, match=rf"threads={threads}: must be 1 or more"):
        open_engine(files("classify", "default").path(form), threads=threads)


@pytest.mark.parametrize("form", FORMS)
def test_sizes_that_a_file_does_not_take(files: Store, form: str) -> None:
    def says(kind: tuple[str, str], shape: tuple[int, ...], words: str) -> None:
        with pytest.raises(InputError, match=words):
            fishnet.load(files(*kind).path(form), trust=True).engine(np.zeros(shape, np.float32))

    says(("classify", "default"), (1, 3, 63, 96), "63 x 96 px: this file takes sides of at least 64 px")
    says(("classify", "default"), (1, 1, 96, 96), "1 channels: this file takes 3")
    says(("segment", "body"), (1, 3, 32, 96), "32 x 96 px: this file takes sides of at least 64 px")
    says(("segment", "body"), (1, 3, 96, 100), "96 x 100 px: this file takes sides that are multiples of 32")
    if form != "pt2":
        says(("detect", "retinanet"), (1, 3, 70, 64), "70 x 64 px: this file takes sides that are multiples of 32")


def test_a_file_of_one_size(files: Store, tmp_path: Path) -> None:
    it = files("classify", "default")
    path = shutil.copy(it.path("onnx"), tmp_path / "fixed.onnx")
    rewrite_description(path, replace(read_exported(path), size=(96, 96)))
    predictor = fishnet.load(path)
    assert_alike(predictor.predict(images("classify")[0]), it.torch.predict(images("classify")[0]))
    with pytest.raises(InputError, match="128 x 96 px: this file only takes 96 x 96 px"):
        predictor.engine(np.zeros((1, 3, 128, 96), np.float32))


def refused(path: Path, words: str, device: str = "auto") -> None:
    """In one line, that begins with the file's name."""
    with pytest.raises(InputError, match=words) as caught:
        fishnet.load(path, device, trust=True)
    assert "\n" not in str(caught.value)
    if device == "auto":
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("form", FORMS)
def test_no_file(form: str, tmp_path: Path) -> None:
    refused(tmp_path / f"model.{form}", "no such file")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("onnx", "is not an ONNX file, or is damaged"),
        ("xml", "is not an OpenVINO file, or is damaged"),
        ("pt2", "is not a program of torch"),
    ],
)
def test_cut_off(files: Store, form: str, words: str, share: float, tmp_path: Path) -> None:
    whole = files("classify", "default").path(form)
    content = whole.read_bytes()
    part = tmp_path / whole.name
    part.write_bytes(content[: int(share * len(content))])
    if form == "xml":
        shutil.copy(whole.with_suffix(".bin"), tmp_path)
    refused(part, words)


@pytest.mark.parametrize("form", FORMS)
def test_another_kind_of_file(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{form}"
    path.write_text("hello\n" * 100)
    path.with_suffix(".bin").write_bytes(b"")
    refused(path, "damaged")


@pytest.mark.parametrize("share", [None, 0, 0.5])
def test_weights_of_an_xml(files: Store, share: float | None, tmp_path: Path) -> None:
    whole = files("classify", "default").path("xml")
    path = shutil.copy(whole, tmp_path / "other.xml")
    if share is None:
        refused(path, r"its weights, other\.bin, are not beside it")
        return
    content = whole.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(content[: int(share * len(content))])
    refused(path, "damaged")


def test_files_of_others(files: Store, tmp_path: Path) -> None:
    graph = onnx.load(str(files("classify", "default").path("onnx")))

    def saved(text: str | None, name: str) -> Path:
        del graph.metadata_props[:]
        if text is not None:
            onnx.helper.set_model_props(graph, {"fishnet": text})
        onnx.save(graph, str(tmp_path / name))
        return tmp_path / name

    said = json.loads(read_exported(files("classify", "default").path("onnx")).to_text())
    refused(saved(None, "none.onnx"), "has no fishnet metadata: not made by fishnet export")
    refused(saved("{", "half.onnx"), "the file's description is damaged")
    refused(saved(json.dumps({**said, "schema": 99}), "new.onnx"), "newer version .schema 99.: upgrade fishnet-vision")
    refused(
        saved(json.dumps({**said, "outputs": ["boxes"]}), "lies.onnx"),
        "outputs .*boxes.*, which classify .* does not have",
    )

    import openvino as ov

    ov.save_model(ov.convert_model(str(tmp_path / "none.onnx")), str(tmp_path / "none.xml"))
    refused(tmp_path / "none.xml", "has no fishnet metadata")
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, str(tmp_path / "none.pt2"))
    refused(tmp_path / "none.pt2", "has no fishnet metadata")


def test_other_endings(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"x")
    refused(tmp_path / "model.pth", r"not a bundle: .* or an exported file \(\.onnx, \.xml, \.pt2\)")


@pytest.mark.parametrize(
    ("form", "package", "extra"), [("onnx", "onnxruntime", "onnx"), ("xml", "openvino", "openvino")]
)
def test_not_installed(files: Store, form: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files("classify", "default").path(form)
    monkeypatch.setitem(sys.modules, package, None)
    refused(path, rf"needs {package}: pip install 'fishnet-vision\[{extra}\]'")


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("form", FORMS)
def test_devices_that_are_not_there(files: Store, form: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    refused(files("classify", "default").path(form), f"device '{device}'.* choose auto or cpu", device)


def test_a_folder_named_like_a_file(files: Store, tmp_path: Path) -> None:
    folder = tmp_path / "bundle.onnx"
    shutil.copytree(files("classify", "default").folder, folder, ignore=shutil.ignore_patterns("model.*[!s]"))
    shutil.copy(files("classify", "default").folder / "model.safetensors", folder)
    assert isinstance(fishnet.load(folder), Predictor)
    with pytest.raises(InputError, match="is a folder, not an exported file"):
        open_engine(folder)


DATA = {
    "classify": lambda root: makers.image_folder(root, 3),
    "detect": lambda root: detection_makers.coco_folder(root, layout="file", val=4),
    "segment": lambda root: segmentation_makers.mask_folder(root, layout="whole", val=4),
}


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize(("task", "head"), FAST)
def test_measured_as_torch(files: Store, task: str, head: str, form: str, tmp_path: Path) -> None:
    it, data = files(task, head), str(DATA[task](tmp_path / "data"))
    ours = evaluate(fishnet.load(it.path(form), trust=True), data, workers=0)
    theirs = evaluate(it.torch, data, workers=0)
    assert ours.images == theirs.images > 0
    assert ours.weights == theirs.weights == it.bundle.sha256
    assert any(theirs.metrics.values())
    assert ours.metrics == pytest.approx(theirs.metrics, abs=0.05)  # percent


def saved(folder: Path, task: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{i}.png") for i in range(2)]
    for path, image in zip(paths, images(task), strict=False):
        image.save(path)
    return paths


@pytest.mark.parametrize(
    ("task", "head"), [*FAST, pytest.param("instances", "mask-rcnn", marks=pytest.mark.slow)], ids=str
)
def test_predicting_a_file_loads_no_torch(files: Store, task: str, head: str, tmp_path: Path) -> None:
    """Also where torch is installed, with everything that can be written."""
    model, paths, out = str(files(task, head).path("onnx")), saved(tmp_path / "in", task), tmp_path / "out"
    more = ["--tile", "64"] if task != "classify" else []
    words = ["predict", model, *paths, "--overlay", "--out", str(out), *more]
    said, heavy = heavy_after(f"from fishnet.cli import main; assert main({words!r}) == 0")
    assert heavy == ""
    assert str(out) in said
    written = {path.name for path in out.rglob("*")}
    assert {"0.png", "1.png", "predictions.jsonl"} <= written or {"0.png", "1.png"} <= written
    expected = {"detect": "coco_results.json", "instances": "coco_results.json", "segment": "masks"}.get(task)
    assert expected is None or expected in written


def test_loading_and_openvino_load_no_torch(files: Store) -> None:
    path = str(files("segment", "body").path("xml"))
    code = f"import fishnet, numpy; fishnet.load({path!r}).predict(numpy.zeros((70, 80, 3), numpy.uint8), tta=True)"
    assert heavy_after(code)[1] == ""


@pytest.mark.parametrize("form", FORMS)
def test_commands(files: Store, form: str, run: Run, tmp_path: Path) -> None:
    """predict, val and info of a file; what val writes lies beside the file."""
    it = files("classify", "default")
    path = tmp_path / f"model.{form}"
    shutil.copy(it.path(form), path)
    if form == "xml":
        shutil.copy(it.path(form).with_suffix(".bin"), tmp_path)
    (image,) = saved(tmp_path, "classify")[:1]
    trust = ["--trust"] if form == "pt2" else []
    code, out, err = run("predict", path, image, "--json", *trust)
    assert (code, err) == (0, "")
    expected = it.torch.predict(Image.open(image))
    assert isinstance(expected, Classification)
    given = json.loads(out)["predictions"]
    assert [row["name"] for row in given] == [row["name"] for row in expected.rows()]
    assert [row["score"] for row in given] == pytest.approx(expected.scores.tolist(), abs=1e-4)
    data = makers.image_folder(tmp_path / "data", 2)
    code, out, err = run("val", path, data, "--workers", 0, "--json", *trust)
    assert (code, err) == (0, "")
    assert json.loads(out)["images"] == 6
    assert (tmp_path / f"model.{form}-val-all" / "metrics.json").is_file()
    code, out, err = run("info", path, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["format"] == {"onnx": "onnx", "xml": "openvino", "pt2": "pt2"}[form]
    assert (facts["task"], facts["precision"], facts["classes"]) == ("classify", "fp32", list(makers.CLASSES))
    assert facts["takes"] == "any number of images, any size from 64 px"
    weights = path.with_suffix(".bin") if form == "xml" else path
    assert facts["bytes"] == weights.stat().st_size
    code, out, err = run("info", path)
    assert code == 0
    assert "precision" in out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("verb", ["predict", "val", "info"])
def test_commands_on_what_is_not_there(form: str, verb: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / f"none.{form}"
    words = [verb, path] if verb == "info" else [verb, path, tmp_path]
    if verb == "predict":
        saved(tmp_path, "classify")
    code, out, err = run(*words)
    assert (code, out, err) == (2, "", f"fishnet: {path}: no such file\n")
