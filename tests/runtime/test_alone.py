"""An installation with the extra ``onnx`` alone: no torch there, and the same results."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import fishnet
from tests.exporting.files import images, set_store, store

ROOT = Path(__file__).parents[2]
KINDS = (("classify", "default"), ("detect", "retinanet"), ("segment", "body"))
ABSENT = ("torch", "torchvision", "timm", "onnx", "matplotlib")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's interpreter; skips where pip reaches no index."""
    root = tmp_path_factory.mktemp("alone") / "venv"
    venv.create(root, with_pip=True)
    python = root / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{ROOT}[onnx]"],
        capture_output=True, text=True, check=False, cwd=root,
    )  # fmt: skip
    if done.returncode:
        offline = ("connection", "Temporary failure", "No matching distribution found for hatchling", "timed out")
        if any(sign in done.stderr for sign in offline):
            pytest.skip(f"pip reaches no index: {done.stderr.strip().splitlines()[-1]}")
        pytest.fail(done.stderr)
    return python


def lines(python: Path, *words: object) -> str:
    """What a command prints, in a folder where no source lies and with no path of this process's."""
    done = subprocess.run(
        [python, "-I", *map(str, words)], capture_output=True, text=True, check=False, cwd=python.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_predicting_without_torch(python: Path, tmp_path: Path) -> None:
    having = lines(python, "-c", f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])")
    assert having.strip() == "[]"
    files = store(tmp_path)
    for task, head in KINDS:
        path = files(task, head).path("onnx")
        given = [tmp_path / f"{task}-{i}.png" for i in range(2)]
        for name, image in zip(given, images(task), strict=False):
            image.save(name)
        out = tmp_path / f"out-{task}"
        printed = lines(python, "-m", "fishnet", "predict", path, *given, "--out", out, "--overlay", "--json")
        ours = [json.loads(line) for line in printed.splitlines()]
        for one, expected in zip(ours, fishnet.load(path).predict(given), strict=True):
            agree(one, json.loads(json.dumps(expected.to_dict())))
        assert list(out.rglob("*.png"))
    path, out = set_store(tmp_path / "sets")("two-stage").path("onnx"), tmp_path / "out-heads"
    printed = lines(python, "-m", "fishnet", "predict", path, *given, "--out", out, "--overlay", "--json")
    for line, expected in zip(printed.splitlines(), fishnet.load(path).predict(given), strict=True):
        agree(json.loads(line), json.loads(json.dumps(expected.to_dict())))
    info = lines(python, "-m", "fishnet", "info", files("classify", "default").path("onnx"))
    assert "any number of images" in info


def agree(one: Any, other: Any) -> None:
    """The same but for the last digits, and what the command line adds (the source)."""
    if isinstance(other, dict):
        assert set(other) <= set(one)
        for key, value in other.items():
            agree(one[key], value)
    elif isinstance(other, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            agree(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-3, abs=1e-3) if isinstance(other, float) else other)


@pytest.mark.slow
def test_what_needs_torch_says_so(python: Path, tmp_path: Path) -> None:
    """A .pt2 is torch's own, and measuring reads data with it."""
    for words, extra in (
        (["predict", "model.pt2", "a.png", "--trust"], "torch"),
        (["val", "model.onnx", "data"], "train"),
        (["train", "classify", "data"], "train"),
    ):
        done = subprocess.run(
            [python, "-I", "-m", "fishnet", *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 2
        assert done.stderr.startswith("fishnet: ")
        assert done.stderr.endswith(f": pip install 'fishnet-vision[{extra}]'\n")
        assert done.stderr.count("\n") == 1
