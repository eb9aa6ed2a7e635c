"""What is in a data set, and what is wrong with it."""

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fishnet.data.base import EncodedSet, LabelledSet, PictureSet, Subset
from fishnet.data.entries import EntrySet
from fishnet.data.pictures import Picture, decode_picture
from fishnet.data.workers import prepare_worker, watched_workers
from fishnet.errors import InputError

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class PicturesCheck:
    """The pictures of one part of a data set.

    Attributes:
        pictures: how many, readable or not.
        smallest, median, largest: width and height of the pictures in these places by area, px; None where none could
            be read.
        kinds: pictures of each file format and mode, such as ``JPEG RGB``.
        repeated: pictures whose pixels came before in this part.
        corrupt: one line for each picture that could not be read.
    """

    pictures: int
    smallest: Size | None
    median: Size | None
    largest: Size | None
    kinds: dict[str, int]
    repeated: int
    corrupt: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PartCheck(PicturesCheck):
    """One part of a data set of classes.

    Attributes:
        per_class: pictures of each class.
        imbalance: pictures of the largest class for each of the smallest that has any.
    """

    per_class: dict[str, int]
    imbalance: float


@dataclass(frozen=True)
class Same:
    """Two pictures with the same pixels.

    Attributes:
        first, second: where they are.
        parts: the part of each.
    """

    first: str
    second: str
    parts: tuple[str, str]


@dataclass(frozen=True)
class Twin(Same):
    """Two pictures with the same pixels, and their classes.

    Attributes:
        first_class, second_class: names.
    """

    first_class: str
    second_class: str


