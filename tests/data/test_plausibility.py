"""What the classes and names of labelled data tell of the whole."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.classification.folder import ImageFolder
from fishnet.data.classification.open import open_classification
from fishnet.data.plausibility import plausibility
from fishnet.errors import InputError
from tests.makers import image_folder, split_folder


class Named(ImageFolder):
    """Labels and names alone."""

    def __init__(self, labels: Sequence[int], names: Sequence[str] = ("a", "b"), start: int = 0) -> None:
        self.classes, self.labels, self.start, self.channels = Classes.of(names), list(labels), start, 3
        self.notes = []

    def __len__(self) -> int:
        return len(self.labels)

    def source(self, index: int) -> str:
        return self.key(index)

    def key(self, index: int) -> str:
        return f"{self.classes.names[self.labels[index]]}/DSC{self.start + index:08d}.png"


@pytest.mark.parametrize(
    ("train", "val", "codes"),
    [
        (Named([0, 1] * 10), Named([0, 1] * 5, start=100), []),
        (Named([0, 1] * 10), Named([0, 1] * 5), ["image-same-name"]),
        (Named([0] * 5 + [1] * 2), Named([0, 1], start=100), ["class-small"]),
        (Named([0] * 100 + [1] * 5), Named([0, 1], start=200), ["class-imbalance"]),
        (Named([0, 1] * 10), Named([0], start=100), ["class-without-val-images"]),
        (Named([0, 1] * 10, ("a b", "A  B")), Named([0, 1], ("a b", "A  B"), start=100), ["class-alike"]),
    ],
)
def test_each_of_them(train: Named, val: Named, codes: list[str]) -> None:
    assert [finding.code for finding in plausibility({"train": train, "val": val})] == codes


def test_nothing_is_wrong_with_the_usual(tmp_path: Path) -> None:
    assert plausibility(open_classification(str(image_folder(tmp_path / "a", 8)), 3, val_fraction=0.25, seed=0)) == []
    assert plausibility({}) == []


# some of the classes


def opened(data: Path, *only: str, classes: Classes | None = None, keep_splits: bool = True) -> dict[str, ImageFolder]:
    return dict(  # type: ignore[arg-type]
        open_classification(
            str(data), 3, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep_splits, only=only
        )
    )


@pytest.mark.parametrize("only", [("red", "blue"), ("red,blue",), ("blue , red",)])
def test_some_of_the_classes(only: tuple[str, ...], tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=4, val=2)
    splits = opened(data, *only)
    assert splits["train"].classes == Classes(("blue", "red"), (0, 2)), "their own ids stay"
    assert list(splits["train"].labels) == [0] * 4 + [1] * 4
    assert splits["train"].read(4)[1] == splits["train"].read_tensor(4)[1] == 1
    assert [len(dataset) for dataset in splits.values()] == [8, 4]
    notes = [finding for finding in plausibility(splits) if finding.code == "class-left-out"]
    assert [(finding.split, finding.count) for finding in notes] == [("train", 4), ("val", 2)]


def test_what_is_held_out_stays_so_with_fewer_classes(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", 8)
    every, some = opened(data, keep_splits=False)["val"], opened(data, "red", "green", keep_splits=False)["val"]
    assert {some.key(i) for i in range(len(some))} < {every.key(i) for i in range(len(every))}


def test_a_models_classes_decide_where_there_are_some(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", 4)
    known = Classes(("violet", "red", "blue"), (4, 5, 6))
    dataset = opened(data, "red", "blue", classes=known)["all"]
    assert dataset.classes == known
    assert list(dataset.labels) == [2] * 4 + [1] * 4
    with pytest.raises(InputError, match="classes: no class 'green'"):
        opened(data, "green", classes=known)
    with pytest.raises(InputError, match="no image in its split 'all' is of the classes violet"):
        opened(data, "violet", classes=known)


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (("rde", "blue"), "classes: no class 'rde': did you mean red"),
        (("red",), "one class only"),
        (("red,violet",), "no class 'violet'"),
    ],
)
def test_names_that_are_no_classes(only: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        opened(image_folder(tmp_path / "data", 2), *only)


def test_a_class_whose_name_has_a_comma() -> None:
    classes = Classes.of(["tench, Tinca tinca", "cat", "dog"])
    assert classes.select(["tench, Tinca tinca", "dog"]).names == ("tench, Tinca tinca", "dog")
    assert classes.select(["cat,dog"]).ids == (1, 2)


def test_a_test_folder_without_class_folders_is_said(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=2, val=1)
    (data / "test").mkdir()
    Image.new("RGB", (8, 8)).save(data / "test" / "0.png")
    splits = open_classification(str(data), 3, val_fraction=0.25, seed=0)
    (said,) = [one for one in plausibility(splits) if one.code == "image-without-split"]
    assert said.message == f"{data}: 1 image beside train, val, in no split: in test (1)"
