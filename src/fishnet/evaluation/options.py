"""The options of an evaluation, and which of several heads has them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.prediction.heads import select_heads
from fishnet.prediction.options import option_names
from fishnet.prediction.predictor import Predictor
from fishnet.recipes.recipe import keys_of


@dataclass(frozen=True)
class EvalOptions:
    """The options of :func:`~fishnet.evaluation.evaluate.evaluate` but those of loading.

    Attributes:
        split, batch_size, workers, threshold, max_detections, max_pixels: see
            :func:`~fishnet.evaluation.evaluate.evaluate`.
        passes: the given ones of ``tile``, ``overlap`` and ``tta``; None for others.
        reading: the given recipe keys that decide how data are read.
    """

    split: str | None
    batch_size: int | None
    workers: int
    passes: Mapping[str, Any]
    threshold: float | None
    max_detections: int | None
    reading: Mapping[str, Any]
    max_pixels: int | None

    def check(self, predictor: Predictor) -> None:
        """Raises InputError for an option that no head of the model has."""
        predictor.check_options(**self.passes, threshold=self.threshold, max_detections=self.max_detections)
        tasks = [head.task for head in predictor.bundle.heads.values()]
        for name in self.reading:
            if not any(name in keys_of(task) for task in tasks):
                raise InputError(
                    f"{name}: changes how data is read, and {', '.join(tasks)} cannot use it: leave it out"
                )

    def check_panoptic(self) -> None:
        """Raises InputError for an option that would change the classes or the masks of panoptic data."""
        for name in self.reading:
            raise InputError(f"{name}: changes how data is read, and panoptic data cannot use it: leave it out")

    def of_head(self, bundle: Bundle, name: str) -> "EvalOptions":
        """The options that one of several heads has."""
        task = bundle.heads[name].task
        known = option_names(select_heads(bundle, [name]))
        return replace(
            self,
            passes={key: value if key in known else None for key, value in self.passes.items()},
            threshold=self.threshold if "threshold" in known else None,
            max_detections=self.max_detections if "max_detections" in known else None,
            reading={key: value for key, value in self.reading.items() if key in keys_of(task)},
        )
