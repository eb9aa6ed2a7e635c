"""How a model's instances and label maps are merged into one panoptic segmentation. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from fishnet.bundle.classes import Classes, to_nfc
from fishnet.errors import InputError
from fishnet.files.values import integer, mapping, real, shown, text

INSTANCES, SEGMENT = "instances", "segment"
"""Names of a panoptic model's heads: of things, and of label maps."""
THINGS = "things"
"""Name of the label maps' first class: all things as one class."""
_MAX_AREA = 2**40  # px
_MAX_CLASSES = 100_000
_MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class SegmentClass:
    """A class of segments.

    Attributes:
        name: unique among the classes; converted to NFC.
        id: the data's original id, unique among the classes.
        is_thing: whether its segments are countable objects; otherwise all pixels of the class are one segment.
    """

    name: str
    id: int
    is_thing: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", to_nfc(self.name))


@dataclass(frozen=True)
class PanopticConfig:
    """Classes and thresholds of a panoptic model, merged as in Panoptic FPN (Kirillov et al., arXiv 1901.02446).

    The defaults are those of COCO's own script for merging.

    Attributes:
        segments: all classes. The things are the classes of the head ``instances``, and the stuff those of the head
            ``segment`` after its first class ``things``, both in this order.
        score_threshold: instances with a lower score are dropped, 0..1.
        overlap_threshold: an instance is dropped if better ones cover more than this share of it, 0..1.
        stuff_area: stuff with fewer pixels in an image is void, px of the image.
        mask_threshold: the lowest probability of an instance's pixels, 0..1.

    Raises:
        InputError: no class, a name or id of two classes, stuff called ``things``, or a threshold out of range.
    """

    segments: tuple[SegmentClass, ...]
    score_threshold: float = 0.5
    overlap_threshold: float = 0.5
    stuff_area: int = 4096
    mask_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("score_threshold", "overlap_threshold", "mask_threshold"):
            real(getattr(self, name), f"panoptic: {name}", 0, 1)
        integer(self.stuff_area, "panoptic: stuff_area", 0, _MAX_AREA)
        object.__setattr__(self, "segments", tuple(self.segments))
        if not 1 <= len(self.segments) <= _MAX_CLASSES:
            raise InputError(f"panoptic: {len(self.segments):,} segment classes: must be from 1 to {_MAX_CLASSES:,}")
        classes = self.classes  # refuses names of several classes
        if len(set(classes.ids)) < len(classes):
            first = next(id_ for id_ in classes.ids if classes.ids.count(id_) > 1)
            raise InputError(f"panoptic: segments: several classes have the id {first}: ids must be unique")
        if THINGS in self.stuff.names:
            raise InputError(
                f"panoptic: segments: a stuff class is called {THINGS!r}, the name that label maps use for all "
                "things: rename it"
            )

    @classmethod
    def of(cls, things: Classes, stuff: Classes, **thresholds: Any) -> "PanopticConfig":
        """A config of these classes, things first. Errors as in :class:`PanopticConfig`."""
        rows = [(True, *row) for row in zip(things.names, things.ids, strict=True)]
        rows += [(False, *row) for row in zip(stuff.names, stuff.ids, strict=True)]
        return cls(tuple(SegmentClass(name, id_, is_thing) for is_thing, name, id_ in rows), **thresholds)

    @cached_property
    def classes(self) -> Classes:
        """Names and original ids of all classes."""
        return _classes(self.segments)

    @cached_property
    def things(self) -> Classes:
        """The classes of the head ``instances``."""
        return _classes(tuple(one for one in self.segments if one.is_thing))

    @cached_property
    def stuff(self) -> Classes:
        """The classes of the head ``segment`` after its first class ``things``."""
        return _classes(tuple(one for one in self.segments if not one.is_thing))

    def check(self, instances: Classes, segment: Classes) -> None:
        """Compares the classes of the two heads with this config.

        Raises:
            InputError: they differ; the message names the head and the first difference.
        """
        if not segment.names or segment.names[0] != THINGS:
            raise InputError(f"panoptic: the first class of the head {SEGMENT!r} must be {THINGS!r}")
        stuff = Classes(segment.names[1:], segment.ids[1:])
        for head, kind, known, needed in (
            (INSTANCES, "thing", instances, self.things),
            (SEGMENT, "stuff", stuff, self.stuff),
        ):
            if known == needed:
                continue
            pairs = zip(known.to_list(), needed.to_list(), strict=False)
            first = next((f"{one} and {other}" for one, other in pairs if one != other), "one list is longer")
            raise InputError(
                f"panoptic: the {len(known)} classes of the head {head!r} are not the {len(needed)} {kind} classes of "
                f"the segments in their order: {first}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "segments": [asdict(one) for one in self.segments]}

    @classmethod
    def from_dict(cls, values: Any) -> "PanopticConfig":
        """The inverse of :meth:`to_dict`.

        Raises:
            InputError: a missing or unknown key, or an invalid value.
        """
        values = dict(mapping(values, "panoptic"))
        unknown = sorted(values.keys() - {each.name for each in fields(cls)})
        if unknown:
            raise InputError(f"panoptic: unknown key {shown(unknown[0])}")
        rows = values.get("segments")
        if not isinstance(rows, list):
            raise InputError(f"panoptic: segments: must be a list of classes, not {shown(rows)}")
        if len(rows) > _MAX_CLASSES:
            raise InputError(f"panoptic: {len(rows):,} segment classes: must be from 1 to {_MAX_CLASSES:,}")
        values["segments"] = tuple(_segment_class(row, f"panoptic: segments: row {i}") for i, row in enumerate(rows))
        return cls(**values)


def _classes(segments: tuple[SegmentClass, ...]) -> Classes:
    return Classes(tuple(one.name for one in segments), tuple(one.id for one in segments))


def _segment_class(row: Any, where: str) -> SegmentClass:
    values: Mapping[str, Any] = mapping(row, where)
    if values.keys() != {"name", "id", "is_thing"}:
        raise InputError(f"{where}: must have name, id and is_thing, not {shown(sorted(values))}")
    if not isinstance(values["is_thing"], bool):
        raise InputError(f"{where}: is_thing must be true or false, not {shown(values['is_thing'])}")
    name = text(values["name"], f"{where}: name", 10_000)
    return SegmentClass(name, integer(values["id"], f"{where}: id", -_MAX_ID - 1, _MAX_ID), values["is_thing"])
