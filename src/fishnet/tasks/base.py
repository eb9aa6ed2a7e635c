"""The contract of a task: a model over a trunk's features, its losses, metrics and data.

A trunk gives :class:`Features` once; every task's model decodes them. So one trunk can carry several task heads in
one forward pass: compute the features of the union of what the heads want, and let each decode.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from fishnet.backbone.registry import create_model
from fishnet.data.base import PictureSet, Transform
from fishnet.data.labels import Classes
from fishnet.data.value_range import set_range
from fishnet.errors import InputError, nearest
from fishnet.images.reading import Reading
from fishnet.preprocess import Preprocess

if TYPE_CHECKING:
    from PIL import Image
    from torchmetrics import MetricCollection

    from fishnet.training.recipe import Recipe


@dataclass(frozen=True)
class Features:
    """What a trunk gives.

    Attributes:
        last: what its own ``forward_head`` takes: (batch, channels, height, width) for convolutional nets, channels
            last or tokens for others.
        pyramid: maps of (batch, channels, height, width) from fine to coarse; empty where the task wants none.
        size: height and width of the input, px.
    """

    last: Tensor
    pyramid: Sequence[Tensor] = ()
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Level:
    """One level of a trunk's pyramid: what a decoder has to know of it.

    Attributes:
        channels: of the map.
        stride: input px per px of the map.
        index: its place in the trunk's ``feature_info``.
    """

    channels: int
    stride: int
    index: int


def pyramid(trunk: nn.Module, strides: Sequence[int]) -> tuple[Level, ...]:
    """The levels at these strides, as the trunk's ``feature_info`` tells; the deepest where a stride comes twice.

    Raises:
        InputError: a trunk that gives no maps on its way, or none at one of the strides.
    """
    config: Any = getattr(trunk, "default_cfg", None) or {}
    name = config.get("architecture") or type(trunk).__name__
    rows: Any = getattr(trunk, "feature_info", None)
    if not rows or not hasattr(trunk, "forward_intermediates"):
        lacking = "feature_info" if not rows else "forward_intermediates"
        raise InputError(f"{name} gives no feature pyramid (it has no {lacking}): {_OTHERS}")
    having = {row["reduction"]: Level(row["num_chs"], row["reduction"], i) for i, row in enumerate(rows)}
    missing = [stride for stride in strides if stride not in having]
    if missing:
        raise InputError(
            f"{name} has no usable pyramid: no features at stride {_listed(missing)}, only at {_listed(having)}: "
            f"{_OTHERS}"
        )
    return tuple(having[stride] for stride in strides)


_OTHERS = "choose another backbone, e.g. fishnet99, resnet50, convnext_tiny, swin_tiny_patch4_window7_224"


def _listed(strides: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(strides)))


Parts = dict[str, Any]
"""The parts of a data set by name, each a :class:`~fishnet.data.base.PictureSet` of the task's own kind."""


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build a task's model.

    Attributes:
        backbone: a timm model name.
        classes: the outputs.
        channels: of the input, 1 or 3.
        head: name of the task head, one of the task's ``heads``.
        backbone_args, head_args: keyword arguments of each.
        pretrained: start from the backbone's published weights.
    """

    backbone: str
    classes: Classes
    channels: int = 3
    head: str = "default"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    head_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    def trunk(self, num_classes: int = 0) -> nn.Module:
        """Builds the backbone. Errors as in :func:`~fishnet.backbone.registry.create_model`, and options it lacks."""
        try:
            return create_model(
                self.backbone, self.pretrained, num_classes=num_classes, in_chans=self.channels, **self.backbone_args
            )
        except TypeError as error:
            wrong = [f"{key}={value!r}" for key, value in self.backbone_args.items() if f"'{key}'" in str(error)]
            what = ", ".join(wrong) or f"these options: {error}"
            raise InputError(f"{self.backbone} does not take {what}") from error


@dataclass(frozen=True)
class ClassRows:
    """How the rows of a layer's weight and bias belong to the classes.

    The rows are (groups, background + classes, each), flattened; how many groups there are follows from their number.

    Attributes:
        background: 1 where rows of the background come before those of the classes.
        each: rows of one class within a group, as the four sides of its boxes.
    """

    background: int = 0
    each: int = 1


class TaskModel(nn.Module, ABC):
    """A trunk and what a task decodes from its features.

    Where the task wants a pyramid, the trunk's layers beyond its coarsest map are pruned: they would never be used.

    Attributes:
        wants_pyramid: strides of the maps that the task decodes, from fine to coarse, e.g. (4, 8, 16, 32).
        levels: the trunk's levels at these strides.
        rows_of_classes: of the layers that end with these names; see :meth:`class_rows`.

    Raises:
        InputError: on building, a trunk that lacks one of the strides; see :func:`pyramid`.
    """

    wants_pyramid: ClassVar[tuple[int, ...]] = ()
    rows_of_classes: ClassVar[Mapping[str, ClassRows]] = {}

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.levels = pyramid(trunk, self.wants_pyramid) if self.wants_pyramid else ()
        if self.levels and hasattr(trunk, "prune_intermediate_layers"):
            indices: Any = [level.index for level in self.levels]
            trunk.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)  # type: ignore[operator]
        self.trunk = trunk

    @property
    def fewest(self) -> int:
        """Pictures that a training step needs, in each process."""
        return 1

    def class_rows(self) -> dict[str, ClassRows]:
        """The layers whose rows belong to classes, by name: by default those that end as ``rows_of_classes`` says."""
        names = [name for name, _ in self.named_modules()]
        return {
            name: rows
            for end, rows in self.rows_of_classes.items()
            for name in names
            if name == end or name.endswith(f".{end}")
        }

    def features(self, images: Tensor) -> Features:
        """(batch, channels, height, width), normalised -> the features this model wants."""
        size = (images.shape[-2], images.shape[-1])
        if not self.levels:
            return Features(self.trunk.forward_features(images), size=size)  # type: ignore[operator]
        maps = self.trunk.forward_intermediates(  # type: ignore[operator]
            images, indices=[level.index for level in self.levels], output_fmt="NCHW", intermediates_only=True
        )
        return Features(maps[-1], maps, size)

    @abstractmethod
    def decode(self, features: Features, targets: Any = None) -> Any:
        """Features -> the task's raw outputs; with the batch's targets, what the task's criterion and metrics take."""

    def embed(self, features: Features) -> Tensor:
        """Features -> (batch, dims), one vector for each picture.

        Raises:
            InputError: by models that have none.
        """
        raise InputError("this model gives no embeddings: a classifier does")

    def forward(self, images: Tensor, targets: Any = None) -> Any:
        """(batch, channels, height, width), normalised -> the task's raw outputs; see :meth:`decode` for targets."""
        return self.decode(self.features(images), targets)


