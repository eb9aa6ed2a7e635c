"""A disk that is full leaves no half file that looks whole, and one line that names the file.

A limit on the size of files stands for the full disk: a write fails in its middle all the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bright import bright, scene
from tests.conftest import Run
from tests.pixelwise import pixelwise

resource = pytest.importorskip("resource")
OBJECTS = (((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green"))


@contextmanager
def room_for(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    for i in range(3):
        scene(70, 64, *OBJECTS).save(tmp_path / "work" / f"{i}.png")
    return tmp_path / "work"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_predictions(form: str, work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = bright(64, False, thresholds={"score": 0.5})
    monkeypatch.setattr("fishnet.tasks.loading.load", lambda *_, **__: predictor)
    out = tmp_path / "out"
    with room_for(150):
        code, _, err = run("predict", "x", work, "--out", out, "--as", form, "--quiet")
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert f"{out}/" in err
    assert "not written" in err
    assert names(out) == {f"predictions.{form}.partial", "coco_results.json.partial"}
    assert run("predict", "x", work, "--out", out, "--as", form, "--quiet")[0] == 0
    assert names(out) == {f"predictions.{form}", "coco_results.json", "coco_images.json"}


@pytest.mark.parametrize("flag", [(), ("--overlay",)])
def test_masks_and_overlays(
    flag: tuple[str, ...], work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = pixelwise(64, "native")
    monkeypatch.setattr("fishnet.tasks.loading.load", lambda *_, **__: predictor)
    out, full = tmp_path / "out", tmp_path / "full"
    assert run("predict", "x", work, "--out", full, "--quiet", *flag)[0] == 0
    smallest = (full / "0.png" if flag else full / "masks" / "0.png").stat().st_size
    assert not flag or smallest > (full / "masks" / "0.png").stat().st_size
    with room_for(smallest - 1):
        code, _, err = run("predict", "x", work, "--out", out, "--quiet", *flag)
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert "not written" in err
    written = names(out) - {"predictions.jsonl.partial"}
    assert written == (set() if not flag else {"masks/0.png"})


def test_embeddings(bundle: Path, work: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "vectors.npy"
    with room_for(10):
        code, _, err = run("predict", bundle, work, "--embed", out, "--quiet", "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert str(out) in err
    assert names(tmp_path / "new") == set()


def test_reports(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    with room_for(1500):  # enough for metrics.json, not for the figures
        code, text, err = run("val", bundle, folder, "--workers", 0, "--out", tmp_path / "report")
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert "report not written" in err
    assert "acc@1" in text
    assert not any(path.suffix == ".png" or path.name.startswith(".") for path in (tmp_path / "report").iterdir())


def test_converted_weights(bundle: Path, tmp_path: Path, run: Run) -> None:
    with room_for(1000):
        code, _, err = run("weights", "convert", bundle / "model.safetensors", tmp_path / "new.safetensors")
    assert code == 1
    assert len(err.splitlines()) == 1, err
    assert "new.safetensors: not written" in err
    assert names(tmp_path) == set()
