"""Hugging Face datasets, through timm's reader: from the hub, or a local folder in any form that `datasets` reads."""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.bundle.classes import Classes, index_labels, index_named_labels
from fishnet.data.base import EncodedDataset
from fishnet.data.classification.several import REFUSED, refuse_several
from fishnet.data.classification.table_files import LABEL, PATH
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError, WorkError, first_line

TIMEOUT = 5  # seconds to wait for the hub's answer

if TYPE_CHECKING:
    from timm.data.readers.reader_hfds import ReaderHfds


class HubDataset(EncodedDataset):
    """One split of a Hugging Face dataset.

    Args:
        name: the dataset's name, as the user gave it.
        split: the dataset's own name for the split.
        reader: timm's reader of the split.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default the dataset's own.

    Raises:
        InputError: an image without a label, or a class that is not known.
    """

    def __init__(
        self, name: str, split: str, reader: "ReaderHfds", channels: int, classes: Classes | None = None
    ) -> None:
        self.name, self.split, self.reader, self.channels = name, split, reader, channels
        image, label = reader.image_key, reader.label_key
        labels = list(reader.dataset.select_columns([label])[label])
        feature = reader.dataset.features[label]
        names = getattr(feature, "names", None)
        multiple = next((i for i, value in enumerate(labels) if isinstance(value, list | dict)), None)
        if multiple is not None:
            raise InputError(f"{self.source(multiple)}: its label is a list or a table: {REFUSED}")
        missing = next((i for i, value in enumerate(labels) if value is None or value == ""), None)
        if missing is not None:
            raise InputError(f"{self.source(missing)}: no label")
        try:
            if names:
                self.classes, self.labels = index_named_labels(names, labels, self.source, classes)
            else:
                refuse_several((str(label) for label in labels), f"hfds/{name}")
                self.classes, self.labels = index_labels(labels, self.source, classes)
        except InputError as error:
            raise InputError(str(error) if name in str(error) else f"hfds/{name}: {error}") from None
        column = reader.dataset.with_format("arrow").select_columns([image])[:][image]
        self.paths = [None if row is None else Path(row).name for row in _paths(column)]

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedDataset`."""
        try:
            stream, *_ = self.reader[index]
            with stream:
                content: bytes = stream.read()
                return content
        except (OSError, AssertionError, TypeError) as error:
            raise InputError(f"{self.source(index)}: the image cannot be read ({first_line(error)})") from None

    def source(self, index: int) -> str:
        """The dataset, split and index, such as ``hfds/cifar10/train[7]``."""
        return f"hfds/{self.name}/{self.split}[{index}]"

    def key(self, index: int) -> str:
        """The class and the image's file name, or the index of an image without one."""
        path = self.paths[index]
        return f"{self.classes.names[self.labels[index]]}/{path}" if path else str(index)


def open_hub(name: str, channels: int, classes: Classes | None = None) -> dict[str, HubDataset]:
    """The splits of a Hugging Face dataset: train, validation and test, except a test split without labels.

    Args:
        name: ``user/name`` on the hub, or a local folder (of images, Parquet files ...).
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes.

    Raises:
        InputError: no such dataset, none of these splits, or no columns of images and labels.
        WorkError: the hub could not be reached.
        ModuleNotFoundError: ``datasets`` is not installed.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise InputError(f"hfds/{name}: no such folder")
    from timm.data.readers.reader_hfds import ReaderHfds

    try:
        with nullcontext() if Path(name).is_dir() else _offline_if_unreachable():
            own_names = {split_named(own): own for own in datasets.get_dataset_split_names(name)}
            split_names = {split: own_names[split] for split in in_order(str(split) for split in own_names if split)}
            splits: dict[str, HubDataset] = {}
            for split, own in split_names.items():
                dataset = datasets.load_dataset(name, split=own)
                keys = _keys(name, dataset.features)
                if split == "test" and splits and _all_unlabelled(dataset.select_columns([keys[1]])[keys[1]]):
                    continue  # the test split of a competition has no public labels
                reader = ReaderHfds(name, split=own, input_key=keys[0], target_key=keys[1])
                splits[split] = HubDataset(name, own, reader, channels, classes)
                classes = splits[split].classes
    except ConnectionError as error:
        raise WorkError(f"hfds/{name}: not reached, and no such local folder ({first_line(error)})") from None
    except InputError:
        raise
    except AttributeError:  # timm 1.0.22 expects class names of every column called label
        raise InputError(
            f"hfds/{name}: this version of timm supports only labels of type ClassLabel: upgrade timm"
        ) from None
    except ModuleNotFoundError:
        raise
    except Exception as error:  # any exception of the many readers that `datasets` uses
        raise InputError(f"hfds/{name}: cannot be loaded ({first_line(error)})") from None
    if not splits:
        raise InputError(f"hfds/{name}: has no split train, validation or test, only {', '.join(own_names.values())}")
    return splits


@contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    """Silences retries, and uses only the cache if the hub does not answer within :data:`TIMEOUT`."""
    import datasets
    import huggingface_hub

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    logger.setLevel(logging.ERROR)
    try:
        if not any(before):
            try:
                huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=TIMEOUT)
            except Exception:  # any exception of the hub client's HTTP library
                for module in modules:
                    module.HF_HUB_OFFLINE = True
        yield
    finally:
        logger.setLevel(level)
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _all_unlabelled(labels: Iterable[Any]) -> bool:
    """Whether no image of a split has a label."""
    return all(label is None or label == -1 for label in labels)


def _keys(name: str, features: Any) -> tuple[str, str]:
    """The names of the image column and of the label column."""
    import datasets

    def is_encoded(kind: Any) -> bool:
        return (isinstance(kind, dict) and "bytes" in kind) or getattr(kind, "dtype", "") in ("binary", "large_binary")

    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    images = images or [key for key, kind in features.items() if is_encoded(kind)]
    images = sorted(images, key=lambda key: PATH.index(key) if key in PATH else len(PATH))
    class_labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = [*sorted(class_labels, key=lambda key: key not in LABEL), *(key for key in LABEL if key in features)]
    if not images or not labels:
        what = "images" if not images else "labels"
        raise InputError(f"hfds/{name}: no column of {what} among {', '.join(features)}")
    return images[0], labels[0]


def _paths(column: Any) -> list[str | None]:
    import pyarrow.compute

    paths: list[str | None] = pyarrow.compute.struct_field(column, "path").to_pylist()
    return paths
