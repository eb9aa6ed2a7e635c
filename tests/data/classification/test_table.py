"""Tables of path and label: CSV, TSV and Parquet, and what can be wrong with them."""

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.data.classification.open import open_classification
from fishnet.data.classification.table import LABEL, PATH, TableDataset
from fishnet.data.classification.table_files import SPLIT
from fishnet.data.identity import fingerprint
from fishnet.errors import InputError
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import CLASSES

ROWS = "path,label\nred/0.png,red\ngreen/1.png,green\nred/2.jpg,red\nblue/3.png,blue\n"


def opened(
    data: Path | str, classes: Classes | None = None, channels: int = 3, *, keep_splits: bool = True
) -> dict[str, LabelledDataset]:
    return open_classification(str(data), channels, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep_splits)


@pytest.fixture
def images(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "colours"))


def written(images: Path, text: str, name: str = "data.csv", encoding: str = "utf-8") -> Path:
    """A table in the folder of the images."""
    (images / name).write_bytes(text.encode(encoding))
    return images / name


# what is read


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ROWS),
        ("a.CSV", ROWS.replace("\n", "\r\n")),
        ("a.csv", "\ufeff" + ROWS),
        ("a.csv", ROWS.replace(",", ";")),
        ("a.csv", ROWS.replace(",", "\t")),
        ("a.tsv", ROWS.replace(",", "\t")),
        ("a.csv", ROWS.replace("path,label", " Path , LABEL ").replace("\n", "\n\n")),
        ("a.csv", ROWS.replace("path,label", '"file","class"').replace("red/0.png", '"red/0.png"')),
        ("a.csv", "id,target,comment,image\n" + "\n".join(
            f"{i},{row.split(',')[1]},\"a, b\",{row.split(',')[0]}" for i, row in enumerate(ROWS.split()[1:])
        )),
    ],
)  # fmt: skip
def test_texts(name: str, text: str, images: Path) -> None:
    splits = opened(written(images, text, name))
    assert list(splits) == ["all"]
    dataset = splits["all"]
    assert (dataset.classes.names, dataset.classes.ids) == (CLASSES, (0, 1, 2))
    assert dataset.labels == [2, 1, 2, 0]
    assert dataset.source(1) == str(images / "green" / "1.png")
    assert dataset.key(1) == "green/1.png"
    image, label = dataset.read(0)
    assert (image.size, label) == ((40, 36), 2)  # type: ignore[union-attr]
    assert dataset[0][0].shape == (3, 36, 40)


@pytest.mark.parametrize("path", PATH)
@pytest.mark.parametrize("label", [LABEL[0], LABEL[-1]])
def test_names_of_columns(path: str, label: str, images: Path) -> None:
    assert len(opened(written(images, ROWS.replace("path,label", f"{path},{label}")))["all"]) == 4


@pytest.mark.parametrize("column", SPLIT)
@pytest.mark.parametrize(
    "spelled", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "dev", "testing")]
)
def test_splits(column: str, spelled: tuple[str, str, str], images: Path) -> None:
    lines = [f"red/{i}.png,red,{spelled[i % 3]}\nblue/{i}.png,blue,{spelled[i % 3]}\n" for i in range(6)]
    splits = opened(written(images, f"path,label,{column}\n" + "".join(reversed(lines))), keep_splits=False)
    assert list(splits) == ["train", "val", "test"], "train is first, whatever is first in the table"
    assert [len(dataset) for dataset in splits.values()] == [4, 4, 4]
    assert splits["val"].classes == splits["train"].classes
    assert splits["val"].key(0) == "red/4.png"


def test_absolute_paths_and_names_that_are_not_ascii(images: Path) -> None:
    (images / "red" / "0.png").rename(images / "grün, 1.png")
    text = f'path,label\n{images / "red" / "1.png"},röt\n"grün, 1.png",blau\n'
    dataset = opened(written(images, text))["all"]
    assert dataset.classes.names == ("blau", "röt")
    assert [dataset.read(i)[1] for i in range(2)] == [1, 0]


