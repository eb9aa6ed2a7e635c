"""Small models of every task head and of sets of heads, random but with something to say, and bundles of them."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fishnet.bundle.bundle import Bundle, HeadConfig, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.images.preprocess import Preprocess
from fishnet.tasks import get_task, task_names
from fishnet.tasks.model import Model
from fishnet.tasks.store import build_from, save_weights, versions
from tests.backbone.helpers import drawn_state

CLASSES = Classes.of(["disc", "ring", "square"])
HEADS = [(task, head) for task in task_names() for head in get_task(task).heads]
NAMES = [f"{task}-{head}" for task, head in HEADS]
_FITS = {"classify": "crop", "segment": "native"}


def made(task: str, head: str, backbone: str = "fishnet_nano", **head_args: object) -> tuple[Bundle, Model]:
    """A model with weights by name.

    Detectors find objects whose scores are spread, and choose among few: a random one's thousands of candidates lie so
    close that roundings choose between them, which no two programs do alike.
    """
    fit = _FITS.get(task, "whole")
    size = (96, 96) if task == "classify" else (96, 160)
    if fit == "whole":
        head_args = {"proposals": 40, "max_detections": 20, **head_args}
    bundle = Bundle.single(
        task,
        backbone,
        CLASSES,
        Preprocess(size, fit=fit),  # type: ignore[arg-type]
        head,
        head_args=dict(head_args),
        thresholds={"score": 0.3} if fit == "whole" else {},
        versions=versions(),
    )
    return bundle, _built(bundle)


def _built(bundle: Bundle) -> Model:
    """A bundle's model with weights by their names in bundles of schema 3, in evaluation mode."""
    model = build_from(bundle)
    torch.manual_seed(0)
    state = {f"trunk.backbone.{name}": value for name, value in _drawn(model.trunk.backbone, "trunk.").items()}
    for head, module in model.heads.items():
        state |= {f"heads.{head}.{name}": value for name, value in drawn_state(module).items()}
    model.load_state_dict(state)
    for name, module in model.named_modules():
        if name.endswith(("cls_logits", "cls_score")) and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
            nn.init.constant_(module.bias, -1.0)  # type: ignore[arg-type]
    return model.eval()


def _drawn(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """:func:`drawn_state` of a module whose names begin with a prefix, from which the values are drawn."""
    state = drawn_state(nn.ModuleDict({prefix.removesuffix("."): module}))
    return {name.removeprefix(prefix): value for name, value in state.items()}


_DETECTOR = {"width": 32, "box_width": 32, "mask_width": 16, "proposals": 40, "max_detections": 20}
_OBJECTS = Classes(("berry", "leaf", "stone"), (3, 7, 11))
_MAPS = Classes(("ground", "berry"), (0, 5))
_STUFF = Classes(("things", "ground", "sky"), (0, 20, 30))
_CLASSIFIER = HeadConfig("classify", Classes.of(["blue", "green", "red", "white"]))
_SEGMENTER = HeadConfig("segment", _MAPS, "body", {"width": 16})
SETS: dict[str, dict[str, HeadConfig]] = {
    "maps": {"classify": _CLASSIFIER, "segment": _SEGMENTER},
    "two-stage": {
        "classify": _CLASSIFIER,
        "detect": HeadConfig("detect", _OBJECTS, "faster-rcnn", _DETECTOR, {"score": 0.3}),
        "segment": _SEGMENTER,
    },
    "one-stage": {
        "detect": HeadConfig("detect", _OBJECTS, "retinanet", _DETECTOR, {"score": 0.3}),
        "segment": HeadConfig("segment", _MAPS, "fish", {"width": 16}),
        "classify": _CLASSIFIER,
    },
    "panoptic": {
        "instances": HeadConfig("instances", _OBJECTS, "mask-rcnn", _DETECTOR, {"score": 0.3}),
        "segment": replace(_SEGMENTER, classes=_STUFF),
    },
    "classifiers": {"species": _CLASSIFIER, "age": HeadConfig("classify", Classes.of(["old", "young"]), "linear")},
    "two-of-a-kind": {"soil": _SEGMENTER, "health_2": HeadConfig("segment", CLASSES, "body", {"width": 16})},
}


def made_set(name: str, backbone: str = "fishnet_nano") -> tuple[Bundle, Model]:
    """A model with one of :data:`SETS` of heads, with weights by name."""
    stuff = Classes(_STUFF.names[1:], _STUFF.ids[1:])
    bundle = Bundle(
        backbone,
        SETS[name],
        Preprocess((96, 160), fit="whole"),
        versions=versions(),
        panoptic=PanopticConfig.of(_OBJECTS, stuff, score_threshold=0.3) if name == "panoptic" else None,
    )
    return bundle, _built(bundle)


def bundle_of(folder: Path, task: str, head: str, **args: object) -> Path:
    """:func:`made` as a bundle on the disk."""
    bundle, model = made(task, head, **args)  # type: ignore[arg-type]
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return folder


def bundle_of_set(folder: Path, name: str) -> Path:
    """:func:`made_set` as a bundle on the disk."""
    bundle, model = made_set(name)
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return folder
