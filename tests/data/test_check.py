"""What ``data check`` finds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.data.base import LabelledDataset, hold_out
from fishnet.data.check import CheckReport, check_splits
from fishnet.data.classification.check import ClassificationCheck, ClassificationStatistics
from fishnet.data.classification.open import open_classification
from fishnet.data.classification.samples import FASHION_MNIST
from tests.makers import image, split_folder

_LEAKED, _DOUBLED = "image-in-two-splits", "image-in-two-classes"


def opened(data: Path, channels: int = 3) -> dict[str, LabelledDataset]:
    return open_classification(str(data), channels, val_fraction=0.1, seed=0, keep_splits=True)


def checked(data: Path, **options: int) -> CheckReport[ClassificationStatistics]:
    return check_splits(opened(data, options.pop("channels", 3)), ClassificationCheck, **options)


def lines(found: CheckReport[ClassificationStatistics], code: str) -> list[str]:
    return [finding.message for finding in found.of(code)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four and two different images of each of three classes."""
    root = split_folder(tmp_path / "data", train=4)
    for c, name in enumerate(("blue", "green", "red")):
        (root / "val" / name).mkdir(parents=True)
        for i in range(2):
            image(name, 5000 + 10 * c + i, (60, 20)).save(root / "val" / name / f"{i}.png")
    return root


def test_clean_data(data: Path) -> None:
    found = checked(data)
    assert found.ok
    assert found.findings == ()
    train, val = found.splits["train"], found.splits["val"]
    assert (train.images, train.per_class) == (12, {"blue": 4, "green": 4, "red": 4})
    assert (train.imbalance, train.duplicates, train.corrupt) == (1, 0, 0)
    assert train.kinds == {"PNG RGB": 9, "JPEG RGB": 3}
    assert (val.smallest, val.median, val.largest) == ((60, 20),) * 3
    assert found.to_dict()["splits"]["val"]["largest"] == (60, 20)


def test_sizes_kinds_and_imbalance(data: Path) -> None:
    Image.new("L", (300, 5)).save(data / "train" / "red" / "long.png")
    Image.new("RGBA", (2, 3), (1, 2, 3, 255)).save(data / "train" / "red" / "dot.png")
    Image.new("CMYK", (500, 400), (9, 9, 9, 9)).save(data / "train" / "red" / "big.jpg")
    Image.new("P", (70, 70), 3).save(data / "train" / "red" / "p.gif")
    train = checked(data).splits["train"]
    assert (train.smallest, train.median, train.largest) == ((2, 3), (40, 36), (500, 400))
    assert {"PNG L": 1, "PNG RGBA": 1, "JPEG CMYK": 1}.items() <= train.kinds.items()
    assert train.imbalance == 8 / 4


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_image_in_two_parts(workers: int, data: Path) -> None:
    with Image.open(data / "train" / "red" / "0.png") as image:
        image.save(data / "val" / "red" / "again.bmp")  # another file, the same pixels
        image.save(data / "val" / "blue" / "and-wrong.png", optimize=True)
    found = checked(data, workers=workers)
    assert not found.ok
    first, val = data / "train" / "red" / "0.png", data / "val"
    assert lines(found, "image-in-two-splits") == [
        f"{first} (train, red) = {val / 'blue' / 'and-wrong.png'} (val, blue)",
        f"{first} (train, red) = {val / 'red' / 'again.bmp'} (val, red)",
    ]
    assert {(one.split, one.severity, one.count) for one in found.of("image-in-two-splits")} == {("val", "error", 1)}
    assert found.of("image-in-two-splits")[0].file == str(val / "blue" / "and-wrong.png")
    assert lines(found, "image-in-two-classes") == [
        f"{val / 'blue' / 'and-wrong.png'} (val, blue) = {val / 'red' / 'again.bmp'} (val, red)"
    ]
    assert found.splits["val"].duplicates == 1


def test_the_same_image_in_three_parts(data: Path) -> None:
    (data / "test" / "red").mkdir(parents=True)
    (data / "test" / "blue").mkdir(parents=True)
    (data / "test" / "green").mkdir(parents=True)
    for place in ("val/red/x.png", "test/red/y.png"):
        (data / place).write_bytes((data / "train" / "red" / "0.png").read_bytes())
    for name in ("blue", "green"):
        image(name, 9000).save(data / "test" / name / "0.png")
    pairs = {tuple(line.split(" (")[i].split(",")[0] for i in (1, 2)) for line in lines(checked(data), _LEAKED)}
    assert pairs == {("train", "val"), ("train", "test")}
    (untrained,) = checked(data).of("image-in-val-and-test")
    assert (untrained.severity, untrained.file) == ("warning", str(data / "test" / "red" / "y.png"))


