"""``fishnet predict`` with a model that finds objects: files of results, overlays, videos."""

import csv
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.prediction.predictor import Predictor
from tests.bright import bright, scene
from tests.cli.test_bad_input import says
from tests.conftest import Run

TWO = (((10, 12, 30, 22), "red"), ((40, 30, 60, 58), "green"), ((5, 40, 20, 50), "red"))


@pytest.fixture(params=["detect", "instances"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """What every bundle is, here."""
    predictor = bright(64, request.param == "instances", thresholds={"score": 0.5})
    monkeypatch.setattr("fishnet.tasks.loading.load", lambda *_, **__: predictor)
    return predictor


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Images with three objects, with none, and with one of them faint."""
    folder = tmp_path / "work"
    folder.mkdir()
    scene(70, 64, *TWO).save(folder / "a.png")
    scene(64, 90).save(folder / "b.png")
    scene(200, 64, TWO[0], ((150, 5, 170, 20), "dim")).save(folder / "c.png")
    return folder


def test_the_table(model: Predictor, work: Path, run: Run) -> None:
    code, out, _ = run("predict", "x", work)
    assert code == 0
    assert out.splitlines() == [
        f"{work / 'a.png'}: 3 objects: 2 red, 1 green", f"{work / 'b.png'}: no objects",
        f"{work / 'c.png'}: 1 object: 1 red",
    ]  # fmt: skip
    assert "2 objects: 2 red" in run("predict", "x", work, "--threshold", 0.1)[1]


def test_csv_has_a_header_also_where_nothing_is_found(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("predict", "x", work / "b.png", "--as", "csv", "--out", tmp_path / "out")
    header = "source,rank,id,name,score,x1,y1,x2,y2,area"
    assert (code, out.splitlines()) == (0, [header])
    assert (tmp_path / "out" / "predictions.csv").read_text().splitlines() == [header]
    rows = list(csv.DictReader(run("predict", "x", work, "--as", "csv")[1].splitlines()))
    assert [row["id"] for row in rows] == ["30", "30", "7", "30"]
    assert rows[0]["source"] == str(work / "a.png")


def results_of(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return json.loads((folder / "coco_results.json").read_text()), json.loads((folder / "coco_images.json").read_text())


def test_coco_results_number_the_images(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    assert run("predict", "x", work, "--out", out, "--quiet")[0] == 0
    results, table = results_of(out)
    names = [str(work / f"{name}.png") for name in "abc"]
    assert [(i["id"], i["file_name"], i["width"], i["height"]) for i in table["images"]] == [
        (1, names[0], 70, 64), (2, names[1], 64, 90), (3, names[2], 200, 64),
    ]  # fmt: skip
    assert table["categories"] == [{"id": 30, "name": "red"}, {"id": 7, "name": "green"}]
    assert [(entry["image_id"], entry["category_id"]) for entry in results] == [(1, 30), (1, 30), (1, 7), (3, 30)]
    assert results[0]["bbox"] == [10, 12, 20, 10]
    assert ("segmentation" in results[0]) == (model.bundle.task == "instances")
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [len(line["objects"]) for line in lines] == [3, 0, 1]
    assert sorted(path.name for path in out.iterdir()) == ["coco_images.json", "coco_results.json", "predictions.jsonl"]


def test_coco_results_are_what_pycocotools_reads(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    run("predict", "x", work, "--out", tmp_path, "--quiet")
    truth = coco.COCO()
    truth.dataset = {**json.loads((tmp_path / "coco_images.json").read_text()), "annotations": []}
    truth.createIndex()
    read = truth.loadRes(str(tmp_path / "coco_results.json"))
    assert len(read.getAnnIds()) == 4
    if model.bundle.task == "instances":
        mask = read.annToMask(read.loadAnns(read.getAnnIds(imgIds=[1], catIds=[7]))[0])
        y, x = np.nonzero(mask)
        assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (40, 30, 60, 58)


def annotations(path: Path, **images: str | int) -> Path:
    path.write_text(json.dumps({"info": {}, "images": [{"id": v, "file_name": k} for k, v in images.items()]}))
    return path


def test_ids_of_annotations(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    known = {"other/work/a.png": 1, "work/a.png": 70, "a/a.png": 3, "deep/b.png": 2, "c.png": 9, "d.png": 4}
    file = annotations(tmp_path / "val.json", **known)
    assert run("predict", "x", work, "--out", tmp_path, "--ids", file, "--quiet")[0] == 0
    results, table = results_of(tmp_path)
    assert [(i["id"], i["file_name"]) for i in table["images"]] == [(70, "work/a.png"), (2, "deep/b.png"), (9, "c.png")]
    assert [entry["image_id"] for entry in results] == [70, 70, 70, 9]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"x/c.png": 1, "y/c.png": 2}, ("c.png: may be any of x/c.png (id 1), y/c.png (id 2)",)),
        ({"d.png": 1}, ("c.png: has no image id", "val.json")),
        ({}, ("val.json: has no images",)),
        ({"c.png": 1.5}, ("val.json", "this image has no file_name or no id")),
    ],
)
def test_bad_ids(
    images: dict[str, Any], words: tuple[str, ...], model: Predictor, work: Path, tmp_path: Path, run: Run
) -> None:
    file = annotations(tmp_path / "val.json", **images)
    result = run("predict", "x", work / "c.png", "--out", tmp_path / "out", "--ids", file)
    says(result, 2, *words)
    assert not (tmp_path / "out").exists(), "told before the work"


def test_work_that_is_broken_off_leaves_the_former_results(
    model: Predictor, work: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("predict", "x", work, "--out", tmp_path, "--quiet")
    before = results_of(tmp_path)
    monkeypatch.setattr(model, "engine", lambda batch: 1 / 0)
    assert run("predict", "x", work / "a.png", "--out", tmp_path, "--quiet")[0] == 1
    assert results_of(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--top", 3), ("--top: not for a ", "--threshold, --tile, --overlap")),
        (("--threshold", 2), ("threshold=2.0: must be a number, 0 to 1",)),
        (("--tile", 8), ("tile=8: must be a whole number, 32 or more",)),
        (("--overlap", 0.3), ("give tile too",)),
        (("--batch-size", 0), ("--batch-size and --max-pixels must be 1 or more",)),
        (("--ids", "a.json"), ("which detectors write with --out",)),
    ],
)
def test_bad_flags(flags: tuple[Any, ...], words: tuple[str, ...], model: Predictor, work: Path, run: Run) -> None:
    says(run("predict", "x", work, *flags), 2, *words)


@pytest.mark.parametrize("flag", ["--threshold", "--tile", "--overlap"])
def test_what_a_classifier_does_not_have(flag: str, bundle: Path, folder: Path, run: Run) -> None:
    says(
        run("predict", bundle, folder, flag, 0 if flag != "--tile" else 64), 2, f"{flag}: not for", "classify", "--top"
    )


def test_tiles(model: Predictor, tmp_path: Path, run: Run) -> None:
    scene(300, 200, ((90, 10, 110, 25), "red"), ((60, 60, 150, 75), "red")).save(tmp_path / "a.png")
    assert "2 objects: 2 red" in run("predict", "x", tmp_path / "a.png", "--tile", 100)[1]
    assert "2 objects: 2 red" in run("predict", "x", tmp_path / "a.png", "--tile", 100, "--overlap", 0.5)[1]


def test_overlays(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    assert run("predict", "x", work, "--out", tmp_path / "out", "--overlay", "--quiet")[0] == 0
    with Image.open(tmp_path / "out" / "a.png") as overlay:
        assert overlay.width == 490  # seven times as large: to be seen
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png", "c.png"}


# videos


def clip(path: Path, count: int, size: tuple[int, int] = (128, 64)) -> None:
    pytest.importorskip("av")
    from fishnet.images.video import VideoWriter

    writer = VideoWriter(path, Fraction(12))
    for i in range(count):
        writer.add(scene(*size, *[((20 * i, 16, 20 * i + 16, 48), "green")] * (i > 0)))
    writer.close()


def test_videos_among_images(model: Predictor, work: Path, tmp_path: Path, run: Run) -> None:
    from fishnet.images.video import frames, rate_of

    clip(work / "b1.mp4", 5)
    clip(work / "b2.mov", 3, (65, 50))
    (work / "b3.mkv").write_text("no video")
    code, out, err = run("predict", "x", work, work / "b1.mp4", "--out", tmp_path / "out", "--overlay")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "b3.mkv: not a video that can be read" in err
    assert f"{work / 'b1.mp4'}#4: 1 object: 1 green" in out
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".mp4", ".png")}
    assert names == {"a.png", "b.png", "c.png", "b1.mp4", "b2.mp4", "b1-2.mp4"}
    drawn = list(frames(tmp_path / "out" / "b1.mp4"))
    assert len(drawn) == 5
    assert rate_of(tmp_path / "out" / "b1.mp4") == 12
    assert drawn[0].width == 512, "four times as large"
    marked = np.asarray(drawn[3]).astype(int)[:256]
    tinted = (np.abs(marked - marked[-1, -1]).sum(-1) > 60).nonzero()
    assert abs(tinted[1].min() - 4 * 60) < 20, "each frame has its own result"
    assert len(list(frames(tmp_path / "out" / "b2.mp4"))) == 3


def test_a_classifier_takes_videos_too(bundle: Path, tmp_path: Path, run: Run) -> None:
    from fishnet.images.video import frames

    clip(tmp_path / "a.mp4", 4)
    code, out, _ = run("predict", bundle, tmp_path / "a.mp4", "--overlay", "--out", tmp_path / "out", "--top", 2)
    assert (code, len(out.splitlines())) == (0, 5)
    assert len(list(frames(tmp_path / "out" / "a.mp4"))) == 4
    assert not (tmp_path / "out" / "coco_results.json").exists()


def test_an_overlay_is_never_written_over_its_video(model: Predictor, tmp_path: Path, run: Run) -> None:
    clip(tmp_path / "a.mp4", 2)
    before = (tmp_path / "a.mp4").read_bytes()
    assert run("predict", "x", tmp_path / "a.mp4", "--overlay", "--out", tmp_path, "--quiet")[0] == 0
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert (tmp_path / "a-2.mp4").exists()


def test_a_video_has_no_image_id(model: Predictor, tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.mp4").touch()
    file = annotations(tmp_path / "val.json", **{"a.mp4": 1})
    says(run("predict", "x", tmp_path / "a.mp4", "--out", tmp_path, "--ids", file), 2, "a.mp4: is a video")


def test_videos_without_pyav(model: Predictor, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    says(run("predict", "x", tmp_path / "a.mp4"), 2, "this needs av: pip install 'fishnet-vision[data]'")
