"""``fishnet data check`` and ``fishnet data show`` on data with a class for every pixel."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.data.rules import RULES
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.detection_makers import coco_folder
from tests.detection_makers import voc_folder as voc_objects
from tests.makers import split_folder
from tests.segmentation_makers import KINDS, SIZE, ade_folder, cityscapes_folder, mask_folder, save_mask, voc_folder

class_folders = partial(split_folder, train=2)


@pytest.mark.parametrize("task", [[], ["--task", "segment"]])
def test_clean_data(task: list[str], tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data")
    code, out, err = run("data", "check", data, *task, "--sheet", tmp_path / "new" / "sheet.png")
    assert (code, err) == (0, "")
    assert "3 classes, share of the pixels that are not ignored, and images with any:" in out
    assert any(
        line.split() == ["ground", "73.17", "%", "in", "6", "73.13", "%", "in", "3"] for line in out.splitlines()
    )
    assert "nothing wrong" in out
    assert f"9 images as annotated: {tmp_path}/new/sheet.png" in out
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert sheet.width > 1000
    # The images hold berries in red, leaves in green, all at their brightest: on the sheet these are tinted.
    assert not (pixels == (225, 60, 60)).all(1).any()
    assert not (pixels == (70, 200, 80)).all(1).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mask_folder, "share of the pixels"),
        (partial(mask_folder, layout="camvid"), "share of the pixels"),
        (voc_folder, "share of the pixels"),
        (cityscapes_folder, "share of the pixels"),
        (ade_folder, "share of the pixels"),
        (partial(mask_folder, names=None), "objects in images"),  # as well masks of objects
        (coco_folder, "objects in images"),
        (partial(voc_objects, masks=True), "objects in images"),
        (class_folders, "imbalance"),
    ],
)
def test_what_data_is_for(make: Callable[[Path], Path], words: str, tmp_path: Path, run: Run) -> None:
    _, out, err = run("data", "check", make(tmp_path / "data"))
    assert (words in out, err) == (True, "")


@pytest.mark.parametrize("make", [partial(mask_folder, names=None), coco_folder, partial(voc_objects, masks=True)])
def test_the_task_may_be_said(make: Callable[[Path], Path], tmp_path: Path, run: Run) -> None:
    code, out, _ = run("data", "check", make(tmp_path / "data"), "--task", "segment")
    assert code == 0
    assert "share of the pixels" in out


def test_what_is_ignored(tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data", names=[*KINDS, "moss"])

    def shares(*flags: object) -> dict[str, int]:
        code, out, _ = run(
            "data", "check", data, "--task", "segment", "--json", "--skip", "class-without-pixels", *flags
        )
        assert code == 0
        found: dict[str, int] = json.loads(out)["splits"]["train"]["pixels_per_class"]
        return found

    every = shares()
    assert list(every) == [*KINDS, "moss"]
    assert shares("--void", "moss", "berry") == {name: every[name] for name in ("ground", "leaf")}
    assert shares("--ignore", 3, 2) == {name: every[name] for name in ("ground", "berry")}


def test_faults_by_file(tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data", names=[*KINDS, "moss"])
    train, val = data / "train", data / "val"
    (train / "masks" / "000.png").unlink()
    save_mask(train / "masks" / "001.png", np.zeros((9, 7), np.uint8), "index")
    save_mask(train / "masks" / "002.png", np.full(SIZE[::-1], 7, np.uint8), "index")
    (train / "masks" / "003.png").write_bytes(b"no mask")
    save_mask(val / "masks" / "000.png", np.full(SIZE[::-1], 3, np.uint8), "index")
    code, out, err = run("data", "check", data)
    assert (code, err) == (2, "")
    for code_, line in (
        ("files-unpaired", f"{train}/images/000.png: has no mask in {train}/masks"),
        ("mask-size-differs", f"{train}/images/001.png: is 96x80 px, but its mask 7x9"),
        ("mask-id-unnamed", f"7: 7,680 px in 1 masks of train, first {train}/masks/002.png"),
        ("mask-unreadable", f"{train}/masks/003.png: not an image"),
        ("class-without-pixels", "moss: no mask of train has a pixel of it (val has 7,680)"),
        ("class-untrained", "moss: in 1 images of val, but in none of train"),
    ):
        assert f"\nerror {code_} (1): {RULES[code_].meaning}\n  {line}" in out
    assert "errors: 6, warnings: 0" in out


def test_the_sheet_leaves_out_what_cannot_be_drawn(tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data", train=2)
    for i in range(2):
        code, out, _ = run("data", "check", data, "--sheet", tmp_path / f"{i}.png")
        assert f"{2 - i} images as annotated" in out
        (data / "train" / "masks" / f"00{i}.png").write_bytes(b"no mask")
    code, out, _ = run("data", "check", data, "--sheet", tmp_path / "none.png")
    assert code == 2
    assert "no image that could be drawn" in out
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("make", "flags", "words"),
    [
        (class_folders, ("--task", "segment"), ("holds no masks of a known format",)),
        (
            class_folders,
            ("--void", "sky"),
            ("--threshold-masks are for --task segment, not classify",),
        ),
        (coco_folder, ("--ignore", "3"), ("--task segment, not detect",)),
        (mask_folder, ("--void", "leef"), ("void 'leef'", "leaf")),
        (mask_folder, ("--sheet", "a.txt"), ("--sheet a.txt: must end in .png",)),
    ],
)
def test_bad_usage(
    make: Callable[[Path], Path], flags: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    says(run("data", "check", make(tmp_path / "data"), *flags), 2, *words)


@pytest.mark.parametrize("task", [[], ["--task", "segment"]])
def test_the_sheet_of_what_is_trained_on(task: list[str], tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data")

    def made(name: str, *flags: object) -> bytes:
        path = tmp_path / name
        code, out, _ = run("data", "show", data, *task, "--size", 64, "--count", 4, "--out", path, *flags)
        assert code == 0
        assert f"4 images of {data} (train)" in out
        return path.read_bytes()

    first = made("a.png", "--seed", 1)
    assert made("b.png", "--seed", 1) == first, "the same seed, the same sheet"
    assert made("c.png", "--seed", 1, "--void", "leaf") != first
    assert made("d.png", "--seed", 2) != first


def test_the_sheet_of_images_of_unequal_sizes(tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data")
    for folder in ("images", "masks"):
        path = data / "val" / folder / "001.png"
        with Image.open(path) as image:
            wide = image.resize((200, 80), Image.Resampling.NEAREST)
        wide.save(path)
    code, out, _ = run("data", "show", data, "--split", "val", "--size", 64, "--out", tmp_path / "sheet.png")
    assert code == 0
    assert "3 images" in out
