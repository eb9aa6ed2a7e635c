"""What the numbers in masks mean: what 255 is, grey levels, black and white, anti-aliased masks, thresholds."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.segmentation.open import open_segmentation
from fishnet.errors import InputError
from tests.segmentation_makers import mask_folder, save_mask, scenes, voc_folder

Labels = NDArray[np.uint8]


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


def written(
    root: Path, change: Callable[[Labels], NDArray[Any]], names: str = "", splits: tuple[str, ...] = ("train", "val")
) -> Path:
    """Images and masks of three kinds; the masks of some splits hold what ``change`` makes of them."""
    data = mask_folder(root, names=None)
    for split in splits:
        for path in sorted((data / split / "masks").iterdir()):
            save_mask(path, change(np.array(Image.open(path))), "index")
    if names:
        (data / "classes.txt").write_text(names)
    return data


def as_ids(*ids: int) -> Callable[[Labels], NDArray[Any]]:
    return lambda labels: np.asarray(ids)[labels]


def outlined(labels: Labels) -> NDArray[Any]:
    """VOC's way: 255 wherever two kinds meet."""
    edges = np.zeros(labels.shape, bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return np.where(edges, 255, labels)


def smooth(labels: Labels) -> NDArray[Any]:
    """A black and white mask that was drawn at four times its size and made smaller."""
    image = Image.fromarray((255 * (labels > 0)).astype(np.uint8))
    large = image.resize((image.width * 4, image.height * 4), Image.Resampling.NEAREST).rotate(
        7, Image.Resampling.BICUBIC
    )
    return np.asarray(large.resize(image.size, Image.Resampling.LANCZOS))


# What 255 is


@pytest.mark.parametrize("names", ["", "id,name\n0,background\n1,crack\n", "background\ncrack\n"])
def test_0_and_255_alone_are_two_classes(names: str, tmp_path: Path) -> None:
    data = written(tmp_path / "data", as_ids(0, 255, 255), names)
    splits = opened(data)
    expected = ("background", "crack") if names else ("background", "foreground")
    assert splits["train"].classes.names == expected
    for split, dataset in splits.items():
        for i, truth in enumerate(scenes(split, len(dataset))):
            assert np.array_equal(dataset.label_map(i), truth.labels > 0)
    assert splits["val"].conclusions == (f"masks hold only 0 and 255: 0 is 'background', 255 is {expected[1]!r}",)


def test_stated_ids_stay_what_outputs_have(tmp_path: Path) -> None:
    data = written(tmp_path / "data", as_ids(0, 255, 255), "id,name\n0,background\n1,crack\n")
    assert opened(data)["train"].classes.ids == (0, 1)


def test_masks_of_0_and_255_where_others_have_0_and_1(tmp_path: Path) -> None:
    """Of a val split: 255 is no longer ignored, which measured the background alone; of other data it is the second."""
    data = written(tmp_path / "data", as_ids(0, 1, 1))
    written(tmp_path / "data", as_ids(0, 255, 255), splits=("val",))
    for path in (data / "train" / "masks").iterdir():
        save_mask(path, np.minimum(np.array(Image.open(path)), 1), "index")
    splits = opened(data)
    assert splits["train"].classes == Classes(("0", "1"), (0, 1))
    with pytest.raises(InputError, match=r"val/masks/000\.png: ids without a name: 255 "):
        splits["val"].label_map(0)
    other = written(tmp_path / "other", as_ids(0, 255, 255))
    val = opened(other, classes=Classes(("ground", "plant"), (0, 1)), ignore=["none"])["val"]
    assert np.array_equal(val.label_map(0), scenes("val", 1)[0].labels > 0)
    with pytest.raises(
        InputError,
        match="training ignored 255: only 'ground' would be measured: set ignore to none if 255 is 'plant'",
    ):
        opened(other, classes=Classes(("ground", "plant"), (0, 1)), ignore=[255])


def test_an_outline_is_ignored(tmp_path: Path) -> None:
    splits = opened(written(tmp_path / "data", outlined))
    assert splits["train"].classes == Classes(("0", "1", "2"), (0, 1, 2))
    labels = splits["train"].label_map(0)
    assert np.array_equal(labels, outlined(scenes("train", 1)[0].labels))
    assert splits["train"].conclusions == ("255 is ignored: it has no name, and borders 3 of the other ids",)


@pytest.mark.parametrize("ids", [(0, 127, 255), (0, 128, 255), (0, 85, 255)])
@pytest.mark.parametrize("names", [False, True])
def test_grey_levels(ids: tuple[int, int, int], names: bool, tmp_path: Path) -> None:
    whole = ids[1] != 85

    def change(labels: Labels) -> NDArray[Any]:
        return np.asarray(ids)[labels]

    data = written(tmp_path / "data", change, f"id,name\n0,a\n{ids[1]},b\n" if names else "")
    if whole and not names:
        splits = opened(data)
        assert splits["train"].classes.ids == ids
        assert np.array_equal(splits["val"].label_map(0), scenes("val", 1)[0].labels)
        return
    with pytest.raises(
        InputError, match=r"255 may be a class or stand for ignored pixels .* look like grey levels: set"
    ):
        opened(data)
    assert opened(data, ignore=[255])["train"].label_map(0).max() == 255


def test_four_grey_levels_are_four_classes(tmp_path: Path) -> None:
    def change(labels: Labels) -> NDArray[Any]:
        changed = np.asarray((0, 85, 255))[labels]
        changed[:20, :20] = 170
        return changed

    data = written(tmp_path / "data", change)
    splits = opened(data)
    assert splits["train"].classes.ids == (0, 85, 170, 255)
    assert splits["train"].conclusions == ("masks hold the grey levels 0, 85, 170, 255: each is a class",)
    (data / "classes.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(
        InputError,
        match=r"for its 4 classes: write one line for each class, as in: id,name; 0,a; 85,b; 170,c; 255,d",
    ):
        opened(data)
    (data / "classes.txt").write_text("id,name\n0,a\n85,b\n170,c\n255,d\n")
    assert opened(data)["train"].classes == Classes(tuple("abcd"), (0, 85, 170, 255))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_ids(1, 255, 255), "masks hold only 1 besides it"),
        (as_ids(0, 1, 255), "it borders only 0"),
        (as_ids(255, 255, 255), "masks hold no other number"),
    ],
)
def test_255_that_may_be_a_class_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    data = written(tmp_path / "data", change)
    with pytest.raises(InputError, match=f"255 may be a class .*{words}: set ignore to 255, or to none") as error:
        opened(data)
    assert "\n" not in str(error.value)
    if "masks hold" not in words:
        with collecting() as collector:
            opened(data)
        assert [one.code for one in collector.findings] == ["mask-255-unclear"]


