"""Image folders, and the splits that are made of them."""

from pathlib import Path

import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.classification.folder import ImageFolder, class_folders, split_folders
from fishnet.data.classification.open import open_classification
from fishnet.errors import InputError
from tests.makers import CLASSES, image, image_folder, split_folder


def opened(data: Path, classes: Classes | None = None) -> dict[str, int]:
    splits = open_classification(str(data), 3, val_fraction=0.25, seed=0, classes=classes)
    return {name: len(dataset) for name, dataset in splits.items()}


def test_classes_are_the_sorted_folders(folder: Path) -> None:
    dataset = ImageFolder(folder)
    assert (dataset.classes.names, dataset.classes.ids) == (CLASSES, (0, 1, 2))
    assert dataset.labels == [0] * 8 + [1] * 8 + [2] * 8
    assert dataset.source(9) == str(folder / "green" / "1.png")
    image, label = dataset.read(9)
    assert (image.mode, image.size, label) == ("RGB", (40, 36), 1)
    assert ImageFolder(folder, 1).read(9)[0].mode == "L"
    tensor, target = dataset[9]
    assert (tensor.shape, target) == ((3, 36, 40), 1)


def test_images_in_folders_below_a_class(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2)
    deep = root / "red" / "more" / "again"
    deep.mkdir(parents=True)
    image("red", 7).save(deep / "z.PNG")
    dataset = ImageFolder(root)
    assert dataset.classes.names == CLASSES
    assert [dataset.labels[i] for i, path in enumerate(dataset.paths) if path.name == "z.PNG"] == [2]
    assert len(dataset) == 7


def test_hidden_folders_and_stray_files_are_no_classes(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2)
    (root / ".cache").mkdir()
    (root / "notes.txt").touch()
    image("red", 1).save(root / "stray.png")
    assert tuple(class_folders(root)) == CLASSES
    assert len(ImageFolder(root)) == 6


def test_expected_classes_give_the_labels(folder: Path) -> None:
    table = Classes(("red", "yellow", "green", "blue"), (4, 3, 2, 1))
    dataset = ImageFolder(folder, classes=table)
    assert dataset.classes is table
    assert [dataset.labels[i] for i in (0, 8, 16)] == [3, 2, 0]


def test_classes_that_are_not_expected_are_named_with_the_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"colours: .*does not know: green \(it knows red, blue\)"):
        ImageFolder(folder, classes=Classes.of(["red", "blue"]))


def test_one_class_is_enough_for_a_model_that_knows_more(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2, ("red",))
    with pytest.raises(InputError, match="one class only"):
        ImageFolder(root)
    assert ImageFolder(root, classes=Classes.of(["blue", "red"])).labels == [1, 1]


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "Valid"])
def test_split_names(train: str, val: str, tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", **{train: 4, val: 2, "test": 1})
    assert split_folders(data) == {"train": data / train, "val": data / val, "test": data / "test"}
    assert opened(data) == {"train": 12, "val": 6, "test": 3}


def test_without_a_val_part_some_training_images_are_held_out(tmp_path: Path) -> None:
    assert opened(split_folder(tmp_path / "a", train=4, test=1)) == {"train": 9, "val": 3, "test": 3}
    assert opened(image_folder(tmp_path / "b", 8)) == {"train": 18, "val": 6}


def test_without_a_train_part_the_folders_are_classes(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", 2, ("red", "green"))
    (data / "red").rename(data / "test")
    (data / "green").rename(data / "val")
    assert split_folders(data) == {}
    assert ImageFolder(data).classes.names == ("test", "val")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 3)
    (root / "red").rename(root / "train")
    assert split_folders(root) == {}
    assert ImageFolder(root).classes.names == ("blue", "green", "train")


def test_a_class_called_train_may_have_folders_inside(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 3)
    (root / "red").rename(root / "steam")
    (root / "train").mkdir()
    (root / "steam").rename(root / "train" / "steam")
    assert split_folders(root) == {}
    assert ImageFolder(root).classes.names == ("blue", "green", "train")


def test_other_folders_beside_the_parts(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=2)
    (data / "annotations").mkdir()
    (data / "annotations" / "all.xml").touch()
    (data / "test").mkdir()
    image("red", 1).save(data / "test" / "0.png")  # a test split without classes, as a competition's
    assert split_folders(data) == {"train": data / "train"}
    image_folder(data / "val", 1)
    image_folder(data / "unlabelled", 1)
    assert split_folders(data) == {"train": data / "train", "val": data / "val"}


def test_two_folders_for_one_part(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=2, val=1, valid=1)
    with pytest.raises(InputError, match="two folders for the same split: val and valid"):
        split_folders(data)


def test_a_part_with_fewer_classes_keeps_the_numbers(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=2)
    image_folder(data / "val", 1, ("red",))
    splits = open_classification(str(data), 3, val_fraction=0.1, seed=0)
    assert list(splits["val"].labels) == [2]
    assert splits["val"].classes == splits["train"].classes


def test_a_part_with_a_class_that_training_lacks(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=2)
    image_folder(data / "val", 1)
    (data / "val" / "red").rename(data / "val" / "crimson")
    with pytest.raises(InputError, match=r"data/val: .*crimson"):
        opened(data)


def test_nothing_left_to_validate_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data: each class has only one image, .* add images"):
        opened(image_folder(tmp_path / "data", 1))


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere", "no such folder .*fashion-mnist"), ("a.png", "is a file"), (".", "no class folders")],
)
def test_no_image_folder(path: str, words: str, tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=words):
        opened(tmp_path / path)
