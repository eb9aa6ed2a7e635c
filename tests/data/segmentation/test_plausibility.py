"""What the masks of a dataset tell as a whole, and masks beside images that EXIF turns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.entries import hold_out_entries
from fishnet.data.findings import Finding
from fishnet.data.segmentation import survey
from fishnet.data.segmentation.open import open_segmentation
from fishnet.data.segmentation.plausibility import plausibility, split_counts
from fishnet.errors import InputError
from tests.segmentation_makers import KINDS, SIZE, mask_folder, save_mask, scenes, voc_folder

PX = SIZE[0] * SIZE[1]


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


def found(data: Path, **options: Any) -> dict[str, list[Finding]]:
    findings: dict[str, list[Finding]] = {}
    for one in plausibility(opened(data, **options)):
        findings.setdefault(one.code, []).append(one)
    return findings


def test_nothing_to_say(tmp_path: Path) -> None:
    assert found(mask_folder(tmp_path / "data")) == {}


def test_classes_without_pixels(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=[*KINDS, "moss", "fern"])
    save_mask(data / "val" / "masks" / "000.png", np.full(SIZE[::-1], 4), "index")
    findings = found(data)
    assert [one.message for one in findings["class-without-pixels"]] == [
        "moss: no mask of train has a pixel of it",
        "fern: no mask of train has a pixel of it (val has 7,680)",
    ]
    assert {one.file for one in findings["class-without-pixels"]} == {str(data / "classes.txt")}
    assert list(found(data, void=["moss", "fern"])) == ["mask-all-ignored"]
    assert len(found(voc_folder(tmp_path / "voc"))["class-absent"]) == 18


def test_val_lacks_a_class(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    for path in (data / "val" / "masks").iterdir():
        save_mask(path, np.zeros(SIZE[::-1]), "index")
    findings = found(data)
    assert [one.message for one in findings["class-without-val-pixels"]] == [
        "val: no mask has a pixel of berry, leaf: their scores are not measured"
    ]
    assert findings["class-dominates"][0].message == "val: 100.000 % of the labelled pixels are 'ground'"


def test_ignored(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    for i in range(4):
        save_mask(data / "train" / "masks" / f"00{i}.png", np.full(SIZE[::-1], 255), "index")
    findings = found(data, ignore=[255])
    (one,) = findings["mask-mostly-ignored"]
    assert (one.message, one.split) == ("train: 66.7 % of the pixels are ignored", "train")
    assert [Path(one.file).name for one in findings["mask-all-ignored"]] == [f"00{i}.png" for i in range(4)]
    assert split_counts(opened(data, ignore=[255])["train"]).ignored == pytest.approx(4 / 6)


def test_ids_without_a_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    save_mask(data / "val" / "masks" / "001.png", np.full(SIZE[::-1], 9), "index")
    (one,) = found(data)["mask-id-unnamed"]
    assert one.message == f"9: {PX:,} px in 1 masks of val, first {data}/val/masks/001.png"


def test_what_was_concluded_is_said(tmp_path: Path) -> None:
    (one,) = found(mask_folder(tmp_path / "data", names=None, ids=(0, 255, 255)))["mask-reading"]
    assert one.message == "masks hold only 0 and 255: 0 is 'background', 255 is 'foreground'"
    assert one.severity == "note"


def test_each_mask_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    once = survey.facts_of
    monkeypatch.setattr(survey, "facts_of", lambda mask: read.append(mask.path) or once(mask))
    splits = opened(mask_folder(tmp_path / "data", names=None, train=8, val=2))
    train, held = hold_out_entries(splits["train"], 0.25, 0)
    plausibility({"train": train, "val": held, "test": splits["val"]})
    plausibility(splits)
    assert len(read) == len(set(read)) == 10
    counts = split_counts(train).labels + split_counts(held).labels
    assert counts[:3].tolist() == np.bincount(
        np.stack([truth.labels for truth in scenes("train", 8)]).ravel(), minlength=3
    ).tolist()  # fmt: skip


@pytest.mark.parametrize("values", ["numbers", "slow"])
def test_reading_that_takes_long_is_said(
    values: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(survey, "MANY", 6)
    monkeypatch.setattr(survey, "SLOW", -1.0 if values == "slow" else 1e9)
    opened(mask_folder(tmp_path / "data", train=6))
    assert [record.message for record in caplog.records] == (["reading 6 masks ..."] if values == "slow" else [])


# Images that EXIF turns


def turned(data: Path, turn: int, change: Callable[[Image.Image], Image.Image]) -> Path:
    """Stores the first image of train with an orientation, and another mask."""
    exif = Image.Exif()
    exif[0x0112] = turn
    path = data / "train" / "images" / "000.png"
    Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()
    mask = data / "train" / "masks" / "000.png"
    change(Image.open(mask)).save(mask)
    return path.with_suffix(".jpg")


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_a_mask_that_is_not_turned_with_its_image(turn: int, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    image = turned(data, turn, lambda mask: mask.copy())
    train = opened(data)["train"]
    words = (
        rf"{image}: is 80x96 px, but its mask 96x80 \(.*000\.png\): the mask fits the image as stored, but the image's "
        rf"EXIF orientation \({turn}\) turns it upright: turn the mask as well, or, if the stored image is upright"
    )
    for read in (train.read, train.read_tensor):
        with pytest.raises(InputError, match=words):
            read(0)


def test_a_mask_that_is_turned_with_its_image(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    turned(data, 6, lambda mask: mask.transpose(Image.Transpose.ROTATE_270))
    assert opened(data)["train"].read(0)[1].shape == (96, 80)


def test_a_mask_with_an_orientation_of_its_own(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    turned(data, 6, lambda mask: mask.copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = data / "train" / "masks" / "000.png"
    Image.open(mask).save(mask, exif=exif)
    assert np.array_equal(opened(data)["train"].read(0)[1], np.rot90(scenes("train", 1)[0].labels, -1))


@pytest.mark.parametrize("turn", [2, 3, 4])
def test_an_image_that_is_turned_within_its_sides(turn: int, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    image = turned(data, turn, lambda mask: mask.copy())
    (one,) = found(data)["mask-exif-unclear"]
    assert one.message == f"train: the EXIF orientation turns 1 images whose masks fit both ways, such as {image}"