def test_ids_above_255(tmp_path: Path) -> None:
    data = written(tmp_path / "data", as_ids(0, 1, 255))
    save_mask(data / "train" / "masks" / "000.png", np.full((80, 96), 300), "deep")
    with pytest.raises(InputError, match=r"255 may be a class .*: masks also hold greater ids, such as 300"):
        opened(data)
    assert opened(data, ignore=["none"])["train"].classes.ids == (0, 1, 255, 300)


def test_the_user_decides(tmp_path: Path) -> None:
    data = written(tmp_path / "data", as_ids(0, 1, 255))
    assert opened(data, ignore=["none"])["train"].classes.ids == (0, 1, 255)
    assert opened(data, ignore=[255])["train"].classes.ids == (0, 1)
    assert opened(data, ignore=["none", 1])["train"].classes.ids == (0, 255)


def test_the_format_decides(tmp_path: Path) -> None:
    dataset = opened(voc_folder(tmp_path / "data"))["train"]
    assert (dataset.label_map(0)[0] == 255).all()
    data = mask_folder(tmp_path / "plain", names=None)
    save_mask(data / "val" / "masks" / "000.png", np.full((80, 96), 255), "index")
    val = opened(data, classes=Classes.of("012"), ignore=["none"])["val"]
    with pytest.raises(InputError, match="ids without a name: 255"):
        val.label_map(0)


def test_bundles_of_before_ignored_255(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None)
    save_mask(data / "val" / "masks" / "000.png", np.full((80, 96), 255), "index")
    assert (opened(data, classes=Classes.of("012"))["val"].label_map(0) == 255).all()


# Anti-aliased masks, and thresholds