def test_holding_out_finds_the_same_images_whatever_the_order(images: Path) -> None:
    head, *rows = [f"{name}/{i}.png,{name}" for i in (0, 1, 3, 4, 6, 7) for name in ("red", "blue")]
    one = opened(written(images, "\n".join(["path,label", head, *rows])), keep_splits=False)
    two = opened(written(images, "\n".join(["path,label", *reversed(rows), head]), "b.csv"), keep_splits=False)
    assert sorted(map(one["val"].key, range(4))) == sorted(map(two["val"].key, range(4)))
    kept, again = fingerprint(str(images / "data.csv"), one), fingerprint(str(images / "b.csv"), two)
    assert kept["images"] == again["images"]
    assert kept["place"] != again["place"]


# labels


def numbered(images: Path, *labels: object) -> Path:
    rows = [f"red/{i}.png,{label}" for i, label in enumerate(labels)]
    return written(images, "\n".join(["path,label", *rows]))


def test_numbers_make_classes_named_by_number(images: Path) -> None:
    dataset = opened(numbered(images, 10, 2, 10, 7))["all"]
    assert (dataset.classes.names, dataset.classes.ids) == (("2", "7", "10"), (2, 7, 10))
    assert dataset.labels == [2, 0, 2, 1]


def test_whole_numbers_may_have_a_fraction_of_zeros(images: Path) -> None:
    dataset = opened(numbered(images, "1.0", 2, 1, "2.00"))["all"]
    assert (dataset.classes, dataset.labels) == (Classes(("1", "2"), (1, 2)), [0, 1, 0, 1])
    assert opened(numbered(images, "1.0", "0.0"), KNOWN)["all"].labels == [1, 0]
    old = Classes.of(["1.0", "2.0"])
    assert opened(numbered(images, "1.0", "2.0"), old)["all"].labels == [0, 1]


def test_measurements_are_no_classes(images: Path) -> None:
    refuses(numbered(images, *(i / 8 for i in range(40))), "40 different numbers with fractions", "measurements")


@pytest.mark.parametrize("labels", [("01", "2"), ("1", "b"), ("1.5", "2"), ("True", "False"), ("9" * 5000, "1")])
def test_other_labels_are_names(labels: tuple[str, str], images: Path) -> None:
    assert opened(numbered(images, *labels))["all"].classes == Classes.of(sorted(labels))


KNOWN = Classes(("tench", "goldfish", "shark"), (0, 1, 20))


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (("shark", "tench"), KNOWN, [2, 0]),
        ((20, 0), KNOWN, [2, 0]),
        (("2", "10"), Classes(("10", "2"), (0, 1)), [1, 0]),
        ((1, 1), KNOWN, [1, 1]),
        ((5, 0), Classes(("cat", "5"), (5, 0)), [0, 1]),
    ],
)
def test_known_classes_by_name_and_then_by_id(
    labels: tuple[object, ...], classes: Classes, expected: list[int], images: Path
) -> None:
    dataset = opened(numbered(images, *labels), classes)["all"]
    assert dataset.labels == expected
    assert dataset.classes is classes


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (("tench", "cod"), KNOWN, ("line 3", "'cod'", "tench, goldfish, shark")),
        ((0, 3), KNOWN, ("line 3", "'3'")),
        (("tench", "1"), KNOWN, ("line 3", "'1'")),  # names or ids, not both
        ((0, 1), Classes(("3", "1"), (0, 1)), ("line 2", "'0'")),  # names that are numbers are meant as such
        (("red", "red"), None, ("data.csv: has one class only (red)",)),
    ],
)
def test_classes_that_do_not_fit(
    labels: tuple[object, ...], classes: Classes | None, words: tuple[str, ...], images: Path
) -> None:
    refuses(numbered(images, *labels), *words, classes=classes)


def test_a_part_with_a_class_that_training_lacks(images: Path) -> None:
    text = "path,label,split\nred/0.png,red,train\nblue/1.png,blue,train\nred/1.png,crimson,val\n"
    refuses(written(images, text), "line 4", "'crimson'")


# what is wrong


