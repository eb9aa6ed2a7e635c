"""Datasets of several heads: a file that several of them annotate is one sample, held out by all or by none."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.data.classification.open import open_classification
from fishnet.data.detection.open import open_detection
from fishnet.data.joint.dataset import JointDataset, merge, merge_splits
from fishnet.data.joint.holding import hold_out_by_name
from fishnet.data.joint.identity import file_identity
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike
from fishnet.images.reading import Reading
from tests.joint_makers import joint_data


class Files(LabelledDataset):
    """Images by path; counts how often one is decoded."""

    def __init__(self, paths: list[Path | str], channels: int = 3) -> None:
        self.paths, self.channels = [str(path) for path in paths], channels
        self.labels, self.classes = list(range(len(paths))), Classes.of([f"c{i}" for i in range(len(paths))])
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[ImageLike, int]:
        self.decoded += 1
        return Image.open(self.paths[index]).convert("RGB"), self.labels[index]

    def source(self, index: int) -> str:
        return self.paths[index]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Four images."""
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(path)
    return paths


# one file, one sample


def symlink(source: Path, target: Path) -> Path:
    target.symlink_to(source)
    return target


def hard_link(source: Path, target: Path) -> Path:
    os.link(source, target)
    return target


def same(source: Path, target: Path) -> Path:
    return source.parent / ".." / source.parent.name / source.name


@pytest.mark.parametrize("link", [symlink, hard_link, same])
def test_one_file_by_several_names_is_one_sample(
    link: Callable[[Path, Path], Path], images: list[Path], tmp_path: Path
) -> None:
    other = link(images[1], tmp_path / "other.png")
    rows = merge({"a": Files(list(images[:2])), "b": Files([images[2], other])})
    assert rows == [{"a": 0}, {"a": 1, "b": 1}, {"b": 0}]


def test_copies_in_two_heads_data_are_one_sample(images: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / "copy.png", tmp_path / "same-size.png"]
    content = images[0].read_bytes() + bytes(20_000)  # bytes after the end of a PNG are ignored
    images[0].write_bytes(content)
    copies[0].write_bytes(content)
    copies[1].write_bytes(content[:10_000] + b"1" + content[10_001:])  # beginning and end are the same
    assert merge({"a": Files([images[0]]), "b": Files(copies)}) == [{"a": 0, "b": 0}, {"b": 1}]
    assert merge({"a": Files([images[0]]), "b": Files([copies[1]])}) == [{"a": 0}, {"b": 0}]
    assert len(merge({"a": Files([images[0], copies[0]])})) == 2


def test_copies_in_one_heads_data_stay_apart(images: list[Path], tmp_path: Path) -> None:
    """Also where another head's data have a file of that size."""
    copy, other = tmp_path / "copy.png", tmp_path / "other.png"
    content = images[0].read_bytes()
    copy.write_bytes(content)
    other.write_bytes(content[:-1] + b"x")
    _, rows, left_out = merge_splits(
        {
            "a": {"train": Files([images[0]]), "val": Files([copy])},
            "b": {"train": Files([other]), "val": Files([images[1]])},
        }
    )
    assert (rows["train"], left_out) == ([{"a": 0}, {"b": 0}], 0)


