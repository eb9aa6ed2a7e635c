"""Boxes that cannot be as they stand, and what training does about them. Torch-free."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fishnet.data.findings import Finding, located
from fishnet.data.regions.objects import Objects
from fishnet.errors import InputError

if TYPE_CHECKING:
    from fishnet.data.regions.base import RegionSet

_BEYOND = 1.0  # px that a box may reach over an edge: formats differ in what the last pixel is
_UNKNOWN = 1 << 30  # px of a side that no annotation states: only empty boxes and negative numbers are seen then


def bad_boxes(objects: Objects, size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """The boxes that are empty, outside of their image, or reach out of it.

    Args:
        objects: of an image.
        size: its height and width, px.

    Yields:
        (number of the object, code of the rule).
    """
    height, width = size
    x1, y1, x2, y2 = objects.boxes.T
    empty = (x2 <= x1) | (y2 <= y1)
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    beyond = (x1 < -_BEYOND) | (y1 < -_BEYOND) | (x2 > width + _BEYOND) | (y2 > height + _BEYOND)
    for number in (empty | outside | beyond).nonzero()[0].tolist():
        yield number, "box-empty" if empty[number] else "box-outside" if outside[number] else "box-beyond-edge"


def box_counts(sets: "Mapping[str, RegionSet]") -> list[Finding]:
    """For each split and rule how many boxes are wrong, and the first of them: what training drops or clips.

    No image is opened: a box is compared with the size that its annotation states.
    """
    findings = []
    for split, samples in sets.items():
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for index in range(len(samples)):
            try:
                objects = samples.stated(index)
            except InputError:  # is said, or skipped, when the image's turn comes
                continue
            if objects is None:
                continue
            size = objects.size if min(objects.size) else (_UNKNOWN, _UNKNOWN)
            for number, code in bad_boxes(objects, size):
                counts[code] += 1
                first.setdefault(code, samples.place(index, number))
        for code, count in counts.items():
            line = f"{count:,} in {split}, the first in {first[code]}"
            findings.append(Finding(code, line, split, *located(first[code]), count))
    return findings
