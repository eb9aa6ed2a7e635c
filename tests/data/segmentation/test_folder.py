"""Folders of images and masks: layouts, pairs, lists, what masks hold, and what is left out."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.segmentation_makers import COLOURS, KINDS, mask_folder, save_mask, scenes


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


def keys(images: Any) -> list[str]:
    return [images.key(i) for i in range(len(images))]


@pytest.mark.parametrize("form", ["index", "palette", "deep", "colour", "array"])
@pytest.mark.parametrize("layout", ["splits", "inner", "lists", "camvid", "whole"])
def test_layouts_and_forms(layout: str, form: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout=layout, form=form, train=3, val=2)
    splits = opened(data)
    assert list(splits) == (["all"] if layout == "whole" else ["train", "val"])
    expected = scenes("train", 3) + scenes("val", 2)
    read = [dataset.read(i) for dataset in splits.values() for i in range(len(dataset))]
    assert len(read) == len(expected)
    for truth, (image, labels) in zip(expected, read, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(truth.image))
        assert np.array_equal(labels, truth.labels)
    assert all(dataset.classes == Classes.of(KINDS) for dataset in splits.values())
    assert all(dataset.left_out == () for dataset in splits.values())
    assert looks_like_segmentation(str(data))


@pytest.mark.parametrize("layout", ["splits", "inner", "whole"])
def test_masks_without_names_may_be_of_objects(layout: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout=layout, names=None)
    assert not looks_like_segmentation(str(data))
    assert opened(data)


@pytest.mark.parametrize("folders", [("imgs", "annotations"), ("Images", "Labels"), ("pictures", "gt")])
def test_names_of_folders(folders: tuple[str, str], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", train=2)
    for folder, name in zip(("images", "masks"), folders, strict=True):
        (data / folder).rename(data / name)
    assert len(opened(data)["all"]) == 2


@pytest.mark.parametrize("ends", [("", "_mask"), ("", "_L"), ("", "_P"), ("", "_labels"), ("_sat", "_mask")])
@pytest.mark.parametrize("where", ["apart", "beside", "splits"])
def test_ends_of_stems(ends: tuple[str, str], where: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", suffix=ends[1], train=2)
    if ends[0] and where != "apart":
        return  # which of two ends is a mask's is told by their folders alone
    for path in sorted((data / "images").iterdir()):
        path.rename(path.with_stem(path.stem + ends[0]))
    if where != "apart":
        folder = data / "train" if where == "splits" else data
        folder.mkdir(exist_ok=True)
        for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
            path.rename(folder / path.name)
        (data / "images").rmdir()
        (data / "masks").rmdir()
    images = opened(data)["train" if where == "splits" else "all"]
    assert keys(images) == [f"train_{i:03d}{ends[0]}.png" for i in range(2)]
    assert all(np.array_equal(images.label_map(i), truth.labels) for i, truth in enumerate(scenes("train", 2)))
    assert images.left_out == ()


def test_folders_below(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", train=3)
    for folder in ("images", "masks"):
        (data / folder / "deep").mkdir()
        (data / folder / "train_001.png").rename(data / folder / "deep" / "train_000.png")
    dataset = opened(data)["all"]
    assert keys(dataset) == ["deep/train_000.png", "train_000.png", "train_002.png"]
    assert np.array_equal(dataset.label_map(0), scenes("train", 2)[1].labels)


def test_a_classes_file_in_the_split(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    (data / "classes.txt").unlink()
    (data / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, ground\n2, leaf\n1, berry\n")
    assert opened(data)["val"].classes == Classes(("ground", "leaf", "berry"), (0, 2, 1))
    assert np.array_equal(opened(data)["val"].label_map(0), np.array([0, 2, 1])[scenes("val", 1)[0].labels])


# What lists say


@pytest.mark.parametrize("form", ["{}", "{}.png", "images/{}.png masks/{}.png", "/elsewhere/images/{}.png"])
def test_rows_of_lists(form: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="lists", train=4, val=1)
    (data / "train.txt").write_text("\n".join(form.replace("{}", f"train_{i:03d}") for i in (2, 0)) + "\n\n")
    splits = opened(data)
    assert keys(splits["train"]) == ["train_002.png", "train_000.png"]
    assert splits["train"].named_in(1) == f"{data}/train.txt line 2"


def test_lists_of_some_splits(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="lists", train=4, val=2)
    (data / "train.txt").rename(data / "trainval.txt")
    (data / "trainval.txt").write_text((data / "trainval.txt").read_text() + "val_001\n")
    assert {split: len(dataset) for split, dataset in opened(data).items()} == {"train": 4, "val": 2}
    (data / "trainval.txt").unlink()
    (data / "val.txt").rename(data / "valid.txt")
    splits = opened(data)  # what is in no list is trained on
    assert keys(splits["train"]) == [f"train_{i:03d}.png" for i in range(4)]
    assert keys(splits["val"]) == ["val_000.png", "val_001.png"]
    (data / "dev.txt").write_text("val_000")
    with pytest.raises(InputError, match=r"two lists of one split: dev\.txt and valid\.txt: remove one"):
        opened(data)


@pytest.mark.parametrize("row", ["a/1", "a/1.png"])
def test_what_is_in_no_list_is_trained_on_whatever_its_name(row: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", train=2)
    for folder in ("images", "masks"):
        for i, below in enumerate("ab"):
            (data / folder / below).mkdir()
            (data / folder / f"train_00{i}.png").rename(data / folder / below / "1.png")
    (data / "val.txt").write_text(row)
    assert {split: keys(dataset) for split, dataset in opened(data).items()} == {
        "train": ["b/1.png"],
        "val": ["a/1.png"],
    }


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("images", r"train\.txt line 2: no such image in .*images: train_001"),
        ("masks", r"train\.txt line 2: .*train_001\.png has no mask in .*masks"),
    ],
)
def test_listed_but_not_there(folder: str, words: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="lists", train=3, val=1)
    (data / folder / "train_001.png").unlink()
    with pytest.raises(InputError, match=words):
        opened(data)
    with collecting() as collector:
        assert keys(opened(data)["train"]) == ["train_000.png", "train_002.png"]
    assert len(collector.findings) == 1


@pytest.mark.parametrize("layout", ["lists", "splits"])
def test_a_test_split_without_masks_is_left_out(layout: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout=layout, train=2, val=1, test=2)
    masks = sorted((data / "masks").glob("test*") if layout == "lists" else (data / "test" / "masks").iterdir())
    for path in masks:
        path.unlink()
    splits = opened(data)
    assert list(splits) == ["train", "val"]
    assert [(note.code, note.split, note.count) for note in splits["train"].notes] == [("file-unpaired", "test", 2)]
    with collecting():
        assert len(opened(data)["test"].left_out) == 2


# What is left out, and faults


def test_left_out(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=4, val=1)
    (data / "train" / "images" / "001.png").unlink()
    (data / "train" / "masks" / "002.png").unlink()
    train = opened(data)["train"]
    assert keys(train) == ["000.png", "003.png"]
    assert train.left_out == (
        f"{data}/train/images/002.png: has no mask in {data}/train/masks",
        f"{data}/train/masks/001.png: has no image in {data}/train/images",
    )


def test_no_pairs(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", train=2)
    for path in list((data / "masks").iterdir()):
        path.rename(path.with_stem(f"other{path.stem}"))
    with pytest.raises(InputError, match=r"images: no image has a mask of its name in .*masks \(such as train_000\)"):
        opened(data)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2)
    mask = data / "train" / "masks" / "000.tif"
    Image.new("L", (96, 80)).save(mask)
    with pytest.raises(InputError, match=r"masks/000\.tif: has the same name as 000\.png: rename one"):
        opened(data)
    with collecting() as collector:
        assert np.array_equal(opened(data)["train"].label_map(0), scenes("train", 1)[0].labels)
    assert len(collector.findings) == 1


def test_sizes_that_differ(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2)
    save_mask(data / "train" / "masks" / "000.png", np.zeros((40, 50)), "index")
    train = opened(data)["train"]
    words = r"images/000\.png: is 96x80 px, but its mask 50x40 \(.*masks/000\.png\): they must have the same size"
    for read in (train.read, train.read_tensor):
        with pytest.raises(InputError, match=words):
            read(0)


def test_no_images_in_a_split(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2, val=0)
    with pytest.raises(InputError, match=r"data: no image with a mask in its split 'val'$"):
        opened(data)
    save_mask(data / "val" / "images" / "1.png", np.zeros((4, 4)), "index")
    with pytest.raises(InputError, match=r"its split 'val' \(.*images/1\.png: has no mask in .*val/masks\)$"):
        opened(data)


def missing(data: Path, folder: str, split: str, form: str) -> str:
    """Does away with a split's folder of images or of masks; its name, from the data on."""
    names = {"splits": f"{split}/{folder}", "inner": f"{folder}/{split}", "camvid": f"{split}_labels", "beside": split}
    if form == "beside":
        for path in (data / split).glob("*_mask.png"):
            path.unlink()
    elif form == "misspelt":
        (data / folder / split).rename(data / folder / f"{split}l")
    else:
        shutil.rmtree(data / names[form])
    return names.get(form, names["inner"])


