"""Several labels per image: what tables and objects say, what is unknown, and which images are held out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.classification.multilabel import MultiLabelDataset, hold_out_multi_label
from fishnet.data.classification.multilabel_open import open_multi_label
from fishnet.data.loading import collate
from fishnet.data.quick import quick_findings
from fishnet.errors import InputError
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.makers import label_table

COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images and ``labels.csv``. Not to be changed by a test, which may add further tables."""
    return label_table(tmp_path_factory.mktemp("data") / "colours")


def opened(data: Path | str, classes: Classes | None = None, **options: object) -> dict[str, MultiLabelDataset]:
    keep = bool(options.pop("keep_splits", True))
    return open_multi_label(str(data), 3, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep, **options)  # type: ignore[arg-type]


def written(table: Path, text: str, name: str) -> Path:
    path = table.with_name(name)
    path.write_text(text)
    return path


def rows(dataset: MultiLabelDataset) -> dict[str, list[str]]:
    """The labels of each image by its key; those that are unknown with a question mark."""
    return {
        dataset.key(i): [
            f"{name}?" if value < 0 else name
            for name, value in zip(dataset.classes.names, dataset.matrix[i].tolist(), strict=True)
            if value
        ]
        for i in range(len(dataset))
    }


FIRST = {"images/00.png": [], "images/01.png": ["red"], "images/03.png": ["green", "red"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,labels\nimages/00.png,\nimages/01.png,red\nimages/03.png,green;red;\n"),
        ("a.csv", "path,label\nimages/00.png,\nimages/01.png,red\nimages/03.png, red | green\n"),
        ("a.csv", 'path,labels\nimages/00.png,\nimages/01.png,red\nimages/03.png,"green,red,red"\n'),
        ("a.tsv", 'path\tlabels\nimages/00.png\t[]\nimages/01.png\t["red"]\nimages/03.png\t["red", "green"]\n'),
        ("a.csv", "labels,label,path\n,x,images/00.png\nred,y,images/01.png\ngreen;red,z,images/03.png\n"),
        ("a.csv", "path,labels\nimages/00.png,\nimages/01.png,red\nimages/03.png,red\nimages/03.png,green\n"),
        ("a.csv", "path,green,red\nimages/00.png,0,0\nimages/01.png,0,1\nimages/03.png,1,1\n"),
        ("a.csv", "red,path,note,green,\n0.0,images/00.png,x,false,7\n1,images/01.png,,0,8\n1,images/03.png,,1,9\n"),
    ],
)  # fmt: skip
def test_the_ways_to_write_labels(table: Path, name: str, text: str) -> None:
    dataset = opened(written(table, text, name))["all"]
    assert {key: sorted(labels) for key, labels in rows(dataset).items()} == FIRST
    assert set(dataset.classes.names) == {"green", "red"}
    image, target = dataset.read(0)
    assert image.size == (40, 36)
    assert (target.dtype, target.tolist()) == (torch.int8, [0, 0])


def test_names_may_contain_the_weaker_separators(table: Path) -> None:
    text = 'path,labels\nimages/00.png,"tench, Tinca tinca;cod"\nimages/01.png,cod\n'
    assert opened(written(table, text, "commas.csv"))["all"].classes.names == ("cod", "tench, Tinca tinca")


def test_lists_of_parquet(table: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"path": [f"images/0{i}.png" for i in (0, 1, 3)], "labels": [[], ["red"], ["red", "green"]]}
    parquet.write_table(pyarrow.table(columns), table.with_name("lists.parquet"))
    assert rows(opened(table.with_name("lists.parquet"))["all"]) == FIRST
    flags = {"path": columns["path"], "green": [False, False, True], "red": [0, 1, 1], "blue": [None, 0.0, 1.0]}
    parquet.write_table(pyarrow.table(flags), table.with_name("flags.parquet"))
    assert [labels[-1:] for labels in rows(opened(table.with_name("flags.parquet"))["all"]).values()] == [
        ["blue?"], ["red"], ["blue"]
    ]  # fmt: skip


