"""Which columns of a table are honoured, names that other machines wrote, and tables that are none."""

import os
import time
from pathlib import Path

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.data.classification.open import open_classification
from fishnet.data.plausibility import note_lines, plausibility
from fishnet.errors import InputError
from tests.makers import image_folder

LABELS = ("red", "blue")


def opened(
    data: Path, *, keep_splits: bool = True, fold: int = -1, classes: Classes | None = None
) -> dict[str, LabelledDataset]:
    return open_classification(
        str(data), 3, val_fraction=0.25, seed=0, keep_splits=keep_splits, fold=fold, classes=classes
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "colours", 6, LABELS)


def table(images: Path, head: str, *columns: str, name: str = "data.csv") -> Path:
    """Twelve rows, of both classes in turn; each further column as many values in turn."""
    rows = [head]
    for i in range(12):
        label, number = LABELS[i % 2], i // 2
        path = f"{label}/{number}.{'jpg' if number % 3 == 2 else 'png'}"
        rows.append(",".join([path, label, *(column.split()[i % len(column.split())] for column in columns)]))
    (images / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return images / name


def codes(splits: dict[str, LabelledDataset]) -> list[str]:
    return [finding.code for finding in plausibility(splits) if not finding.code.startswith("class-")]


@pytest.mark.parametrize("column", ["is_valid", "Is_Valid", "is_val"])
@pytest.mark.parametrize("words", ["False False True True", "0 0 1 1", "no no yes yes", "0.0 0.0 1.0 1.0"])
def test_is_valid_says_the_splits(column: str, words: str, images: Path) -> None:
    splits = opened(table(images, f"path,label,{column}", words))
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 6, "val": 6}
    assert splits["val"].key(0) == "red/1.png"
    assert codes(splits) == []


def test_a_word_of_is_valid_that_is_none(images: Path) -> None:
    with pytest.raises(InputError, match=r"data\.csv line 3: is_valid is 'maybe': must be True or False"):
        opened(table(images, "path,label,is_valid", "False maybe"))


def test_a_split_wins_over_is_valid_and_this_is_said(images: Path) -> None:
    splits = opened(table(images, "path,label,split,is_valid", "train train test val", "True False"))
    assert list(splits) == ["train", "val", "test"]
    assert note_lines(splits) == [f"{images / 'data.csv'}: columns that are not used: is_valid"]


@pytest.mark.parametrize("fold", ["0 0 1 1 2 2", "0.0 0.0 1.0 1.0 2.0 2.0"])
def test_a_fold_is_held_out(fold: str, images: Path) -> None:
    data = table(images, "path,label,fold", fold)
    splits = opened(data, keep_splits=False, fold=1)
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 8, "val": 4}
    assert [splits["val"].key(i) for i in range(4)] == ["red/1.png", "blue/1.png", "red/4.png", "blue/4.png"]
    assert codes(splits) == []
    assert codes(opened(data, keep_splits=False)) == ["column-fold"], "a fold that is not used is said"
    assert list(opened(data, fold=1)) == ["all"], "whole data holds nothing out"


@pytest.mark.parametrize(
    ("head", "columns", "words"),
    [
        ("path,label,fold", ("0 0 1 1",), "fold 7 has none of the training rows: the folds are 0, 1"),
        ("path,label,fold", ("7",), "fold 7 has all of the training rows"),
        ("path,label", (), "has no column for the fold"),
        ("path,label,fold,split", ("7 7 1 1", "train train val val"), "already defines the val split"),
    ],
)
def test_folds_that_cannot_be_held_out(head: str, columns: tuple[str, ...], words: str, images: Path) -> None:
    with pytest.raises(InputError, match=words):
        opened(table(images, head, *columns), keep_splits=False, fold=7)


def test_folds_are_for_tables(images: Path) -> None:
    with pytest.raises(InputError, match="--fold 0 needs a table"):
        opened(images, keep_splits=False, fold=0)


def test_other_columns_that_look_like_labels_are_said(images: Path) -> None:
    splits = opened(table(images, "path,label,class_name,width,test_fold", "a b", "40", "1"))
    assert note_lines(splits) == [f"{images / 'data.csv'}: columns that are not used: class_name, test_fold"]


# names


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("red/", "C:\\\\Users\\\\bob\\\\colours\\\\red\\\\"),
        ("red/", "/content/drive/colours/red/"),
        ("red/0.png", "red/0"),
        ("red/0", "red%2F0"),
    ],
)
def test_names_of_other_machines(before: str, after: str, images: Path) -> None:
    data = table(images, "path,label")
    plain = opened(data)["all"]
    data.write_text(data.read_text().replace(before, after.replace("\\\\", "\\")))
    splits = opened(data)
    assert [splits["all"].key(i) for i in range(12)] == [plain.key(i) for i in range(12)], "the same name is held out"
    assert splits["all"].read(0)[0].tobytes() == plain.read(0)[0].tobytes()  # type: ignore[union-attr]
    assert codes(splits) == ["name-by-tail"]
    assert "images found by the tail of their paths (such as" in note_lines(splits)[0]


def test_ids_without_ending_and_a_folder_beside_the_table(images: Path) -> None:
    (images / "train").mkdir()
    rows = ["id,label"]
    for label in LABELS:
        for path in sorted((images / label).iterdir()):
            path.rename(images / "train" / f"{label}{path.name}")
            rows.append(f"{label}{path.stem},{label}")
    (images / "train.csv").write_text("\n".join(rows))
    dataset = opened(images / "train.csv")["all"]
    assert dataset.key(0) == "train/red0.png"
    assert len(dataset) == 12
    assert dataset.read(11)[1] == 0


