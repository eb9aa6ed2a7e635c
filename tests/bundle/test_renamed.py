"""Keys under the names of earlier versions, in bundles and recipe files."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fishnet.bundle.bundle import CONFIG, Bundle, read_bundle
from fishnet.bundle.renamed import DATA_KEYS, KEYS, with_current_keys
from fishnet.errors import InputError
from fishnet.recipes.loading import load_recipe
from fishnet.recipes.recipe import Recipe
from tests.bundle.test_bundle import kept
from tests.cli.test_bad_input import says
from tests.conftest import Run

OLD: dict[str, Any] = {"samples": 64, "detections": 300, "nms": 0.6, "floor": 0.01}
NEW = {KEYS[name]: value for name, value in OLD.items()}


def old_keys(values: dict[str, Any], names: dict[str, str] = KEYS) -> dict[str, Any]:
    """The inverse of :func:`with_current_keys`."""
    old = {new: name for name, new in names.items()}
    return {old.get(name, name): value for name, value in values.items()}


def old_config(values: dict[str, Any]) -> dict[str, Any]:
    """A bundle's config with the keys of earlier versions."""
    heads = {name: {**head, "head_args": old_keys(head["head_args"])} for name, head in values["heads"].items()}
    recipe, data = old_keys(values["recipe"]), old_keys(values["data"], DATA_KEYS)
    return {**values, "heads": heads, "recipe": recipe, "data": data}


class TestKeys:
    def test_old_keys_get_their_current_names(self) -> None:
        assert with_current_keys({**OLD, "lr": 0.1}, "here") == {**NEW, "lr": 0.1}

    def test_current_keys_stay(self) -> None:
        assert with_current_keys(NEW, "here") == NEW

    @pytest.mark.parametrize("old", KEYS)
    def test_both_names_are_refused(self, old: str) -> None:
        with pytest.raises(InputError, match=f"^here: {old} is the old name of {KEYS[old]}: give only {KEYS[old]}$"):
            with_current_keys({old: 1, KEYS[old]: 1}, "here")

    def test_every_new_name_is_a_recipe_key(self) -> None:
        assert set(KEYS.values()) <= set(Recipe.__dataclass_fields__)
        assert not set(KEYS) & set(Recipe.__dataclass_fields__)


class TestRecipeFiles:
    @pytest.mark.parametrize("task", ["detect", "instances"])
    def test_old_keys(self, task: str, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(OLD))
        assert load_recipe(task, str(file)) == Recipe().replace(NEW)
        assert load_recipe(task, str(file), {"nms_iou": 0.4}).nms_iou == 0.4, "overrides have the current names"

    def test_both_names_are_one_line(self, tmp_path: Path, run: Run) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("nms: 0.6\nnms_iou: 0.5\n")
        done = run("train", "detect", tmp_path, "--recipe", file)
        says(done, 2, f"{file}: nms is the old name of nms_iou: give only nms_iou")

    def test_an_old_key_of_another_task(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("nms: 0.6\n")
        with pytest.raises(InputError, match="nms_iou: is for detect and instances, not for segment"):
            load_recipe("segment", str(file))

    @pytest.mark.parametrize(("old", "offered"), [("nms", "nms-iou"), ("samples", "roi-samples")])
    def test_flags_have_current_names_only(self, old: str, offered: str, tmp_path: Path, run: Run) -> None:
        says(run("train", "detect", tmp_path, f"--{old}", "0.5"), 2, f"--{old}", f"--{offered}")

    def test_overrides_have_current_names_only(self) -> None:
        with pytest.raises(InputError, match=re.escape("unknown key 'detections': did you mean max_detections?")):
            load_recipe("detect", overrides={"detections": 10})


class TestBundles:
    def test_a_kept_bundle(self) -> None:
        values = json.loads((kept(2) / CONFIG).read_text())
        bundle = read_bundle(kept(2))
        for old, new in KEYS.items():
            assert bundle.head_args[new] == values["head_args"][old]
            assert bundle.recipe[new] == values["recipe"][old]
            assert old not in {**bundle.head_args, **bundle.recipe}
        assert bundle.data == {"place": values["data"]["place"], "images": values["data"]["pictures"]}

    def test_old_and_new_configs_are_the_same_bundle(self) -> None:
        values = read_bundle(kept(2)).to_dict()
        assert "pictures" in old_config(values)["data"]
        assert Bundle.from_dict(old_config(values)) == Bundle.from_dict(values)

    @pytest.mark.parametrize(
        ("key", "old", "words"),
        [
            ("recipe", {"nms": 0.5}, "recipe: nms is the old name of nms_iou"),
            ("head_args", {"floor": 0.1}, "head_args: floor is the old name of score_threshold"),
            ("data", {"pictures": "0"}, "data: pictures is the old name of images"),
        ],
    )
    def test_both_names_are_refused(self, key: str, old: dict[str, Any], words: str, tmp_path: Path, run: Run) -> None:
        folder = Path(shutil.copytree(kept(2), tmp_path / "mine"))
        values = read_bundle(folder).to_dict()
        (values["heads"]["instances"] if key == "head_args" else values)[key].update(old)
        (folder / CONFIG).write_text(json.dumps(values))
        says(run("info", folder), 2, "config.json", words)
