"""The interface of a task: its data, its heads over a trunk's features, its losses, metrics and report.

A trunk computes :class:`~fishnet.tasks.trunk.Features` once, with everything that its heads want. Every head decodes
these features, so one trunk serves the heads of several tasks in one forward pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.data.base import ImageDataset
from fishnet.data.check import SplitCheck
from fishnet.data.detection.views import DetectionView
from fishnet.data.loading import EvalTransform, Transform
from fishnet.errors import InputError, nearest
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.value_range import set_range
from fishnet.tasks.head import Head

if TYPE_CHECKING:
    from PIL import Image
    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


WHOLE = "_whole"
"""The name of a validation loss that has no parts, see :class:`Task`; no head has this name."""

Splits = dict[str, Any]
"""The datasets of the splits by name, each a :class:`~fishnet.data.base.ImageDataset` of the task's own kind."""


class Report(ABC):
    """Details of an evaluation beyond the metrics. Fed batch by batch; keeps only what it needs of each image."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any, indices: Sequence[int]) -> None:
        """Adds a batch: raw outputs and targets as numpy arrays, and the images' indices in their dataset."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Further metrics, 0..1."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """One row per class, with plain values for JSON and CSV."""

    def warnings(self) -> list[str]:
        """What the metrics do not show, one line each."""
        return []

    @abstractmethod
    def lines(self) -> list[str]:
        """A table for the terminal."""

    @abstractmethod
    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """Writes tables and figures into an existing folder.

        Args:
            folder: where the files go.
            images: the dataset of the indices given to :meth:`update`.

        Returns:
            The files written.
        """


@dataclass(frozen=True)
class Source:
    """The data of one head.

    Attributes:
        task: the head's task.
        data: the name that the user gave.
        splits: the datasets by split.
    """

    task: "Task"
    data: str
    splits: Splits