def laid_out(data: Path, form: str) -> Path:
    if form != "beside":
        return mask_folder(data, layout="inner" if form == "misspelt" else form, train=2, val=2, test=2)
    mask_folder(data, suffix="_mask", train=2, val=2, test=2)
    for path in [*data.glob("*/images/*"), *data.glob("*/masks/*")]:
        path.rename(path.parents[1] / path.name)
    for path in [*data.glob("*/images"), *data.glob("*/masks")]:
        path.rmdir()
    return data


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("form", ["splits", "inner", "misspelt", "camvid", "beside"])
def test_no_folder_of_masks_in_a_split(form: str, split: str, tmp_path: Path) -> None:
    data = laid_out(tmp_path / "data", form)
    name = missing(data, "masks", split, form)
    with pytest.raises(InputError, match=rf"000\.png.*{name}|{name}: no image has a mask of its name"):
        opened(data)
    with collecting():
        splits = opened(data)
    assert {split: (len(dataset), len(dataset.left_out)) for split, dataset in splits.items()} == {
        "train": (2, 0), "val": (2, 0), "test": (2, 0), split: (0, 2),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["splits", "inner"])
def test_no_folder_of_images_in_a_split(form: str, tmp_path: Path) -> None:
    data = laid_out(tmp_path / "data", form)
    name = missing(data, "images", "val", form)
    with pytest.raises(InputError, match=rf"no image with a mask in its split 'val' \(.*: has no image in .*{name}"):
        opened(data)
    with collecting():
        assert len(opened(data)["val"].left_out) == 2


