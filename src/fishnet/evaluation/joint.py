"""Evaluations of models with several heads: each head on its own data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.errors import InputError, nearest
from fishnet.files.writing import write_text
from fishnet.prediction.heads import ChosenHeads, select_heads
from fishnet.prediction.predictor import Predictor
from fishnet.recipes.joint_keys import TRAINING

if TYPE_CHECKING:
    from fishnet.data.base import ImageDataset
    from fishnet.evaluation.evaluate import Evaluation
    from fishnet.evaluation.panoptic import PanopticEvaluation


@dataclass(frozen=True)
class JointEvaluation:
    """The evaluations of a model's heads.

    Attributes:
        heads: by the head's name.
        panoptic: of the segments that a panoptic model's heads are merged to.
    """

    heads: Mapping[str, "Evaluation"]
    panoptic: "PanopticEvaluation | None" = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of all heads, ``HEAD/METRIC``, after those of panoptic segments, in percent."""
        merged = {} if self.panoptic is None else self.panoptic.metrics
        heads = {f"{name}/{key}": value for name, head in self.heads.items() for key, value in head.metrics.items()}
        return {**merged, **heads}

    @property
    def broken(self) -> tuple[str, ...]:
        """One line for each image that could not be read and was left out."""
        return tuple(line for head in self.heads.values() for line in head.broken)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The lines of all heads, each with the head's name."""
        return tuple(f"{name}: {line}" for name, head in self.heads.items() for line in head.warnings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        panoptic = {} if self.panoptic is None else {"panoptic": self.panoptic.to_dict()}
        heads = {name: head.to_dict() for name, head in self.heads.items()}
        return {"metrics": self.metrics, **panoptic, "heads": heads}

    def write(self, folder: Path) -> list[Path]:
        """Writes ``metrics.json``, and each head's files into a folder of its name.

        Raises:
            WorkError: the folder cannot be written to.
        """
        metrics = folder / "metrics.json"
        write_text(metrics, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        merged = [] if self.panoptic is None else self.panoptic.write(folder)
        return [metrics, *merged, *(path for name, head in self.heads.items() for path in head.write(folder / name))]


def head_data(bundle: Bundle, data: str | Path | Mapping[str, str | Path] | None) -> dict[str, str]:
    """The data to evaluate each head on, by the head's name.

    Args:
        bundle: the model's config.
        data: the data of the only head, or of both heads of a panoptic model, or of some heads by name; by default
            those of a joint training.

    Raises:
        InputError: a head that the model does not have, data that cannot be assigned to a head, or none.
    """
    if data is None:
        sections = bundle.recipe.get("heads", {})
        trained = {name: sections[name]["data"] for name in bundle.heads if name in sections}
        if not trained:
            raise InputError("data: give labelled data to evaluate on")
        return trained
    if isinstance(data, Mapping):
        for name in data:
            if name not in bundle.heads:
                raise InputError(f"data: {name}: the model has no head of this name: {nearest(name, bundle.heads)}")
        return {name: str(path) for name, path in data.items()}
    if bundle.panoptic is not None:
        return dict.fromkeys((INSTANCES, SEGMENT), str(data))
    if len(bundle.heads) > 1:
        names = ", ".join(bundle.heads)
        raise InputError(f"data={data}: this model has several heads: give HEAD=DATA for one or more of {names}")
    return {next(iter(bundle.heads)): str(data)}


def training_recipe(bundle: Bundle, name: str) -> dict[str, Any]:
    """The recipe keys that a head was trained with, also if it was kept from another bundle."""
    kept = bundle.recipe.get("kept", {}).get(name, {}).get(TRAINING, {}).get("recipe", {})
    return {**bundle.recipe, **bundle.recipe.get("heads", {}).get(name, {}), **kept}


def one_head(predictor: Predictor, name: str) -> Predictor:
    """A predictor of one head of a model with several."""
    single = Predictor(select_heads(predictor.bundle, [name]), ChosenHeads(predictor.engine, (name,)))
    single.max_pixels = predictor.max_pixels
    return single


def choose_split(split: str | None, splits: "Mapping[str, ImageDataset]", data: str) -> str:
    """The name of the split to measure, by default the first present of ``test``, ``val``, ``all`` and ``train``.

    Raises:
        InputError: a split that the data does not have.
    """
    split = split or next(name for name in ("test", "val", "all", "train") if name in splits)
    if split not in splits:
        raise InputError(f"{data}: has no split {split!r}: {nearest(split, splits)}")
    return split