class Task(ABC):
    """What is trained. The tasks themselves are stateless: everything that differs between trainings is an argument.

    Attributes:
        name: on the command line and in bundles.
        head_classes: by name, the default first.
        split_check: what ``fishnet data check`` reads from its annotations.
        monitor: the metric that decides which epoch is best (higher is better).
        logged_metrics: the metrics that training logs and keeps after each epoch; empty for all.
        loss_parts: the parts of the validation loss, each the mean of its own images; see :meth:`part_counts`.
        any_size: whether images keep their proportions, so that the trunk must accept inputs of any size.
        keeps_preprocess: whether the preprocessing of the bundle that training starts from stays as it is.
    """

    name: str
    head_classes: ClassVar[Mapping[str, type[Head]]]
    split_check: ClassVar[type[SplitCheck[Any, Any]]]
    monitor: str
    logged_metrics: tuple[str, ...] = ()
    loss_parts: tuple[str, ...] = (WHOLE,)
    any_size: bool = False
    keeps_preprocess: bool = False

    def for_recipe(self, recipe: "Recipe") -> "Task":
        """The task as a recipe's keys vary it; by default itself."""
        return self

    def for_head(self, config: HeadConfig) -> "Task":
        """The task as a trained head's configuration varies it; by default itself."""
        return self

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the task's heads, the default first."""
        return tuple(self.head_classes)

    def resolve_head(self, head: str) -> str:
        """The name of a head; ``default`` is the first. Raises InputError if there is no such head."""
        if head == "default":
            return self.heads[0]
        if head not in self.heads:
            raise InputError(f"unknown head {head!r} for {self.name}: {nearest(head, self.heads)}")
        return head

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, keep_splits: bool = False
    ) -> Splits:
        """Opens ``train``, ``val`` and perhaps ``test``.

        With ``sixteen_bit: stretch`` the value range is measured over the first split, unless ``classes`` are given:
        they are a model's, and a model has its own range.

        Args:
            data: a folder, a file or another source that the user names.
            channels: number of channels of the images.
            recipe: the settings.
            classes: a model's classes; by default those of the data.
            keep_splits: return the splits that the data has; hold nothing out.
        """
        splits = self.open_splits(
            data, channels, recipe,
            val_fraction=recipe.val_fraction, seed=recipe.seed, only=recipe.classes, classes=classes,
            keep_splits=keep_splits,
        )  # fmt: skip
        span = None
        if recipe.sixteen_bit == "stretch" and classes is None and channels in (1, 3):
            span = set_range(next(iter(splits.values())))
        for dataset in splits.values():
            dataset.reading = Reading(recipe.sixteen_bit, span, recipe.max_pixels or None)
        return splits

    @abstractmethod
    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> Splits:
        """The datasets that :meth:`open_data` returns, opened by the task's own function.

        Args:
            data, channels, recipe: see :meth:`open_data`.
            **options: the arguments that the tasks' functions have in common.
        """

    def complete_recipe(self, recipe: "Recipe", splits: Splits, log: Callable[[str], None]) -> "Recipe":
        """The recipe with settings inferred from the data, so that the bundle reads other data in the same way.

        Args:
            recipe: the settings.
            splits: the datasets that :meth:`open_data` opened for them.
            log: receives a line for each inferred setting.
        """
        return recipe

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """The preprocessing of validation and prediction; ``mean`` and ``std`` per channel, 0..1.

        By default the whole image, resized or with ``native`` in its own size.
        """
        return Preprocess(
            (recipe.size, recipe.longest),
            interpolation=recipe.interpolation,
            mean=mean,
            std=std,
            fit="native" if recipe.native else "whole",
            sixteen_bit=recipe.sixteen_bit,
        )

    def data_names(self, data: str) -> list[str]:
        """The names of all datasets that :meth:`open_data` opens for ``data``."""
        return [data]

    def sources(self, data: str, splits: Splits) -> dict[str, Source]:
        """The data of each head by its name, as :meth:`open_data` opened them."""
        return {self.name: Source(self, data, splits)}

    @abstractmethod
    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """The transform of each training image."""

    @abstractmethod
    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        """The transform of each validation image."""

    def view_target(self, view: DetectionView, target: Any) -> Any:
        """The target of a training image as a view of the image shows it; by default as it is."""
        return target

    def head_configs(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: Callable[[str], None]
    ) -> dict[str, HeadConfig]:
        """The configurations of the model's heads by name: by default one head, which has the task's name.

        Args:
            recipe, images, preprocess, log: see :meth:`head_args`.
        """
        args = self.head_args(recipe, images, preprocess, log)
        config = HeadConfig(self.name, images.classes, self.resolve_head(recipe.head), args, self.thresholds(recipe))
        return {self.name: config}

    def freeze(self, model: nn.Module) -> list[nn.Module]:
        """Freezes what training must not change besides what the recipe freezes. Returns the frozen modules."""
        return []

    def min_batch_size(self, model: Any) -> int:
        """The smallest number of readable images per process for a training step."""
        return int(model.min_batch_size)

    def run(self, model: nn.Module, images: Tensor, targets: Any) -> Any:
        """The outputs that the criterion and the metrics take, of normalized images and their targets."""
        return model(images, {self.name: targets})[self.name]

    def part_counts(self, outputs: Any, count: int) -> dict[str, int]:
        """The parts of a batch's loss, each with the number of images that it averages over.

        Args:
            outputs: see :meth:`run`.
            count: number of images in the batch.
        """
        return {WHOLE: count}

    def kept_data(self) -> dict[str, str]:
        """The fingerprints of data that the model's heads were trained with before; see
        :class:`~fishnet.bundle.bundle.Bundle`."""
        return {}

    def panoptic_config(self) -> PanopticConfig | None:
        """How the heads' results are merged into a panoptic segmentation; None if they are not."""
        return None

    def recipe_dict(self, recipe: "Recipe") -> dict[str, Any]:
        """The settings as plain values, for the bundle and ``recipe.yaml``."""
        return recipe.to_dict(self.name)

    def head_args(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: Callable[[str], None]
    ) -> dict[str, Any]:
        """The head's arguments, from the recipe and perhaps the training images; plain values for the bundle.

        Args:
            recipe: the settings.
            images: the training split.
            preprocess: their preprocessing.
            log: receives a line for each argument that was fitted to the images.
        """
        return {}

    def thresholds(self, recipe: "Recipe") -> dict[str, float]:
        """The default score thresholds of prediction; see :class:`~fishnet.bundle.bundle.Bundle`."""
        return {}

    def check(self, splits: Splits, preprocess: Preprocess) -> None:
        """Raises InputError for images that training cannot use. By default it can use all."""
        return

    def head_class(self, head: str) -> type[Head]:
        """The class of a head by its name. Raises InputError if there is no such head."""
        return self.head_classes[self.resolve_head(head)]

    @abstractmethod
    def criterion(self, recipe: "Recipe", images: ImageDataset) -> nn.Module:
        """The module that turns the outputs of :meth:`Head.decode` with targets, and the targets, into named losses.

        Training minimises the sum of the losses.

        Args:
            recipe: the settings.
            images: the training split.
        """

    @abstractmethod
    def empty_targets(self) -> Any:
        """Targets of one empty image, for a process without a readable image, which must still join the step."""

    def mixing(self, recipe: "Recipe", classes: Classes) -> Callable[[Tensor, Any], tuple[Tensor, Any]] | None:
        """The function that mixes a training batch's normalized images and targets; None for no mixing.

        Raises:
            InputError: the recipe has mixup or cutmix, and the task does not support them.
        """
        if recipe.mixup or recipe.cutmix:
            raise InputError(f"mixup and cutmix are not supported for {self.name}: set them to 0")
        return None

    @abstractmethod
    def visualize(self, image: "Image.Image", target: Any, classes: Classes) -> "Image.Image":
        """An input image of the network with its target drawn on it or written below it."""

    def draw_sample(self, dataset: Any, index: int) -> "Image.Image":
        """An image of a dataset as it is on disk, with its annotation drawn on it.

        Raises:
            InputError: either cannot be read, or drawing is not supported for this task, which is the default.
        """
        raise InputError(f"drawing annotations is not supported for {self.name}")

    @abstractmethod
    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """New metrics, 0 to 1, fed with ``update(outputs, targets)``; for ``max_detections`` see :meth:`report`."""

    def fitted_thresholds(self, metrics: "MetricCollection") -> dict[str, dict[str, float]]:
        """Thresholds for the bundle, by head, that were fitted to the images of the last computation; empty if there
        are none."""
        return {}

    def warnings(self, images: ImageDataset) -> list[str]:
        """What the metrics of these annotated images do not show, one line each."""
        return []

    @abstractmethod
    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """A new report.

        Args:
            classes: the classes of the model's outputs.
            threshold: the score threshold of detections; ignored by other tasks.
            max_detections: the number of detections of a class and image that count; ignored by other tasks.
        """
