"""What is in a data set, and what is wrong with it."""

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fishnet.data.base import EncodedSet, LabelledSet, Subset
from fishnet.data.pictures import Picture, decode_picture
from fishnet.errors import InputError

Size = tuple[int, int]


@dataclass(frozen=True)
class PartCheck:
    """One part of a data set.

    Attributes:
        pictures: how many, readable or not.
        per_class: pictures of each class.
        imbalance: pictures of the largest class for each of the smallest that has any.
        smallest, median, largest: width and height of the pictures in these places by area, px; None where none could
            be read.
        kinds: pictures of each file format and mode, such as ``JPEG RGB``.
        repeated: pictures whose pixels came before in this part.
        corrupt: one line for each picture that could not be read.
    """

    pictures: int
    per_class: dict[str, int]
    imbalance: float
    smallest: Size | None
    median: Size | None
    largest: Size | None
    kinds: dict[str, int]
    repeated: int
    corrupt: tuple[str, ...]


@dataclass(frozen=True)
class Twin:
    """Two pictures with the same pixels.

    Attributes:
        first, second: where they are.
        first_class, second_class: names.
        parts: the part of each.
    """

    first: str
    second: str
    first_class: str
    second_class: str
    parts: tuple[str, str]


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
class _Facts:
    """Of one readable picture."""

    size: Size
    kind: str
    digest: bytes


class _Inspected(Dataset[_Facts | str]):
    """The facts of each picture of a set; a line for one that cannot be read."""

    def __init__(self, pictures: LabelledSet) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> _Facts | str:
        pictures = self.pictures
        while isinstance(pictures, Subset):
            index, pictures = pictures.indices[index], pictures.whole
        encoded = b""
        try:
            if isinstance(pictures, EncodedSet):
                encoded = pictures.encoded(index)
                picture = decode_picture(encoded, pictures.channels, pictures.source(index))
            else:
                picture = pictures.read(index)[0]
        except InputError as error:
            return str(error)
        pixels = np.ascontiguousarray(picture)
        digest = hashlib.blake2b(f"{pixels.dtype}{pixels.shape}".encode(), digest_size=16)
        digest.update(pixels.data)
        return _Facts((pixels.shape[1], pixels.shape[0]), _kind(encoded, picture), digest.digest())


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
    total = sum(len(pictures) for pictures in parts.values())
    done = 0
    checks: dict[str, PartCheck] = {}
    firsts: dict[str, dict[bytes, int]] = {}  # part -> pixels -> the first picture that has them
    leaked: list[Twin] = []
    doubled: list[Twin] = []
    for name, pictures in parts.items():
        sizes: list[Size] = []
        kinds: Counter[str] = Counter()
        corrupt: list[str] = []
        repeated = 0

        firsts[name] = {}
        reader = DataLoader(_Inspected(pictures), batch_size=64, num_workers=workers, collate_fn=_as_list)
        for index, facts in enumerate(chain.from_iterable(reader)):
            done += 1
            progress(done, total)
            if isinstance(facts, str):
                corrupt.append(facts)
                continue
            sizes.append(facts.size)
            kinds[facts.kind] += 1
            before = {part: seen[facts.digest] for part, seen in firsts.items() if facts.digest in seen}
            twins = {part: _twin(parts, (part, first), (name, index)) for part, first in before.items()}
            own = twins.pop(name, None)
            leaked += twins.values()
            if own is None:
                firsts[name][facts.digest] = index
            else:
                repeated += 1
                if own.first_class != own.second_class:
                    doubled.append(own)
        checks[name] = _summary(pictures, sizes, kinds, repeated, corrupt)
    return DataCheck(checks, tuple(leaked), tuple(doubled))


def _twin(parts: Mapping[str, LabelledSet], first: tuple[str, int], second: tuple[str, int]) -> Twin:
    sources = [parts[part].source(index) for part, index in (first, second)]
    classes = [parts[part].classes.names[int(parts[part].labels[index])] for part, index in (first, second)]
    return Twin(sources[0], sources[1], classes[0], classes[1], (first[0], second[0]))


def _summary(
    pictures: LabelledSet, sizes: list[Size], kinds: Counter[str], repeated: int, corrupt: list[str]
) -> PartCheck:
    counts = Counter(int(label) for label in pictures.labels)
    sizes = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    some = [count for count in counts.values() if count]
    return PartCheck(
        pictures=len(pictures),
        per_class={name: counts[i] for i, name in enumerate(pictures.classes.names)},
        imbalance=max(some) / min(some) if some else 1.0,
        smallest=sizes[0] if sizes else None,
        median=sizes[len(sizes) // 2] if sizes else None,
        largest=sizes[-1] if sizes else None,
        kinds=dict(kinds.most_common()),
        repeated=repeated,
        corrupt=tuple(corrupt),
    )
