"""A model's heads in prediction: which are chosen, their outputs and their results. Torch-free.

Everything here goes by head. A model with one head is not a special case until its result leaves: it is returned
itself, and not as a :class:`~fishnet.prediction.results.Scene` of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.errors import InputError, nearest
from fishnet.prediction.results import Detections, Result, Scene, Segmentation
from fishnet.tasks.info import task_info

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement
    from fishnet.prediction.options import PredictOptions


def select_heads(bundle: Bundle, only: Sequence[str] | None) -> Bundle:
    """The config of a model of which only some heads are chosen; ``None`` for all.

    Raises:
        InputError: no head, or one that the model does not have.
    """
    if only is None:
        return bundle
    names = [only] if isinstance(only, str) else list(only)
    if not names:
        raise InputError(f"only: name one or more heads: {', '.join(bundle.heads)}")
    for name in names:
        if name not in bundle.heads:
            raise InputError(f"only={name!r}: not a head of this model: {nearest(name, bundle.heads)}")
    heads = {name: head for name, head in bundle.heads.items() if name in names}
    return replace(bundle, heads=heads, panoptic=bundle.panoptic if {INSTANCES, SEGMENT} <= heads.keys() else None)


class ChosenHeads:
    """Some heads of an engine of several heads, as an engine of its own.

    Args:
        engine: see :data:`~fishnet.prediction.batching.Engine`.
        heads: names of the heads to compute. If there is only one, its raw outputs are returned without its name.
    """

    def __init__(self, engine: Any, heads: tuple[str, ...]) -> None:
        self.engine, self.heads = engine, heads
        self.thread_safe: bool = getattr(engine, "thread_safe", False)
        self.precision: str = getattr(engine, "precision", "fp32")

    def __call__(self, batch: NDArray[np.float32], only: Sequence[str] | None = None) -> Any:
        """The raw outputs of the chosen heads, or of some of them."""
        return self._unwrapped(self.engine(batch, self.heads if only is None else tuple(only)))

    def embed(self, batch: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        """Raw outputs and embeddings, from one pass; see :meth:`fishnet.tasks.engine.TorchEngine.embed`.

        Raises:
            InputError: the engine computes no embeddings, or none of these heads has them.
        """
        embed = getattr(self.engine, "embed", None)
        if embed is None:
            raise InputError("this engine computes no embeddings: use the bundle that training wrote")
        outputs, vectors = embed(batch, self.heads)
        return self._unwrapped(outputs), vectors

    def _unwrapped(self, outputs: Mapping[str, Any]) -> Any:
        return outputs if len(self.heads) > 1 else outputs[self.heads[0]]


def check_heads(bundle: Bundle) -> None:
    """Raises InputError if a head predicts in px of the image, but the preprocessing crops images."""
    if bundle.preprocess.fit != "crop":
        return
    for name, head in bundle.heads.items():
        if task_info(head.task).output != "scores":
            others = [name for name, head in bundle.heads.items() if task_info(head.task).output == "scores"]
            choice = f": leave it out with only={','.join(others)}" if others else ""
            raise InputError(f"{name}: predicts in px of the image, but this model crops its images{choice}")


def heads_of(bundle: Bundle, *outputs: str) -> tuple[str, ...]:
    """Names of the heads that predict one of these; see :attr:`fishnet.tasks.info.TaskInfo.output`."""
    return tuple(name for name, head in bundle.heads.items() if task_info(head.task).output in outputs)


def by_head(bundle: Bundle, output: Any) -> dict[str, Any]:
    """An image's raw outputs by head, also for a model with one head."""
    return dict(output) if len(bundle.heads) > 1 else {next(iter(bundle.heads)): output}


def make_result(
    bundle: Bundle, name: str, output: Any, placement: "Placement | None", options: Mapping[str, Any]
) -> Result:
    """The result of one head for one image.

    Args:
        bundle: the model's config.
        name: the head's.
        output: the head's raw output for the image.
        placement: where the image lies in the input; None if it was cropped.
        options: the result's options.
    """
    head = bundle.heads[name]
    result: Result = task_info(head.task).make_result(output, head.classes, placement=placement, **options)
    return result


def combine(results: Mapping[str, Result], options: "PredictOptions") -> Result:
    """The result of an image from those of its heads: the only one, or a scene."""
    if len(results) == 1:
        return next(iter(results.values()))
    if options.panoptic is None:
        return Scene(dict(results))
    from fishnet.prediction.panoptic import merge

    instances, label_map = results[INSTANCES], results[SEGMENT]
    assert isinstance(instances, Detections)
    assert isinstance(label_map, Segmentation)
    panoptic = merge(instances, label_map, options.panoptic)
    kept = np.flatnonzero(instances.scores >= options.instance_options.get("threshold", 0.0))
    limited = instances.take(kept[: options.instance_options.get("max_detections")])
    return Scene({**results, INSTANCES: limited}, panoptic)