def test_a_copy_of_a_held_out_image_is_not_trained_on(images: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(images[3].read_bytes())
    a = {"train": Files(list(images[:3])), "val": Files([images[3]])}
    b = {"train": Files([copy, images[0]]), "val": Files([images[1]])}
    _, rows, left_out = merge_splits({"a": a, "b": b})
    assert rows["train"] == [{"a": 0, "b": 1}, {"a": 2}]
    assert left_out == 2


def test_a_file_that_one_dataset_lists_twice_stays_two_samples(images: list[Path]) -> None:
    twice = [images[0], images[0], images[1]]
    assert merge({"a": Files(twice), "b": Files([images[0]])}) == [{"a": 0, "b": 0}, {"a": 1}, {"a": 2}]
    assert merge({"a": Files(twice), "b": Files(twice)}) == [{"a": i, "b": i} for i in range(3)]


def test_images_inside_other_files_are_known_by_their_names() -> None:
    rows = merge({"a": Files(["x.tar/0.png", "x.tar/1.png"]), "b": Files(["x.tar/1.png", "y.tar/0.png"])})
    assert rows == [{"a": 0}, {"a": 1, "b": 0}, {"b": 1}]
    assert file_identity("x.tar\0") == "x.tar\0"


# samples


def test_a_head_that_does_not_annotate_an_image_has_no_target(images: list[Path]) -> None:
    heads = {"a": Files(list(images[:3])), "b": Files(list(images[2:]))}
    joint = JointDataset(heads, merge(heads))
    assert [joint.read(i)[1] for i in range(4)] == [{"a": 0}, {"a": 1}, {"a": 2, "b": 0}, {"b": 1}]
    assert [joint[i][1] for i in range(4)] == [joint.read(i)[1] for i in range(4)]
    assert [joint.source(i) for i in range(4)] == [str(path) for path in images]
    assert joint.key(3) == "b/1"
    assert joint.classes.names == ("a/c0", "a/c1", "a/c2", "b/c0", "b/c1")


def test_an_image_is_decoded_once_for_all_heads(images: list[Path]) -> None:
    heads = {name: Files(list(images)) for name in ("a", "b", "c")}
    joint = JointDataset(heads, merge(heads))
    for i in range(4):
        assert joint.read(i)[1] == dict.fromkeys(heads, i)
        joint.read_tensor(i)
    assert [files.decoded for files in heads.values()] == [8, 0, 0]


def test_one_decoding_for_real_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = joint_data(tmp_path / "data", 3)
    splits = {
        "detect": open_detection(data["detect"], 3, val_fraction=0.4, seed=0, keep_splits=True),
        "classify": open_classification(data["classify"], 3, val_fraction=0.4, seed=0, keep_splits=True),
    }
    heads = {name: next(iter(opened.values())) for name, opened in splits.items()}
    joint = JointDataset(heads, merge(heads))
    assert len(joint) == 3
    opened: list[str] = []
    for dataset in heads.values():
        encoded = dataset.encoded
        monkeypatch.setattr(dataset, "encoded", lambda i, encoded=encoded: opened.append("") or encoded(i))
    for i in range(3):
        assert set(joint.read_tensor(i)[1]) == set(heads)
    assert len(opened) == 3


def test_all_heads_read_images_alike(images: list[Path]) -> None:
    heads = {"a": Files(list(images)), "b": Files(list(images))}
    joint = JointDataset(heads, merge(heads))
    joint.reading = Reading("stretch", (5.0, 900.0), 1000)
    assert {files.reading for files in heads.values()} == {joint.reading} == {Reading("stretch", (5.0, 900.0), 1000)}


def test_datasets_of_different_channels_are_refused(images: list[Path]) -> None:
    heads = {"a": Files(list(images)), "b": Files(list(images), channels=1)}
    with pytest.raises(InputError, match=r"same number of channels: a has 3, b has 1"):
        JointDataset(heads, merge(heads))


# splits


def test_an_image_that_one_head_holds_out_is_trained_on_by_none(images: list[Path]) -> None:
    a = {"train": Files(list(images[:3])), "val": Files([images[3]])}
    b = {"train": Files([images[3], images[0], images[2]]), "val": Files([images[1]]), "test": Files([images[2]])}
    datasets, rows, left_out = merge_splits({"a": a, "b": b})
    assert rows["train"] == [{"a": 0, "b": 1}]
    assert rows["val"] == [{"a": 0}, {"b": 0}]
    assert rows["test"] == [{"b": 0}]
    assert left_out == 3, "images 1, 2 and 3"
    assert set(datasets["test"]) == {"b"}


def test_classes_without_a_training_image_left_are_named(images: list[Path]) -> None:
    train = Files(list(images[:3]))
    joint = JointDataset({"a": train}, [{"a": 0}, {"a": 2}])
    assert train.classes.names[:2] == ("c0", "c1")
    assert list(train.labels) == [0, 1, 2]
    assert joint.lost_classes() == {"a": ["c1"]}
    assert JointDataset({"a": train}, merge({"a": train})).lost_classes() == {}


def test_nothing_is_left_out_where_splits_agree(images: list[Path]) -> None:
    splits = {"train": Files(list(images[:3])), "val": Files([images[3]])}
    _, rows, left_out = merge_splits({"a": splits, "b": splits})
    assert (left_out, len(rows["train"]), len(rows["val"])) == (0, 3, 1)


# holding out

NAMES = [f"{i:03d}.png" for i in range(200)]


def held(names: list[str], folder: str, fraction: float = 0.2, seed: int = 0) -> set[str]:
    dataset = Files([f"{folder}/{name}" for name in names])
    rest, out = hold_out_by_name(dataset, fraction, seed)
    assert len(rest) + len(out) == len(names)
    sources = [[Path(part.source(i)).name for i in range(len(part))] for part in (rest, out)]
    assert sorted(sources[0] + sources[1]) == sorted(names)
    return set(sources[1])


def test_the_file_name_and_the_seed_alone_decide() -> None:
    chosen = held(NAMES, "a")
    assert chosen == held(NAMES, "a") == held(NAMES[::-1], "elsewhere/b")
    assert chosen != held(NAMES, "a", seed=1)
    assert chosen & set(NAMES[:100]) == held(NAMES[:100], "a"), "others beside it change nothing"
    assert chosen <= held(NAMES, "a", 0.4)
    assert 0.1 < len(chosen) / len(NAMES) < 0.3


@pytest.mark.parametrize(("fraction", "count", "expected"), [(0.001, 5, 1), (0.999, 5, 4), (0.5, 2, 1), (0.5, 1, 0)])
def test_at_least_one_and_never_all(fraction: float, count: int, expected: int) -> None:
    assert len(held(NAMES[:count], "a", fraction)) == expected


def test_formats_hold_out_the_same_files(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 12)
    whole = {
        "classify": open_classification(data["classify"], 3, val_fraction=0.1, seed=0, keep_splits=True),
        "detect": open_detection(data["detect"], 3, val_fraction=0.1, seed=0, keep_splits=True),
    }
    chosen = []
    for opened in whole.values():
        (dataset,) = opened.values()
        _, out = hold_out_by_name(dataset, 0.3, 0)
        chosen.append(sorted(Path(out.source(i)).name for i in range(len(out))))
    assert chosen[0] == chosen[1]
    assert len(json.loads(Path(data["detect"]).read_text())["images"]) == 12