def test_the_same_image_under_two_classes_and_repeated(data: Path) -> None:
    whole = (data / "train" / "green" / "1.png").read_bytes()
    (data / "train" / "green" / "copy.png").write_bytes(whole)
    found = checked(data)
    assert found.ok, "a repeated image is noted, not wrong"
    assert found.splits["train"].duplicates == 1
    assert [(one.severity, one.file) for one in found.findings] == [
        ("note", str(data / "train" / "green" / "copy.png"))
    ]
    (data / "train" / "red" / "copy.png").write_bytes(whole)
    found = checked(data)
    assert not found.ok
    assert found.splits["train"].duplicates == 2
    assert ["(train, green) = " in line and line.endswith("(train, red)") for line in lines(found, _DOUBLED)] == [True]
    assert found.of(_LEAKED) == []


def test_the_same_pixels_of_another_shape_are_another_image(data: Path) -> None:
    for name, size in (("a", (4, 9)), ("b", (9, 4)), ("c", (6, 6))):
        Image.new("RGB", size, (5, 6, 7)).save(data / "val" / "red" / f"{name}.png")
    assert checked(data).splits["val"].duplicates == 0


def test_corrupt_files_are_named_and_the_rest_is_read(data: Path) -> None:
    (data / "train" / "red" / "0.png").write_bytes(b"")
    whole = (data / "train" / "blue" / "2.jpg").read_bytes()
    (data / "train" / "blue" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    found = checked(data)
    assert not found.ok
    assert found.splits["train"].corrupt == 2
    first, second = found.of("image-unreadable")
    assert "blue/2.jpg: broken image" in first.message
    assert "red/0.png: not an image" in second.message
    assert (second.file, second.split) == (str(data / "train" / "red" / "0.png"), "train")
    assert found.splits["train"].images == 12
    assert sum(found.splits["train"].kinds.values()) == 10


def test_nothing_readable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.png").write_text("no image")
    split = checked(tmp_path / "data").splits["all"]
    assert (split.smallest, split.median, split.largest, split.kinds) == (None, None, None, {})


def test_grey_data_in_grey(data: Path) -> None:
    Image.new("RGB", (8, 8), (100, 100, 100)).save(data / "val" / "red" / "a.png")
    Image.new("L", (8, 8), 100).save(data / "val" / "red" / "b.png")
    assert checked(data, channels=1).splits["val"].duplicates == 1


def test_many_channels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            np.save(tmp_path / "data" / name / f"{i}.npy", random.integers(0, 255, (12, 10, 5), dtype=np.uint8))
    np.save(tmp_path / "data" / "b" / "again.npy", np.load(tmp_path / "data" / "a" / "0.npy"))
    found = checked(tmp_path / "data", channels=5)
    split = found.splits["all"]
    assert (split.largest, split.corrupt, split.duplicates, len(found.of(_DOUBLED))) == ((10, 12), 0, 1, 1)


def test_a_table(data: Path, tmp_path: Path) -> None:
    rows = [f"{data}/train/{name}/{i}.png,{name},train" for name in ("red", "blue") for i in (0, 1)]
    rows += [f"{data}/train/red/1.png,red,val", f"{data}/train/blue/missing.png,blue,val"]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    found = checked(tmp_path / "all.csv")
    assert lines(found, _LEAKED) == [f"{data}/train/red/1.png: in train and in val"]
    assert "missing.png: no such file" in found.of("image-unreadable")[0].message
    assert found.splits["train"].kinds == {"PNG RGB": 4}


def test_a_held_out_part_is_checked_as_well(data: Path) -> None:
    whole = opened(data)["train"]
    train, val = hold_out(whole, 0.25, 0)
    found = check_splits({"train": train, "val": val}, ClassificationCheck)
    assert found.ok
    assert found.splits["val"].kinds.keys() <= {"PNG RGB", "JPEG RGB"}
    assert check_splits({"train": whole, "val": val}, ClassificationCheck).of(_LEAKED) != []


def test_progress(data: Path) -> None:
    steps: list[tuple[int, int]] = []
    check_splits(opened(data), ClassificationCheck, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 18) for i in range(1, 19)]


@pytest.mark.slow
def test_fashion_mnist_against_numpy() -> None:
    datasets = open_classification(FASHION_MNIST, 1, val_fraction=0.1, seed=0, keep_splits=True)
    found = check_splits(datasets, ClassificationCheck)
    pixels = {name: dataset.pixels.reshape(len(dataset), -1) for name, dataset in datasets.items()}  # type: ignore[attr-defined]
    rows = {name: {row.tobytes() for row in array} for name, array in pixels.items()}
    for name, split in found.splits.items():
        assert split.duplicates == len(pixels[name]) - len(rows[name])
    assert len(found.of(_LEAKED)) == sum(row.tobytes() in rows["train"] for row in pixels["test"])
    assert found.splits["train"].per_class["Coat"] == 6000
