"""The check of a dataset: reads every image and every annotation once, counts them by split and lists what is wrong."""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fishnet.data.base import EncodedDataset, ImageDataset, LabelledDataset, Subset
from fishnet.data.classification.multilabel import MultiLabelDataset
from fishnet.data.entries import EntryDataset
from fishnet.data.findings import TRAINED, Finding, count_by_severity, in_order, located, shared_code
from fishnet.data.workers import prepare_worker, watched_workers
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.opening import open_image

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SplitStatistics(ABC):
    """The contents of one split. Each level adds fields, and the columns that show them in printed tables.

    Attributes:
        images: number of images, readable or not.
        smallest, median, largest: width and height of these images by area, px; None if no image is readable.
        kinds: images of each file format and mode, such as ``JPEG RGB``.
        duplicates: images with the same pixels as an earlier image of this split.
        corrupt: images that could not be read.
    """

    images: int
    smallest: Size | None
    median: Size | None
    largest: Size | None
    kinds: dict[str, int]
    duplicates: int
    corrupt: int

    class_title: ClassVar[str] = ""
    """The title of the table of classes, after the number of classes."""

    @property
    @abstractmethod
    def class_counts(self) -> dict[str, int]:
        """The images, objects or pixels of each class, in the order of the classes."""

    def class_cell(self, name: str) -> str:
        """The cell of a class in the table of classes."""
        return f"{self.class_counts[name]:,}"

    def image_columns(self) -> dict[str, str]:
        """Further columns of the table of images: header to this split's cell."""
        return {}

    def annotation_columns(self) -> dict[str, str]:
        """The columns of the table of annotations: header to this split's cell. Empty if there is no such table."""
        return {}


DatasetT = TypeVar("DatasetT", bound=ImageDataset)
StatisticsT = TypeVar("StatisticsT", bound=SplitStatistics)
StatisticsT_co = TypeVar("StatisticsT_co", bound=SplitStatistics, covariant=True)


@dataclass(frozen=True)
class CheckReport(Generic[StatisticsT_co]):
    """The result of a check.

    Attributes:
        splits: the statistics of each split, by name.
        findings: all findings, errors first.
        strict: whether the check also fails on warnings.
    """

    splits: Mapping[str, StatisticsT_co]
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is no error; notes never count, warnings only if ``strict``."""
        counts = count_by_severity(self.findings)
        return not (counts["error"] or (self.strict and counts["warning"]))

    def of(self, code: str) -> list[Finding]:
        """The findings of one rule."""
        return [finding for finding in self.findings if finding.code == code]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "splits": {split: asdict(statistics) for split, statistics in self.splits.items()},
            "counts": count_by_severity(self.findings),
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class ImageFacts:
    """A readable image: width and height, format and mode, and a digest of its pixels."""

    size: Size
    kind: str
    digest: bytes


class SplitCheck(ABC, Generic[DatasetT, StatisticsT]):
    """The check of one split's annotations, which each level subclasses. :func:`check_splits` feeds it.

    Attributes:
        findings: what is wrong with the annotations.
        covered: codes of quick findings that are left out, because this check finds them more exactly.
    """

    covered: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, split: str, dataset: DatasetT) -> None:
        self.split, self.dataset = split, dataset
        self.findings: list[Finding] = []

    @staticmethod
    def read_annotation(dataset: Any, index: int) -> Any:
        """Reads one annotation, in a worker process; by default nothing. Raises InputError if it cannot be read."""
        return None

    def add(self, index: int, facts: ImageFacts | str, annotation: Any) -> None:
        """Adds an image and its annotation, in order. Either is a message if it could not be read."""

    @abstractmethod
    def statistics(self, images: dict[str, Any]) -> StatisticsT:
        """The statistics of all that was added; ``images`` are the fields of :class:`SplitStatistics`."""

    @classmethod
    def compare(cls, datasets: Mapping[str, DatasetT], statistics: Mapping[str, StatisticsT]) -> Iterable[Finding]:
        """Findings that need all splits, by name; by default none."""
        return ()

    def find(self, code: str, message: str, location: str, count: int = 1) -> None:
        """Adds a finding. For the forms of ``location`` see :func:`~fishnet.data.findings.located`."""
        self.findings.append(Finding(code, message, self.split, *located(location), count))


@watched_workers()
def check_splits(
    datasets: Mapping[str, DatasetT],
    split_check: type[SplitCheck[DatasetT, StatisticsT]],
    problems: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport[StatisticsT]:
    """Reads every image and every annotation of a dataset.

    Images are the same if their decoded pixels are equal: upright, in the channels that the dataset is read with. The
    same photo saved with another JPEG quality is another image.

    Args:
        datasets: the dataset's splits by name; their order decides which of two equal images is the earlier.
        split_check: the check of the datasets' level.
        problems: what was collected while the datasets were opened, see :func:`~fishnet.data.collector.collecting`.
        workers: number of reading processes; 0 reads in this process.
        progress: called with the number of images done and the total.
    """
    from fishnet.data.quick import quick_findings

    first_images = _FirstImages(datasets)
    statistics: dict[str, StatisticsT] = {}
    findings = [*problems, *(quick for quick in quick_findings(datasets) if quick.code not in split_check.covered)]
    for split, rows in _read(datasets, split_check.read_annotation, workers, progress):
        checked, images = split_check(split, datasets[split]), _ImageCounts()
        for index, (facts, annotation) in enumerate(rows):
            images.add(facts)
            if isinstance(facts, str):
                findings.append(Finding("image-unreadable", facts, split, datasets[split].source(index)))
            else:
                before = first_images.before(split, index, facts.digest)
                images.duplicates += split in before
                findings += first_images.repeats(split, index, before)
            checked.add(index, facts, annotation)
        statistics[split] = checked.statistics(images.fields())
        findings += checked.findings
    findings += split_check.compare(datasets, statistics)
    return CheckReport(statistics, tuple(in_order(findings)))


def find_untrained(images: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """The classes that are in some split but not in the one that is trained on; none if there is no such split.

    Args:
        images: the number of images of each class, by split.
    """
    trained = next((images[split] for split in TRAINED if split in images), None)
    if trained is None:
        return
    for split, counts in images.items():
        for name, count in counts.items():
            if count and not trained[name]:
                message = f"{name}: in {count:,} images of {split}, but in none of train"
                yield Finding("class-untrained", message, split, count=count)


class ReadDataset(Dataset[Any]):
    """A dataset's images as facts, with their annotations. Either is a message if it cannot be read."""

    def __init__(self, dataset: ImageDataset, read_annotation: Callable[[Any, int], Any]) -> None:
        self.dataset, self.read_annotation = dataset, read_annotation

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[ImageFacts | str, Any]:
        facts = _facts(self.dataset, index)
        try:
            return facts, self.read_annotation(self.dataset, index)
        except InputError as error:
            return facts, str(error)


