"""What is in a data set, and what is wrong with it: every image and every annotation read once, split by split."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fishnet.data.base import EncodedDataset, ImageDataset, LabelledDataset, Subset
from fishnet.data.entries import EntryDataset
from fishnet.data.findings import Finding, count_by_severity, in_order
from fishnet.data.quick import TRAINED, quick_findings, shared_code
from fishnet.data.workers import prepare_worker, watched_workers
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.opening import open_image

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ImagesCheck:
    """The images of one split.

    Attributes:
        images: how many, readable or not.
        smallest, median, largest: width and height of the images in these places by area, px; None where none could
            be read.
        kinds: images of each file format and mode, such as ``JPEG RGB``.
        repeated: images whose pixels came before in this split.
        corrupt: images that could not be read.
    """

    images: int
    smallest: Size | None
    median: Size | None
    largest: Size | None
    kinds: dict[str, int]
    repeated: int
    corrupt: int


@dataclass(frozen=True, kw_only=True)
class SplitCheck(ImagesCheck):
    """One split of a data set of classes.

    Attributes:
        per_class: images of each class.
        imbalance: images of the largest class for each of the smallest that has any.
    """

    per_class: dict[str, int]
    imbalance: float


Part = TypeVar("Part", bound=ImagesCheck)
Part_co = TypeVar("Part_co", bound=ImagesCheck, covariant=True)


@dataclass(frozen=True)
class DataCheck(Generic[Part]):
    """A whole data set.

    Attributes:
        parts: what each split holds, by name.
        findings: what there is to say of it, errors first.
        strict: whether a warning is as bad as an error.
    """

    parts: dict[str, Part]
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is no error; notes never count, warnings only where ``strict``."""
        counts = count_by_severity(self.findings)
        return not (counts["error"] or (self.strict and counts["warning"]))

    def of(self, code: str) -> list[Finding]:
        """The findings of one rule."""
        return [finding for finding in self.findings if finding.code == code]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "counts": count_by_severity(self.findings),
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class Facts:
    """Of one readable image: width and height, format and mode, and a digest of its pixels."""

    size: Size
    kind: str
    digest: bytes


class Inspected(Dataset[Any]):
    """The facts of each image of a set, and what its annotation says; a line for either that cannot be read."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Facts | str, Any]:
        facts = self.facts(index)
        try:
            return facts, self.annotation(index)
        except InputError as error:
            return facts, str(error)

    def annotation(self, index: int) -> Any:
        """What one image's says, beyond a class. Raises InputError where it cannot be read."""
        return None

    def facts(self, index: int) -> Facts | str:
        """Of one image."""
        images = self.images
        while isinstance(images, Subset):
            index, images = images.indices[index], images.whole
        encoded = b""
        try:
            if isinstance(images, EncodedDataset | EntryDataset):
                encoded = images.encoded(index)
                image = decode_image(encoded, images.channels, images.source(index), reading=images.reading)
            else:
                image = images.read(index)[0]
        except InputError as error:
            return str(error)
        pixels = np.ascontiguousarray(image)
        digest = hashlib.blake2b(f"{pixels.dtype}{pixels.shape}".encode(), digest_size=16)
        digest.update(pixels.data)
        return Facts((pixels.shape[1], pixels.shape[0]), _kind(encoded, image), digest.digest())


class Tally:
    """Gathers the images of one split, and what is wrong with them."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.kinds: Counter[str] = Counter()
        self.corrupt = 0
        self.repeated = 0

    def add(self, facts: Facts | str) -> None:
        """Adds an image."""
        if isinstance(facts, str):
            self.corrupt += 1
        else:
            self.sizes.append(facts.size)
            self.kinds[facts.kind] += 1

    def fields(self) -> dict[str, Any]:
        """Those of :class:`ImagesCheck`."""
        sizes = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return {
            "images": len(self.sizes) + self.corrupt,
            "smallest": sizes[0] if sizes else None,
            "median": sizes[len(sizes) // 2] if sizes else None,
            "largest": sizes[-1] if sizes else None,
            "kinds": dict(self.kinds.most_common()),
            "repeated": self.repeated,
            "corrupt": self.corrupt,
        }


class Gathering(Protocol[Part_co]):
    """Gathers the annotations of one split.

    Attributes:
        findings: what is wrong with them.
        covered: codes of which reading everything says more than a quick look.
    """

    findings: list[Finding]
    covered: ClassVar[frozenset[str]]

    def __init__(self, split: str, images: Any) -> None: ...

    def add(self, index: int, facts: Facts | str, annotation: Any, /) -> None:
        """Adds those of an image."""

    def summary(self, tally: Tally, /) -> Part_co:
        """All of it."""


class Firsts:
    """Which image of each split was the first with its pixels."""

    def __init__(self) -> None:
        self._index: dict[str, dict[bytes, int]] = {}

    def before(self, split: str, index: int, digest: bytes) -> dict[str, int]:
        """The first image with these pixels in each split that had one; the image at hand is then known too."""
        firsts = {name: seen[digest] for name, seen in self._index.items() if digest in seen}
        self._index.setdefault(split, {}).setdefault(digest, index)
        return firsts


def _kind(encoded: bytes, decoded: ImageLike) -> str:
    """Format and mode of a file; where there is none or it is not Pillow's, what the image was read as."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(encoded) as image:
                return f"{image.format} {image.mode}"
    except (OSError, ValueError, SyntaxError):
        return f"read as {decoded.mode if isinstance(decoded, Image.Image) else decoded.dtype}"


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def check(
    parts: Mapping[str, LabelledDataset],
    problems: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataCheck[SplitCheck]:
    """Reads every image of a data set of classes. See :func:`check_all` for the arguments."""
    return check_all(parts, Inspected, _Labels, problems, workers, progress)


class _Labels:
    """Counts the labels of one split, which need no reading."""

    covered: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, split: str, images: LabelledDataset) -> None:
        self.images = images
        self.findings: list[Finding] = []

    def add(self, index: int, facts: Facts | str, annotation: None) -> None:
        """Nothing is to be gathered."""

    def summary(self, tally: Tally) -> SplitCheck:
        """All of it."""
        counts = Counter(int(label) for label in self.images.labels)
        some = [count for count in counts.values() if count]
        return SplitCheck(
            per_class={name: counts[i] for i, name in enumerate(self.images.classes.names)},
            imbalance=max(some) / min(some) if some else 1.0,
            **tally.fields(),
        )


