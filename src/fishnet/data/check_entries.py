"""What the checks of annotated pictures share: every picture and its annotation read once, gathered part by part."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from fishnet.data.check import Facts, Firsts, Inspected, Same, Tally, inspect
from fishnet.data.entries import EntrySet
from fishnet.data.workers import watched_workers
from fishnet.errors import InputError

Part_co = TypeVar("Part_co", covariant=True)


class InspectedEntries(Inspected):
    """The facts of each picture, and what its annotation says; a line for either that cannot be read."""

    def __getitem__(self, index: int) -> tuple[Facts | str, Any]:
        facts = self.facts(index)
        try:
            return facts, self.annotation(index)
        except InputError as error:
            return facts, str(error)

    @abstractmethod
    def annotation(self, index: int) -> Any:
        """What one picture's says. Raises InputError where it cannot be read."""


class Gathering(Protocol[Part_co]):
    """Gathers the annotations of one part."""

    def add(self, pictures: Any, index: int, facts: Facts | str, annotation: Any, /) -> None:
        """Adds a picture's."""

    def summary(self, pictures: Any, tally: Tally, /) -> Part_co:
        """All of it."""


@watched_workers()
def check_entries(
    parts: Mapping[str, EntrySet],
    inspected: Callable[[Any], InspectedEntries],
    gathering: Callable[[], Gathering[Part_co]],
    workers: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Part_co], tuple[Same, ...]]:
    """Reads every picture and every annotation of a data set.

    Pictures are the same where their decoded pixels are.

    Args:
        parts: of the data set, by name; the order decides which of two parts is the earlier.
        inspected: what is to be read of a set.
        gathering: makes what gathers it.
        workers: processes that read; 0 reads in this one.
        progress: called with pictures done and in all.

    Returns:
        (a summary of each part, the pictures that are in two parts).
    """
    firsts = Firsts()
    checks: dict[str, Part_co] = {}
    leaked: list[Same] = []
    for name, found in inspect({name: inspected(pictures) for name, pictures in parts.items()}, workers, progress):
        pictures, tally, gathered = parts[name], Tally(), gathering()
        for index, (facts, annotation) in enumerate(found):
            tally.add(facts)
            before = {} if isinstance(facts, str) else firsts.before(name, index, facts.digest)
            tally.repeated += before.pop(name, None) is not None
            source = pictures.source(index)
            leaked += [Same(parts[part].source(first), source, (part, name)) for part, first in before.items()]
            gathered.add(pictures, index, facts, annotation)
        checks[name] = gathered.summary(pictures, tally)
    return checks, tuple(leaked)
