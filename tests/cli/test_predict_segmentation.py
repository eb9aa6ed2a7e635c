"""``fishnet predict`` with a model that segments: masks, files of results, overlays, videos."""

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.prediction.predictor import Predictor
from tests.bright import scene
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.pixelwise import Pixelwise, pixelwise

RED, GREEN = ((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green")


def use(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """Makes every bundle this model."""
    monkeypatch.setattr("fishnet.tasks.loading.load", lambda *_, **__: predictor)
    return predictor


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """What every bundle is, here."""
    return use(pixelwise(64, "native"), monkeypatch)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An image with two classes, and one with nothing but background."""
    folder = tmp_path / "work"
    folder.mkdir()
    scene(100, 64, RED, GREEN).save(folder / "a.png")
    scene(64, 90).save(folder / "b.png")
    return folder


def ids(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


EXPECTED = np.zeros((64, 100), np.uint8)  # original ids
EXPECTED[12:22, 10:30], EXPECTED[30:58, 40:60] = 30, 7


def test_the_table(model: Predictor, work: Path, run: Run) -> None:
    code, out, _ = run("predict", "x", work)
    assert code == 0
    assert out.splitlines() == [
        f"{work / 'a.png'}: background 88.1 %, green 8.8 %, red 3.1 %", f"{work / 'b.png'}: background 100.0 %",
    ]  # fmt: skip


def test_json_and_csv_give_areas_by_original_id(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    lines = [json.loads(line) for line in run("predict", "x", work, "--json")[1].splitlines()]
    assert [line["source"] for line in lines] == [str(work / "a.png"), str(work / "b.png")]
    assert lines[0]["size"] == [64, 100]
    assert lines[0]["classes"] == [
        {"id": 0, "name": "background", "pixels": 5640, "share": 0.88125},
        {"id": 7, "name": "green", "pixels": 560, "share": 0.0875},
        {"id": 30, "name": "red", "pixels": 200, "share": 0.03125},
    ]
    out = run("predict", "x", work, "--as", "csv", "--out", tmp_path / "out")[1]
    assert out == (tmp_path / "out" / "predictions.csv").read_text()
    rows = list(csv.DictReader(out.splitlines()))
    assert out.splitlines()[0] == "source,rank,id,name,pixels,share"
    assert [(row["rank"], row["id"], row["pixels"]) for row in rows] == [
        ("1", "0", "5640"), ("2", "7", "560"), ("3", "30", "200"), ("1", "0", "5760"),
    ]  # fmt: skip


@pytest.mark.parametrize("flags", [(), ("--tile", 40), ("--tile", 32, "--overlap", 0.5), ("--batch-size", 1)])
def test_masks_hold_the_original_ids(
    flags: tuple[Any, ...], model: Predictor, work: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    assert run("predict", "x", work, "--out", out, "--quiet", *flags)[0] == 0
    np.testing.assert_array_equal(ids(out / "masks" / "a.png"), EXPECTED)
    assert (ids(out / "masks" / "b.png") == 0).all()
    assert sorted(path.name for path in out.iterdir()) == ["masks", "predictions.jsonl"]


def test_without_out_nothing_is_written(
    model: Predictor, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    run("predict", "x", "a.png")
    assert sorted(path.name for path in work.iterdir()) == ["a.png", "b.png"]
    run("predict", "x", "a.png", "--overlay")
    assert sorted(str(path.relative_to(work)) for path in work.glob("predictions/**/*.png")) == [
        "predictions/a.png", "predictions/masks/a.png",
    ]  # fmt: skip


def test_overlays_have_a_legend(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    assert run("predict", "x", work, "--out", tmp_path / "out", "--overlay", "--quiet")[0] == 0
    with Image.open(tmp_path / "out" / "a.png") as overlay:
        assert overlay.width == 500, "five times as large: to be seen"
        assert overlay.height > 5 * 64
    np.testing.assert_array_equal(ids(tmp_path / "out" / "masks" / "a.png"), EXPECTED)


def test_averages(model: Predictor, work: Path, run: Run) -> None:
    assert run("predict", "x", work / "a.png", "--tta")[1].startswith(f"{work / 'a.png'}: background 8")
    assert isinstance(model.engine, Pixelwise)
    assert len(model.engine.shapes) == 6
    assert run("predict", "x", work / "a.png", "--tta", "--tile", 40)[0] == 0


def test_masks_of_images_of_one_name_and_never_over_a_source(model: Predictor, work: Path, run: Run) -> None:
    (work / "masks").mkdir()
    scene(100, 64, RED, GREEN).save(work / "masks" / "a.png")
    scene(64, 90).save(work / "a.bmp")
    before = (work / "masks" / "a.png").read_bytes()
    sources = (work / "a.png", work / "a.bmp", work / "masks" / "a.png")
    assert run("predict", "x", *sources, "--out", work, "--quiet")[0] == 0
    assert (work / "masks" / "a.png").read_bytes() == before
    shapes = [ids(work / "masks" / name).shape for name in ("a-2.png", "a-3.png", "a-4.png")]
    assert shapes == [(64, 100), (90, 64), (64, 100)]


def test_what_cannot_be_read_is_told_and_the_rest_finished(
    model: Predictor, work: Path, tmp_path: Path, run: Run
) -> None:
    (work / "a0.png").write_text("no image")
    says(run("predict", "x", work, "--out", tmp_path / "out"), 1, "a0.png: not an image that can be read")
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "b.png"]


def test_ids_above_255_make_masks_of_16_bits(
    work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(pixelwise(64, "native", classes=Classes(("background", "red", "green"), (0, 300, 40_000))), monkeypatch)
    assert run("predict", "x", work / "a.png", "--out", tmp_path, "--quiet")[0] == 0
    assert set(np.unique(ids(tmp_path / "masks" / "a.png"))) == {0, 300, 40_000}


def test_ids_that_no_png_holds_are_told_before_the_work(
    work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = Classes(("background", "red", "green"), (0, 30, 70_000))
    model = use(pixelwise(64, "native", classes=classes), monkeypatch)
    says(run("predict", "x", work, "--out", tmp_path / "out"), 2, "ids from 0 to 70000", "holds ids from 0 to 65535")
    assert isinstance(model.engine, Pixelwise)
    assert not model.engine.shapes
    assert run("predict", "x", work)[0] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--top", 3), ("--top: not for a segment model, which has --tile, --overlap, --tta",)),
        (("--threshold", 0.5), ("--threshold: not for a segment model",)),
        (("--tile", 8), ("tile=8: must be a whole number, 32 or more",)),
        (("--overlap", 0.3), ("give tile too",)),
        (("--ids", "a.json", "--out", "out"), ("which detectors write",)),
        (("--tta", "--embed", "e.npy"), ("leave out tile and tta",)),
    ],
)
def test_bad_flags(
    flags: tuple[Any, ...],
    words: tuple[str, ...],
    model: Predictor,
    work: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(work)
    says(run("predict", "x", "a.png", *flags), 2, *words)


def test_only_segmenters_average(bundle: Path, folder: Path, run: Run) -> None:
    says(run("predict", bundle, folder, "--tta"), 2, "--tta: not for a classify model, which has --top")


def test_the_frames_of_a_video(model: Predictor, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("av")
    from fishnet.images.video import VideoWriter, frames

    writer = VideoWriter(tmp_path / "my.clip.mp4", Fraction(12))
    for i in range(3):
        writer.add(scene(128, 64, ((32 * i, 16, 32 * i + 32, 48), "green")))
    writer.close()
    out = tmp_path / "out"
    assert run("predict", "x", tmp_path / "my.clip.mp4", "--out", out, "--overlay", "--quiet")[0] == 0
    assert len(list(frames(out / "my.clip.mp4"))) == 3
    assert sorted(path.name for path in (out / "masks").iterdir()) == [f"my.clip-{i}.png" for i in range(3)]
    for i in range(3):
        inside = np.zeros((64, 128), bool)
        inside[18:46, 32 * i + 2 : 32 * i + 30] = True  # compression blurs edges
        assert (ids(out / "masks" / f"my.clip-{i}.png")[inside] == 7).all()
