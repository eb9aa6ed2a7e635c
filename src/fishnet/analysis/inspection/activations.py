"""What an image activates: the strongest channels of each stage, and Grad-CAM, on one sheet.

Grad-CAM is that of Selvaraju et al. (ICCV 2017, arXiv 1610.02391): the channels of the last stage's map, each weighted
by the mean of the predicted class's gradient over the map, summed, and cut off below 0. The last stage is the last one
whose output has the form of a map.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.analysis.inspection.stages import SCORE, walk
from fishnet.analysis.inspection.subject import Subject
from fishnet.backbone.fishnet import FishNet
from fishnet.prediction.drawing.panels import card, sheet
from fishnet.prediction.inputs import load_image, prepare_input
from fishnet.tasks.info import task_info

_CHANNELS = 5  # of each stage
_SIDE = 160  # px of a tile
_INK = (40, 40, 40)
_OPACITY = 0.55  # of the Grad-CAM's heat over the image


@dataclass(frozen=True)
class Activations:
    """What one image activates in a model.

    Attributes:
        channels: for each stage that has maps, its strongest channels and their root mean squares, strongest first.
        predicted: class and score (0..1) of a classifier; None for other models.
        sheet: the image, Grad-CAM if there is a class, and the channels.
    """

    channels: dict[str, list[tuple[int, float]]]
    predicted: tuple[str, float] | None
    sheet: Image.Image


def activations(subject: Subject, photo: Path) -> Activations:
    """Runs a model on one image.

    Raises:
        InputError: the image cannot be read.
    """
    prepared = prepare_input(subject.preprocess, load_image(str(photo), subject.preprocess, None))
    pixels = torch.from_numpy(subject.preprocess.normalize(prepared.pixels[None])).requires_grad_()
    network = subject.build().eval()
    steps = walk(network)
    with steps.follow(network), torch.enable_grad():
        scores = network(pixels)
    maps = {name: _as_maps(network, name, output) for name, output in steps.outputs.items() if name != SCORE}
    shown = {name: found for name, found in maps.items() if found is not None}
    image = _shown(prepared.pixels)
    tiles, predicted = [card(image, [("input", photo.name, _INK)], _SIDE)], None
    is_classifier = bool(subject.task) and task_info(subject.task).output == "scores"
    if is_classifier and scores.ndim == 2 and getattr(network, "num_classes", 1):
        last = next(reversed(shown), None)
        predicted, heat = _grad_cam(subject, network, scores, last, None if last is None else steps.outputs[last])
        if heat is not None:
            overlay = Image.blend(image, _colours(heat, image.size), _OPACITY)
            label = f"{100 * predicted[1]:.0f} %"
            tiles.append(card(overlay, [(f"Grad-CAM: {predicted[0]}", label, _INK)], _SIDE))
    tiles += [Image.new("RGB", tiles[0].size, "white")] * (_CHANNELS - len(tiles))
    channels: dict[str, list[tuple[int, float]]] = {}
    for name, found in shown.items():
        planes = found[0].detach()
        strength = planes.square().mean((1, 2)).sqrt()
        best = strength.argsort(descending=True)[:_CHANNELS].tolist()
        channels[name] = [(number, round(float(strength[number]), 4)) for number in best]
        own = [
            card(_colours(planes[number].numpy(), image.size), [(name, f"channel {number}", _INK)], _SIDE)
            for number in best
        ]
        tiles += own + [Image.new("RGB", tiles[0].size, "white")] * (_CHANNELS - len(own))
    return Activations(channels, predicted, sheet(tiles, _CHANNELS))


def _as_maps(network: nn.Module, stage: str, output: Tensor) -> Tensor | None:
    """A stage's output as (batch, channels, height, width); None if it has another form, such as rows of tokens."""
    if output.ndim != 4:
        return None
    if isinstance(network, FishNet):
        return output
    infos: Any = getattr(network, "feature_info", None) or ()
    counts = {str(info["module"]): info["num_chs"] for info in infos}
    is_last = counts.get(stage) == output.shape[3] != output.shape[1]
    return output.permute(0, 3, 1, 2) if is_last else output


def _grad_cam(
    subject: Subject, network: nn.Module, scores: Tensor, stage: str | None, output: Tensor | None
) -> tuple[tuple[str, float], NDArray[np.float32] | None]:
    """The predicted class with its score, and the heat of the last stage that has maps, if there is one."""
    best = int(scores[0].argmax())
    state = "" if subject.is_trained else " (untrained)"
    label = subject.classes[best] if subject.is_bundle else f"class {best}{state}"
    predicted = label, float(scores.detach().softmax(1)[0, best])
    if stage is None or output is None:
        return predicted, None
    (gradient,) = torch.autograd.grad(scores[0, best], output)
    maps, slopes = (_as_maps(network, stage, each) for each in (output.detach(), gradient))
    assert maps is not None
    assert slopes is not None
    heat = (slopes.mean((2, 3), keepdim=True) * maps).sum(1)[0].relu()
    return predicted, heat.numpy()


def _shown(pixels: NDArray[Any]) -> Image.Image:
    """The network's input (channels, height, width) as an image; of other channels than three the first in grey."""
    plane = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    if plane.dtype != np.uint8:
        span = float(np.ptp(plane)) or 1.0
        plane = ((plane - plane.min()) / span * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(plane)).convert("RGB")


def _colours(values: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """A map in colours from its smallest to its largest value, enlarged to ``size`` (width, height)."""
    from matplotlib import colormaps

    enlarged = F.interpolate(torch.from_numpy(values)[None, None], size=size[::-1], mode="bilinear")[0, 0].numpy()
    low, high = float(enlarged.min()), float(enlarged.max())
    scaled = (enlarged - low) / (high - low) if high > low else np.zeros_like(enlarged)
    return Image.fromarray((colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8))
