"""What all formats of panoptic data have in common: two views of the same images, and the segments of each."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.panoptic import PanopticConfig, SegmentClass
from fishnet.data.panoptic import base
from fishnet.data.panoptic.base import PanopticSplit
from fishnet.data.panoptic.open import looks_like_panoptic, open_panoptic
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError
from tests.panoptic_makers import BERRY, GROUND, LEAF, Part, cityscapes_panoptic, coco_panoptic, object_pairs, parts
from tests.segmentation_makers import scenes

MAKERS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "coco": (coco_panoptic, {}),
    "coco-splits": (coco_panoptic, {"layout": "splits"}),
    "cityscapes": (cityscapes_panoptic, {}),
    "pairs": (object_pairs, {}),
}
NAMES = {
    "cityscapes": {GROUND: "road", BERRY: "car", LEAF: "vegetation"},
    "": {GROUND: "ground", BERRY: "berry", LEAF: "leaf"},
}
each_format = pytest.mark.parametrize("name", MAKERS)


def make(name: str, root: Path, **options: Any) -> Path:
    maker, fixed = MAKERS[name]
    return maker(root / "data", **{**fixed, **options})


def opened(data: Path, **options: Any) -> dict[str, PanopticSplit]:
    return open_panoptic(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options})


def scene_parts(split: str, source: str) -> list[Part]:
    """The parts of the scene that an image shows, by the number in its name."""
    digits = "".join(c for c in Path(source).stem.replace("000019", "").replace("8bit", "") if c.isdigit())
    number = int(digits)
    return parts(scenes(split, number + 1)[number])


@each_format
@pytest.mark.parametrize("crowd", [False, True])
def test_both_views_show_the_same_segments(name: str, crowd: bool, tmp_path: Path) -> None:
    splits = opened(make(name, tmp_path, crowd=crowd))
    assert {split: len(data) for split, data in splits.items()} == {"train": 6, "val": 3}
    names = NAMES.get(name, NAMES[""])
    for split, data in splits.items():
        segments = data.segments
        for i in range(len(data)):
            assert data.source(i) == data.instances.source(i) == data.segment.source(i)
            expected = scene_parts(split, data.source(i))
            truth = data.truth(i)
            assert truth.ids.dtype == np.int32
            assert (truth.ids[0] == 0).all()
            assert len(truth.segments) == len(expected)
            crowds = [crowd and n == 0 and part.kind == BERRY for n, part in enumerate(expected)]
            by_mask = {(truth.ids == each.id).tobytes(): each for each in truth.segments}
            for part, iscrowd in zip(expected, crowds, strict=True):
                segment = by_mask[part.mask.tobytes()]
                assert segments[segment.category].name == names[part.kind]
                assert (segment.is_thing, segment.iscrowd) == (part.kind == BERRY, iscrowd)
                assert segment.area == part.mask.sum()

            image, objects = data.instances.read(i)
            berries = [(part.mask.tobytes(), c) for part, c in zip(expected, crowds, strict=True) if part.kind == BERRY]
            shown = [(mask.tobytes(), bool(c)) for mask, c in zip(objects.masks() == 1, objects.crowd, strict=True)]
            assert sorted(shown) == sorted(berries)
            assert {data.instances.classes.names[label] for label in objects.labels} <= {names[BERRY]}

            labels = data.segment.read(i)[1]
            assert labels.shape == (image.height, image.width)
            wanted = np.full(labels.shape, IGNORE, np.uint8)
            for part, iscrowd in zip(expected, crowds, strict=True):
                kind = "things" if part.kind == BERRY else names[part.kind]
                wanted[part.mask] = IGNORE if iscrowd else data.segment.classes.names.index(kind)
            assert np.array_equal(labels, wanted)


@each_format
def test_classes_are_those_of_a_panoptic_bundle(name: str, tmp_path: Path) -> None:
    data = opened(make(name, tmp_path))["train"]
    assert data.segment.classes.names[0] == "things"
    PanopticConfig(data.segments).check(data.instances.classes, data.segment.classes)
    ids = data.segment.classes.ids[1:]
    assert list(ids) == sorted(ids)
    assert list(data.instances.classes.ids) == sorted(data.instances.classes.ids)


def test_original_ids_stay(tmp_path: Path) -> None:
    data = opened(coco_panoptic(tmp_path / "data"))["train"]
    assert [(each.name, each.id, each.is_thing) for each in data.segments] == [
        ("berry", 3, True), ("ground", 7, False), ("leaf", 9, False)
    ]  # fmt: skip
    assert data.instances.classes.ids == (3,)
    assert data.segment.classes.ids == (0, 7, 9)


@each_format
def test_held_out_images_are_the_same_in_both_views(name: str, tmp_path: Path) -> None:
    splits = opened(make(name, tmp_path, train=8), keep_splits=False)
    assert {split: len(data) for split, data in splits.items()} == {"train": 6, "val": 2}
    sources = {split: [data.instances.source(i) for i in range(len(data))] for split, data in splits.items()}
    assert sources == {split: [data.segment.source(i) for i in range(len(data))] for split, data in splits.items()}
    assert not set(sources["train"]) & set(sources["val"])
    for data in splits.values():  # the right masks, too
        for i in range(len(data)):
            things = data.instances.read(i)[1].masks().any(0)
            assert np.array_equal(data.segment.label_map(i) == 0, things)
    again = opened(make(name, tmp_path, train=8), keep_splits=False)
    assert [again["val"].source(i) for i in range(2)] == sources["val"]
    part = splits["train"].instances.subset([3, 1])
    assert [part.source(i) for i in range(2)] == [sources["train"][3], sources["train"][1]]
    assert len(part.objects(0)) == len(splits["train"].instances.objects(3))


@each_format
def test_a_mask_is_read_once_for_both_views(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(make(name, tmp_path))["train"]
    kind, reads = type(data.segment), []
    read_map = kind.read_map

    def counted(self: Any, index: int) -> base.PanopticMap:
        reads.append(index)
        return read_map(self, index)

    monkeypatch.setattr(kind, "read_map", counted)
    for i in range(4):
        data.instances.objects(i)
        data.segment.label_map(i)
        data.truth(i)
    assert reads == [0, 1, 2, 3]
    assert len(data.segment._last._kept) == 2
    other = pickle.loads(pickle.dumps(data.segment))
    assert other._last._kept == ()
    assert np.array_equal(other.label_map(3), copy.copy(data.segment).label_map(3))


def test_only_and_void(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    whole = opened(data)["train"]
    for options in ({"void": ["leaf"]}, {"only": ["ground", "berry"]}):
        split = opened(data, **options)["train"]
        assert split.segment.classes.names == ("things", "ground")
        for i in range(len(split)):
            before, after = whole.segment.label_map(i), split.segment.label_map(i)
            assert np.array_equal(np.where(before == 2, IGNORE, before), after)
            assert len(split.truth(i).segments) == len(np.unique(split.truth(i).ids)) - 1
        [note] = [note for note in split.segment.notes if note.code == "class-left-out"]
        assert "1 of 3 classes are void (leaf)" in note.message
    with pytest.raises(InputError, match=r"no class 'leave'.*leaf"):
        opened(data, void=["leave"])
    with pytest.raises(InputError, match="no class of things: use train segment"):
        opened(data, void=["berry"])
    with pytest.raises(InputError, match="no class of stuff: use train instances"):
        opened(data, only=["berry"])


def test_a_models_classes(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    known = (SegmentClass("leaf", 1, False), SegmentClass("fish", 2, True), SegmentClass("berry", 3, True),
             SegmentClass("ground", 4, False))  # fmt: skip
    split = opened(data, classes=known)["val"]
    assert split.segments == known
    assert split.instances.classes.names == ("fish", "berry")
    assert split.segment.classes.names == ("things", "leaf", "ground")
    whole = opened(data)["val"]
    for i in range(len(split)):
        assert set(split.instances.objects(i).labels.tolist()) <= {1}
        assert np.array_equal(np.array([0, 2, 1, *[9] * 252, 255])[whole.segment.label_map(i)],
                              split.segment.label_map(i))  # fmt: skip
    with pytest.raises(InputError, match="classes the model does not know: leaf"):
        opened(data, classes=known[1:])
    kinds = (*known[1:], SegmentClass("leaf", 1, True))
    with pytest.raises(InputError, match="'leaf' is stuff in the data, but things in the model"):
        opened(data, classes=kinds)


@each_format
def test_recognized(name: str, tmp_path: Path) -> None:
    data = make(name, tmp_path)
    assert looks_like_panoptic(str(data)) is (name != "pairs")
    (tmp_path / "other").mkdir()
    assert not looks_like_panoptic(str(tmp_path / "other"))
    assert not looks_like_panoptic("")


def test_unknown_layouts(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"holds no things and stuff of a known format.*COCO panoptic"):
        opened(tmp_path)
    with pytest.raises(InputError, match="no such file or folder: expected COCO panoptic"):
        opened(tmp_path / "none")
