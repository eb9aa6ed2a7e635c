"""Joint training: the heads of several tasks on one trunk. Images may be annotated for some of the heads only."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from fishnet.bundle.bundle import HeadConfig, only_item
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.data.base import ImageDataset
from fishnet.data.joint.dataset import JointDataset, Row, merge_splits
from fishnet.data.joint.holding import hold_out_by_name
from fishnet.data.joint.sampling import Sampling
from fishnet.data.joint.transforms import JointEvalTransform, JointTrainTransform
from fishnet.data.loading import EvalTransform, Transform, collate_targets
from fishnet.data.opening import training_splits
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.value_range import set_range
from fishnet.prediction.drawing import sheet
from fishnet.recipes.joint_keys import TRAINING
from fishnet.recipes.joint_recipe import JointHead, JointRecipe
from fishnet.tasks import get_task, task_info
from fishnet.tasks.base import Report, Source, Splits, Task
from fishnet.tasks.head import Head
from fishnet.tasks.joint_parts import JointCriterion, JointMetrics, JointOutputs, group_counts
from fishnet.tasks.model import check_head_names
from fishnet.tasks.trunk import Wants

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.recipes.recipe import Recipe

_PURPOSE = {"train": "train on", "val": "validate with"}  # of each split, in messages
_LINEAR = "linear"  # the classifier with layers of its own, of which a trunk can have several


class Joint(Task):
    """The heads of a joint recipe on one trunk. An instance belongs to one training.

    Batches hold a target ``{head: target}`` for each image. Each head decodes the images that are annotated for it.

    Args:
        recipe: the settings.
        kept: heads of the bundle that training starts from. They stay as they are; the trunk must be frozen.
        merging: how two of the kept heads are merged to a panoptic segmentation; None if they are not.

    Raises:
        InputError: settings that exclude one another.
    """

    name = "joint"
    head_classes: ClassVar[Mapping[str, type[Head]]] = {}

    def __init__(
        self, recipe: JointRecipe, kept: Mapping[str, HeadConfig] | None = None, merging: PanopticConfig | None = None
    ) -> None:
        self.recipe, self.kept, self.merging = recipe, dict(kept or {}), merging
        self.tasks = {head.name: get_task(head.task).for_recipe(head.recipe) for head in recipe.heads}
        names = [*(head.task for head in recipe.heads), *(config.task for config in self.kept.values())]
        self.any_size, self.keeps_preprocess = any(task_info(name).any_size for name in names), bool(self.kept)
        self.monitor, self.loss_parts = recipe.monitor, tuple(self.tasks)
        self.classes: dict[str, Classes] = {}
        self.left_out = 0  # samples of train that another head's data holds out
        self.skipped: Counter[str] = Counter()  # targets by head in steps with too few images for the head
        if recipe.shared.strategy == "sharded":
            raise InputError("strategy=sharded: is not supported for joint training: use ddp")
        for head in recipe.heads:
            if head.recipe.drop_rate and not task_info(head.task).any_size:
                raise InputError(
                    f"{head.name}: drop_rate: is not supported for classifiers in joint training: set it to 0"
                )
        check_head_names(self.tasks)
        _check_kept(self)

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, keep_splits: bool = False
    ) -> Splits:
        """Opens the data of all heads and merges them; ``data`` and ``classes`` are not used.

        Raises:
            InputError: bad data, a head without an image, or other numbers of channels than ``channels``.
        """
        heads = {}
        for head in self.recipe.heads:
            splits = open_head(self.tasks[head.name], head.data, channels, head.recipe)
            for split in ("train", "val"):
                if not len(splits[split]):
                    raise InputError(f"{head.data}: the head {head.name} has no image to {_PURPOSE[split]}")
            heads[head.name] = splits
        self.classes = {name: splits["train"].classes for name, splits in heads.items()}
        datasets, rows, self.left_out = merge_splits(heads)
        _check_left(rows["train"], self.recipe.heads)
        joint: Splits = {split: JointDataset(datasets[split], rows[split]) for split in rows}
        joint["train"].sampling = self._sampling(rows["train"])
        span = _span(heads.values()) if recipe.sixteen_bit == "stretch" and channels in (1, 3) else None
        for dataset in joint.values():
            dataset.reading = Reading(recipe.sixteen_bit, span, recipe.max_pixels or None)
        return joint

    def _sampling(self, rows: Sequence[Row]) -> Sampling | None:
        """How an epoch draws the samples; None for each sample once."""
        sampling = self.recipe.sampling
        if sampling == "size":
            return None
        indices = {head.name: [i for i, row in enumerate(rows) if head.name in row] for head in self.recipe.heads}
        if isinstance(sampling, Mapping):
            _check_drawn(sampling, rows)
            return Sampling.of(indices, sampling, len(rows))
        return Sampling.of(indices, {name: len(samples) ** 0.5 for name, samples in indices.items()}, len(rows))

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> Splits:
        """See :meth:`open_data`, which replaces this."""
        return self.open_data(data, channels, recipe)

    def data_names(self, data: str) -> list[str]:
        """The names of the heads' data."""
        return list(self.recipe.data.values())

    def sources(self, data: str, splits: Splits) -> dict[str, Source]:
        """The data of each head by its name."""
        return {
            head.name: Source(self.tasks[head.name], head.data, _head_splits(splits, head.name))
            for head in self.recipe.heads
        }

    def complete_recipe(self, recipe: "Recipe", splits: Splits, log: Callable[[str], None]) -> "Recipe":
        """Completes each head's settings from its data, and logs how the heads' data overlap."""
        heads = []
        for head in self.recipe.heads:
            prefixed = _prefixed(head.name, log)
            own = self.tasks[head.name].complete_recipe(head.recipe, _head_splits(splits, head.name), prefixed)
            heads.append(replace(head, recipe=own))
        self.recipe = replace(self.recipe, heads=tuple(heads))
        counts = group_counts(splits["train"].rows)
        log(f"training images by the heads that annotate them: {', '.join(f'{n:,} {k}' for k, n in counts.items())}")
        if self.left_out:
            log(
                f"{self.left_out:,} training images are left out: the data of another head holds them out for "
                "validation or testing"
            )
        for name, lost in splits["train"].lost_classes().items():
            log(f"{name}: no training image is left of {len(lost):,} classes: {', '.join(lost[:5])}")
        return recipe

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """Whole images; for classifiers alone a square from the image's centre."""
        if self.any_size:
            return super().preprocess(recipe, mean, std)
        return next(iter(self.tasks.values())).preprocess(recipe, mean, std)

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """One view of each image for all heads; for classifiers alone the transform of classification."""
        if not self.any_size:
            return next(iter(self.tasks.values())).train_transform(recipe, preprocess)
        return JointTrainTransform(
            preprocess,
            {name: task.view_target for name, task in self.tasks.items()},
            canvas=recipe.canvas,
            flip=recipe.flip,
            flip_vertical=recipe.flip_vertical,
            jitter=recipe.jitter,
            photometric=recipe.photometric,
        )

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        """See :class:`~fishnet.data.joint.transforms.JointEvalTransform`."""
        return JointEvalTransform(preprocess, {n: task.eval_transform(preprocess) for n, task in self.tasks.items()})

    def check(self, splits: Splits, preprocess: Preprocess) -> None:
        """Raises InputError for images that a head cannot use, or a kept preprocessing that the heads cannot use."""
        if self.kept:
            _check_preprocess(self, preprocess)
        for name, task in self.tasks.items():
            task.check(_head_splits(splits, name), preprocess)

    def head_configs(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: Callable[[str], None]
    ) -> dict[str, HeadConfig]:
        """Each head's configuration, and those of the kept heads.

        Where a trunk has several classifiers, or a frozen trunk gets one, the default is ``linear`` and not the
        backbone's score layer.
        """
        assert isinstance(images, JointDataset)
        configs = dict(self.kept)
        levels = [*(config.task for config in self.kept.values()), *(head.task for head in self.recipe.heads)]
        for head in self.recipe.heads:
            task, own = self.tasks[head.name], head.recipe
            own_layers = self.kept or levels.count(head.task) > 1
            if own.head == "default" and own_layers and _LINEAR in task.heads:
                own = own.replace({"head": _LINEAR})
            single = task.head_configs(own, images.datasets[head.name], preprocess, _prefixed(head.name, log))
            configs[head.name] = only_item(single)[1]
        if self.kept:
            _check_output_stride(self.kept, configs)
        return configs

    def kept_data(self) -> dict[str, str]:
        """The fingerprints of the kept heads' data."""
        stored = [self.recipe.kept[name].get(TRAINING, {}).get("data", {}) for name in self.kept]
        return {key: value for data in stored for key, value in data.items()}

    def freeze(self, model: Any) -> list[nn.Module]:
        """Freezes the kept heads, and the backbone's score layer if one of them uses it."""
        frozen: list[nn.Module] = [model.heads[name] for name in self.kept]
        if any(get_task(c.task).head_class(c.head).wants(c).scores for c in self.kept.values()):
            frozen.append(model.trunk)
        for module in frozen:
            module.requires_grad_(False)
        return frozen

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> JointCriterion:
        """The losses of all heads, weighted."""
        assert isinstance(images, JointDataset)
        criteria = {
            head.name: self.tasks[head.name].criterion(head.recipe, images.datasets[head.name])
            for head in self.recipe.heads
        }
        weights = {head.name: head.loss_weight for head in self.recipe.heads}
        return JointCriterion(criteria, weights, learned=self.recipe.loss_weighting == "uncertainty")

    def run(self, model: nn.Module, images: Tensor, targets: Sequence[Mapping[str, Any]]) -> JointOutputs:
        """The outputs of each head for the images that are annotated for it."""
        rows = {name: [i for i, target in enumerate(targets) if name in target] for name in self.tasks}
        if model.training:
            self._skip_too_few(model, rows)
        rows = {name: indices for name, indices in rows.items() if indices}
        stacked = {name: collate_targets([targets[i][name] for i in indices]) for name, indices in rows.items()}
        stacked = {n: value.to(images.device) if torch.is_tensor(value) else value for n, value in stacked.items()}
        outputs = model(images, stacked, rows)
        counts = {name: len(rows.get(name, ())) for name in self.tasks}
        return JointOutputs.of(outputs, stacked, counts, model)

    def part_counts(self, outputs: JointOutputs, count: int) -> dict[str, int]:
        """Each head's number of annotated images."""
        return {name: len(targets) for name, targets in outputs.targets.items()}

    def min_batch_size(self, model: Any) -> int:
        """1: heads that need more images are skipped one by one."""
        return 1

    def _skip_too_few(self, model: Any, rows: dict[str, list[int]]) -> None:
        """Leaves out the targets of a head that cannot be trained on so few images."""
        for name, indices in rows.items():
            if indices and len(indices) < model.heads[name].min_batch_size:
                self.skipped[name] += len(indices)
                rows[name] = []

    def panoptic_config(self) -> PanopticConfig | None:
        """How two of the kept heads are merged."""
        return self.merging

    def recipe_dict(self, recipe: "Recipe") -> dict[str, Any]:
        """See :meth:`~fishnet.recipes.joint_recipe.JointRecipe.to_dict`; with the precision that is used."""
        return {**self.recipe.to_dict(), "precision": recipe.precision}

    def empty_targets(self) -> list[dict[str, Any]]:
        """An image that is annotated for no head."""
        return [{}]

    def visualize(self, image: "Image.Image", target: Mapping[str, Any], classes: Classes) -> "Image.Image":
        """The image with the target of each head that annotates it, side by side."""
        panels = [self.tasks[n].visualize(image.copy(), value, self.classes[n]) for n, value in target.items()]
        return sheet(panels, columns=len(panels))

    def metrics(self, classes: Classes, max_detections: int | None = None) -> Any:
        """The metrics of all heads as ``HEAD/METRIC``, and ``mean``, the mean of the heads' own monitors."""
        metrics = {n: task.metrics(self.classes[n], max_detections) for n, task in self.tasks.items()}
        return JointMetrics(
            metrics,
            {name: task.logged_metrics for name, task in self.tasks.items()},
            {name: task.monitor for name, task in self.tasks.items()},
            self.monitor,
        )

    def fitted_thresholds(self, metrics: Any) -> dict[str, dict[str, float]]:
        """The thresholds of all heads that fit theirs to the validation images."""
        fitted: dict[str, dict[str, float]] = {}
        for name, task in self.tasks.items():
            for values in task.fitted_thresholds(metrics.metrics[name]).values():
                fitted[name] = values
        return fitted

    def warnings(self, images: ImageDataset) -> list[str]:
        """The lines of all heads, and one for each head whose targets were skipped in small batches."""
        assert isinstance(images, JointDataset)
        lines = [f"{n}: {line}" for n, task in self.tasks.items() for line in task.warnings(images.datasets[n])]
        return lines + [
            f"{name}: {count:,} targets were not trained on, because their steps had too few annotated images for this "
            "head: raise batch_size, or the head's sampling weight"
            for name, count in self.skipped.items()
        ]

    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """Raises InputError: heads are reported one by one."""
        raise InputError("a joint model has a report for each head")


