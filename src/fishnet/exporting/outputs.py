"""What an exported graph computes: the outputs of every head of a model, as a flat tuple."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.exporting.detections import batched_detections
from fishnet.exporting.folding import folded
from fishnet.runtime.exported import BOXES, LOGITS, MASKS, RAW, Exported
from fishnet.tasks.detection.heads import Detector, OneStage
from fishnet.tasks.model import Model
from fishnet.tasks.trunk import Features

EXAMPLE = 2, 96, 128  # batch, height and width of the example input; none of them 1, all different


class Outputs(nn.Module):
    """A model with the outputs of an exported file.

    Args:
        model: any heads.
        heads: the names of each head's outputs, see :attr:`~fishnet.runtime.exported.Exported.heads`. A detector gives
            the objects of one image, those of a batch in as many rows each (one-stage heads, see
            :mod:`fishnet.exporting.detections`), or its head's raw outputs, each (1, anchors of all levels, values).
    """

    def __init__(self, model: Model, heads: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.model, self.names, self.in_rows = model, dict(heads), takes_batches(model)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Maps normalized images (batch, channels, height, width) to the outputs, head by head."""
        features = self.model.features(images)
        outputs = [
            value
            for head, names in self.names.items()
            for value in self._values(self.model.heads[head], features, names)
        ]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _values(self, head: Any, features: Features, names: tuple[str, ...]) -> list[Tensor]:
        if names == LOGITS:
            return [head(features)]
        if names in RAW.values():
            raw: dict[str, Tensor] = head.net.head(list(head.pyramid(features).values()))
            return [raw[name] for name in names]
        if isinstance(head, OneStage) and self.in_rows:
            detections = batched_detections(head, features)
        else:
            (detections,) = head(features)
        return [detections[name] for name in names]


def outputs_of(model: Model) -> dict[str, tuple[str, ...]]:
    """Returns the names of the outputs of each head of an exported model."""
    return {name: _outputs_of(head) for name, head in model.heads.items()}


def _outputs_of(head: nn.Module) -> tuple[str, ...]:
    if not isinstance(head, Detector):
        return LOGITS
    return MASKS if getattr(head, "with_masks", False) else BOXES


def only_logits(model: Model) -> bool:
    """Whether all heads give logits, which both of torch's exporters write."""
    return all(names == LOGITS for names in outputs_of(model).values())


def takes_batches(model: Model) -> bool:
    """Whether graphs of all heads take any number of images: all but those of two-stage detectors do."""
    return all(isinstance(head, OneStage) or not isinstance(head, Detector) for head in model.heads.values())


def folded_copy(model: Model, exported: Exported) -> Model:
    """Returns a copy of the model with its batch norms folded; its outputs are the same to rounding."""
    # with other memory formats, exporters specialize shapes
    copied = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    _, height, width = EXAMPLE
    return folded(copied, torch.randn(1, exported.bundle.preprocess.channels, *(exported.size or (height, width))))


def graph_of(model: Model, exported: Exported) -> Outputs:
    """Returns a copy of the model with its norms folded and the outputs of the file."""
    return Outputs(folded_copy(model, exported), exported.heads)
