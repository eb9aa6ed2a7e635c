"""The classes of panoptic data: things, which are counted, and stuff, which is not. Torch-free."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import THINGS, SegmentClass
from fishnet.data.findings import Finding
from fishnet.errors import InputError

MAX_STUFF = 254  # label maps have 255 labels: the things and these; 255 is ignored


@dataclass(frozen=True)
class Categories:
    """The classes of panoptic data, and what becomes of the data's own ones.

    Attributes:
        segments: the classes that are learned and measured, by id.
        labels: the index in ``segments`` of each of the data's own classes; -1 where its pixels are void.
        notes: findings about classes that are left out.
    """

    segments: tuple[SegmentClass, ...]
    labels: tuple[int, ...]
    notes: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls,
        source: str,
        own: Sequence[SegmentClass],
        used: Collection[int],
        *,
        only: Sequence[str] = (),
        void: Sequence[str] = (),
        known: Sequence[SegmentClass] | None = None,
    ) -> "Categories":
        """Chooses the classes.

        Args:
            source: the data's name, for messages.
            own: the classes of the data, by id.
            used: the indices in ``own`` of the classes that have segments.
            only: names of the classes to keep; the pixels of others are void. Empty keeps all.
            void: names of classes whose pixels are void.
            known: the classes of a model, matched by name; by default those of the data.

        Raises:
            InputError: two classes of one name; an unknown name in ``only`` or ``void``; no thing or no stuff class;
                more than 254 stuff classes; a class that the model lacks, or has as the other kind.
        """
        _check_names(source, own)
        names = _classes(own)
        every = _join(names, known)
        chosen = set((every.select(only) if only else every).names)
        chosen -= set(every.select(void).names) if void else set()
        if known is None:
            segments = tuple(each for each in own if each.name in chosen)
            _check_kinds(source, segments)
        else:
            segments = tuple(known)
            _check_known(source, [own[i] for i in sorted(used) if own[i].name in chosen], segments)
        index = {each.name: i for i, each in enumerate(segments)}
        labels = tuple(index.get(each.name, -1) if each.name in chosen else -1 for each in own)
        dropped = [each.name for each in own if each.name not in chosen]
        notes: tuple[Finding, ...] = ()
        if dropped:
            shown = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
            message = f"{source}: the pixels of {len(dropped):,} of {len(own):,} classes are void ({shown})"
            notes = (Finding("class-left-out", message, count=len(dropped)),)
        return cls(segments, labels, notes)

    @property
    def instances(self) -> Classes:
        """The thing classes."""
        return thing_classes(self.segments)

    @property
    def semantic(self) -> Classes:
        """The classes of label maps."""
        return semantic_classes(self.segments)

    @property
    def semantic_labels(self) -> tuple[int, ...]:
        """The index in ``semantic`` of each class in ``segments``."""
        index = {name: i for i, name in enumerate(self.semantic.names)}
        return tuple(0 if each.is_thing else index[each.name] for each in self.segments)


def thing_classes(segments: Sequence[SegmentClass]) -> Classes:
    """The thing classes among the classes of segments, with their original ids."""
    return _classes([each for each in segments if each.is_thing])


def _classes(segments: Sequence[SegmentClass]) -> Classes:
    return Classes(tuple(each.name for each in segments), tuple(each.id for each in segments))


def semantic_classes(segments: Sequence[SegmentClass]) -> Classes:
    """The classes of label maps: ``things``, then the stuff classes with their original ids.

    The id of ``things`` is the smallest one, from 0, that no class has.
    """
    stuff = [each for each in segments if not each.is_thing]
    taken = {each.id for each in segments}
    free_id = next(id_ for id_ in range(len(taken) + 1) if id_ not in taken)
    return Classes((THINGS, *(each.name for each in stuff)), (free_id, *(each.id for each in stuff)))


def _join(names: Classes, known: Sequence[SegmentClass] | None) -> Classes:
    """The names that a user may select: the data's, and the model's."""
    more = [each for each in known or () if each.name not in names.names]
    return Classes((*names.names, *(each.name for each in more)), (*names.ids, *(each.id for each in more)))


def _check_names(source: str, own: Sequence[SegmentClass]) -> None:
    counts = Counter(each.name for each in own)
    for each in own:
        if counts[each.name] > 1:
            ids = [str(other.id) for other in own if other.name == each.name]
            raise InputError(f"{source}: the ids {' and '.join(ids[:2])} are both called {each.name!r}: rename one")
        if each.name == THINGS and not each.is_thing:
            raise InputError(
                f"{source}: a stuff class is called {THINGS!r}, the name for all things together: rename it"
            )


def _check_kinds(source: str, segments: Sequence[SegmentClass]) -> None:
    things = sum(each.is_thing for each in segments)
    if not things:
        raise InputError(f"{source}: has no class of things: use train segment")
    if things == len(segments):
        raise InputError(f"{source}: has no class of stuff: use train instances")
    if len(segments) - things > MAX_STUFF:
        raise InputError(f"{source}: has {len(segments) - things:,} classes of stuff: at most {MAX_STUFF}")


def _check_known(source: str, used: Sequence[SegmentClass], known: Sequence[SegmentClass]) -> None:
    """Raises InputError for a class that the model lacks, or that is a thing in one and stuff in the other."""
    try:
        indices = _classes(used).indices_in(_classes(known))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    for each, index in zip(used, indices, strict=True):
        if each.is_thing != known[index].is_thing:
            kinds = ("things", "stuff") if each.is_thing else ("stuff", "things")
            raise InputError(f"{source}: {each.name!r} is {kinds[0]} in the data, but {kinds[1]} in the model")