class Report(ABC):
    """What there is to say of a model beyond its metrics. Fed batch by batch; keeps only what it needs of a picture."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any, indices: Sequence[int]) -> None:
        """Takes a batch: raw outputs and targets as numpy arrays, and the pictures' numbers in their set."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Further metrics, 0..1."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """One row a class, plain values for JSON and CSV."""

    def remarks(self) -> list[str]:
        """What the metrics do not show, one line each."""
        return []

    @abstractmethod
    def lines(self) -> list[str]:
        """A table for people."""

    @abstractmethod
    def write(self, folder: Path, pictures: PictureSet) -> list[Path]:
        """Writes tables and figures into a folder that is there, and says which; the set is what the indices number."""


class Task(ABC):
    """One level of prediction. Stateless: everything that differs between trainings comes as an argument.

    Attributes:
        name: as on the command line and in bundles.
        models: by the names of their task heads, the default first.
        monitor: the metric that decides which epoch is best (higher is better).
        watched: the metrics that a training logs and keeps after each epoch; empty for all.
        any_size: its pictures keep their proportions, so that the trunk must take inputs of any size.
    """

    name: ClassVar[str]
    models: ClassVar[Mapping[str, type[TaskModel]]]
    monitor: ClassVar[str]
    watched: ClassVar[tuple[str, ...]] = ()
    any_size: ClassVar[bool] = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of its task heads, the default first."""
        return tuple(self.models)

    def head_named(self, head: str) -> str:
        """The task head of that name, ``default`` for the first. Raises InputError where it does not exist."""
        if head == "default":
            return self.heads[0]
        if head not in self.heads:
            raise InputError(f"unknown head {head!r} for {self.name}: {nearest(head, self.heads)}")
        return head

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> Parts:
        """``train``, ``val`` and perhaps ``test``, from what the user names; ``whole``: nothing held out.

        With ``sixteen_bit: stretch`` the range of values is measured over the first part, unless a model's ``classes``
        are given: a model has its own range.
        """
        sets = self.parts(data, channels, recipe, classes, whole=whole)
        span = None
        if recipe.sixteen_bit == "stretch" and classes is None and channels in (1, 3):
            span = set_range(next(iter(sets.values())))
        for part in sets.values():
            part.reading = Reading(recipe.sixteen_bit, span, recipe.max_pixels or None)
        return sets

    @abstractmethod
    def parts(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> Parts:
        """What :meth:`open_data` opens, by the formats of the level."""

    def settle(self, recipe: "Recipe", sets: Parts, tell: Callable[[str], None]) -> "Recipe":
        """The recipe with what was concluded from the data, so that its bundle reads other data in the same way.

        Args:
            recipe: the settings.
            sets: what :meth:`open_data` opened for them.
            tell: receives a line for each conclusion.
        """
        return recipe

    @abstractmethod
    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """How pictures become input in validation and use, with these statistics of the channels, 0..1."""

    @abstractmethod
    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """What happens to a picture by itself in training."""

    @abstractmethod
    def eval_transform(self, preprocess: Preprocess) -> Transform:
        """What happens to a picture in validation."""

    def head_args(
        self, recipe: "Recipe", pictures: PictureSet, preprocess: Preprocess, tell: Callable[[str], None]
    ) -> dict[str, Any]:
        """The task head's numbers, from the recipe and perhaps the training pictures: plain values for the bundle.

        Args:
            recipe: the settings.
            pictures: the training part.
            preprocess: how they become input.
            tell: receives a line for each number that was fitted to the pictures.
        """
        return {}

    def thresholds(self, recipe: "Recipe") -> dict[str, float]:
        """Scores below which results are dropped in use; see :class:`~fishnet.bundle.Bundle`."""
        return {}

    def check(self, sets: Parts, preprocess: Preprocess) -> None:
        """Raises InputError for pictures that a training could not take; by default it takes all."""
        return

    @abstractmethod
    def build(self, spec: ModelSpec) -> TaskModel:
        """The model."""

    @abstractmethod
    def criterion(self, recipe: "Recipe", pictures: PictureSet) -> nn.Module:
        """What training minimises: a module from what :meth:`TaskModel.decode` gives with targets, and the targets, to
        named losses, which are summed.

        Args:
            recipe: the settings.
            pictures: the training part.
        """

    @abstractmethod
    def nothing(self, model: TaskModel) -> Any:
        """Targets of one empty picture: what a process without a readable one keeps step with the others by."""

    def mixing(self, recipe: "Recipe", classes: Classes) -> Callable[[Tensor, Any], tuple[Tensor, Any]] | None:
        """What mixes a batch's normalised images and targets with each other in training; None for nothing.

        Raises:
            InputError: the recipe asks for mixing and the level knows none.
        """
        if recipe.mixup or recipe.cutmix:
            raise InputError(f"mixup and cutmix are not for {self.name}")
        return None

    @abstractmethod
    def portray(self, picture: "Image.Image", target: Any, classes: Classes) -> "Image.Image":
        """A picture as the network sees it, with its target drawn on it or said below it."""

    @abstractmethod
    def metrics(self, classes: Classes, most: int | None = None) -> "MetricCollection":
        """Fresh metrics, fed with ``update(outputs, targets)``, of values from 0 to 1; ``most``: see :meth:`report`."""

    def remarks(self, pictures: PictureSet) -> list[str]:
        """What the metrics of these annotated pictures do not show, one line each."""
        return []

    def report(self, classes: Classes, threshold: float | None = None, most: int | None = None) -> Report | None:
        """A fresh report; None where the level has none.

        Args:
            classes: of the model's outputs.
            threshold: of the scores, where the level knows one.
            most: objects of a picture that count, where the level knows any.
        """
        return None
