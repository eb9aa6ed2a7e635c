"""The contract of a task: a head over a trunk's features, its losses, metrics and data.

A trunk gives :class:`~fishnet.tasks.trunk.Features` once, with all that its heads want; every head decodes them. So
one trunk carries the heads of several tasks in one forward pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, Transform
from fishnet.errors import InputError, nearest
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.value_range import set_range
from fishnet.tasks.trunk import Features, Trunk, Wants

if TYPE_CHECKING:
    from PIL import Image
    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


Splits = dict[str, Any]
"""The parts of a data set by name, each a :class:`~fishnet.data.base.ImageDataset` of the task's own kind."""


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


class Head(nn.Module, ABC):
    """What one task decodes from a trunk's features, and its losses where these belong to the network.

    Attributes:
        rows_of_classes: of the layers that end with these names; see :meth:`class_rows`.
        counts_by_running: how much work it has is known only when it runs.
    """

    rows_of_classes: ClassVar[Mapping[str, ClassRows]] = {}
    counts_by_running: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """What such a head wants of its trunk.

        Raises:
            InputError: a number that the head cannot have.
        """

    @classmethod
    @abstractmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> Self:
        """The head over a trunk that gives what it wants.

        Raises:
            InputError: a trunk that it cannot decode, or a number that it cannot have.
        """

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """Raises InputError for a backbone that such a head cannot decode; by default it decodes any."""
        return

    @property
    def min_batch_size(self) -> int:
        """Images that a training step needs, in each process."""
        return 1

    def check_batch(self, size: int) -> None:
        """Raises InputError for a training batch of too few images."""
        return

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """The layers whose rows belong to classes, by their names in the model: those that ``rows_of_classes`` names.

        Args:
            prefix: what the head's own names begin with in the model.
            trunk: that the head decodes.
        """
        names = [name for name, _ in self.named_modules()]
        return {
            f"{prefix}{name}": rows
            for end, rows in self.rows_of_classes.items()
            for name in names
            if name == end or name.endswith(f".{end}")
        }

    @abstractmethod
    def decode(self, features: Features, targets: Any = None) -> Any:
        """Features -> the task's raw outputs; with the batch's targets, what the task's criterion and metrics take."""

    def forward(self, features: Features, targets: Any = None) -> Any:
        """See :meth:`decode`."""
        return self.decode(features, targets)

    def embed(self, features: Features) -> Tensor:
        """Features -> (batch, dims), one vector for each image.

        Raises:
            InputError: by heads that have none.
        """
        raise InputError("this model gives no embeddings: a classifier does")


class Report(ABC):
    """What there is to say of a model beyond its metrics. Fed batch by batch; keeps only what it needs of an image."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any, indices: Sequence[int]) -> None:
        """Takes a batch: raw outputs and targets as numpy arrays, and the images' numbers in their set."""

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
    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """Writes tables and figures into a folder that is there, and says which; the set is what the indices number."""