@watched_workers()
def check_all(
    parts: Mapping[str, Any],
    inspected: Callable[[Any], Inspected],
    gathering: type[Gathering[Part]],
    problems: Sequence[Finding],
    workers: int,
    progress: Callable[[int, int], None],
) -> DataCheck[Part]:
    """Reads every image and every annotation of a data set.

    Images are the same where their decoded pixels are: upright, in the channels that the set is read with. Another
    quality of a JPEG makes another image.

    Args:
        parts: the splits of the data set by name; the order decides which of two is the earlier.
        inspected: what is to be read of a set.
        gathering: gathers the annotations of a split, made of its name and set.
        problems: what the opener collected.
        workers: processes that read; 0 reads in this one.
        progress: called with images done and in all.
    """
    firsts = Firsts()
    checks: dict[str, Part] = {}
    findings = [*problems, *(one for one in quick_findings(parts) if one.code not in gathering.covered)]
    for split, rows in _inspect({name: inspected(images) for name, images in parts.items()}, workers, progress):
        images, tally, gathered = parts[split], Tally(), gathering(split, parts[split])
        for index, (facts, annotation) in enumerate(rows):
            tally.add(facts)
            if isinstance(facts, str):
                findings.append(Finding("image-unreadable", facts, split, images.source(index)))
            else:
                before = firsts.before(split, index, facts.digest)
                tally.repeated += split in before
                findings += _repeats(parts, before, (split, index))
            gathered.add(index, facts, annotation)
        checks[split] = gathered.summary(tally)
        findings += gathered.findings
    return DataCheck(checks, tuple(in_order(findings)))


def untrained(images: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """The classes that some split has, but not the one that is trained on; none where there is no such split.

    Args:
        images: of each class, by split.
    """
    trained = next((images[split] for split in TRAINED if split in images), None)
    if trained is None:
        return
    for split, counts in images.items():
        for name, count in counts.items():
            if count and not trained[name]:
                line = f"{name}: in {count:,} images of {split}, but in none of train"
                yield Finding("class-untrained", line, split, count=count)


def _inspect(
    parts: Mapping[str, Inspected], workers: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Iterator[Any]]]:
    """The name of each split, and what its images and annotations are, in order."""
    total, done = sum(map(len, parts.values())), 0

    def counted(images: Inspected) -> Iterator[Any]:
        nonlocal done
        reader = DataLoader(
            images, batch_size=64, num_workers=workers, collate_fn=_as_list, worker_init_fn=prepare_worker
        )
        for row in chain.from_iterable(reader):
            done += 1
            progress(done, total)
            yield row

    for name, images in parts.items():
        yield name, counted(images)


def _repeats(parts: Mapping[str, Any], before: Mapping[str, int], place: tuple[str, int]) -> Iterator[Finding]:
    """A finding for each earlier image with the same pixels.

    Args:
        parts: the splits by name.
        before: the number of the first such image in each split that has one.
        place: split and number of the image at hand.
    """
    split, index = place
    source = parts[split].source(index)
    for other, first in before.items():
        earlier = parts[other].source(first)
        if earlier == source:  # one file that is listed twice, which needs no pixels to be found
            continue
        labels = [_label(parts[name], i) for name, i in ((other, first), place)]
        code = shared_code(other, split) if other != split else "image-duplicate"
        if code == "image-duplicate" and labels[0] != labels[1]:
            code = "image-in-two-classes"
        line = f"{earlier} ({other}{labels[0]}) = {source} ({split}{labels[1]})"
        yield Finding(code, line, split, source)


def _label(images: ImageDataset, index: int) -> str:
    """The class of an image, behind a comma; nothing for other targets."""
    return f", {images.classes.names[int(images.labels[index])]}" if isinstance(images, LabelledDataset) else ""