@dataclass(frozen=True)
class DataCheck:
    """A whole data set.

    Attributes:
        parts: by name.
        leaked: the same picture in two parts; each picture of the later part once for each earlier part.
        two_classes: the same picture under two classes of one part; each once.
    """

    parts: dict[str, PartCheck]
    leaked: tuple[Twin, ...]
    two_classes: tuple[Twin, ...]

    @property
    def ok(self) -> bool:
        """Nothing corrupt, leaked or of two classes."""
        return not (self.leaked or self.two_classes or any(part.corrupt for part in self.parts.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class Facts:
    """Of one readable picture: width and height, format and mode, and a digest of its pixels."""

    size: Size
    kind: str
    digest: bytes


class Inspected(Dataset[Any]):
    """The facts of each picture of a set; a line for one that cannot be read."""

    def __init__(self, pictures: PictureSet) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.facts(index)

    def facts(self, index: int) -> Facts | str:
        """Of one picture."""
        pictures = self.pictures
        while isinstance(pictures, Subset):
            index, pictures = pictures.indices[index], pictures.whole
        encoded = b""
        try:
            if isinstance(pictures, EncodedSet | EntrySet):
                encoded = pictures.encoded(index)
                picture = decode_picture(encoded, pictures.channels, pictures.source(index))
            else:
                picture = pictures.read(index)[0]
        except InputError as error:
            return str(error)
        pixels = np.ascontiguousarray(picture)
        digest = hashlib.blake2b(f"{pixels.dtype}{pixels.shape}".encode(), digest_size=16)
        digest.update(pixels.data)
        return Facts((pixels.shape[1], pixels.shape[0]), _kind(encoded, picture), digest.digest())


class Tally:
    """Gathers the pictures of one part."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.kinds: Counter[str] = Counter()
        self.corrupt: list[str] = []
        self.repeated = 0

    def add(self, facts: Facts | str) -> None:
        """Adds a picture, or the line for one that could not be read."""
        if isinstance(facts, str):
            self.corrupt.append(facts)
        else:
            self.sizes.append(facts.size)
            self.kinds[facts.kind] += 1

    def found(self) -> dict[str, Any]:
        """The fields of :class:`PicturesCheck`."""
        sizes = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return {
            "pictures": len(self.sizes) + len(self.corrupt),
            "smallest": sizes[0] if sizes else None,
            "median": sizes[len(sizes) // 2] if sizes else None,
            "largest": sizes[-1] if sizes else None,
            "kinds": dict(self.kinds.most_common()),
            "repeated": self.repeated,
            "corrupt": tuple(self.corrupt),
        }


class Firsts:
    """Which picture of each part was the first with its pixels."""

    def __init__(self) -> None:
        self._index: dict[str, dict[bytes, int]] = {}

    def before(self, part: str, index: int, digest: bytes) -> dict[str, int]:
        """The first picture with these pixels in each part that had one; the picture at hand is then known too."""
        found = {name: seen[digest] for name, seen in self._index.items() if digest in seen}
        self._index.setdefault(part, {}).setdefault(digest, index)
        return found


def _kind(encoded: bytes, picture: Picture) -> str:
    """Format and mode of a file; where there is none or it is not Pillow's, what the picture was read as."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded)) as image:
                return f"{image.format} {image.mode}"
    except (OSError, ValueError, SyntaxError):
        return f"read as {picture.mode if isinstance(picture, Image.Image) else picture.dtype}"


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


@watched_workers()
def check(
    parts: Mapping[str, LabelledSet],
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataCheck:
    """Reads every picture of a data set.

    Pictures are the same where their decoded pixels are: upright, in the channels that the set is read with. Another
    quality of a JPEG makes another picture.

    Args:
        parts: of the data set, by name; the order decides which of two parts is the earlier.
        workers: processes that read; 0 reads in this one.
        progress: called with pictures done and in all.
    """
    firsts = Firsts()
    checks: dict[str, PartCheck] = {}
    leaked: list[Twin] = []
    doubled: list[Twin] = []
    for name, found in inspect({part: Inspected(pictures) for part, pictures in parts.items()}, workers, progress):
        tally = Tally()
        for index, facts in enumerate(found):
            tally.add(facts)
            before = {} if isinstance(facts, str) else firsts.before(name, index, facts.digest)
            twins = {part: _twin(parts, (part, first), (name, index)) for part, first in before.items()}
            own = twins.pop(name, None)
            leaked += twins.values()
            tally.repeated += own is not None
            if own is not None and own.first_class != own.second_class:
                doubled.append(own)
        checks[name] = _summary(parts[name], tally)
    return DataCheck(checks, tuple(leaked), tuple(doubled))


def inspect(
    parts: Mapping[str, Inspected], workers: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Iterator[Any]]]:
    """Each part's name, and what is found of its pictures, in order.

    Args:
        parts: by name.
        workers: processes that read; 0 reads in this one.
        progress: called with pictures done and in all.
    """
    total, done = sum(map(len, parts.values())), 0

    def counted(pictures: Inspected) -> Iterator[Any]:
        nonlocal done
        reader = DataLoader(
            pictures, batch_size=64, num_workers=workers, collate_fn=_as_list, worker_init_fn=prepare_worker
        )
        for found in chain.from_iterable(reader):
            done += 1
            progress(done, total)
            yield found

    for name, pictures in parts.items():
        yield name, counted(pictures)


def _twin(parts: Mapping[str, LabelledSet], first: tuple[str, int], second: tuple[str, int]) -> Twin:
    sources = [parts[part].source(index) for part, index in (first, second)]
    classes = [parts[part].classes.names[int(parts[part].labels[index])] for part, index in (first, second)]
    return Twin(sources[0], sources[1], (first[0], second[0]), classes[0], classes[1])


def _summary(pictures: LabelledSet, tally: Tally) -> PartCheck:
    counts = Counter(int(label) for label in pictures.labels)
    some = [count for count in counts.values() if count]
    return PartCheck(
        per_class={name: counts[i] for i, name in enumerate(pictures.classes.names)},
        imbalance=max(some) / min(some) if some else 1.0,
        **tally.found(),
    )