def test_blank_cells_of_columns_are_unknown_and_counted(table: Path) -> None:
    text = "path,green,red,age\nimages/00.png,,0,3\nimages/01.png,-1,1,4\nimages/03.png,1,,5\nimages/02.png,0,nan,6\n"
    splits = opened(written(table, text, "unknown.csv"))
    assert rows(splits["all"]) == {
        "images/00.png": ["green?"], "images/01.png": ["green?", "red"], "images/03.png": ["green", "red?"],
        "images/02.png": ["red?"],
    }  # fmt: skip
    messages = {finding.code: finding.message for finding in quick_findings(splits)}
    assert "all: 4 labels are unknown" in messages["label-unknown"]
    assert "green (2), red (2)" in messages["label-unknown"]
    assert messages["column-unread"].endswith("age")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,labels\na.png,x;y\nb.png,x|y\n", ("line 2", "separated by ;", "line 3 by |")),
        ("path,labels\na.png,\"['x', 'y']\"\n", ("line 2", "is not a list of labels", '["cat", "dog"]')),
        ("path,labels\na.png,[x;y]\n", ("line 2", "is not a list of labels")),
        ("path,labels\na.png,haze water\nb.png,haze\nc.png,water\n", ("'haze water' looks like several labels",)),
        ("path,labels\na.png,\nb.png,\n", ("no image has a label",)),
        ("path,x,y\na.png,1,0\nb.png,1,2\n", ("line 3", "'2' in the column 'y'", "0, 1, or blank")),
        ("path,x,x\na.png,1,0\n", ("2 columns are called 'x'",)),
        ("path,age\na.png,7\n", ("no column of labels, and no column of 0 and 1", "path, age")),
        ("path,x,y\nimages/00.png,1,0\nimages/00.png,0,0\n", ("line 3", "in line 2 too", "another value of 'x'")),
        ("labels\nx\n", ("no column for the path",)),
        ("path,labels\n", ("no rows",)),
    ],
)
def test_bad_tables(table: Path, text: str, words: tuple[str, ...]) -> None:
    text = text.replace("a.png", "images/00.png").replace("b.png", "images/01.png").replace("c.png", "images/02.png")
    with pytest.raises(InputError) as error:
        opened(written(table, text, "bad.csv"))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def coco(table: Path, folder: Path, categories: tuple[str, ...] = ("red", "green", "blue", "grey")) -> Path:
    """The table's images and labels as COCO, whose categories have the ids 7, 6, 5 ..."""
    labels = rows(opened(table)["all"])
    ids = {name: 7 - i for i, name in enumerate(categories)}
    content = {
        "images": [{"id": i, "file_name": Path(key).name} for i, key in enumerate(labels)],
        "categories": [{"id": id_, "name": name} for name, id_ in ids.items()],
        "annotations": [
            {"image_id": i, "category_id": ids[name], "bbox": [1, 1, 9, 9], "iscrowd": crowd}
            for i, names in enumerate(labels.values())
            for name in names
            for crowd in (0, 1)
        ],
    }
    folder.mkdir()
    (folder / "images").symlink_to(table.parent / "images")
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def test_the_classes_of_objects(table: Path, tmp_path: Path) -> None:
    expected = opened(table)["all"]
    dataset = opened(coco(table, tmp_path / "coco"))["all"]
    assert (dataset.classes.names, dataset.classes.ids) == (("grey", "blue", "green", "red"), (4, 5, 6, 7))
    assert np.array_equal(dataset.matrix[:, 1:], expected.matrix)
    assert not dataset.matrix[:, 0].any(), "no image has the first category, which is annotated"


def test_the_classes_of_a_model(table: Path, tmp_path: Path) -> None:
    model = Classes(("red", "fish", "blue", "green"), (3, 9, 1, 2))
    names = opened(table, model)["all"]
    assert names.classes == model
    assert names.unknown.tolist() == [0, 0, 0, 0], "a name that is in no cell is no label of any image"
    objects = opened(coco(table, tmp_path / "coco", ("red", "green", "blue")), model)["all"]
    assert objects.unknown.tolist() == [0, 24, 0, 0], "a category that the file lacks is not annotated"
    assert np.array_equal(objects.matrix[:, [0, 2, 3]], names.matrix[:, [0, 2, 3]])
    with pytest.raises(InputError, match="red"):
        opened(table, Classes.of(["blue", "green"]))


def test_some_of_the_classes(table: Path) -> None:
    dataset = opened(table, only=("red", "blue"))["all"]
    whole = opened(table)["all"]
    assert dataset.classes.names == ("blue", "red")
    assert np.array_equal(dataset.matrix, whole.matrix[:, [0, 2]])
    assert len(dataset) == len(whole), "images without any of them are negatives"
    assert "class-left-out" in [finding.code for finding in dataset.notes]


