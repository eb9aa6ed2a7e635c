"""Panoptic quality of a model on annotated data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.data.base import ImageDataset
from fishnet.data.identity import fingerprint
from fishnet.data.panoptic.base import PanopticSplit
from fishnet.data.panoptic.open import open_panoptic
from fishnet.errors import InputError
from fishnet.evaluation.joint import choose_split, training_recipe
from fishnet.evaluation.options import EvalOptions
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Scene
from fishnet.tasks.panoptic.metrics import PanopticQuality, Segments
from fishnet.tasks.report_files import table, write_csv

_KEYS = ("seed", "val_fraction")


@dataclass(frozen=True)
class PanopticEvaluation:
    """The quality of panoptic segments on one split of a dataset.

    Attributes:
        metrics: ``PQ``, ``SQ``, ``RQ``, and each of things (``_th``) and of stuff (``_st``), in percent.
        split: name of the split.
        images: number of images that were measured.
        broken: one line for each image that could not be read and was left out.
        data: the path that was given as data.
        rows: one row per class.
        splits: the data.
    """

    metrics: dict[str, float]
    split: str
    images: int
    broken: tuple[str, ...]
    data: str
    rows: list[dict[str, Any]]
    splits: Mapping[str, PanopticSplit]

    def views(self, head: str) -> dict[str, Any]:
        """The data of one of the two heads, by split."""
        return {n: split.instances if head == INSTANCES else split.segment for n, split in self.splits.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with one row per class."""
        return {
            "data": self.data,
            "split": self.split,
            "images": self.images,
            "metrics": self.metrics,
            "broken": list(self.broken),
            "per_class": self.rows,
        }

    def lines(self) -> list[str]:
        """A table for the terminal."""
        columns = [name for name in self.rows[0] if name not in ("class", "id", "is_thing")]
        return table(self.rows, columns[0], "PQ", columns)

    def write(self, folder: Path) -> list[Path]:
        """Writes ``panoptic_per_class.csv``.

        Raises:
            WorkError: the folder cannot be written to.
        """
        return [write_csv(folder / "panoptic_per_class.csv", list(self.rows[0]), self.rows)]


def evaluate_panoptic(
    predictor: Predictor,
    data: str,
    options: EvalOptions,
    progress: Callable[[int, int], None],
) -> PanopticEvaluation:
    """Measures the segments that a panoptic model predicts; for the arguments see ``fishnet.evaluate``.

    Raises:
        InputError: bad data, classes that the model does not know, a split that the data does not have, or an option
            of how data is read.
    """
    options.check_panoptic()
    predictor.check_options(**options.passes)
    split, passes = options.split, {name: value for name, value in options.passes.items() if value is not None}
    config = predictor.bundle.panoptic
    assert config is not None
    splits = _open(predictor.bundle, data, split, options.max_pixels)
    chosen = choose_split(split, {name: views.segment for name, views in splits.items()}, data)
    views, quality, broken = splits[chosen], PanopticQuality(config.segments), list[str]()
    positions = {name: i for i, name in enumerate(config.classes.names)}
    own = [positions[one.name] for one in views.segments]
    for index in range(len(views)):
        try:
            truth = Segments.of_truth(views.truth(index))
            scene = predictor.predict(views.segment.read(index)[0], **passes)
        except InputError as error:
            broken.append(str(error))
            continue
        assert isinstance(scene, Scene)
        assert scene.panoptic is not None
        labels = {id_: own[label] for id_, label in truth.labels.items()}
        quality.update(Segments.of_result(scene.panoptic), truth._replace(labels=labels))
        progress(index + 1, len(views))
    if len(broken) == len(views):
        raise InputError(f"{data}: no image of {chosen} could be read; first: {next(iter(broken), 'none')}")
    metrics = {name: round(100 * float(value), 4) for name, value in quality.compute().items()}
    return PanopticEvaluation(metrics, chosen, len(views) - len(broken), tuple(broken), data, quality.rows(), splits)


def _open(bundle: Bundle, data: str, split: str | None, max_pixels: int | None) -> dict[str, PanopticSplit]:
    """Opens data with a model's classes, split as in its training."""
    assert bundle.panoptic is not None
    things, stuff = (training_recipe(bundle, name) for name in (INSTANCES, SEGMENT))
    options: dict[str, Any] = {
        "classes": bundle.panoptic.segments,
        "only": things.get("classes", ()),
        "void": stuff.get("void", ()),
        "val_fraction": stuff.get("val_fraction", 0.1),
        "seed": stuff.get("seed", 0),
    }
    channels = bundle.preprocess.channels
    splits = open_panoptic(data, channels, keep_splits=True, **options)
    prints = fingerprint(data, {name: views.segment for name, views in splits.items()})
    if split != "all" and "val" not in splits and set(prints.items()) & set(bundle.data.items()):
        splits = open_panoptic(data, channels, **options)
    reading = replace(bundle.preprocess.reading, max_pixels=max_pixels)
    for views in splits.values():
        for dataset in (views.instances, views.segment):
            assert isinstance(dataset, ImageDataset)
            dataset.reading = reading
    return splits
