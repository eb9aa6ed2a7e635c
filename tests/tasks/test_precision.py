"""Predictions in 16 bits against those in 32, what a machine without bf16 does, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fishnet
from fishnet.errors import InputError
from fishnet.prediction.inputs import prepare_input
from fishnet.runtime.engines import open_engine
from fishnet.runtime.precision import fallback_line, openvino_precision
from fishnet.tasks import engine as module
from fishnet.tasks.engine import TorchEngine, pick_precision, pick_training_precision
from tests.conftest import Run
from tests.exporting.files import Store, images, store


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Random models that find something. Not to be changed by a test."""
    return store(tmp_path_factory.mktemp("models"))


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that computes in bf16, which torch emulates elsewhere."""
    monkeypatch.setattr(module, "_has_bf16", lambda device: True)


@pytest.fixture
def has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_bf16", lambda device: False)


def batch_of(files: Store, task: str, head: str) -> Any:
    """A normalized image of the task."""
    preprocess = files(task, head).bundle.preprocess
    return preprocess.normalize(prepare_input(preprocess, images(task)[0]).pixels[None])


@pytest.mark.parametrize(("task", "head"), [("classify", "default"), ("segment", "body")])
def test_logits_in_bf16(files: Store, task: str, head: str) -> None:
    """bf16 has 8 bits: 0.4 % at each of some tens of layers, which the norms keep from adding up."""
    it, batch = files(task, head), batch_of(files, task, head)
    whole = TorchEngine(it.bundle, it.model, "cpu")(batch)
    half = TorchEngine(it.bundle, it.model, "cpu", "bf16")(batch)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() <= 0.05 * np.ptp(whole)


@pytest.mark.parametrize(("task", "head"), [("detect", "retinanet"), ("instances", "mask-rcnn")])
def test_objects_in_bf16(files: Store, task: str, head: str) -> None:
    """Which of a random model's candidates survive depends on roundings; those that both find are in the same place.

    Boxes are decoded in float32: in bf16 a coordinate of 160 px would be a multiple of 1 px.
    """
    it, batch = files(task, head), batch_of(files, task, head)
    (whole,) = TorchEngine(it.bundle, it.model, "cpu")(batch)
    (half,) = TorchEngine(it.bundle, it.model, "cpu", "bf16")(batch)
    assert all(values.dtype == np.float32 for name, values in half.items() if name != "labels")
    assert (half["boxes"] != np.round(half["boxes"])).any()
    away = np.abs(half["boxes"][:, None] - whole["boxes"][None]).max(-1).min(1)
    assert (away < 4).mean() >= 0.5


def test_embeddings_in_bf16(files: Store) -> None:
    it, batch = files("classify", "default"), batch_of(files, "classify", "default")
    _, whole = TorchEngine(it.bundle, it.model, "cpu").embed(batch)
    _, half = TorchEngine(it.bundle, it.model, "cpu", "bf16").embed(batch)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() <= 0.05 * np.ptp(whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino(files: Store, precision: str) -> None:
    """The engine says what it computes in, and float32 is float32 also where OpenVINO would take bf16 by itself."""
    ov = pytest.importorskip("openvino")
    it, batch = files("classify", "default"), batch_of(files, "classify", "default")
    engine = open_engine(it.path("xml"), precision=precision)
    assert engine.precision == openvino_precision(precision, ov.Core())
    wanted = it.torch.engine(batch)
    allowed = {"fp32": 1e-4, "bf16": 0.05}[engine.precision]
    assert np.abs(engine(batch) - wanted).max() <= allowed * np.ptp(wanted)
    if engine.precision == "bf16":
        assert np.abs(engine(batch) - open_engine(it.path("xml"))(batch)).max() > 1e-4 * np.ptp(wanted)


class Core:
    """OpenVINO's, of a CPU of some capabilities."""

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = list(capabilities)

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self.capabilities


def test_what_openvino_computes_in() -> None:
    assert openvino_precision("bf16", Core("FP32", "BF16")) == "bf16"
    assert openvino_precision("bf16", Core("FP32")) == "fp32"
    assert openvino_precision("auto", Core("FP32", "BF16")) == "fp32"
    with pytest.raises(InputError, match="precision=fp16: OpenVINO files compute in fp32 or bf16"):
        openvino_precision("fp16", Core("FP32", "FP16"))