class Task(ABC):
    """One level of prediction. Stateless: everything that differs between trainings comes as an argument.

    Attributes:
        name: as on the command line and in bundles.
        head_classes: by name, the default first.
        monitor: the metric that decides which epoch is best (higher is better).
        watched: the metrics that a training logs and keeps after each epoch; empty for all.
        any_size: its images keep their proportions, so that the trunk must take inputs of any size.
    """

    name: ClassVar[str]
    head_classes: ClassVar[Mapping[str, type[Head]]]
    monitor: ClassVar[str]
    watched: ClassVar[tuple[str, ...]] = ()
    any_size: ClassVar[bool] = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of its task heads, the default first."""
        return tuple(self.head_classes)

    def head_named(self, head: str) -> str:
        """The task head of that name, ``default`` for the first. Raises InputError where it does not exist."""
        if head == "default":
            return self.heads[0]
        if head not in self.heads:
            raise InputError(f"unknown head {head!r} for {self.name}: {nearest(head, self.heads)}")
        return head

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> Splits:
        """``train``, ``val`` and perhaps ``test``, from what the user names; ``whole``: nothing held out.

        With ``sixteen_bit: stretch`` the range of values is measured over the first part, unless a model's ``classes``
        are given: a model has its own range.
        """
        splits = self.parts(data, channels, recipe, classes, whole=whole)
        span = None
        if recipe.sixteen_bit == "stretch" and classes is None and channels in (1, 3):
            span = set_range(next(iter(splits.values())))
        for part in splits.values():
            part.reading = Reading(recipe.sixteen_bit, span, recipe.max_pixels or None)
        return splits

    @abstractmethod
    def parts(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> Splits:
        """What :meth:`open_data` opens, by the formats of the level."""

    def settle(self, recipe: "Recipe", splits: Splits, log: Callable[[str], None]) -> "Recipe":
        """The recipe with what was concluded from the data, so that its bundle reads other data in the same way.

        Args:
            recipe: the settings.
            sets: what :meth:`open_data` opened for them.
            tell: receives a line for each conclusion.
        """
        return recipe

    @abstractmethod
    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """How images become input in validation and use, with these statistics of the channels, 0..1."""

    @abstractmethod
    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """What happens to an image by itself in training."""

    @abstractmethod
    def eval_transform(self, preprocess: Preprocess) -> Transform:
        """What happens to an image in validation."""

    def head_args(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: Callable[[str], None]
    ) -> dict[str, Any]:
        """The task head's numbers, from the recipe and perhaps the training images: plain values for the bundle.

        Args:
            recipe: the settings.
            images: the training part.
            preprocess: how they become input.
            tell: receives a line for each number that was fitted to the images.
        """
        return {}

    def thresholds(self, recipe: "Recipe") -> dict[str, float]:
        """Scores below which results are dropped in use; see :class:`~fishnet.bundle.bundle.Bundle`."""
        return {}

    def check(self, splits: Splits, preprocess: Preprocess) -> None:
        """Raises InputError for images that a training could not take; by default it takes all."""
        return

    def head_class(self, head: str) -> type[Head]:
        """The class of a head by its name. Raises InputError where it does not exist."""
        return self.head_classes[self.head_named(head)]

    @abstractmethod
    def criterion(self, recipe: "Recipe", images: ImageDataset) -> nn.Module:
        """What training minimises: a module from what :meth:`Head.decode` gives with targets, and the targets, to
        named losses, which are summed.

        Args:
            recipe: the settings.
            images: the training part.
        """

    @abstractmethod
    def empty_targets(self) -> Any:
        """Targets of one empty image: what a process without a readable one keeps step with the others by."""

    def mixing(self, recipe: "Recipe", classes: Classes) -> Callable[[Tensor, Any], tuple[Tensor, Any]] | None:
        """What mixes a batch's normalized images and targets with each other in training; None for nothing.

        Raises:
            InputError: the recipe asks for mixing and the level knows none.
        """
        if recipe.mixup or recipe.cutmix:
            raise InputError(f"mixup and cutmix are not for {self.name}")
        return None

    @abstractmethod
    def visualize(self, image: "Image.Image", target: Any, classes: Classes) -> "Image.Image":
        """An image as the network sees it, with its target drawn on it or said below it."""

    @abstractmethod
    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """New metrics, 0 to 1, fed with ``update(outputs, targets)``; ``max_detections``: see :meth:`report`."""

    def remarks(self, images: ImageDataset) -> list[str]:
        """What the metrics of these annotated images do not show, one line each."""
        return []

    def report(
        self, classes: Classes, threshold: float | None = None, max_detections: int | None = None
    ) -> Report | None:
        """A fresh report; None where the level has none.

        Args:
            classes: of the model's outputs.
            threshold: of the scores, where the level knows one.
            max_detections: objects of an image that count, where the level knows any.
        """
        return None