def test_one_image_under_two_spellings_is_one_file(images: Path) -> None:
    (images / "data.csv").write_text("path,label,split\nred/0.png,red,train\nblue/0.png,blue,train\nred/0,red,val\n")
    splits = opened(images / "data.csv")
    assert splits["train"].source(0) == splits["val"].source(0)
    assert splits["train"].key(0) == splits["val"].key(0)


def test_images_none_of_which_are_there(images: Path) -> None:
    data = table(images, "path,label")
    data.write_text(data.read_text().replace(".png", ".webp").replace(".jpg", ".webp"))
    with pytest.raises(InputError, match=r"data\.csv: none of its 12 images found; first: .*red/0\.webp: no such file"):
        opened(data)


# several labels


def test_several_labels_an_image_are_refused(images: Path) -> None:
    data = table(images, "path,label")
    data.write_text(data.read_text().replace("1.png,blue", "1.png,blue|red"))
    with pytest.raises(InputError, match=r"'blue\|red' looks like several labels"):
        opened(data)
    both = [f"{name},{label}" for name in ("red/0.png", "red/1.png", "blue/0.png") for label in LABELS]
    data.write_text("\n".join(["path,label", *both]))
    with pytest.raises(InputError, match=r"line 3: .*red/0\.png has another label than in line 2, and so have 3 of 3"):
        opened(data)
    data.write_text("image,red,blue\nred/0.png,1,0\nblue/0.png,0,1\n")
    with pytest.raises(InputError, match=r"no label column, but one-hot columns of 0 and 1 \(red, blue\): "):
        opened(data)


def test_lists_in_parquet_are_refused(images: Path) -> None:
    pyarrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pyarrow.table({"path": ["red/0.png"], "label": [["a", "b"]]}), images / "data.parquet")
    with pytest.raises(InputError, match="'label' holds lists or structs: images with several labels"):
        opened(images / "data.parquet")
    pq.write_table(pyarrow.table({"path": ["a", "b"], "cat": [1, 0], "dog": [0, 1]}), images / "data.parquet")
    with pytest.raises(InputError, match=r"columns of 0 and 1 \(cat, dog\)"):
        opened(images / "data.parquet")


# tables that are none


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,label\nred/0.png,re\0d\n", "line 2: holds a NUL character"),
        (b"path,label\n" + b"x" * (3 << 20), "line 2: longer than 1,048,576 bytes"),
        (b",".join(b"c%d" % i for i in range(1_000_000)), "line 1: longer than"),
        (b"\0" * (3 << 20), "line 1: longer than"),
        (b'path,label\nred/0.png,"red\n' + b"red/1.png,red\n" * 20_000, "line 2: cannot be read"),
        (b"path,label,Label\nred/0.png,red,red\n", "2 columns are called 'label'"),
    ],
)
def test_texts_that_are_no_tables(content: bytes, words: str, images: Path) -> None:
    (images / "data.csv").write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(InputError, match=words):
        opened(images / "data.csv")
    assert time.monotonic() - begun < 60, "not an endless loop"


def test_lines_may_end_as_on_any_system(images: Path) -> None:
    data = table(images, "path,label")
    plain = [opened(data)["all"].key(i) for i in range(12)]
    for end in ("\r\n", "\r"):
        data.write_text(data.read_text().replace("\n", end), newline="")
        assert [opened(data)["all"].key(i) for i in range(12)] == plain
        data.write_text(data.read_text() + f"{end}red/0.png,{end}", newline="")
        with pytest.raises(InputError, match="line 15: empty label"):
            opened(data)
        table(images, "path,label")


def test_pipes_and_devices_are_no_tables(images: Path) -> None:
    os.mkfifo(images / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv: is a named pipe, not a table"):
        opened(images / "pipe.csv")
    (images / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"zero\.csv: is a device, not a table"):
        opened(images / "zero.csv")
    (images / "zero.parquet").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"zero\.parquet: is a device, not a table"):
        opened(images / "zero.parquet")


class TestParquetThatUnpacksToMore:
    @pytest.fixture
    def pq(self) -> object:
        return pytest.importorskip("pyarrow.parquet")

    def test_more_rows_than_bytes(self, pq: object, images: Path) -> None:
        import pyarrow

        rows = pyarrow.array(["a"] * 2_000_000)
        pq.write_table(pyarrow.table({"path": rows, "label": rows}), images / "a.parquet")  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="declares 2,000,000 rows, but has only"):
            opened(images / "a.parquet")

    def test_long_texts(self, pq: object, images: Path) -> None:
        import pyarrow

        names = [f"{i}.png" for i in range(2000)]
        content = pyarrow.table({"path": names, "label": ["x" * 200_000, "y"] * 1000})
        pq.write_table(content, images / "a.parquet", compression="zstd")  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="'label' holds texts of more than 65,536 bytes"):
            opened(images / "a.parquet")

    def test_images_that_are_one_value_many_times(self, pq: object, images: Path) -> None:
        import pyarrow

        content = pyarrow.table({"image": [bytes(900_000)] * 400, "label": ["a", "b"] * 200})
        pq.write_table(content, images / "a.parquet", compression="zstd")  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="the images unpack to more than"):
            opened(images / "a.parquet")

    def test_a_page_of_zeros(self, pq: object, images: Path) -> None:
        import pyarrow

        content = pyarrow.table({"image": [bytes(300_000_000), b"x"], "label": ["a", "b"]})
        pq.write_table(content, images / "a.parquet", compression="zstd", use_dictionary=False)  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="declares 300,000,"):
            opened(images / "a.parquet")
