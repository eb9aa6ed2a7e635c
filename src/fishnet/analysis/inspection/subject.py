"""The models to inspect: networks by name, or bundles."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import nn

from fishnet.backbone.registry import create_model, size_args
from fishnet.bundle.bundle import is_bundle, only_item
from fishnet.bundle.hub import bundle_path, is_remote, local_path
from fishnet.errors import InputError, WorkError, first_line
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.info import task_info
from fishnet.tasks.store import load_model

_SIZE = 224  # px
_MIN_SIZE = 32  # px


@dataclass(frozen=True)
class Subject:
    """A model to inspect.

    Attributes:
        model: as it was given: a network's name, or a bundle.
        task: a bundle's task; ``classify`` for a network, and empty for a bundle with several heads.
        preprocess: of its images.
        size: height and width of the input that costs are counted for, px.
        classes: names of a bundle's classes; empty for a network, and for a bundle with several heads.
        build: builds the trunk's network with its weights; for classifiers with the score layers.
        is_bundle: whether the model is a bundle.
        pretrained: whether a network has pretrained weights.
    """

    model: str
    task: str
    preprocess: Preprocess
    size: tuple[int, int]
    classes: tuple[str, ...]
    build: Callable[[], nn.Module]
    is_bundle: bool
    pretrained: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether the weights are trained. Otherwise the network is as training begins with it, with seed 0."""
        return self.is_bundle or self.pretrained

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input that costs are counted for."""
        return self.preprocess.channels, *self.size


def open_subject(model: str, size: int | None = None, *, pretrained: bool = False) -> Subject:
    """Opens one model.

    Args:
        model: the name of a FishNet or another timm network, a bundle's folder, or ``hf-hub:user/name``.
        size: side of the input, px; by default 224, or a bundle's own.
        pretrained: give networks their pretrained weights.

    Raises:
        InputError: an unknown network, no bundle, or a size below 32 px.
        WorkError: a bundle on the hub, or published weights, cannot be fetched.
    """
    if size is not None and size < _MIN_SIZE:
        raise InputError(f"size={size}: must be {_MIN_SIZE} or more")
    path = bundle_path(model) if pretrained else local_path(model)
    if is_bundle(path) or path.is_dir() or is_remote(model):
        bundle, loaded = load_model(path)
        backbone = loaded.trunk.backbone
        sides = (size, size) if size else bundle.preprocess.size
        if len(bundle.heads) > 1:
            return Subject(model, "", bundle.preprocess, sides, (), lambda: deepcopy(backbone), is_bundle=True)
        _, head = only_item(bundle.heads)
        preprocess = bundle.preprocess
        if task_info(head.task).any_size:
            sides = (sides[0], sides[0])
        elif size:
            preprocess = replace(preprocess, size=sides)
        names = tuple(head.classes.names)
        return Subject(model, head.task, preprocess, sides, names, lambda: deepcopy(backbone), is_bundle=True)
    side = size or _SIZE

    def build() -> nn.Module:
        torch.manual_seed(0)
        return create_model(model, pretrained, **size_args(model, side))

    try:
        build()  # an unknown network is an error now
    except WorkError:  # weights that cannot be downloaded
        raise
    except (RuntimeError, OSError) as error:  # an unknown tag; a local directory without a config
        raise InputError(f"{model}: {first_line(error)}") from error
    preprocess = replace(_published(model), size=(side, side))
    return Subject(model, "classify", preprocess, (side, side), (), build, is_bundle=False, pretrained=pretrained)


def _published(name: str) -> Preprocess:
    """The mean and standard deviation of a network's published weights."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return Preprocess() if config is None else Preprocess(mean=tuple(config.mean), std=tuple(config.std))