def refuses(data: Path, *words: str, classes: Classes | None = None) -> None:
    with pytest.raises(InputError) as caught:
        opened(data, classes)
    message = str(caught.value)
    assert "\n" not in message
    assert str(data) in message
    assert message.count(str(data)) == 1
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("no column for the path", "path, file", "none")),
        ("\n\n", ("no column for the path", "none")),
        ("path,label\n", ("no rows",)),
        ("red/0.png,red\nred/1.png,red\n", ("no column for the path", "'red/0.png', 'red'", "the first line")),
        ("path,colour\nred/0.png,red\n", ("no column for the label", "'path', 'colour'")),
        (ROWS + "red/1.png,\n", ("line 6", "empty label")),
        (ROWS + " ,red\n", ("line 6", "empty path")),
        (ROWS + "\n\nred/1.png\n", ("line 8", "1 values, but 2 columns")),
        (ROWS + "red/1.png,red,more\n", ("line 6", "3 values")),
        ("path,label,split\nred/0.png,red,train\na,red,tain\n", ("line 3", "unknown split 'tain'", "validation")),
        ("path,label,split\nred/0.png,red,\n", ("line 2", "unknown split ''")),
        ('path,label\n"a\nb.png",red\nred/0.png,\n', ("line 4", "empty label")),
        ("path,label\nred/0.png," + "x" * 140_000, ("line 2", "cannot be read")),
    ],
)  # fmt: skip
def test_bad_texts(text: str, words: tuple[str, ...], images: Path) -> None:
    refuses(written(images, text), *words)


def test_other_encodings_are_named_with_the_line(images: Path) -> None:
    refuses(written(images, ROWS + "red/1.png,röt\n", encoding="latin-1"), "line 6", "not UTF-8")
    refuses(written(images, ROWS, encoding="utf-16"), "line 1", "not UTF-8")


def test_no_table(tmp_path: Path) -> None:
    for name in ("data.csv", "data.parquet"):
        refuses(tmp_path / name, "no such table")


def test_a_missing_or_broken_image_is_named_when_it_is_read(images: Path) -> None:
    (images / "green" / "1.png").unlink()
    (images / "blue" / "3.png").write_text("text")
    dataset = opened(written(images, ROWS))["all"]
    with pytest.raises(InputError, match=r"green/1\.png: no such file \(data\.csv line 3\)$"):
        dataset.read(1)
    with pytest.raises(InputError, match=r"blue/3\.png: not an image"):
        dataset.read(3)


def test_without_a_train_part(images: Path) -> None:
    text = "path,label,split\nred/0.png,red,test\nblue/0.png,blue,test\n"
    with pytest.raises(InputError, match="has no train split, only test"):
        opened(written(images, text), keep_splits=False)


# Parquet


Columns = dict[str, object]


def parquet(images: Path, columns: Columns, metadata: dict[str, str] | None = None) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    content = pyarrow.table(columns).replace_schema_metadata(metadata)
    pq.write_table(content, images / "data.parquet", row_group_size=2)
    return images / "data.parquet"


NAMES = ["red/0.png", "green/1.png", "red/2.jpg", "blue/3.png"]
COLOURS = ["red", "green", "red", "blue"]


def structs(images: Path) -> list[object]:
    return [{"bytes": (images / name).read_bytes(), "path": name} for name in NAMES]


def bare(images: Path) -> list[object]:
    return [(images / name).read_bytes() for name in NAMES]


def linked(images: Path) -> list[object]:
    return [{"bytes": None, "path": name} for name in NAMES]


def paths(_: Path) -> list[object]:
    return list(NAMES)


@pytest.mark.parametrize("column", [paths, structs, bare, linked])
def test_parquet(column: Callable[[Path], list[object]], images: Path) -> None:
    data = parquet(images, {"label": COLOURS, "image": column(images), "size": [1, 2, 3, 4]})
    dataset = opened(data)["all"]
    assert (dataset.classes.names, dataset.labels) == (CLASSES, [2, 1, 2, 0])
    assert dataset.key(1) == ("1" if column is bare else "green/1.png")
    assert dataset.source(1) == (str(images / "green/1.png") if column is paths else f"{data} row 1")
    expected = opened(written(images, ROWS))["all"]
    copied = pickle.loads(pickle.dumps(dataset))  # how a set reaches a worker that is not forked
    for i in range(4):
        assert copied.read(i)[0].tobytes() == expected.read(i)[0].tobytes()  # type: ignore[union-attr]