def open_head(task: Task, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None) -> Splits:
    """The splits of one head's data, with the images held out that joint training holds out.

    Args:
        task, data, channels, classes: see :meth:`~fishnet.tasks.base.Task.open_data`.
        recipe: the head's settings. Values of more than 8 bits are not stretched here: the range is that of all heads.
    """
    recipe = recipe.replace({"sixteen_bit": "shift"})
    if recipe.fold >= 0:
        return task.open_data(data, channels, recipe, classes)
    splits = task.open_data(data, channels, recipe, classes, keep_splits=True)
    return training_splits(data, splits, lambda train: hold_out_by_name(train, recipe.val_fraction, recipe.seed))


def _head_splits(splits: Splits, name: str) -> Splits:
    """The datasets of one head by split."""
    return {split: dataset.datasets[name] for split, dataset in splits.items() if name in dataset.datasets}


def _span(heads: Any) -> tuple[float, float] | None:
    """The range of values of the first split of all heads; None without images of more than 8 bits."""
    spans = [span for splits in heads if (span := set_range(next(iter(splits.values())))) is not None]
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


def _prefixed(name: str, log: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: log(f"{name}: {line}")


def _check_left(rows: Sequence[Row], heads: Sequence[JointHead]) -> None:
    """Raises InputError for a head whose training images all belong to other heads' validation data."""
    for head in heads:
        if not any(head.name in row for row in rows):
            raise InputError(
                f"{head.data}: the head {head.name} has no image left to train on: the data of other heads holds all "
                "of them out for validation or testing"
            )


def _check_drawn(weights: Mapping[str, float], rows: Sequence[Row]) -> None:
    """Raises InputError for a head of weight 0 whose images no other head draws."""
    for name, weight in weights.items():
        if not weight and not any(name in row and any(weights[other] for other in row) for row in rows):
            raise InputError(
                f"sampling: {name}: its weight is 0 and no other head draws its images: it would learn nothing"
            )


def _check_kept(joint: Joint) -> None:
    """Raises InputError for kept heads that training would change, or that have the name of a new one."""
    if not joint.kept:
        return
    for name in joint.tasks:
        if name in joint.kept:
            raise InputError(f"keep_heads: the bundle already has a head {name}: give the new head another name")
    if joint.recipe.shared.freeze != "trunk":
        raise InputError("keep_heads: heads can only be kept as they are on a frozen trunk: set freeze to trunk")


def _check_preprocess(joint: Joint, preprocess: Preprocess) -> None:
    """Raises InputError for a preprocessing of kept heads that the new heads cannot use."""
    if preprocess.fit == "native" or (preprocess.fit == "crop" and joint.any_size):
        needed = [name for name, task in joint.tasks.items() if task.any_size] or list(joint.tasks)
        how = "crops its images" if preprocess.fit == "crop" else "keeps images in their own size"
        raise InputError(f"keep_heads: the bundle {how}, which {', '.join(needed)} cannot use: train jointly")
    size, channels = joint.recipe.shared.size, joint.recipe.shared.channels
    if channels != preprocess.channels:
        raise InputError(f"channels={channels}: the kept heads need images of {preprocess.channels} channels")
    if size not in preprocess.size:
        raise InputError(f"size={size}: the kept heads need the bundle's size {preprocess.size[0]}: leave size out")
    longest = joint.recipe.shared.longest
    if preprocess.fit == "whole" and longest != preprocess.size[1]:
        raise InputError(
            f"max_size={longest}: the kept heads need the bundle's max_size {preprocess.size[1]}: leave max_size out"
        )


def _check_output_stride(kept: Mapping[str, HeadConfig], configs: Mapping[str, HeadConfig]) -> None:
    """Raises InputError if the trunk would get another output stride beside the new heads."""
    before, after = (
        Wants.union(get_task(c.task).head_class(c.head).wants(c) for c in group.values()).output_stride
        for group in (kept, configs)
    )
    if before != after:
        raise InputError(
            f"keep_heads: the new heads would change the trunk's output stride from {before or 'the default'} to "
            f"{after or 'the default'}: choose other heads, or train jointly"
        )
