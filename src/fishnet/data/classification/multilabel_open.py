"""Opens data with several labels per image: tables, and formats of objects."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.classification.multilabel import (
    UNKNOWN,
    MultiLabelDataset,
    conform,
    hold_out_multi_label,
    select_classes,
)
from fishnet.data.classification.multilabel_table import open_label_table
from fishnet.data.classification.table_files import SUFFIXES
from fishnet.data.collector import report
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.open import looks_like_detection, open_detection
from fishnet.data.opening import training_splits
from fishnet.errors import InputError

_KNOWN = "a table (.csv, .tsv, .parquet) with a column labels or columns of 0 and 1, or objects, such as COCO"


def open_multi_label(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    keep_splits: bool = False,
    only: Sequence[str] = (),
    fold: int = -1,
) -> dict[str, MultiLabelDataset]:
    """Opens data with several labels per image.

    Args:
        data: a table, see :func:`~fishnet.data.classification.multilabel_table.open_label_table`; or data with objects
            in one of the formats of :func:`~fishnet.data.detection.open.open_detection`: the labels of an image are the
            classes of its objects, and an image without objects has none.
        channels, val_fraction, seed, keep_splits, fold: see
            :func:`~fishnet.data.classification.open.open_classification`.
        classes: the classes of a model. Those that the data does not annotate are unknown in all images.
        only: names of the classes to keep; empty: all. Images without any of them stay.

    Raises:
        InputError: data that cannot be read or has one label per image; no train split; a name in ``only`` that is not
            a class; a class that the model does not know; a fold of data that has none.
    """
    known = None if only else classes
    if Path(data).suffix.lower() in SUFFIXES and not Path(data).is_dir():
        splits = open_label_table(Path(data), channels, known, -1 if keep_splits else fold)
    elif fold >= 0 and not keep_splits:
        raise InputError(f"{data}: --fold {fold} needs a table with a column of folds")
    elif looks_like_detection(data):
        held_out = {"val_fraction": val_fraction, "seed": seed, "keep_splits": True}
        objects = open_detection(data, channels, **held_out)  # type: ignore[arg-type]
        splits = {split: labels_of_objects(dataset) for split, dataset in objects.items()}
    elif not data or not Path(data).exists():
        raise InputError(f"{data or 'data'}: no such file or folder: with multi_label, give {_KNOWN}")
    else:
        raise InputError(f"{data}: has no labels for multi_label: give {_KNOWN}; or leave out multi_label")
    if only:
        splits = select_classes(splits, only, classes)
    elif known is not None:
        splits = conform(splits, known)
    if keep_splits:
        return splits
    return training_splits(data, splits, lambda train: hold_out_multi_label(train, val_fraction, seed))


def labels_of_objects(objects: DetectionDataset) -> MultiLabelDataset:
    """A dataset whose labels are the classes of each image's objects, crowds included.

    Raises:
        InputError: an annotation cannot be read (collected, see :mod:`~fishnet.data.collector`).
    """
    matrix = np.zeros((len(objects), len(objects.classes)), np.int8)
    for index in range(len(objects)):
        try:
            matrix[index, objects.objects(index).labels] = 1
        except InputError as error:
            report(str(error))
            matrix[index] = UNKNOWN
    return MultiLabelDataset(objects, matrix, objects.classes, objects.channels, objects.notes)
