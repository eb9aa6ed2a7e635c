"""Exported files for tests, written once, and how results of two engines are compared."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fishnet.bundle.bundle import Bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.exporting.graphs import exporters, write_onnx, write_openvino, write_pt2
from fishnet.prediction.inputs import prepare_input
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Classification, Detections, Result, Segmentation
from fishnet.runtime.engines import read_exported
from fishnet.tasks.engine import TorchEngine
from fishnet.tasks.model import Model
from fishnet.tasks.store import save_weights
from tests import detection_makers, makers, segmentation_makers
from tests.exporting.models import made, made_set

CLASSES = {
    "classify": Classes.of(makers.CLASSES),
    "detect": Classes(detection_makers.KINDS, (3, 7, 11)),
    "instances": Classes(detection_makers.KINDS, (3, 7, 11)),
    "segment": Classes.of(segmentation_makers.KINDS),
}
_SMALL: dict[str, dict[str, Any]] = {
    "classify": {},
    "detect": {"width": 64, "box_width": 64},
    "instances": {"width": 64, "box_width": 64, "mask_width": 32},
    "segment": {"width": 32},
}
SIZES = ((90, 80), (64, 110), (90, 80), (150, 97))  # width and height of images, px; two are alike


@dataclass(frozen=True)
class Files:
    """A model in memory and the files that it was exported to.

    Attributes:
        folder: of the files; the bundle's own too.
        bundle, model: what was exported.
    """

    folder: Path
    bundle: Bundle
    model: Model

    @property
    def torch(self) -> Predictor:
        """The predictor by torch."""
        return Predictor(self.bundle, TorchEngine(self.bundle, self.model, "cpu"))

    def path(self, form: str) -> Path:
        """A file, written when it is first asked for."""
        path = self.folder / f"model.{form}"
        if not path.exists():
            if form == "onnx":
                # the last exporter takes a twentieth of the time of the first, which this head and the command try
                first = [head.head for head in self.bundle.heads.values()] == ["upernet"]
                write_onnx(self.model, self.bundle, path, exporters(self.model)[0 if first else -1])
            elif form == "xml":
                onnx = self.path("onnx")
                write_openvino(onnx, path, read_exported(onnx))
            else:
                write_pt2(self.model, self.bundle, path)
        return path


Store = Callable[[str, str], Files]


def store(root: Path) -> Store:
    """What makes the files of a task and head below a folder, once."""

    @cache
    def files(task: str, head: str) -> Files:
        bundle, model = made(task, head, **_SMALL[task])
        _spread(model, bundle)
        bundle = replace(bundle, heads={task: replace(bundle.heads[task], classes=CLASSES[task])})
        folder = root / f"{task}-{head}"
        return Files(folder, write_bundle(folder, bundle, lambda path: save_weights(model, path)), model)

    return files


def set_store(root: Path) -> Callable[[str], Files]:
    """What makes the files of a set of heads (:data:`~tests.exporting.models.SETS`) below a folder, once."""

    @cache
    def files(name: str) -> Files:
        bundle, model = made_set(name)
        _spread(model, bundle)
        return Files(root / name, write_bundle(root / name, bundle, lambda path: save_weights(model, path)), model)

    return files


@torch.no_grad()
def _spread(model: Model, bundle: Bundle) -> None:
    """Has a random model doubt: each class wins somewhere, and no score is so high that others are equal to it."""
    layers = [
        module
        for name, module in model.named_modules()
        if name.endswith(("cls_logits", "cls_score", "scores")) and isinstance(module, nn.Conv2d | nn.Linear)
    ]
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [layer.register_forward_hook(lambda layer, _, out: seen[layer].append(out)) for layer in layers]
    for image in images(next(iter(bundle.heads.values())).task if len(bundle.heads) == 1 else "detect"):
        given = prepare_input(bundle.preprocess, image)
        model(torch.from_numpy(bundle.preprocess.normalize(given.pixels[None])))
    for hook in hooks:
        hook.remove()
    for layer, outputs in seen.items():
        if not outputs:  # auxiliary scores
            continue
        values = torch.cat([out.movedim(1, -1).flatten(0, -2) for out in outputs])
        factor = 1.5 / values.std(0)
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))  # type: ignore[union-attr, operator]
        layer.bias.copy_((layer.bias - values.mean(0)) * factor)  # type: ignore[union-attr, operator]


def images(task: str) -> list[Image.Image]:
    """Of several sizes, with what the task is about."""
    if task == "classify":
        return [makers.image(makers.CLASSES[i % 3], i, size) for i, size in enumerate(SIZES)]
    if task == "segment":
        return [segmentation_makers.scene(i, size).image for i, size in enumerate(SIZES)]
    return [detection_makers.scene(i, size).image for i, size in enumerate(SIZES)]


def assert_alike(ours: Result, theirs: Result) -> None:
    """Results of two engines: rounding alone may differ, and where two classes are equally likely a px's label."""
    assert type(ours) is type(theirs)
    if isinstance(ours, Classification) and isinstance(theirs, Classification):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    elif isinstance(ours, Segmentation) and isinstance(theirs, Segmentation):
        assert ours.size == theirs.size
        assert (ours.labels == theirs.labels).mean() >= 0.999
    else:
        assert isinstance(ours, Detections)
        assert isinstance(theirs, Detections)
        _assert_objects_alike(ours, theirs)


def _assert_objects_alike(ours: Detections, theirs: Detections) -> None:
    """One to one; in what order where two scores differ by less than rounding does is no matter."""
    assert (ours.size, len(ours)) == (theirs.size, len(theirs))
    partner = []
    for box, label in zip(theirs.boxes, theirs.labels, strict=True):
        away = np.abs(ours.boxes - box).max(1) + np.where(ours.labels == label, 0, np.inf)
        away[partner] = np.inf
        partner.append(int(away.argmin()))
        assert away[partner[-1]] < 0.05, f"label {label} at {box}"
    np.testing.assert_allclose(ours.scores[partner], theirs.scores, atol=1e-4)
    _assert_masks_alike(ours.take(np.array(partner, np.int64)), theirs)


def _assert_masks_alike(ours: Detections, theirs: Detections) -> None:
    if theirs.cropped_masks is None or ours.cropped_masks is None:
        assert ours.cropped_masks is theirs.cropped_masks
        return
    assert len(ours.cropped_masks) == len(theirs.cropped_masks)
    for one, other in zip(ours.cropped_masks, theirs.cropped_masks, strict=True):
        assert (one.left, one.top, one.bits.shape) == (other.left, other.top, other.bits.shape)
        assert (one.bits == other.bits).mean() >= 0.995