def lossy_png(labels: Labels) -> NDArray[Any]:
    file = io.BytesIO()
    Image.fromarray((255 * (labels > 0)).astype(np.uint8)).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def five_levels(labels: Labels) -> NDArray[Any]:
    """Two by two pixels made one, of shapes that are turned by some degrees: 0, 63, 127, 191 and 255."""
    image = Image.fromarray((255 * (labels > 0)).astype(np.uint8)).resize((192, 160), Image.Resampling.NEAREST)
    large = np.asarray(image.rotate(7, Image.Resampling.NEAREST)).astype(int)
    return np.asarray((large[::2, ::2] + large[1::2, ::2] + large[::2, 1::2] + large[1::2, 1::2]) // 4)


@pytest.mark.parametrize(
    "names", ["", "background\ncrack\n", "id,name\n0,background\n1,crack\n", "id,name\n0,background\n255,crack\n"]
)
@pytest.mark.parametrize("change", [smooth, lossy_png, five_levels])
def test_anti_aliased_masks(change: Callable[[Labels], Labels], names: str, tmp_path: Path) -> None:
    data = written(tmp_path / "data", change, names)
    words = (
        r"looks like an anti-aliased mask: \d+ numbers such as .* read masks of two classes with threshold_masks 128"
    )
    with pytest.raises(InputError, match=words):
        opened(data)
    splits = opened(data, threshold=128)
    assert len(splits["train"].classes) == 2
    for i, truth in enumerate(scenes("train", 6)):
        assert np.array_equal(splits["train"].label_map(i), change(truth.labels) >= 128)
    with collecting() as collector:
        assert len(opened(data)["val"].classes) == 2
    assert [one.code for one in collector.findings] == ["mask-anti-aliased"]


def test_rare_classes_are_not_anti_aliased(tmp_path: Path) -> None:
    """Forty classes, each a patch of 3 x 3 px: less than 0.5 % of all."""

    def change(labels: Labels) -> NDArray[Any]:
        changed = np.zeros_like(labels)
        for i in range(40):
            y, x = divmod(i, 10)
            changed[4 + 8 * y : 7 + 8 * y, 2 + 9 * x : 5 + 9 * x] = i + 1
        return changed

    assert len(opened(written(tmp_path / "data", change))["train"].classes) == 41


@pytest.mark.parametrize(
    ("suffix", "options"), [(".jpg", {}), (".webp", {"quality": 90}), (".png", {"format": "JPEG"})]
)
def test_lossy_masks_are_refused_by_their_content(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 255, 255))
    for path in sorted(data.rglob("masks/*.png")):
        image = Image.open(path)
        image.load()
        path.unlink()
        image.save(path.with_suffix(suffix), **options)
    with pytest.raises(
        InputError, match=r"masks/000\.\w+: (JPEG|WebP \(lossy\)) changes pixels, and ids with them: save"
    ):
        opened(data)
    splits = opened(data, threshold=128)
    wrong = np.mean(splits["train"].label_map(0) != (scenes("train", 1)[0].labels > 0))
    assert wrong < 0.01


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".gif", ".pgm", ".jpg"])
def test_lossless_masks_of_other_formats(suffix: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=None, ids=(0, 255, 255))
    for path in sorted(data.rglob("masks/*.png")):
        image = Image.open(path)
        image.load()
        path.unlink()
        if suffix == ".jpg":  # an extension that is wrong
            image.save(path.with_suffix(suffix), format="PNG")
        else:
            image.save(path.with_suffix(suffix), **({"lossless": True} if suffix == ".webp" else {}))
    dataset = opened(data)["train"]
    assert np.array_equal(dataset.label_map(0), scenes("train", 1)[0].labels > 0)


def test_a_threshold_makes_two_classes(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    with pytest.raises(InputError, match="names 3 classes, but threshold_masks makes two"):
        opened(data, threshold=1)
    (data / "classes.txt").unlink()
    assert np.array_equal(opened(data, threshold=2)["val"].label_map(0), scenes("val", 1)[0].labels > 1)


# Some of the classes


def test_some_of_the_classes(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    for options in ({}, {"classes": Classes(("ground", "leaf"), (0, 2))}):
        dataset = opened(data, only=["leaf", "ground"], **options)["train"]
        assert dataset.classes == Classes(("ground", "leaf"), (0, 2))
        assert np.array_equal(dataset.label_map(0), np.array([0, 255, 1])[scenes("train", 1)[0].labels])
    with pytest.raises(InputError, match=r"classes 'leef': .*names no such class: did you mean leaf\?"):
        opened(data, only=["leef"])
    with pytest.raises(InputError, match=r"has one class only \(leaf\): segmentation needs two or more"):
        opened(data, only=["leaf"])
