"""A model with one head, with the interface of the head alone."""

from typing import Any

from torch import Tensor

from fishnet.tasks.model import Model


class Single(Model):
    """Returns the raw outputs of its only head, and takes that head's targets."""

    @property
    def head(self) -> Any:
        return self.only_head[1]

    @property
    def backbone(self) -> Any:
        return self.trunk.backbone

    def forward(self, images: Tensor, targets: Any = None) -> Any:
        name, _ = self.only_head
        return super().forward(images, None if targets is None else {name: targets})[name]
