"""Recipes of joint trainings: shared keys, a section for each head, and what is wrong in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fishnet.errors import InputError
from fishnet.recipes.joint_keys import head_keys, joint_keys, panoptic_keys
from fishnet.recipes.joint_recipe import JointRecipe, load_joint_recipe
from fishnet.recipes.loading import load_recipe, recipe_names
from fishnet.recipes.recipe import Recipe, keys_of

DATA = {"classify": "a.csv", "detect": "b.json", "segment": "c"}
SECTIONS = {
    "species": {"task": "classify", "data": "a.csv", "loss_weight": 0.5, "label_smoothing": 0.0},
    "age": {"task": "classify", "data": "b.csv", "recipe": "fine-tune", "classes": ["old", "young"]},
    "segment": {"data": "c", "head": "fpn", "decoder_channels": 32},
}


def written(path: Path, **values: Any) -> str:
    """A recipe file."""
    file = path / "tasks.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(file)


# what a recipe says


def test_heads_without_sections_are_named_after_their_tasks() -> None:
    recipe = load_joint_recipe(data=DATA)
    assert [(head.name, head.task, head.data, head.loss_weight) for head in recipe.heads] == [
        (name, name, path, 1.0) for name, path in DATA.items()
    ]
    assert recipe.data == DATA
    assert (recipe.sampling, recipe.loss_weighting, recipe.monitor, recipe.keep_heads) == (
        "size", "fixed", "mean", False
    )  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_a_head_has_the_shared_settings_and_its_own_keys_of_its_tasks_recipe(name: str) -> None:
    head = next(head for head in load_joint_recipe(data=DATA, overrides={"epochs": 7}).heads if head.name == name)
    alone = load_recipe(name)
    assert (head.recipe.epochs, head.recipe.canvas) == (7, True)
    own = [key for key in head_keys() if key in keys_of(name)]
    assert own
    for key in own:
        assert getattr(head.recipe, key) == getattr(alone, key), key


def test_sections(tmp_path: Path) -> None:
    file = written(tmp_path, epochs=3, sampling="sqrt", loss_weighting="uncertainty", monitor="age/acc@1",
                   heads=SECTIONS)  # fmt: skip
    recipe = load_joint_recipe(file)
    species, age, segment = recipe.heads
    assert [head.task for head in recipe.heads] == ["classify", "classify", "segment"]
    assert (species.loss_weight, species.recipe.label_smoothing) == (0.5, 0.0)
    assert age.recipe.classes == ("old", "young")
    assert age.recipe.label_smoothing == load_recipe("classify", "fine-tune").label_smoothing
    assert (segment.recipe.head, segment.recipe.decoder_channels) == ("fpn", 32)
    assert {head.recipe.epochs for head in recipe.heads} == {recipe.shared.epochs} == {3}
    assert (recipe.sampling, recipe.loss_weighting, recipe.monitor) == ("sqrt", "uncertainty", "age/acc@1")


def test_data_given_beside_a_file_wins_and_may_add_a_head(tmp_path: Path) -> None:
    recipe = load_joint_recipe(written(tmp_path, heads=SECTIONS), {"age": "other.csv", "detect": "d.json"})
    assert recipe.data == {"species": "a.csv", "age": "other.csv", "segment": "c", "detect": "d.json"}


def test_settings_win_over_the_file_in_every_head_that_has_the_key(tmp_path: Path) -> None:
    file = written(tmp_path, epochs=3, sampling="sqrt", heads=SECTIONS)
    recipe = load_joint_recipe(
        file, overrides={"epochs": 5, "label_smoothing": 0.3, "decoder_channels": 8, "sampling": "size"}
    )
    assert (recipe.shared.epochs, recipe.sampling) == (5, "size")
    assert [head.recipe.label_smoothing for head in recipe.heads] == [0.3] * 3
    assert recipe.heads[2].recipe.decoder_channels == 8
    assert recipe.shared.decoder_channels == Recipe().decoder_channels


def test_the_keys_of_weights_come_before_the_packages_and_after_those_of_a_file(tmp_path: Path) -> None:
    weights = {"backbone": "fishnet99", "size": 128, "max_size": 200}
    assert load_joint_recipe(data=DATA, from_weights=weights).shared.backbone == "fishnet99"
    assert load_joint_recipe(data=DATA, from_weights=weights).heads[0].recipe.size == 128
    file = written(tmp_path, backbone="fishnet_nano", heads=SECTIONS)
    shared = load_joint_recipe(file, from_weights=weights).shared
    assert (shared.backbone, shared.size) == ("fishnet_nano", 128)
    assert load_joint_recipe(file, None, {"size": 64, "max_size": 64}, weights).shared.size == 64


@pytest.mark.parametrize("kind", ["joint", "panoptic"])
def test_every_key_is_shared_or_of_the_heads(kind: Any) -> None:
    known = set(joint_keys() if kind == "joint" else panoptic_keys())
    assert known <= set(Recipe.__dataclass_fields__)
    for key in ("epochs", "backbone", "trunk_norm", "val_fraction", "flip", "canvas"):
        assert key in known
        assert key not in head_keys(), key
    for key in ("head", "classes", "head_norm", "decoder_channels", "fpn_channels", "loss", "ignore", "max_detections"):
        assert key in known
        assert key in head_keys(), key


def both_kinds(tmp_path: Path) -> dict[str, JointRecipe]:
    sampling = {"species": 1.0, "age": 2.0, "segment": 0.0}
    return {
        "small-data": load_joint_recipe(data=DATA),
        "sections": load_joint_recipe(written(tmp_path, sampling=sampling, monitor="age/acc@1", heads=SECTIONS)),
        "classifiers": load_joint_recipe(
            data={"classify": "a"}, overrides={"crop_scale": (0.5, 0.9), "rand_augment_ops": 2}
        ),
        "panoptic": load_joint_recipe(data={"instances": "d", "segment": "d"}, kind="panoptic"),
    }


@pytest.mark.parametrize("name", ["small-data", "sections", "classifiers", "panoptic"])
def test_a_recipe_survives_a_file(name: str, tmp_path: Path) -> None:
    recipe = both_kinds(tmp_path)[name]
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    again = load_joint_recipe(str(file), kind=recipe.kind)
    assert again.to_dict() == recipe.to_dict()
    assert (again.heads, again.sampling, again.monitor) == (recipe.heads, recipe.sampling, recipe.monitor)
    assert list(again.data) == list(recipe.data)


def test_kept_heads_survive_a_file(tmp_path: Path) -> None:
    kept = {"age": {"task": "classify", "head": "linear", "classes": [{"id": 0, "name": "old"}]}}
    recipe = load_joint_recipe(data=DATA, overrides={"keep_heads": True, "freeze": "trunk"}).keeping(kept)
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    assert load_joint_recipe(str(file)).kept == kept


@pytest.mark.parametrize("kind", ["joint", "panoptic"])
def test_the_packages_recipes_load(kind: Any) -> None:
    data = DATA if kind == "joint" else {"instances": "d", "segment": "d"}
    assert recipe_names(kind)
    for name in recipe_names(kind):
        assert load_joint_recipe(name, data, kind=kind).heads


def test_the_head_of_a_panoptic_recipe_is_that_of_the_things() -> None:
    data = {"instances": "d", "segment": "d"}
    instances, segment = load_joint_recipe(data=data, overrides={"head": "htc"}, kind="panoptic").heads
    assert instances.recipe.head == "htc"
    assert segment.recipe.head == load_recipe("segment").head


# what is wrong in it: (values of the file, other data, settings, words of the message)

A = {"task": "classify", "data": "a"}
BAD: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, Any], list[str]]] = {
    "no heads": ({}, {}, {}, ["tasks.yaml", "needs heads", "heads section"]),
    "heads is a list": ({"heads": [A]}, {}, {}, ["tasks.yaml: heads", "must be an object"]),
    "a section is a path": ({"heads": {"classify": "a"}}, {}, {}, ["heads: classify", "must be an object"]),
    "no data": ({"heads": {"age": {"task": "classify"}}}, {}, {}, ["heads: age", "data is missing", "age=PATH"]),
    "data is a list": ({"heads": {"age": {**A, "data": ["a"]}}}, {}, {}, ["heads: age: data", "must be a string"]),
    "unknown task": ({"heads": {"age": {**A, "task": "detekt"}}}, {}, {}, ["heads: age: task='detekt'", "detect?"]),
    "task is a list": ({"heads": {"age": {**A, "task": ["a"]}}}, {}, {}, ["heads: age: task="]),
    "no task of this name": ({"heads": {"age": {"data": "a"}}}, {}, {}, ["heads: age: task='age'", "choose from"]),
    "data of no head": ({"heads": {"age": A}}, {"agee": "b"}, {}, ["agee=b", "no head 'agee'", "age?"]),
    "a reserved name": ({"heads": {"panoptic": A}}, {}, {}, ["'panoptic'", "rename"]),
    "an invalid name": ({"heads": {"Age": A}}, {}, {}, ["'Age'", "not a valid name", "lower-case"]),
    "a number as a name": ({"heads": {1: A}}, {}, {}, ["heads: a key", "must be a string"]),
    "an unknown key of a head": ({"heads": {"age": {**A, "label_smothing": 1}}}, {}, {}, ["heads: age",
        "unknown key 'label_smothing'", "label_smoothing?"]),
    "another task's key": ({"heads": {"age": {**A, "anchors": "auto"}}}, {}, {}, ["heads: age", "'anchors'"]),
    "a shared key in a head": ({"heads": {"age": {**A, "epochs": 3}}}, {}, {}, ["heads: age: epochs", "shared"]),
    "a head's key outside": ({"label_smoothing": 0.1, "heads": {"age": A}}, {}, {}, ["label_smoothing",
        "into their sections"]),
    "an unknown shared key": ({"epoch": 3, "heads": {"age": A}}, {}, {}, ["unknown key 'epoch'", "epochs?"]),
    "a wrong value in a head": ({"heads": {"age": {**A, "label_smoothing": "x"}}}, {}, {}, ["heads: age",
        "label_smoothing"]),
    "a value out of range": ({"heads": {"age": {**A, "label_smoothing": 2}}}, {}, {}, ["label_smoothing=2"]),
    "a head's recipe is unknown": ({"heads": {"age": {**A, "recipe": "small"}}}, {}, {}, ["unknown recipe 'small'",
        "small-data?"]),
    "a head's recipe is a number": ({"heads": {"age": {**A, "recipe": 3}}}, {}, {}, ["heads: age: recipe",
        "must be a string"]),
    "loss weight 0": ({"heads": {"age": {**A, "loss_weight": 0}}}, {}, {}, ["heads: age: loss_weight"]),
    "loss weight below 0": ({"heads": {"age": {**A, "loss_weight": -1}}}, {}, {}, ["heads: age: loss_weight"]),
    "loss weight is text": ({"heads": {"age": {**A, "loss_weight": "x"}}}, {}, {}, ["heads: age: loss_weight"]),
    "loss weight is infinite": ({"heads": {"age": {**A, "loss_weight": float("inf")}}}, {}, {}, ["loss_weight"]),
    "unknown sampling": ({"sampling": "root", "heads": {"age": A}}, {}, {}, ["sampling='root'", "size, sqrt"]),
    "sampling of no head": ({"sampling": {"agee": 1}, "heads": {"age": A}}, {}, {}, ["sampling: agee", "age?"]),
    "sampling without a head": ({"sampling": {"age": 1}, "heads": {"age": A, "segment": {"data": "c"}}}, {}, {},
        ["sampling: segment is missing"]),
    "sampling of weights 0": ({"sampling": {"age": 0}, "heads": {"age": A}}, {}, {}, ["sampling", "above 0"]),
    "sampling below 0": ({"sampling": {"age": -1}, "heads": {"age": A}}, {}, {}, ["sampling: age"]),
    "sampling is a number": ({"sampling": 2, "heads": {"age": A}}, {}, {}, ["sampling=2"]),
    "unknown loss weighting": ({"loss_weighting": "learned", "heads": {"age": A}}, {}, {}, ["loss_weighting=learned",
        "fixed, uncertainty"]),
    "monitor of no head": ({"monitor": "agee/acc@1", "heads": {"age": A}}, {}, {}, ["monitor=agee/acc@1", "age"]),
    "monitor without a head": ({"monitor": "acc@1", "heads": {"age": A}}, {}, {}, ["monitor=acc@1", "HEAD/METRIC"]),
    "monitor without a metric": ({"monitor": "age", "heads": {"age": A}}, {}, {}, ["monitor=age", "HEAD/METRIC"]),
    "monitor is a list": ({"monitor": ["age"], "heads": {"age": A}}, {}, {}, ["monitor", "must be a string"]),
    "keep_heads is text": ({"keep_heads": "all", "heads": {"age": A}}, {}, {}, ["keep_heads='all'", "true or false"]),
    "kept is a list": ({"kept": [1], "heads": {"age": A}}, {}, {}, ["kept", "must be an object"]),
    "a key that is not supported": ({"mosaic": 0.5, "heads": {"age": A}}, {}, {}, ["mosaic", "not supported"]),
    "a setting that is not supported": ({"heads": {"age": A}}, {}, {"mixup": 0.5}, ["mixup", "not supported"]),
    "a crop beside a segmenter": ({"crop_scale": [0.5, 1], "heads": {"segment": {"data": "c"}}}, {}, {},
        ["crop_scale", "classifiers alone"]),
    "a setting of no head": ({"heads": {"age": A}}, {}, {"anchors": "auto"}, ["anchors", "none of the heads"]),
    "an unknown setting": ({"heads": {"age": A}}, {}, {"epoch": 3}, ["unknown key 'epoch'", "epochs?"]),
    "a setting of the wrong type": ({"heads": {"age": A}}, {}, {"epochs": "many"}, ["epochs"]),
    "head for several heads": ({"heads": {"age": A, "segment": {"data": "c"}}}, {}, {"head": "fpn"}, ["head",
        "which head"]),
    "the same classes twice": ({"heads": {"age": A, "species": dict(A)}}, {}, {}, ["age", "species", "same classes"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recipe_is_one_line(name: str, tmp_path: Path) -> None:
    values, data, settings, words = BAD[name]
    with pytest.raises(InputError) as caught:
        load_joint_recipe(written(tmp_path, **values), data, settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_section_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    file.write_text("heads:\n  age: {task: classify, data: a}\n  age: {task: classify, data: b}\n")
    with pytest.raises(InputError, match=r"tasks.yaml line 3: not YAML: the key 'age' comes twice"):
        load_joint_recipe(str(file))


@pytest.mark.parametrize(
    ("name", "words"),
    [("smal-data", "unknown recipe 'smal-data' for joint: did you mean small-data"), ("no.yaml", "no.yaml")],
)
def test_there_is_no_such_recipe(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_joint_recipe(name, DATA)


@pytest.mark.parametrize("monitor", ["pq", "detect/AP", "mean"])
def test_panoptic_trainings_have_metrics_of_their_own(monitor: str) -> None:
    with pytest.raises(InputError, match=f"monitor={monitor}"):
        load_joint_recipe(data={"instances": "d", "segment": "d"}, overrides={"monitor": monitor}, kind="panoptic")


@pytest.mark.parametrize("key", ["sampling", "keep_heads"])
def test_panoptic_trainings_have_one_dataset_and_keep_no_heads(key: str) -> None:
    data = {"instances": "d", "segment": "d"}
    value: Any = {"sampling": "sqrt", "keep_heads": True}[key]
    with pytest.raises(InputError, match=f"{key}: is only for joint training"):
        load_joint_recipe(data=data, overrides={key: value}, kind="panoptic")
    assert key not in load_joint_recipe(data=data, kind="panoptic").to_dict()


def test_two_heads_may_learn_different_classes_of_the_same_data(tmp_path: Path) -> None:
    sections = {"age": {**A, "classes": ["old", "young"]}, "species": {**A, "classes": ["cod", "eel"]}}
    assert len(load_joint_recipe(written(tmp_path, heads=sections)).heads) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"instances": "d"}, "has the heads instances and segment, not instances"),
        ({"instances": "d", "segment": "d", "classify": "d"}, "not instances, segment, classify"),
        ({"instances": "d", "segment": "e"}, "the same data, not d and e"),
        ({}, "needs heads"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"head": "htc"}])
def test_a_panoptic_recipe_needs_its_two_heads(data: dict[str, str], words: str, settings: dict[str, str]) -> None:
    with pytest.raises(InputError, match=words):
        load_joint_recipe(data=data, overrides=settings, kind="panoptic")


def test_a_panoptic_file_has_the_defaults_of_panoptic_training(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 2\nheads:\n  instances: {head: htc}\n  segment: {loss_weight: 0.5}\n")
    data = {"instances": "d", "segment": "d"}
    loaded = load_joint_recipe(str(recipe), data, kind="panoptic")
    assert (loaded.monitor, loaded.shared.epochs) == ("PQ", 2)
    assert [(head.recipe.head, head.loss_weight) for head in loaded.heads] == [("htc", 1), ("body", 0.5)]