def test_parquet_with_numbers_and_splits(images: Path) -> None:
    column = ["validation", "train", "train", "train"]
    splits = opened(parquet(images, {"path": NAMES, "label": [5, 9, 5, 9], "split": column}))
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 3, "val": 1}
    assert splits["train"].classes == Classes(("5", "9"), (5, 9))
    assert splits["val"].key(0) == "red/0.png"


def test_names_of_hugging_faces_numbers(images: Path) -> None:
    names = '{"info": {"features": {"label": {"names": ["green", "red", "violet", "blue"], "_type": "ClassLabel"}}}}'
    data = parquet(images, {"image": structs(images), "label": [1, 0, 1, 3]}, {"huggingface": names})
    dataset = opened(data)["all"]
    assert (dataset.classes, dataset.labels) == (Classes.of(["green", "red", "violet", "blue"]), [1, 0, 1, 3])
    known = Classes(("blue", "green", "red"), (7, 8, 9))
    assert opened(data, known)["all"].labels == [2, 1, 2, 0]
    refuses(data, "does not know: blue", classes=Classes.of(["red", "green"]))
    wrong = parquet(images, {"image": structs(images), "label": [1, 0, 4, 3]}, {"huggingface": names})
    refuses(wrong, "row 2", "4")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"path": NAMES, "label": ["red", None, "red", "blue"]}, ("row 1", "empty label")),
        ({"path": NAMES, "label": [1.0, 2.0, float("nan"), 1.0]}, ("row 2", "empty label")),
        ({"path": ["a", "", "c", "d"], "label": COLOURS}, ("row 1", "empty path")),
        ({"path": ["a", "b", None, "d"], "label": COLOURS}, ("row 2", "empty path")),
        ({"path": NAMES, "label": COLOURS, "split": ["train", "x", "val", "val"]}, ("row 1", "unknown split 'x'")),
        ({"path": NAMES, "colour": COLOURS}, ("no column for the label", "'path', 'colour'")),
        ({"path": [], "label": []}, ("no rows",)),
    ],
)
def test_bad_parquet(columns: Columns, words: tuple[str, ...], images: Path) -> None:
    refuses(parquet(images, columns), *words)


def test_images_that_are_not_in_parquet_after_all(images: Path) -> None:
    column = [*structs(images)[:2], {"bytes": None, "path": None}, {"bytes": b"text", "path": "x.png"}]
    dataset = opened(parquet(images, {"image": column, "label": COLOURS}))["all"]
    with pytest.raises(InputError, match=r"data\.parquet row 2: no image"):
        dataset.read(2)
    with pytest.raises(InputError, match=r"data\.parquet row 3: not an image"):
        dataset.read(3)


@pytest.mark.parametrize("content", [b"", b"PAR1 garbage PAR1", b"path,label\n"])
def test_no_parquet(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "data.parquet").write_bytes(content)
    refuses(tmp_path / "data.parquet", "not a Parquet file")


def test_sets_of_a_table_are_tables(images: Path) -> None:
    assert isinstance(opened(written(images, ROWS))["all"], TableDataset)


# from the command line


def test_without_pyarrow_one_line_says_what_to_install(images: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = parquet(images, {"path": NAMES, "label": COLOURS})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    says(run("train", "classify", data, "--out", images / "run", *fast()), 2, "pip install 'fishnet-vision[data]'")


def test_a_bundle_is_measured_on_a_table(bundle: Path, images: Path, run: Run) -> None:
    rows = [f"{name}/{i}.png,{c}" for c, name in enumerate(CLASSES) for i in (0, 1, 3)]
    (images / "red" / "3.png").unlink()
    data = written(images, "\n".join(["path,label", *rows]))
    code, out, err = run("val", bundle, data, "--json", "--workers", 0, "--device", "cpu")
    assert code == 1, "an image is missing"
    assert "red/3.png: no such file (data.csv line 10)" in err
    assert '"images": 8' in out
