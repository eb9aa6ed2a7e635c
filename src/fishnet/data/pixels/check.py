"""What is in data with a class for every pixel, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.data.check import Facts, PicturesCheck, Same, Tally
from fishnet.data.check_entries import InspectedEntries, check_entries
from fishnet.data.findings import Finding
from fishnet.data.pixels.base import IGNORE, PixelSet
from fishnet.data.pixels.files import FilePixels
from fishnet.data.pixels.names import colour_text
from fishnet.data.pixels.pairs import MaskPixels

TRAINED = ("train", "all")  # the parts that are trained on


@dataclass(frozen=True)
class Unnamed:
    """A number, or a colour, that nothing says the meaning of.

    Attributes:
        value: the number; a colour as its red, green and blue.
        pixels: that have it.
        masks: the files with it.
    """

    value: str
    pixels: int
    masks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PixelPart(PicturesCheck):
    """One part of a data set with a class for every pixel.

    Attributes:
        pixels: of the masks that could be read.
        ignored: of these, what is neither learnt from nor measured.
        pixels_per_class, pictures_per_class: pixels of each class, and pictures with any.
        all_ignored: pictures of which every pixel is ignored.
        left_out: a line for each picture without a mask and each mask without a picture; they are not read.
        unlike: a line for each picture whose mask is of another size.
        unnamed: what masks hold without a name, the most frequent first.
        unreadable: a line for each mask that could not be read.
    """

    pixels: int
    ignored: int
    pixels_per_class: dict[str, int]
    pictures_per_class: dict[str, int]
    all_ignored: tuple[str, ...]
    left_out: tuple[str, ...]
    unlike: tuple[str, ...]
    unnamed: tuple[Unnamed, ...]
    unreadable: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Some pictures, and nothing wrong; those that are ignored are not."""
        wrong = self.corrupt or self.left_out or self.unlike or self.unnamed or self.unreadable
        return self.pictures > 0 and not wrong


@dataclass(frozen=True)
class PixelCheck:
    """A whole data set.

    Attributes:
        parts: by name.
        annotations: what the formats' openers found wrong: repeated names, missing files ...
        leaked: the same picture in two parts; each picture of the later part once for each earlier part.
        untrained: classes that no picture of the train part has; none where there is no such part.
    """

    parts: dict[str, PixelPart]
    annotations: tuple[str, ...]
    leaked: tuple[Same, ...]
    untrained: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing wrong; a class that no part has is not, nor a test part without any mask."""
        parts = [part for name, part in self.parts.items() if name != "test" or part.pictures]
        unlearnt = any(part.pixels_per_class[name] for part in parts for name in self.untrained)
        return not (self.annotations or self.leaked or unlearnt) and all(part.ok for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Mask:
    """Height and width of a mask, the pixels of each label (256,), and of what has no name."""

    size: tuple[int, ...]
    counts: NDArray[np.int64]
    unnamed: dict[str, int]


class _InspectedPixels(InspectedEntries):
    """The facts of each picture and of its mask."""

    pictures: PixelSet

    def annotation(self, index: int) -> _Mask:
        unnamed: dict[str, int] = {}
        if isinstance(self.pictures, MaskPixels):  # which says more of a mask than that it is wrong
            found, colours = self.pictures.coding.read(self.pictures.entries[index].mask)
            labels, without = self.pictures.coding.labels(found, colours)
            unnamed = {colour_text(value) if colours else str(value): count for value, count in without.items()}
        else:
            labels = self.pictures.label_map(index)
        return _Mask(labels.shape, np.bincount(labels.ravel(), minlength=IGNORE + 1), unnamed)


def check_pixels(
    parts: Mapping[str, PixelSet],
    annotations: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PixelCheck:
    """Reads every picture and every mask of a data set.

    Pictures are the same where their decoded pixels are.

    Args:
        parts: of the data set, by name; the order decides which of two parts is the earlier.
        annotations: what the opener collected, see ``problems`` of :func:`~fishnet.data.pixels.open.open_pixels`.
        workers: processes that read; 0 reads in this one.
        progress: called with pictures done and in all.
    """
    checks, leaked = check_entries(parts, _InspectedPixels, _Gathered, workers, progress)
    trained = next((checks[name] for name in TRAINED if name in checks), None)
    counts = trained.pixels_per_class if trained else {}
    untrained = tuple(name for name, count in counts.items() if not count)
    return PixelCheck(checks, tuple(one.message for one in annotations), leaked, untrained)


class _Gathered:
    """Gathers the masks of one part."""

    def __init__(self) -> None:
        self.counts = np.zeros(IGNORE + 1, np.int64)
        self.pictures = np.zeros(IGNORE + 1, np.int64)
        self.unnamed: Counter[str] = Counter()
        self.masks: dict[str, list[str]] = {}
        self.all_ignored: list[str] = []
        self.unlike: list[str] = []
        self.unreadable: list[str] = []

    def add(self, pictures: PixelSet, index: int, facts: Facts | str, mask: _Mask | str) -> None:
        """Adds a picture's mask."""
        source, place = pictures.source(index), pictures.place(index)
        if isinstance(mask, str):
            if isinstance(facts, Facts) or not mask.startswith(source):  # else it was said of the picture
                self.unreadable.append(mask)
            return
        self.counts += mask.counts
        self.pictures += mask.counts > 0
        self.unnamed.update(mask.unnamed)
        for value in mask.unnamed:
            self.masks.setdefault(value, []).append(place)
        if not mask.unnamed and not mask.counts[:IGNORE].any():
            self.all_ignored.append(source)
        if isinstance(facts, Facts) and mask.size != facts.size[::-1]:
            sizes = f"is {facts.size[0]}x{facts.size[1]} px, but its mask {mask.size[1]}x{mask.size[0]}"
            self.unlike.append(f"{source}: {sizes} ({place})")

    def summary(self, pictures: PixelSet, tally: Tally) -> PixelPart:
        """All of it."""
        names = pictures.classes.names
        return PixelPart(
            pixels=int(self.counts.sum()),
            ignored=int(self.counts[IGNORE]) - self.unnamed.total(),
            pixels_per_class={name: int(self.counts[i]) for i, name in enumerate(names)},
            pictures_per_class={name: int(self.pictures[i]) for i, name in enumerate(names)},
            all_ignored=tuple(self.all_ignored),
            left_out=pictures.left_out if isinstance(pictures, FilePixels) else (),
            unlike=tuple(self.unlike),
            unnamed=tuple(Unnamed(v, count, tuple(self.masks[v])) for v, count in self.unnamed.most_common()),
            unreadable=tuple(self.unreadable),
            **tally.found(),
        )
