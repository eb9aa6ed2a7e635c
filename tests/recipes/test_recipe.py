"""Recipes: one dataclass is the YAML, the flags and the checks."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fishnet.errors import InputError
from fishnet.recipes.loading import load_recipe, recipe_names
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import task_names
from fishnet.training import fit as fitting
from tests.conftest import Run

KEYS = [field.name for field in dataclasses.fields(Recipe)]
PACKAGED = [(task, name) for task in task_names() for name in recipe_names(task)]

# A valid value other than the default for every key.
OTHER: dict[str, Any] = {
    "backbone": "fishnet99", "head": "other", "pretrained": True, "end": "body", "freeze": "stem,tail",
    "trunk_norm": "group", "grad_checkpointing": True, "drop_rate": 0.2, "drop_path_rate": 0.1, "head_norm": "none",
    "decoder_channels": 64, "edges": True, "fpn_channels": 64, "box_width": 128, "box_convs": 4, "mask_width": 32,
    "htc_interleaved": False, "htc_mask_flow": False, "htc_semantic": False,
    "anchors": "auto", "proposals": 300, "roi_samples": 64, "max_detections": 300, "nms_iou": 0.6,
    "score_threshold": 0.01, "threshold": 0.3,
    "size": 64, "max_size": 96, "native": True, "crop_size": 96, "multi_label": True,
    "classes": ("ground", "tall grass"), "fold": 2, "ignore": (0, 254), "void": ("sky", "ego vehicle"),
    "threshold_masks": 128, "difficult": "use",
    "val_size": 96, "channels": 1, "sixteen_bit": "stretch", "max_pixels": 1000, "crop_pct": 0.5,
    "interpolation": "bicubic",
    "val_fraction": 0.3, "on_error": "skip", "crop_scale": (0.1, 0.9), "crop_ratio": (0.5, 2.0), "flip": 0.0,
    "flip_vertical": 0.5, "jitter": (0.5, 2.0), "canvas": True, "crop": 0.3, "photometric": 0.5, "single_class": 0.75,
    "mosaic": 0.4, "color_jitter": 0.4, "rand_augment_ops": 2, "rand_augment_magnitude": 12, "erase": 0.25,
    "lighting": 0.1, "mixup": 0.2, "cutmix": 1.0, "epochs": 3, "repeats": 5, "batch_size": 7, "accumulate": 2,
    "optimizer": "adamw", "lr": 0.3, "momentum": 0.8, "layer_decay": 0.75, "weight_decay": 0.2, "decay_norms": True,
    "schedule": "step", "warmup_epochs": 0.5, "step_epochs": 5, "milestones": (2, 4, 7),
    "loss": "cross-entropy+0.5*dice", "boundary": 0.5, "auxiliary": 0.4, "label_smoothing": 0.1,
    "class_weights": "balanced", "clip_grad": 2.0, "ema": 0.999, "patience": 4, "seed": 9, "checkpoint_steps": 100,
    "log_steps": 10, "precision": "bf16", "workers": 3, "threads": 1, "device": "cpu", "devices": 2, "nodes": 2,
    "strategy": "sharded", "sync_bn": True,
}  # fmt: skip
EVERY = [(task, name) for task in task_names() for name in keys_of(task)]


def mine(task: str) -> Recipe:
    """Another value for every key of a task, but for lighting, which needs three channels, native or max_size, and
    multi_label, which does not go with mixup.
    """
    usual = {"lighting": 0.0, "native": False, "multi_label": False}
    return Recipe(**{name: OTHER[name] for name in keys_of(task)} | usual)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that ``fishnet train`` would have trained with."""
    recipes: list[Recipe] = []

    def fit(task: str, data: str, recipe: Recipe, out: Path, **options: Any) -> fitting.Trained:
        recipes.append(recipe)
        return fitting.Trained(out, {}, 0, None, (), recipe)

    monkeypatch.setattr(fitting, "fit", fit)
    return recipes


def flags(values: dict[str, Any]) -> list[str]:
    """A recipe's values as the command line takes them."""
    words = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-"))
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


# every key everywhere


def test_another_value_is_listed_for_every_key() -> None:
    assert list(OTHER) == KEYS
    assert not [name for name, value in OTHER.items() if value == getattr(Recipe(), name)]


