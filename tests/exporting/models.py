"""Small models of every task head, random but with something to say, and bundles of them."""

from pathlib import Path

import torch
from torch import nn

from fishnet.bundle.bundle import Bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.tasks import get_task, task_names
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import current_names, save_weights, versions
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
    model = Model.build(ModelSpec.single(task, backbone, CLASSES, 3, head, head_args))
    torch.manual_seed(0)
    state = drawn_state(nn.ModuleDict({"trunk": model.trunk.backbone}))  # by the names that bundles of schema 3 have
    state |= drawn_state(model.heads[task])
    model.load_state_dict(current_names(state, task))
    for name, module in model.named_modules():
        if name.endswith(("cls_logits", "cls_score")) and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
            nn.init.constant_(module.bias, -1.0)  # type: ignore[arg-type]
    return bundle, model.eval()


def bundle_of(folder: Path, task: str, head: str, **args: object) -> Path:
    """:func:`made` as a bundle on the disk."""
    bundle, model = made(task, head, **args)  # type: ignore[arg-type]
    write_bundle(folder, bundle, lambda path: save_weights(model, path))
    return folder
