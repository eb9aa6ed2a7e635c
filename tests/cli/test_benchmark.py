"""``fishnet benchmark`` on a small network: rows, order, files, and what is left out. No time is asserted."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fishnet.analysis.benchmark import run as running
from tests.conftest import Run
from tests.marks import slow

pytestmark = pytest.mark.slow

ENGINES = ("eager", "channels_last", "onnx")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """One run, its folder, standard output and standard error."""
    import contextlib
    import io

    from fishnet.cli import main

    pytest.importorskip("onnxruntime")
    out, told, complained = tmp_path_factory.mktemp("benchmark") / "out", io.StringIO(), io.StringIO()
    words = ["--model", "fishnet_nano", "--engine", "pytorchcv,eager,channels_last,onnx", "--size", "64"]
    words += ["--rounds", "2", "--warm-up", "1", "--threads", "1", "--out", str(out), "--json"]
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(complained):
        assert main(["benchmark", *words]) == 0
    return out, told.getvalue(), complained.getvalue()


def rows(measured: tuple[Path, str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((measured[0] / "results.json").read_text())["rows"]
    return found


def test_a_row_for_each_engine(measured: tuple[Path, str, str]) -> None:
    found = rows(measured)
    assert [row["engine"] for row in found] == list(ENGINES)
    for row in found:
        assert row["model"] == "fishnet_nano"
        assert row["input"] == [1, 3, 64, 64]
        assert len(row["rounds_ms"]) == 2
        ms = row["ms"]
        assert 0 < ms["min"] <= ms["lower_quartile"] <= ms["median"] <= ms["upper_quartile"] <= ms["max"]
        assert row["images_per_second"] == pytest.approx(1000 / ms["median"])
        assert row["ratio"] == pytest.approx(found[0]["ms"]["median"] / ms["median"])
        assert row["peak_memory_bytes"] > 10**7
    # of 0.119 G at 224 px (counted by analysis.profile, pinned in tests/backbone/test_spec.py), by area
    assert all(row["macs"] == pytest.approx(0.119e9 * (64 / 224) ** 2, rel=0.05) for row in found)


def test_without_torch_in_its_process_onnx_takes_less_memory(measured: tuple[Path, str, str]) -> None:
    memory = {row["engine"]: row["peak_memory_bytes"] for row in rows(measured)}
    assert memory["onnx"] < memory["eager"] / 2


def test_processes_take_turns(measured: tuple[Path, str, str]) -> None:
    turns = sorted((start, row["engine"]) for row in rows(measured) for start in row["starts_s"])
    assert [engine for _, engine in turns] == list(ENGINES) * 2


def test_share_of_the_peak_follows_from_what_is_written(measured: tuple[Path, str, str]) -> None:
    found = json.loads(measured[1])
    assert set(found["sgemm_flops"]) == {"sgemm-numpy", "sgemm-torch"}
    peak = max(found["sgemm_flops"].values())
    for row in found["rows"]:
        assert row["sgemm_share"] == pytest.approx(2 * row["macs"] / row["ms"]["median"] * 1000 / peak)


def test_files_and_facts(measured: tuple[Path, str, str]) -> None:
    found = json.loads(measured[1])
    assert found["files"] == [str(measured[0] / name) for name in ("results.json", "benchmark.png")]
    assert found["machine"]["cpu"]
    assert {"torch", "numpy", "python", "onnxruntime"} <= set(found["machine"]["versions"])
    assert found["rounds"] == 2
    with Image.open(measured[0] / "benchmark.png") as image:
        image.load()
        assert min(image.size) > 200


def test_what_cannot_run_is_named_and_left_out(measured: tuple[Path, str, str]) -> None:
    lines = measured[2].splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("fishnet: left out: fishnet_nano pytorchcv: pytorchcv ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "onxx"], "unknown engine 'onxx': did you mean onnx?"),
        (["--model", "fishnet_nanno"], "unknown backbone 'fishnet_nanno': did you mean fishnet_nano"),
        (["--model", "fishnet_nano", "--engine", "pytorchcv"], "no engine can run: fishnet_nano pytorchcv: pytorchcv"),
        (["--rounds", "0"], "rounds=0: must be 1 or more"),
        (["--model", "fishnet_nano", "--task", "detect", "--size", "70"], "size=70: detect needs a multiple of 32"),
        (["--model", "fishnet_nano", "--head", "fcos"], "unknown head 'fcos' for classify"),
    ],
)
def test_wrong_words(words: list[str], said: str, run: Run) -> None:
    code, out, err = run("benchmark", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"fishnet: {said}")
    assert err.count("\n") == 1


def test_the_table(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people; and a missing package or compiler leaves its engine out."""

    def lacking(_it: object, engine: str, _precision: str) -> None:
        if engine == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(running._Files, "of", lacking)
    code, out, err = run(
        "benchmark", "--model", "fishnet_nano", "--engine", "folded,onnx,packed", "--baseline", "packed", "--size", 64,
        "--rounds", 1, "--warm-up", 0, "--threads", 1, "--task", "segment", "--quiet",
    )  # fmt: skip
    assert code == 0
    assert err == "fishnet: left out: fishnet_nano onnx: onnx is not installed\n"
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["model", "engine", "ms"]
    assert [line.split()[1] for line in lines[1:3]] == ["folded", "packed"]
    assert lines[2].split()[5] == "1.00", "what the others are compared with"
    assert lines[4].startswith("segment, 1 x 3 x 64 x 64, fp32, 1 thread(s); 1 interleaved rounds after 0")
    assert list(tmp_path.iterdir()) == []


def test_precisions(tmp_path: Path, run: Run) -> None:
    """A row for each precision that an engine computes in here; the others are named."""
    words = ["--model", "fishnet_nano", "--engine", "channels_last,packed", "--precision", "fp32,bf16", "--size", "64"]
    code, out, err = run("benchmark", *words, "--rounds", 1, "--warm-up", 1, "--threads", 1, "--json")
    assert code == 0, err
    found = [(row["engine"], row["precision"]) for row in json.loads(out)["rows"]]
    assert "fishnet_nano packed bf16: the packed weights are float32" in err
    if "fishnet_nano channels_last bf16: this machine does not compute in bf16" in err:
        assert found == [("channels_last", "fp32"), ("packed", "fp32")]
    else:
        assert found == [("channels_last", "fp32"), ("channels_last", "bf16"), ("packed", "fp32")]


@pytest.mark.parametrize("engine", ["onnx", slow("openvino")])
def test_int8_is_of_exported_files(engine: str, run: Run) -> None:
    words = ["--model", "fishnet_nano", "--engine", f"channels_last,{engine}", "--precision", "fp32,int8"]
    code, out, err = run("benchmark", *words, "--size", 64, "--rounds", 1, "--warm-up", 1, "--threads", 1, "--json")
    assert code == 0, err
    found = [(row["engine"], row["precision"]) for row in json.loads(out)["rows"]]
    assert found == [("channels_last", "fp32"), (engine, "fp32"), (engine, "int8")]
    assert err.splitlines() == [
        "fishnet: left out: fishnet_nano channels_last int8: only exported files compute in int8: onnx and openvino"
    ]
