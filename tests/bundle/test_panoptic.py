"""The panoptic part of bundles: what is written is read again, and what does not fit is refused in one line."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fishnet.bundle.bundle import SCHEMA, Bundle, HeadConfig, config_text
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig, SegmentClass
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess

THINGS, STUFF = Classes(("person", "été"), (1, 90)), Classes(("sky", "road"), (119, 7))
CONFIG = PanopticConfig.of(THINGS, STUFF)
HEADS = {
    "instances": HeadConfig("instances", THINGS),
    "segment": HeadConfig("segment", Classes(("things", "sky", "road"), (0, 119, 7))),
}
BUNDLE = Bundle("fishnet_nano", HEADS, Preprocess((64, 64)), panoptic=CONFIG)

# As the first version wrote it: a later one must read it.
KEPT = {
    "segments": [
        {"name": "person", "id": 1, "is_thing": True},
        {"name": "été", "id": 90, "is_thing": True},
        {"name": "sky", "id": 119, "is_thing": False},
        {"name": "road", "id": 7, "is_thing": False},
    ],
    "score_threshold": 0.5,
    "overlap_threshold": 0.5,
    "stuff_area": 4096,
    "mask_threshold": 0.5,
}


def test_round_trip() -> None:
    changed = replace(CONFIG, score_threshold=0.25, overlap_threshold=0.75, stuff_area=64, mask_threshold=0.4)
    for config in (CONFIG, changed):
        assert PanopticConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    bundle = replace(BUNDLE, panoptic=changed)
    assert Bundle.from_dict(json.loads(config_text(bundle))) == bundle


def test_a_config_as_it_was_written_is_read() -> None:
    assert CONFIG.to_dict() == KEPT
    assert PanopticConfig.from_dict(KEPT) == CONFIG


def test_the_classes_of_the_two_heads() -> None:
    mixed = PanopticConfig(tuple(CONFIG.segments[i] for i in (2, 0, 3, 1)))
    assert (mixed.things, mixed.stuff) == (THINGS, STUFF)
    assert mixed.classes.ids == (119, 1, 7, 90)


def test_names_are_compared_in_composed_form() -> None:
    assert SegmentClass("e\u0301te\u0301", 90, is_thing=True) == CONFIG.segments[1]


def test_bundles_without_it_are_written_as_before() -> None:
    """An earlier reader of the same schema refuses unknown keys."""
    values = replace(BUNDLE, panoptic=None).to_dict()
    assert "panoptic" not in values
    assert values["schema"] == SCHEMA
    assert Bundle.from_dict(values).panoptic is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segments": None}, "segments: must be a list of classes"),
        ({"segments": []}, "0 segment classes: must be from 1"),
        ({"segments": [7]}, "segments: row 0: must be an object"),
        ({"segments": [{"name": "a", "id": 1}]}, "row 0: must have name, id and is_thing"),
        ({"segments": [{"name": "a", "id": 1, "is_thing": 1}]}, "is_thing must be true or false, not 1"),
        ({"segments": [{"name": "a", "id": True, "is_thing": True}]}, "row 0: id: must be a whole number"),
        ({"segments": [{"name": 5, "id": 1, "is_thing": True}]}, "row 0: name: must be a string"),
        ({"segments": [*KEPT["segments"], {"name": "sky", "id": 2, "is_thing": True}]}, "not unique: sky"),  # type: ignore[misc]
        ({"segments": [*KEPT["segments"], {"name": "x", "id": 7, "is_thing": True}]}, "have the id 7"),  # type: ignore[misc]
        ({"segments": [{"name": "things", "id": 7, "is_thing": False}]}, "stuff class is called 'things'.*rename it"),
        ({"score_threshold": 1.5}, "score_threshold: must be a finite number from 0 to 1, not 1.5"),
        ({"overlap_threshold": None}, "overlap_threshold: must be a finite number"),
        ({"mask_threshold": float("nan")}, "mask_threshold: must be a finite number"),
        ({"stuff_area": -1}, "stuff_area: must be a whole number from 0"),
        ({"stuff_area": 0.5}, "stuff_area: must be a whole number"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_wrong_values(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"panoptic: .*{words}|{words}") as caught:
        Bundle.from_dict({**BUNDLE.to_dict(), "panoptic": {**KEPT, **change}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("instances", "segment", "words"),
    [
        (Classes(("été", "person"), (90, 1)), HEADS["segment"].classes, "head 'instances' are not.*thing classes"),
        (Classes(("person",), (1,)), HEADS["segment"].classes, "1 classes.*2 thing classes.*one list is longer"),
        (THINGS, Classes(("things", "sky", "road"), (0, 1, 7)), "head 'segment' are not.*stuff classes.*119"),
        (THINGS, Classes(("sky", "road"), (119, 7)), "first class of the head 'segment' must be 'things'"),
    ],
)
def test_heads_of_other_classes(instances: Classes, segment: Classes, words: str) -> None:
    heads = {"instances": HeadConfig("instances", instances), "segment": HeadConfig("segment", segment)}
    with pytest.raises(InputError, match=words):
        Bundle.from_dict(replace(BUNDLE, heads=heads).to_dict())


@pytest.mark.parametrize("name", ["instances", "segment"])
def test_a_head_is_missing(name: str) -> None:
    heads = {key: head for key, head in HEADS.items() if key != name}
    with pytest.raises(InputError, match=f"panoptic: the model has no head '{name}'"):
        Bundle.from_dict(replace(BUNDLE, heads=heads).to_dict())