@pytest.mark.parametrize("task", task_names())
def test_every_key_of_a_task_is_its_flag(task: str, run: Run) -> None:
    code, out, _ = run("train", task, "--help")
    assert code == 0
    words = out.replace("│", " ").split()
    assert [name for name in KEYS if f"--{name.replace('_', '-')}" in words] == keys_of(task)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_flag_overrides_the_recipe(task: str, name: str, trained: list[Recipe], tmp_path: Path, run: Run) -> None:
    values = {name: OTHER[name]} | ({"canvas": True} if name == "mosaic" else {})
    if name == "size" and "max_size" in keys_of(task):
        values["max_size"] = 96
    elif name == "max_size":
        values["size"] = 64
    code, _, err = run("train", task, "data", "--quiet", "--out", tmp_path, *flags(values))
    assert code == 0, err
    assert trained == [load_recipe(task, "small-data", values)]
    assert getattr(trained[0], name) == OTHER[name]


@pytest.mark.parametrize("task", task_names())
def test_every_key_is_a_key_of_the_yaml(task: str, tmp_path: Path) -> None:
    recipe = mine(task)
    assert list(recipe.to_dict(task)) == keys_of(task)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe.to_dict(task)))
    assert load_recipe(task, str(tmp_path / "mine.yaml")) == recipe


@pytest.mark.parametrize(
    ("task", "other", "key"),
    [
        ("classify", "detect", "nms_iou"),
        ("detect", "classify", "mixup"),
        ("segment", "classify", "mixup"),
        ("segment", "instances", "nms_iou"),
        ("instances", "segment", "boundary"),
        ("classify", "segment", "auxiliary"),
    ],
)
def test_keys_of_another_task_are_refused(task: str, other: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{key}: 0.5\n")
    with pytest.raises(InputError, match=f"mine.yaml: {key}: is for .*{other}.*, not for {task}"):
        load_recipe(task, str(tmp_path / "mine.yaml"))
    with pytest.raises(InputError, match=f"settings: {key}: is for"):
        load_recipe(task, "small-data", {key: 0.5})


def test_every_key_has_a_help_text() -> None:
    assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(Recipe))


# recipes of the package and of files


@pytest.mark.parametrize(("task", "name"), PACKAGED)
def test_packaged_recipes_load(task: str, name: str) -> None:
    recipe = load_recipe(task, name)
    assert recipe != Recipe(), "a recipe says something"
    assert Recipe().replace(recipe.to_dict(task)) == recipe


@pytest.mark.parametrize("task", task_names())
def test_every_task_has_a_recipe_for_small_data(task: str) -> None:
    assert "small-data" in recipe_names(task)
    assert load_recipe(task) == load_recipe(task, "small-data")


