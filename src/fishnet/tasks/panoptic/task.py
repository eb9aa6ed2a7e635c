"""Panoptic segmentation: instances of things and a label map of stuff, by two heads on one trunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import INSTANCES, SEGMENT, PanopticConfig
from fishnet.data.base import ImageDataset
from fishnet.data.check import SplitCheck
from fishnet.data.joint.dataset import JointDataset
from fishnet.data.panoptic.base import PanopticSegmentation, PanopticSplit
from fishnet.data.panoptic.check import PanopticCheck
from fishnet.data.panoptic.open import open_panoptic
from fishnet.images.decoding import as_view
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.value_range import set_range
from fishnet.prediction import results
from fishnet.recipes.joint_recipe import JointRecipe, load_joint_recipe
from fishnet.tasks.base import Source, Splits
from fishnet.tasks.joint import Joint
from fishnet.tasks.joint_parts import JointOutputs
from fishnet.tasks.panoptic.torch_metrics import PanopticMetrics

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.recipes.recipe import Recipe


_MERGING = {"panoptic_score": "score_threshold", "panoptic_overlap": "overlap_threshold", "stuff_area": "stuff_area"}


class Panoptic(Joint):
    """Panoptic segmentation as in Panoptic FPN (arXiv 1901.02446): the heads ``instances`` and ``segment``.

    Args:
        recipe: the settings of both heads, which have the same data.
    """

    name = "panoptic"
    split_check: ClassVar[type[SplitCheck[Any, Any]]] = PanopticCheck

    def __init__(self, recipe: JointRecipe, kept: Mapping[str, HeadConfig] | None = None) -> None:
        super().__init__(recipe, kept)
        self.config: PanopticConfig | None = None

    @classmethod
    def of_data(cls, data: str, recipe: JointRecipe | None = None) -> "Panoptic":
        """The task of this data, with the package's recipe unless another is given."""
        return cls(recipe or load_joint_recipe(None, dict.fromkeys((INSTANCES, SEGMENT), data), kind="panoptic"))

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> Splits:
        """The label maps' views of the data, from which its check reads the segments of both heads."""
        opened = open_panoptic(data, channels, **{**options, "void": recipe.void})
        return {split: views.segment for split, views in opened.items()}

    @property
    def data(self) -> str:
        """The name of the data."""
        return self.recipe.heads[0].data

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, keep_splits: bool = False
    ) -> Splits:
        """Opens panoptic data; ``data`` and ``classes`` are not used.

        Raises:
            InputError: see :func:`~fishnet.data.panoptic.open.open_panoptic`.
        """
        own = {head.name: head.recipe for head in self.recipe.heads}
        opened = open_panoptic(
            self.data,
            channels,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            only=own[INSTANCES].classes,
            void=own[SEGMENT].void,
            keep_splits=keep_splits,
        )
        splits = {split: joint_view(views) for split, views in opened.items()}
        first = next(iter(opened.values()))
        merging = {_MERGING[key]: value for key, value in self.recipe.merging.items()}
        self.config = PanopticConfig(first.segments, **merging)
        self.classes = {INSTANCES: first.instances.classes, SEGMENT: first.segment.classes}
        span = set_range(first.segment) if recipe.sixteen_bit == "stretch" and channels in (1, 3) else None
        for dataset in splits.values():
            dataset.reading = Reading(recipe.sixteen_bit, span, recipe.max_pixels or None)
        return splits

    def sources(self, data: str, splits: Splits) -> dict[str, Source]:
        """The label maps' view of the data, whose findings are those of both views."""
        views = {split: dataset.datasets[SEGMENT] for split, dataset in splits.items()}
        return {self.name: Source(self, self.data, views)}

    def complete_recipe(self, recipe: "Recipe", splits: Splits, log: Callable[[str], None]) -> "Recipe":
        """The recipe as it is, since nothing is inferred from the data."""
        return recipe

    def head_configs(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: Callable[[str], None]
    ) -> dict[str, HeadConfig]:
        """Both heads' configurations. The semantic branch of ``htc`` learns the label maps' classes."""
        configs = super().head_configs(recipe, images, preprocess, log)
        instances = configs[INSTANCES]
        if "semantic_classes" in instances.head_args:
            args = {**instances.head_args, "semantic_classes": len(configs[SEGMENT].classes)}
            configs[INSTANCES] = replace(instances, head_args=args)
        return configs

    def panoptic_config(self) -> PanopticConfig | None:
        """The classes and default thresholds of the segments."""
        return self.config

    def run(self, model: nn.Module, images: Any, targets: Sequence[Mapping[str, Any]]) -> JointOutputs:
        """See :class:`~fishnet.tasks.joint.Joint`; the objects' targets get the label maps, too."""
        return super().run(model, images, [_with_label_map(target) for target in targets])

    def metrics(self, classes: Classes, max_detections: int | None = None) -> Any:
        """``PQ``, ``SQ`` and ``RQ``, also of things and of stuff, and the metrics of both heads."""
        assert self.config is not None, "the data must be opened first"
        heads = {name: task.metrics(self.classes[name], max_detections) for name, task in self.tasks.items()}
        logged = {name: task.logged_metrics for name, task in self.tasks.items()}
        monitors = {name: task.monitor for name, task in self.tasks.items()}
        return PanopticMetrics(self.config, self.classes[SEGMENT], heads, logged, monitors, self.monitor)

    def draw_sample(self, dataset: Any, index: int) -> "Image.Image":
        """The image with its segments drawn on it."""
        assert isinstance(dataset, PanopticSegmentation)
        image, _ = dataset.read(index)
        truth = dataset.truth(index)
        labels = {segment.id: segment.category for segment in truth.segments}
        return results.Panoptic.from_ids(truth.ids, labels, PanopticConfig(dataset.segments)).draw(as_view(image))


def joint_view(split: PanopticSplit) -> JointDataset:
    """A split's images with the targets of both heads."""
    rows = [{INSTANCES: index, SEGMENT: index} for index in range(len(split))]
    return JointDataset({INSTANCES: split.instances, SEGMENT: split.segment}, rows)


def _with_label_map(target: Mapping[str, Any]) -> Mapping[str, Any]:
    if INSTANCES not in target or SEGMENT not in target:
        return target
    return {**target, INSTANCES: replace(target[INSTANCES], labels_map=target[SEGMENT].labels)}
