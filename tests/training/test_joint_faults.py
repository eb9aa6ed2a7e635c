"""Faults of joint trainings that a review turned up: each has its test."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

import fishnet
from fishnet.bundle.bundle import Bundle, HeadConfig, read_bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.classification.open import open_classification
from fishnet.data.joint.holding import hold_out_by_name
from fishnet.data.joint.identity import file_identity
from fishnet.errors import InputError
from fishnet.evaluation.options import EvalOptions
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from fishnet.recipes.joint_recipe import load_joint_recipe
from fishnet.recipes.recipe import Recipe
from fishnet.tasks import get_task
from fishnet.tasks.joint import open_head
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import save_weights, start_from
from fishnet.training.plan import build_model
from tests.joint_makers import joint_data
from tests.panoptic_makers import coco_panoptic

SETTINGS = {"backbone": "fishnet_nano", "size": 32, "epochs": 1, "batch_size": 4, "workers": 0, "val_fraction": 0.25}


def class_folders(root: Path, name: str, classes: int = 2, count: int = 12) -> Path:
    """Folders of grey images, named after their class (``{label}``) and number (``{number}``)."""
    for label in range(classes):
        for number in range(count):
            path = root / f"class{label}" / name.format(label=label, number=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((32, 32, 3), 20 + 100 * (label % 2) + number, np.uint8)
            pixels[0, 0] = list(crc32(str(path).encode()).to_bytes(4)[:3])  # no two files are copies
            Image.fromarray(pixels).save(path)
    return root


def sources(dataset: ImageDataset) -> set[str]:
    return {dataset.source(index) for index in range(len(dataset))}


class TestEvaluationMeasuresOnHeldOutImages:
    def test_of_a_joint_training_with_one_head(self, tmp_path: Path) -> None:
        data = str(class_folders(tmp_path / "data", "{label}-{number:03d}.png"))
        fishnet.train("joint", {"classify": data}, out=tmp_path / "out", quiet=True, log=lambda _: None, **SETTINGS)
        recipe = load_joint_recipe(None, {"classify": data}, SETTINGS)
        trained = open_head(get_task("classify"), data, 3, recipe.heads[0].recipe)
        evaluation = fishnet.evaluate(tmp_path / "out")
        assert not sources(evaluation.dataset) & sources(trained["train"])
        assert sources(evaluation.dataset) == sources(trained["val"])


class TestKeptHeads:
    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        return str(class_folders(tmp_path_factory.mktemp("data"), "{label}-{number:03d}.png"))

    def test_a_recipe_with_kept_heads_needs_their_weights(self, data: str, tmp_path: Path) -> None:
        """Otherwise a recipe.yaml of such a training would start another one with random heads, kept as they are."""
        first, second = tmp_path / "first", tmp_path / "second"
        classes = load_joint_recipe(None, {"classify": data}, SETTINGS)
        fishnet.train("joint", {"classify": data}, out=first, quiet=True, log=lambda _: None, **SETTINGS)
        recipe = {**classes.to_dict(), "keep_heads": True, "freeze": "trunk"}
        recipe["kept"] = {name: head.to_dict() for name, head in read_bundle(first).heads.items()}
        recipe["heads"] = {"again": {"task": "classify", "data": data}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        with pytest.raises(InputError, match="keep_heads: the weights of the kept heads are missing"):
            fishnet.train("joint", recipe=tmp_path / "recipe.yaml", out=second, quiet=True, log=lambda _: None)
        assert not second.exists()

    def test_they_need_the_channels_of_their_bundle(self, data: str, tmp_path: Path) -> None:
        heads = {"light": HeadConfig("classify", Classes.of(["a", "b"]), "linear")}
        bundle = Bundle("fishnet_nano", heads, Preprocess((32, 32)))
        model = Model.build(ModelSpec("fishnet_nano", heads))
        write_bundle(tmp_path / "kept", bundle, lambda path: save_weights(model, path))
        settings = {**SETTINGS, "keep_heads": True, "freeze": "trunk", "channels": 1}
        with pytest.raises(InputError, match="channels=1: the kept heads need images of 3 channels"):
            fishnet.train(
                "joint", {"classify": data}, weights=tmp_path / "kept", out=tmp_path / "out", quiet=True, **settings
            )

    def test_a_kept_head_without_its_classes(self, data: str, tmp_path: Path) -> None:
        text = (
            f"freeze: trunk\nkeep_heads: true\nkept: {{x: {{task: classify}}}}\nheads: {{classify: {{data: {data}}}}}\n"
        )
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(InputError, match=r"kept: x: is not a head's config, or incomplete \('classes'\)"):
            fishnet.train("joint", recipe=tmp_path / "recipe.yaml", out=tmp_path / "out")


def test_more_heads_than_a_bundle_can_hold(tmp_path: Path) -> None:
    """Otherwise the training would end with a bundle that cannot be opened."""
    text = "heads:\n" + "".join(f"  head{i}: {{task: classify, data: data{i}}}\n" for i in range(65))
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match="heads: 65 heads: a model has at most 64"):
        load_joint_recipe(str(tmp_path / "recipe.yaml"))


class TestHoldOut:
    @pytest.mark.parametrize("count", [1, 3])
    def test_images_of_several_folders_with_one_name_are_held_out_apart(self, count: int, tmp_path: Path) -> None:
        """Otherwise nearly all images or a single one would be held out: here each name occurs in 40 folders."""
        folder = class_folders(tmp_path, "{number}.png", classes=40, count=count)
        dataset = open_classification(str(folder), 3, val_fraction=0.1, seed=0, keep_splits=True)["all"]
        rest, out = hold_out_by_name(dataset, 0.25, 0)
        assert len(rest) + len(out) == 40 * count
        assert 0.1 < len(out) / (40 * count) < 0.4  # binomial: 40 images have a standard deviation of 0.07


@pytest.mark.parametrize("heads", [1, 2])
def test_norms_of_several_heads_are_not_synchronized(heads: int) -> None:
    """A head without an annotated image in one process does not run there: the others would wait for it for ever."""
    config = HeadConfig("classify", Classes.of(["a", "b"]), "linear")
    recipe = Recipe().replace({"backbone": "fishnet_nano", "size": 32, "sync_bn": True})
    spec = ModelSpec("fishnet_nano", {f"head{number}": config for number in range(heads)})
    model, _, _ = build_model(spec, recipe, None, print)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.trunk.modules())
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.heads.modules()) == (heads == 1)


class TestOptionsOfEvaluations:
    """Every option applies to the head that has it, or is refused."""

    def test_the_threshold_of_labels_beside_another_head(self) -> None:
        classes = Classes.of(["a", "b"])
        heads = {
            "tags": HeadConfig("classify", classes, "linear", {"multi_label": True}),
            "light": HeadConfig("classify", classes, "linear"),
        }
        bundle = Bundle("fishnet_nano", heads, Preprocess((32, 32)))
        options = EvalOptions(None, None, 0, {"tile": None}, 0.7, None, {}, None)
        assert options.of_head(bundle, "tags").threshold == 0.7
        assert options.of_head(bundle, "light").threshold is None

    @pytest.fixture(scope="class")
    @classmethod
    def panoptic(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A model that was trained on two of the data's three classes."""
        root = tmp_path_factory.mktemp("panoptic")
        data = coco_panoptic(root / "data", train=4, val=2)
        settings = {**SETTINGS, "size": 64, "max_size": 64, "proposals": 20, "roi_samples": 16}
        settings |= {"classes": ["berry", "leaf"], "fpn_channels": 16, "box_width": 16}
        fishnet.train("panoptic", str(data), out=root / "out", quiet=True, log=lambda _: None, **settings)
        return root / "out"

    def test_a_panoptic_model_of_some_classes_is_measured_on_its_data(self, panoptic: Path) -> None:
        evaluation = fishnet.evaluate(panoptic)
        assert evaluation.panoptic is not None
        assert [row["class"] for row in evaluation.panoptic.rows] == ["berry", "leaf"]

    def test_segments_are_measured_in_tiles_too(self, panoptic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given = []
        predict = Predictor.predict

        def spied(self: Predictor, images: Any, **options: Any) -> Any:
            given.append(options)
            return predict(self, images, **options)

        monkeypatch.setattr(Predictor, "predict", spied)
        fishnet.evaluate(panoptic, tile=32)
        assert given
        assert all(options["tile"] == 32 for options in given)

    def test_a_panoptic_model_with_another_head_still_merges_segments(self, panoptic: Path, tmp_path: Path) -> None:
        data = str(class_folders(tmp_path / "data", "{label}-{number:03d}.png"))
        settings = {**SETTINGS, "size": 64, "keep_heads": True, "freeze": "trunk"}
        out = tmp_path / "out"
        fishnet.train(
            "joint", {"classify": data}, weights=panoptic, out=out, quiet=True, log=lambda _: None, **settings
        )
        fishnet.train("joint", resume=out, epochs=2, quiet=True, log=lambda _: None)
        assert read_bundle(out).panoptic == read_bundle(panoptic).panoptic
        image = np.zeros((64, 64, 3), np.uint8)
        before, after = (fishnet.load(folder).predict(image).to_dict() for folder in (panoptic, out))
        assert {name: after[name] for name in before} == before
        assert after.keys() == {*before, "classify"}

    def test_options_of_reading_are_refused_for_panoptic_data(self, panoptic: Path) -> None:
        with pytest.raises(InputError, match="classes: changes how data is read, and panoptic data cannot use it"):
            fishnet.evaluate(panoptic, classes=["berry"])


def test_weights_of_another_backbone_are_named_so(tmp_path: Path) -> None:
    """A segmenter on the body beside a detector does not make the trunk end with the body."""
    classes = Classes.of(["a", "b"])
    heads = {"segment": HeadConfig("segment", classes, "body"), "light": HeadConfig("classify", classes, "linear")}
    spec = ModelSpec("fishnet_nano", heads)
    bundle = Bundle("fishnet_nano", heads, Preprocess((64, 64), fit="whole"))
    write_bundle(tmp_path / "nano", bundle, lambda path: save_weights(Model.build(spec), path))
    other = replace(spec, backbone="fishnet_tiny")
    with pytest.raises(InputError, match=r"nano is a fishnet_nano: give backbone=fishnet_nano and size=64"):
        start_from(Model.build(other), str(tmp_path / "nano"), other)


def test_files_are_told_apart_where_the_file_system_has_no_inodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of their inodes are 0 there: without their paths, images would get the targets of others."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path: SimpleNamespace(st_dev=stat(path).st_dev, st_ino=0, st_size=0))
    first, second, link = (file_identity(str(tmp_path / name)) for name in ("a.png", "b.png", "link.png"))
    assert first == link != second


def test_a_head_that_is_never_drawn_is_refused(tmp_path: Path) -> None:
    first, second = (str(class_folders(tmp_path / name, "{label}-{number:03d}.png")) for name in ("a", "b"))
    recipe = tmp_path / "tasks.yaml"
    heads = {
        "age": {"task": "classify", "data": first},
        "kind": {"task": "classify", "data": second, "classes": ["class0", "class1"]},
    }
    sampling = {"age": 1, "kind": 0}
    recipe.write_text(yaml.safe_dump({**SETTINGS, "val_fraction": 0.25, "heads": heads, "sampling": sampling}))
    with pytest.raises(InputError, match="sampling: kind: its weight is 0"):
        fishnet.train("joint", recipe=recipe, out=tmp_path / "out", quiet=True, log=lambda _: None)


def test_evaluating_other_data_is_said_in_python_too(tmp_path: Path) -> None:
    data, other = (str(class_folders(tmp_path / name, f"{name}{{label}}-{{number:03d}}.png")) for name in ("a", "b"))
    fishnet.train("classify", data, out=tmp_path / "out", quiet=True, log=lambda _: None, **SETTINGS)
    assert not fishnet.evaluate(tmp_path / "out", data).warnings
    (line,) = fishnet.evaluate(tmp_path / "out", other).warnings
    assert "was not recognised as this bundle's training data" in line


def test_a_heads_keys_are_those_of_the_weights(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 8)
    settings = {**SETTINGS, "size": 64, "quiet": True, "log": lambda _: None}
    fishnet.train("detect", data["detect"], head="retinanet", fpn_channels=16, out=tmp_path / "first", **settings)
    lines: list[str] = []
    both = {name: data[name] for name in ("classify", "detect")}
    fishnet.train("joint", both, weights=tmp_path / "first", out=tmp_path / "out", **{**settings, "log": lines.append})
    head = read_bundle(tmp_path / "out").heads["detect"]
    assert (head.head, head.head_args["width"]) == ("retinanet", 16)
    assert any(line.startswith("detect: head: ") and "left out" not in line for line in lines)


def test_a_kept_head_is_measured_on_the_images_held_out_from_it(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 12)
    settings = {**SETTINGS, "size": 64, "quiet": True, "log": lambda _: None}
    fishnet.train("segment", data["segment"], head="fish", out=tmp_path / "first", decoder_channels=16, **settings)
    before = fishnet.evaluate(tmp_path / "first", data["segment"])
    new = {"classify": data["classify"]}
    fishnet.train(
        "joint", new, weights=tmp_path / "first", out=tmp_path / "out", keep_heads=True, freeze="trunk",
        **{**settings, "backbone": "fishnet_nano"},
    )  # fmt: skip
    after = fishnet.evaluate(tmp_path / "out", {"segment": data["segment"]}).heads["segment"]
    assert after.split == before.split == "val"
    assert sources(after.dataset) == sources(before.dataset)
    assert after.metrics == before.metrics


def test_a_segmenter_that_ends_with_the_body_starts_a_joint_training(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 8)
    settings = {**SETTINGS, "size": 64, "quiet": True, "log": lambda _: None}
    fishnet.train("segment", data["segment"], out=tmp_path / "first", decoder_channels=16, **settings)
    lines: list[str] = []
    both = {name: data[name] for name in ("detect", "segment")}
    fishnet.train(
        "joint", both, weights=tmp_path / "first", out=tmp_path / "out", fpn_channels=16, box_width=32, dry_run=True,
        **{**settings, "log": lines.append},
    )  # fmt: skip
    assert any("ends with the body: the fish's head, of" in line for line in lines)
    assert any("segment: head: " in line for line in lines)