def test_file_recipes(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("epochs: 3\nlr: 1e-3\nwarmup_epochs: 2\ncrop_scale: [0.5, 1]\nprecision: 16\n")
    recipe = load_recipe("classify", str(file), {"epochs": 4})
    assert recipe == Recipe(epochs=4, lr=1e-3, warmup_epochs=2.0, crop_scale=(0.5, 1.0), precision="fp16"), (
        "what is not named stays the default, YAML's 1e-3, a text, is a number, and 16 is the old name of fp16"
    )
    file.write_text("# nothing\n")
    assert load_recipe("classify", str(file)) == Recipe()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epoch: 3", r"mine\.yaml: unknown key 'epoch': did you mean epochs"),
        (b"zzz: 3", r"mine\.yaml: unknown key 'zzz': choose from accumulate, anchors, auxiliary"),
        (b"1: 3", r"mine\.yaml: unknown key 1"),
        (b"- epochs", "KEY: VALUE"),
        (b"3", "KEY: VALUE"),
        (b"epochs: [", r"mine\.yaml line 1: not YAML"),
        (b"\xff\xfe\x00", r"mine\.yaml line 1: not UTF-8"),
        (b"!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_bad_files(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_recipe("classify", str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_no_such_recipe() -> None:
    with pytest.raises(InputError, match="unknown recipe 'smal-data' for classify: did you mean small-data"):
        load_recipe("classify", "smal-data")
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        load_recipe("classify", "nowhere.yaml")


# values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": "many"}, "epochs='many': must be a whole number"),
        ({"epochs": 1.5}, "must be a whole number"),
        ({"epochs": True}, "must be a whole number"),
        ({"lr": "fast"}, "lr='fast': must be a number"),
        ({"lr": None}, "must be a number"),
        ({"lr": [1]}, "must be a number"),
        ({"lr": True}, "must be a number"),
        ({"pretrained": "yes"}, "must be true or false"),
        ({"pretrained": 1}, "must be true or false"),
        ({"backbone": 3}, "must be a string"),
        ({"crop_scale": 0.5}, "must be a list of 2 numbers"),
        ({"crop_scale": [0.5]}, "must be a list of 2 numbers"),
        ({"crop_scale": [0.5, "a"]}, "crop_scale='a': must be a number"),
        ({"schedule": "cosin"}, "schedule='cosin': did you mean cosine"),
        ({"precision": 64}, "precision=64"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"milestones": 3}, "milestones=3: must be a list of numbers"),
        ({"milestones": [3, "x"]}, "milestones='x': must be a whole number"),
        ({"ignore": 255}, "ignore=255: must be a list of numbers"),
        ({"ignore": ["sky"]}, "ignore='sky': must be a whole number"),
        ({"void": "sky"}, "void='sky': must be a list of strings"),
        ({"void": [0]}, "void=0: must be a string"),
        ({"native": "yes"}, "native='yes': must be true or false"),
        ({"edges": 1}, "edges=1: must be true or false"),
        ({"loss": ["dice"]}, "loss=['dice']: must be a string"),
        ({"class_weights": "inverse"}, "class_weights='inverse'"),
    ],
)
def test_wrong_types(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe().replace(values, where="mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("drop_rate", (0.0, 0.99), (-0.1, 1.0)),
        ("drop_path_rate", (0.0, 0.99), (-0.1, 1.0)),
        ("size", (32, 8192), (31, 8193)),
        ("val_size", (0, 32, 8192), (-1, 31, 8193)),
        ("channels", (1, 2, 3, 13), (0, 1025)),
        ("crop_pct", (0.05, 1.0), (0.0, 1.01)),
        ("crop_scale", ((0.01, 0.01), (1.0, 1.0)), ((0.0, 1.0), (0.5, 1.1), (0.6, 0.5))),
        ("crop_ratio", ((0.1, 0.1), (1.0, 9.0)), ((0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (math.nan, 1.0))),
        ("decoder_channels", (8, 256, 4096), (7, 4097)),
        ("crop_size", (0, 32, 8192), (-1, 31, 8193)),
        ("ignore", ((), (0, 255), (2**32 - 1,)), ((-1,), (0, 2**32))),
        ("single_class", (0.0, 0.75, 1.0), (-0.1, 1.1)),
        ("boundary", (0.0, 3.0), (-0.1, math.inf)),
        ("auxiliary", (0.0, 0.4), (-0.1, math.nan)),
        ("flip", (0.0, 1.0), (-0.1, 1.1)),
        ("color_jitter", (0.0, 1.0), (-0.1, 1.1)),
        ("rand_augment_ops", (0, 20), (-1, 21)),
        ("rand_augment_magnitude", (0, 30), (-1, 31)),
        ("erase", (0.0, 1.0), (-0.1, 1.1)),
        ("lighting", (0.0, 0.1), (-0.1,)),
        ("mixup", (0.0, 0.2), (-0.1, math.inf)),
        ("cutmix", (0.0, 1.0), (-0.1,)),
        ("jitter", ((0.05, 0.05), (1.0, 20.0)), ((0.0, 1.0), (2.0, 1.0), (1.0, 21.0))),
        ("nms_iou", (0.0, 1.0), (-0.1, 1.1)),
        ("score_threshold", (0.0, 1.0), (-0.1, 1.1)),
        ("threshold", (0.0, 1.0), (-0.1, 1.1)),
        ("proposals", (1, 5000), (0,)),
        ("max_detections", (1, 5000), (0,)),
        ("fpn_channels", (8, 256), (7,)),
        ("repeats", (1, 100), (0,)),
        ("milestones", ((), (1,), (3, 8)), ((0, 3), (8, 3), (3, 3))),
        ("val_fraction", (0.001, 0.9), (0.0, 1.0)),
        ("epochs", (1, 10**6), (0, -1)),
        ("batch_size", (1,), (0,)),
        ("accumulate", (1, 64), (0,)),
        ("layer_decay", (0.01, 1.0), (0.0, 1.1)),
        ("ema", (0.0, 0.999999), (-0.1, 1.0)),
        ("patience", (0, 5), (-1,)),
        ("checkpoint_steps", (0, 5), (-1,)),
        ("log_steps", (0, 5), (-1,)),
        ("devices", (0, 8), (-1, 1025)),
        ("nodes", (0, 64), (-1,)),
        ("lr", (0.0, 10.0), (-0.1, math.nan, math.inf)),
        ("momentum", (0.0, 1.0), (-0.1, 1.1)),
        ("weight_decay", (0.0,), (-1e-9,)),
        ("warmup_epochs", (0.0, 1e3), (-1.0,)),
        ("step_epochs", (1,), (0,)),
        ("label_smoothing", (0.0, 1.0), (-0.1, 1.1)),
        ("clip_grad", (0.0, 5.0), (-1.0,)),
        ("workers", (0, 64), (-1,)),
        ("threads", (0, 64), (-1,)),
        ("seed", (0, 2**32 - 1), (-1, 2**32)),
    ],
)
def test_ranges(name: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        assert getattr(Recipe().replace({name: value}), name) == value
    for value in bad:
        with pytest.raises(InputError, match=f"^{name}=.*must be") as caught:
            Recipe().replace({name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["balanced", "median"])
def test_class_weights_by_name(value: str) -> None:
    assert Recipe().replace({"class_weights": value}).class_weights == value


@pytest.mark.parametrize(("name", "channels"), [("lighting", 1), ("lighting", 4), ("rand_augment_ops", 4)])
def test_colours_are_for_images_that_have_them(name: str, channels: int) -> None:
    with pytest.raises(InputError, match=f"{name}=.* does not work with channels={channels}"):
        Recipe().replace({name: OTHER[name], "channels": channels})


@pytest.mark.parametrize("value", [{"class_weights": "median"}, {"label_smoothing": 0.1}])
def test_what_only_cross_entropy_knows_needs_one(value: dict[str, Any]) -> None:
    (name,) = value
    for loss in ("dice", "0.5*lovasz+focal"):
        with pytest.raises(
            InputError, match=f"^{name}=.*: applies to cross-entropy, and loss={re.escape(loss)} has none"
        ):
            Recipe().replace({"loss": loss, **value})
    terms: list[dict[str, Any]] = [{"loss": "dice+2*cross-entropy"}, {"boundary": 1.0}, {"auxiliary": 0.4}]
    for more in terms:
        assert getattr(Recipe().replace({"loss": "dice", **more, **value}), name) == value[name]


def test_images_in_their_own_size_have_no_largest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_size=640: has no effect with native"):
        Recipe(native=True, max_size=640)
    (tmp_path / "mine.yaml").write_text("native: true\n")
    with pytest.raises(InputError, match="max_size=640: has no effect with native"):
        load_recipe("segment", str(tmp_path / "mine.yaml"), {"max_size": 640})
    assert load_recipe("segment", "small-data").max_size
    assert load_recipe("segment", "small-data", {"native": True}).max_size == 0, "the recipe's own is out of use"
    assert load_recipe("segment", "small-data", None, {"native": True}).max_size == 0


def test_longest_side() -> None:
    assert Recipe(size=96).longest == 160
    assert Recipe(size=96, max_size=128).longest == 128
    assert Recipe(size=96, native=True).longest == 96


# who wins


def test_flag_over_config_over_recipe(trained: list[Recipe], tmp_path: Path, run: Run) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 0.1\nepochs: 10\nflip: 0.1\n")
    (tmp_path / "config.yaml").write_text("lr: 0.2\nepochs: 20\ncrop-scale: [0.5, 0.6]\nquiet: true\n")
    code, _, err = run(
        "train", "classify", "data", "--recipe", tmp_path / "mine.yaml", "--config", tmp_path / "config.yaml",
        "--lr", 0.3,
    )  # fmt: skip
    assert code == 0, err
    assert trained == [Recipe(lr=0.3, epochs=20, flip=0.1, crop_scale=(0.5, 0.6))]


def test_what_weights_bring_yields_to_what_the_user_says(tmp_path: Path) -> None:
    brought = {"backbone": "fishnet_nano", "size": 32, "channels": 1}
    assert load_recipe("classify", "fine-tune", {"channels": 3}, brought) == load_recipe(
        "classify", "fine-tune", {**brought, "channels": 3}
    )
    (tmp_path / "mine.yaml").write_text("size: 64\n")
    found = load_recipe("classify", str(tmp_path / "mine.yaml"), None, brought)
    assert found == Recipe(backbone="fishnet_nano", size=64, channels=1)


def test_a_config_can_name_the_recipe(trained: list[Recipe], tmp_path: Path, run: Run) -> None:
    (tmp_path / "config.yaml").write_text("recipe: quickstart\nepochs: 2\n")
    code, _, err = run("train", "classify", "data", "--config", tmp_path / "config.yaml")
    assert code == 0, err
    assert trained == [load_recipe("classify", "quickstart", {"epochs": 2})]
    run("train", "classify", "data", "--config", tmp_path / "config.yaml", "--recipe", "small-data")
    assert trained[1] == load_recipe("classify", "small-data", {"epochs": 2})


def test_resuming_takes_the_folders_own_recipe(trained: list[Recipe], tmp_path: Path, run: Run) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(mine("classify").to_dict("classify")))
    code, _, err = run("train", "classify", "data", "--resume", tmp_path, "--epochs", 9)
    assert code == 0, err
    assert trained == [dataclasses.replace(mine("classify"), epochs=9)]