class Named:
    """Images that cannot be read, of which only the names matter."""

    def encoded(self, index: int) -> bytes:
        raise InputError("no image")

    def source(self, index: int) -> str:
        return self.key(index)

    def key(self, index: int) -> str:
        return f"{index}.png"


def dataset_of(matrix: NDArray[np.int8]) -> MultiLabelDataset:
    return MultiLabelDataset(Named(), matrix, Classes.of([str(i) for i in range(matrix.shape[1])]), 3)


@pytest.mark.parametrize("seed", range(5))
def test_held_out_images_have_every_label(seed: int) -> None:
    """Labels of one image each to half of the images: of each that has two images or more, some are on both sides."""
    random = np.random.default_rng(seed)
    matrix = (random.random((200, 12)) < np.linspace(0.01, 0.5, 12)).astype(np.int8)
    matrix[:2, 0] = 1
    dataset = dataset_of(matrix)
    rest, held = hold_out_multi_label(dataset, 0.1, seed)

    keys = [part.key(i) for part in (rest, held) for i in range(len(part))]
    assert sorted(keys) == sorted(dataset.key(i) for i in range(200)), "each image is on one side"
    several = dataset.positives > 1
    assert (rest.positives[several] > 0).all()
    assert (held.positives[several] > 0).all()
    assert 20 <= len(held) <= 20 + 12, "a tenth, and at most one more for each label"
    again = hold_out_multi_label(dataset, 0.1, seed)[1]
    assert [again.key(i) for i in range(len(again))] == [held.key(i) for i in range(len(held))]


def test_labels_that_cannot_be_on_both_sides_are_reported() -> None:
    """Two images with both labels each: one of them is on each side. One image stays where it is."""
    rest, held = hold_out_multi_label(dataset_of(np.array([[1, 1, 0], [1, 1, 1]], np.int8)), 0.5, 0)
    assert (len(rest), len(held)) == (1, 1)
    matrix = np.zeros((20, 2), np.int8)
    matrix[:10, 0] = 1
    matrix[3, 1] = 1
    rest, held = hold_out_multi_label(dataset_of(matrix), 0.2, 0)
    assert rest.positives[1] + held.positives[1] == 1
    rest.matrix[:, 1], held.matrix[:, 1] = 1, 0
    codes = [finding.code for finding in quick_findings({"train": rest, "val": held})]
    assert "class-without-val-images" in codes
    assert len(hold_out_multi_label(dataset_of(matrix[:1]), 0.5, 0)[1]) == 0, "never all"


def test_a_batch_stacks_the_targets(table: Path) -> None:
    dataset = opened(table)["all"]
    batch = collate([(torch.zeros(3, 4, 4), dataset.target(i), i) for i in (1, 3)])
    assert batch.targets.dtype == torch.int8
    assert batch.targets.tolist() == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("data", "words"),
    [("images", ("has no labels for multi_label", "columns of 0 and 1")), ("none", ("no such file",))],
)
def test_other_data(table: Path, data: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        opened(table.parent / data)
    assert all(word in str(error.value) for word in words), str(error.value)


# the command line


def test_check_counts_labels(table: Path, run: Run) -> None:
    code, out, _ = run("data", "check", table, "--multi-label", "--quiet")
    assert code == 0
    assert "no label" in out.splitlines()[2]
    assert [line.split() for line in out.splitlines() if line.startswith(COLOURS)] == [[name, "12"] for name in COLOURS]
    assert "the labels are separated at ';'" in out
    assert "image-all-negative (3)" in out
    code, out, _ = run("data", "check", table, "--multi-label", "--json", "--quiet")
    split = json.loads(out)["splits"]["all"]
    assert (split["without_label"], split["per_class"]["red"], split["unknown"]["red"]) == (3, 12, 0)


def test_check_and_show_of_the_wrong_task(table: Path, tmp_path: Path, run: Run) -> None:
    says(run("data", "check", table, "--multi-label", "--task", "detect"), 2, "--multi-label is for --task classify")
    sheet = tmp_path / "sheet.png"
    code, _, err = run("data", "show", table, "--multi-label", "--out", sheet, "--size", 32, "--count", 4)
    assert (code, sheet.is_file()) == (0, True), err
    says(run("data", "check", table), 2, "empty label")