@pytest.mark.parametrize("form", ["splits", "inner", "misspelt", "camvid", "beside"])
def test_no_folder_of_masks_in_the_test_split(form: str, tmp_path: Path) -> None:
    data = laid_out(tmp_path / "data", form)
    missing(data, "masks", "test", form)
    assert list(opened(data)) == ["train", "val"]


# What masks hold


def overwrite(path: Path, value: int, count: int) -> None:
    labels = np.array(Image.open(path))
    labels.reshape(-1)[:count] = value
    save_mask(path, labels, "index")


def test_255_is_ignored(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    overwrite(data / "train" / "masks" / "000.png", 255, 500)
    labels = opened(data)["train"].label_map(0)
    assert np.array_equal(labels == 255, np.arange(labels.size).reshape(labels.shape) < 500)


def test_ids_without_a_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    mask = data / "train" / "masks" / "000.png"
    overwrite(mask, 200, 340)
    overwrite(mask, 12, 40)
    train = opened(data)["train"]
    with pytest.raises(InputError) as error:
        train.label_map(0)
    assert str(error.value) == (
        f"{mask}: ids without a name: 200 (300 px), 12 (40 px): add them to {data}/classes.txt, or set ignore to 12 200"
    )
    assert (opened(data, ignore=[12, 200])["train"].label_map(0).reshape(-1)[:340] == 255).all()
    assert train.label_map(1).max() < 3


def test_many_ids_without_a_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    save_mask(data / "train" / "masks" / "000.png", np.tile(np.repeat(np.arange(48), 2), (80, 1)), "index")
    words = r"ids without a name: (\d+ \(160 px\), ){4}\d+ \(160 px\) and 40 more: looks like an anti-aliased mask"
    with pytest.raises(InputError, match=words):
        opened(data)["train"].label_map(0)


def test_colours_without_a_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", form="colour")
    mask = data / "train" / "masks" / "000.png"
    image = np.array(Image.open(mask))
    image[0, :7] = (12, 0, 7)
    Image.fromarray(image).save(mask)
    with pytest.raises(
        InputError, match=r"000\.png: colours without a name: \(12, 0, 7\) \(7 px\): add them to .*txt$"
    ):
        opened(data)["train"].label_map(0)


@pytest.mark.parametrize("form", ["index", "palette", "colour"])
@pytest.mark.parametrize("options", [{"void": ["berry"]}, {"ignore": [1]}])
def test_void_and_ignored_classes(form: str, options: dict[str, Any], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", form=form)
    for split, dataset in opened(data, **options).items():
        assert dataset.classes == Classes(("ground", "leaf"), (0, 2))
        for i, truth in enumerate(scenes(split, len(dataset))):
            assert np.array_equal(dataset.label_map(i), np.array([0, 255, 1])[truth.labels])


@pytest.mark.parametrize("ids", [(3, 5, 200), (1000, 300, 7)])
def test_classes_are_named_by_the_ids_of_the_train_split(ids: Sequence[int], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=ids, form="deep" if max(ids) > 255 else "index")
    splits = opened(data)
    assert splits["val"].classes == Classes(tuple(str(id_) for id_ in sorted(ids)), tuple(sorted(ids)))
    order = np.argsort(np.argsort(ids))
    assert np.array_equal(splits["val"].label_map(0), order[scenes("val", 1)[0].labels])
    path = data / "val" / "masks" / "000.png"
    save_mask(path, np.full((80, 96), 9), "index")
    words = rf"ids without a name: 9 \(7,680 px\): add them to {data}/classes\.txt \(create it to name all classes\)"
    with pytest.raises(InputError, match=words):
        opened(data)["val"].label_map(0)


def test_ids_beyond_what_can_be_told_apart(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, train=1, val=1)
    save_mask(data / "train" / "masks" / "000.png", np.arange(7680).reshape(80, 96), "deep")
    with pytest.raises(
        InputError, match=r"000\.png: holds more than 4,096 different numbers: not a mask of classes"
    ):  # 255 is none
        opened(data)


def test_one_class(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(4, 4, 4))
    with pytest.raises(InputError, match=r"has one class only \(4\): segmentation needs two or more"):
        opened(data)


def test_colours_but_no_classes_file(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, form="colour")
    with pytest.raises(InputError, match=r"000\.png: holds colours without names: name them in a classes"):
        opened(data)


@pytest.mark.parametrize("names", [None, ("ground", "plant")])
@pytest.mark.parametrize("form", ["index", "one bit", "rgb"])
def test_masks_of_0_and_255(names: tuple[str, str] | None, form: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 255, 255))
    if names:
        (data / "classes.txt").write_text("\n".join(names))
    for path in sorted(data.rglob("masks/*.png")):
        Image.open(path).convert({"index": "L", "one bit": "1", "rgb": "RGB"}[form]).save(path)
    splits = opened(data)
    assert splits["train"].classes == Classes(names or ("background", "foreground"), (0, 255))
    for split, dataset in splits.items():
        for i, truth in enumerate(scenes(split, len(dataset))):
            assert np.array_equal(dataset.label_map(i), truth.labels > 0)


def halved(data: Path, split: str, value: int) -> Path:
    """Masks of 0 and 255 with a file of two names; those of one split have one number alone."""
    mask_folder(data, names=None, ids=(0, 255, 255), train=2, val=2)
    (data / "classes.txt").write_text("ground\nplant\n")
    for path in (data / split / "masks").iterdir():
        save_mask(path, np.full((80, 96), value), "index")
    return data


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("known", [False, True])
def test_masks_of_0_and_255_of_which_a_split_has_one(known: bool, value: int, tmp_path: Path) -> None:
    data, classes = halved(tmp_path / "data", "train", value), Classes(("ground", "plant"), (0, 255))
    splits = opened(data, classes=classes if known else None)
    assert splits["train"].classes == classes
    assert np.array_equal(splits["val"].label_map(0), scenes("val", 1)[0].labels > 0)
    assert (splits["train"].label_map(0) == value // 255).all()


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("names", [None, ("ground", "plant")])
def test_what_has_one_of_0_and_255_to_a_model_of_both(
    names: tuple[str, str] | None, value: int, tmp_path: Path
) -> None:
    data = halved(tmp_path / "data", "train", value)
    for path in (data / "val" / "masks").iterdir():
        save_mask(path, np.full((80, 96), value), "index")
    if names is None:
        (data / "classes.txt").unlink()
    val = opened(data, classes=Classes(("ground", "plant"), (0, 255)))["val"]
    assert (val.label_map(0) == value // 255).all()


def test_masks_of_0_and_1_to_a_model_of_0_and_255(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 1, 1))
    (data / "classes.txt").write_text("ground\nplant\n")
    val = opened(data, classes=Classes(("ground", "plant"), (0, 255)))["val"]
    assert np.array_equal(val.label_map(0), scenes("val", 1)[0].labels > 0)


def test_0_1_and_255_is_not_that(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 1, 255))
    (data / "classes.txt").write_text("ground\nplant\n")
    with pytest.raises(InputError, match=r"255 may be a class .* it borders only 0: set ignore to 255"):
        opened(data)
    dataset = opened(data, ignore=[255])["train"]
    assert dataset.classes == Classes.of(["ground", "plant"])
    assert np.array_equal(dataset.label_map(0), np.array([0, 1, 255])[scenes("train", 1)[0].labels])


def test_numbers_count_where_ids_are_stated_beside_colours(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", form="palette", ids=(5, 6, 7))
    rows = [f"{5 + i},{','.join(map(str, COLOURS[2 - i]))},{name}" for i, name in enumerate(KINDS)]
    (data / "classes.txt").write_text("\n".join(["id,r,g,b,name", *rows]))
    assert opened(data)["val"].classes.ids == (5, 6, 7)
    assert np.array_equal(opened(data)["val"].label_map(0), scenes("val", 1)[0].labels)


# What a model knows


@pytest.mark.parametrize("form", ["index", "colour"])
def test_known_classes_by_name(form: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", form=form)
    known = Classes(("leaf", "moss", "berry", "ground"), (4, 5, 6, 7))
    dataset = opened(data, classes=known)["val"]
    assert dataset.classes == known
    assert np.array_equal(dataset.label_map(0), np.array([3, 2, 0])[scenes("val", 1)[0].labels])
    with pytest.raises(InputError, match=r"classes\.txt: .*does not know: leaf \(it knows ground, berry\)"):
        opened(data, classes=Classes.of(["ground", "berry"]))


@pytest.mark.parametrize("names", [("3", "5", "7"), KINDS])
def test_known_classes_by_id_where_none_is_named(names: tuple[str, ...], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(7, 3, 5))
    known = Classes(names, (3, 5, 7))
    dataset = opened(data, classes=known)["val"]
    assert dataset.classes == known
    assert np.array_equal(dataset.label_map(0), np.array([2, 0, 1])[scenes("val", 1)[0].labels])


def test_void_ids_to_a_model_that_learnt_without_them(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 2, 3))
    trained = opened(data, void=["2"])["train"].classes
    assert trained == Classes(("0", "3"), (0, 3))
    val = opened(data, void=["2"], classes=trained)["val"]
    for i, truth in enumerate(scenes("val", 3)):
        assert np.array_equal(val.label_map(i), np.array([0, 255, 1])[truth.labels])


def test_frequencies(tmp_path: Path) -> None:
    train = opened(mask_folder(tmp_path / "data", train=6))["train"]
    labels = np.stack([truth.labels for truth in scenes("train", 6)])
    counts, totals = train.frequencies()
    assert counts.tolist() == np.bincount(labels.ravel(), minlength=3).tolist()
    assert totals.tolist() == [sum(one.size for one in labels if (one == kind).any()) for kind in range(3)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: (data / "train" / "masks").rename(data / "train" / "things"),
        lambda data: [path.unlink() for path in data.rglob("masks/*.png")],
        lambda data: [path.rename(path.with_suffix(".txt")) for path in data.rglob("masks/*.png")],
    ],
)
def test_nothing_of_the_kind(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2)
    spoil(data)
    with pytest.raises(InputError, match="data: holds no masks of a known format: "):
        opened(data)