@pytest.mark.usefixtures("has_bf16")
def test_what_torch_computes_in() -> None:
    assert [pick_precision(name, "cpu") for name in ("auto", "fp32", "bf16")] == ["fp32", "fp32", "bf16"]
    assert pick_precision("fp16", "cuda") == "fp16"
    with pytest.raises(InputError, match="precision=fp16: is for GPUs: choose bf16 or fp32"):
        pick_precision("fp16", "cpu")
    with pytest.raises(InputError, match="did you mean bf16"):
        pick_precision("bf61", "cpu")


@pytest.mark.parametrize(
    ("machine", "device", "expected"),
    [
        ({"bf16": True, "amx": True}, "cpu", "bf16"),
        ({"bf16": True, "amx": False}, "cpu", "fp32"),
        ({"bf16": False, "amx": False}, "cpu", "fp32"),
        ({"bf16": True, "amx": False}, "cuda", "bf16"),
        ({"bf16": False, "amx": True}, "cuda", "fp32"),
        ({"bf16": True, "amx": True}, "mps", "fp32"),
    ],
)
def test_what_a_training_computes_in(
    machine: dict[str, bool], device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_has_bf16", lambda device: machine["bf16"])
    monkeypatch.setattr(module, "_has_amx", lambda: machine["amx"])
    precision, line = pick_training_precision("auto", device)
    assert precision == expected
    assert (line or "").startswith("precision: bf16, mixed" if expected == "bf16" else "")
    assert pick_training_precision("fp32", device) == ("fp32", None)
    assert pick_training_precision("bf16", device)[0] == "bf16"
    assert bool(pick_training_precision("bf16", device)[1]) == (not machine["bf16"]), "emulated: slow, but what it says"


@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "AVX512_CORE_BF16"])
def test_no_amx_below_a_limit_of_onednn(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not module._has_amx()


def test_the_line_of_a_machine_without_it() -> None:
    assert fallback_line("auto", "fp32") is None
    assert fallback_line("bf16", "bf16") is None
    assert fallback_line("bf16", "fp32") == (
        "precision=bf16: this machine does not compute in bf16 natively, so fp32 is used"
    )


@pytest.mark.usefixtures("has_no_bf16")
def test_bf16_on_a_machine_without_it(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    photo = next(folder.rglob("*.png"))
    plain = run("predict", bundle, photo, "--as", "jsonl", "--device", "cpu")
    code, out, err = run("predict", bundle, photo, "--as", "jsonl", "--device", "cpu", "--precision", "bf16")
    assert (code, out) == plain[:2]
    assert err.splitlines()[0] == f"fishnet: {fallback_line('bf16', 'fp32')}"
    assert fishnet.load(bundle, "cpu", precision="bf16").precision == "fp32"


@pytest.mark.usefixtures("has_bf16")
def test_bf16_by_the_command(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    """A classifier that is sure stays so; the metrics say what they were computed in."""
    photo = next(folder.rglob("*.png"))
    code, out, err = run("predict", bundle, photo, "--as", "jsonl", "--device", "cpu", "--precision", "bf16")
    assert (code, err) == (0, "")
    whole = json.loads(run("predict", bundle, photo, "--as", "jsonl", "--device", "cpu")[1])
    half = json.loads(out)
    assert half["predictions"][0]["name"] == whole["predictions"][0]["name"]
    assert half["predictions"] != whole["predictions"]
    assert run("val", bundle, folder, "--device", "cpu", "--precision", "bf16", "--out", tmp_path, "--quiet")[0] == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "computed in bf16" in metrics["warnings"]
    assert "computed in bf16" not in fishnet.evaluate(bundle, folder, device="cpu").warnings


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_files_that_compute_as_they_were_written(files: Store, form: str) -> None:
    path = files("classify", "default").path(form)
    with pytest.raises(InputError, match=r"precision=bf16: .* computes this file as it was written") as caught:
        fishnet.load(path, trust=True, precision="bf16")
    assert "\n" not in str(caught.value)
    assert fishnet.load(path, trust=True, precision="fp32").precision == "fp32"


def test_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision='half': "):
        fishnet.load(tmp_path / "none", precision="half")


def test_torch_is_asked_about_its_own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN may not use bf16 (ONEDNN_MAX_CPU_ISA), torch would emulate it."""
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert pick_precision("bf16", "cpu") == "bf16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert pick_precision("bf16", "cpu") == "fp32"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert pick_precision("bf16", "cpu") == "fp32"
