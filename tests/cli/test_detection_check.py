"""``fishnet data check`` on data with objects."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Run
from tests.detection_makers import coco_folder, voc_folder, yolo_folder
from tests.makers import split_folder


@pytest.mark.parametrize("task", [[], ["--task", "detect"]])
def test_clean_data(task: list[str], tmp_path: Path, run: Run) -> None:
    data = voc_folder(tmp_path / "data")
    code, out, _ = run("data", "check", data, *task, "--sheet", tmp_path / "new" / "sheet.png")
    assert code == 0
    assert "3 classes, objects in images:" in out
    assert "nothing wrong" in out
    assert f"9 images as annotated: {tmp_path}/new/sheet.png" in out
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > 1000


def test_json_names_images_without_objects(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("data", "check", coco_folder(tmp_path / "data", train=5), "--task", "instances", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (0, True)
    assert found["splits"]["train"]["without_objects"] == 1
    empty = [one["file"] for one in found["findings"] if one["code"] == "image-without-objects"]
    assert empty == [f"{tmp_path}/data/train2017/train_004.png"]


def test_faults_by_file_and_line(tmp_path: Path, run: Run) -> None:
    data = yolo_folder(tmp_path / "data")
    (data / "labels" / "train" / "000.txt").write_text("9 .5 .5 .1 .1\n0 .5 .5 0 .1\n")
    code, out, _ = run("data", "check", data)
    assert code == 2
    assert f"{data}/labels/train/000.txt line 1: class 9 is not among the names" in out
    assert f"{data}/labels/train/000.txt line 2: empty box" in out
    assert "errors: 2, " in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sheet", "a.txt"), "--sheet a.txt: must end in .png"),
        (("--sheet", "a.png"), "--sheet draws boxes or labels"),
        (("--task", "detect"), "holds no annotations of a known format"),
    ],
)
def test_bad_usage(flags: tuple[str, ...], words: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run("data", "check", split_folder(tmp_path / "data", train=1), *flags)
    assert code == 2
    assert words in err