def _facts(dataset: ImageDataset, index: int) -> ImageFacts | str:
    while isinstance(dataset, Subset):
        index, dataset = dataset.indices[index], dataset.dataset
    encoded = b""
    try:
        if isinstance(dataset, EncodedDataset | EntryDataset | MultiLabelDataset):
            encoded = dataset.encoded(index)
            image = decode_image(encoded, dataset.channels, dataset.source(index), reading=dataset.reading)
        else:
            image = dataset.read(index)[0]
    except InputError as error:
        return str(error)
    pixels = np.ascontiguousarray(image)
    digest = hashlib.blake2b(f"{pixels.dtype}{pixels.shape}".encode(), digest_size=16)
    digest.update(pixels.data)
    return ImageFacts((pixels.shape[1], pixels.shape[0]), _kind(encoded, image), digest.digest())


def _kind(encoded: bytes, decoded: ImageLike) -> str:
    """Format and mode of a file. If there is no file or Pillow cannot open it, the mode that the image was read as."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(encoded) as image:
                return f"{image.format} {image.mode}"
    except (OSError, ValueError, SyntaxError):
        return f"read as {decoded.mode if isinstance(decoded, Image.Image) else decoded.dtype}"


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def _read(
    datasets: Mapping[str, ImageDataset],
    read_annotation: Callable[[Any, int], Any],
    workers: int,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[str, Iterator[Any]]]:
    """The name of each split with the facts and annotations of its images, in order."""
    total, done = sum(map(len, datasets.values())), 0

    def counted(images: ReadDataset) -> Iterator[Any]:
        nonlocal done
        reader = DataLoader(
            images, batch_size=64, num_workers=workers, collate_fn=_as_list, worker_init_fn=prepare_worker
        )
        for row in chain.from_iterable(reader):
            done += 1
            progress(done, total)
            yield row

    for split, dataset in datasets.items():
        yield split, counted(ReadDataset(dataset, read_annotation))


class _ImageCounts:
    """Counts the images of one split."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.kinds: Counter[str] = Counter()
        self.corrupt = 0
        self.duplicates = 0

    def add(self, facts: ImageFacts | str) -> None:
        """Adds an image."""
        if isinstance(facts, str):
            self.corrupt += 1
        else:
            self.sizes.append(facts.size)
            self.kinds[facts.kind] += 1

    def fields(self) -> dict[str, Any]:
        """The fields of :class:`SplitStatistics`."""
        sizes = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return {
            "images": len(self.sizes) + self.corrupt,
            "smallest": sizes[0] if sizes else None,
            "median": sizes[len(sizes) // 2] if sizes else None,
            "largest": sizes[-1] if sizes else None,
            "kinds": dict(self.kinds.most_common()),
            "duplicates": self.duplicates,
            "corrupt": self.corrupt,
        }


class _FirstImages:
    """Remembers the first image of each split with given pixels."""

    def __init__(self, datasets: Mapping[str, ImageDataset]) -> None:
        self.datasets = datasets
        self._index: dict[str, dict[bytes, int]] = {}

    def before(self, split: str, index: int, digest: bytes) -> dict[str, int]:
        """The first image with these pixels in each split that has one so far. Then adds this image."""
        firsts = {name: seen[digest] for name, seen in self._index.items() if digest in seen}
        self._index.setdefault(split, {}).setdefault(digest, index)
        return firsts

    def repeats(self, split: str, index: int, before: Mapping[str, int]) -> Iterator[Finding]:
        """A finding for each earlier image with the same pixels, see :meth:`before`."""
        source = self.datasets[split].source(index)
        for earlier_split, first in before.items():
            earlier = self.datasets[earlier_split].source(first)
            if earlier == source:  # one file that is listed twice, which the quick findings report
                continue
            labels = [_label(self.datasets[name], i) for name, i in ((earlier_split, first), (split, index))]
            code = shared_code(earlier_split, split) if earlier_split != split else "image-duplicate"
            if code == "image-duplicate" and labels[0] != labels[1]:
                code = "image-in-two-classes"
            message = f"{earlier} ({earlier_split}{labels[0]}) = {source} ({split}{labels[1]})"
            yield Finding(code, message, split, source)


def _label(dataset: ImageDataset, index: int) -> str:
    """The class of an image, or its labels, after a comma; empty for other targets."""
    if isinstance(dataset, MultiLabelDataset):
        return f", {dataset.shown(index)}"
    return f", {dataset.classes.names[int(dataset.labels[index])]}" if isinstance(dataset, LabelledDataset) else ""
