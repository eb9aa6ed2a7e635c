"""What the numbers in masks mean where no format says it: which are classes, and whether 255 is one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.masks import BINARY
from fishnet.data.segmentation.names import Legend
from fishnet.data.segmentation.survey import MaskReading, Survey, survey
from fishnet.errors import InputError

CLASSES_FILE = "classes.txt"
DEFAULT_THRESHOLD = 128
_STEP = 15  # between two grey levels, at least: ids of classes that count up are no grey levels
_SOFT = 10  # numbers on edges alone from which masks are taken to be anti-aliased
_RARE, _INNER = 0.005, 0.1  # shares below which a number is rare, and on edges alone


@dataclass(frozen=True)
class Choices:
    """What the user, or the training of a model, has decided about masks.

    Attributes:
        ignore: ids that are neither learnt from nor measured.
        decided: whether nothing else is ignored but what the format says: nothing is concluded about 255.
        void: names of classes that are neither learnt from nor measured.
        only: names of the classes that are learnt, all others are ignored; empty for all.
        threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
    """

    ignore: tuple[int, ...] = ()
    decided: bool = False
    void: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    threshold: int = 0

    @classmethod
    def of(
        cls, ignore: Sequence[int | str] = (), void: Sequence[str] = (), only: Sequence[str] = (), threshold: int = 0
    ) -> "Choices":
        """From the values of ``--ignore``, ``--void``, ``--classes`` and ``--threshold-masks``."""
        ids = tuple(id_ for id_ in ignore if isinstance(id_, int))
        return cls(ids, len(ids) < len(ignore), tuple(void), tuple(only), threshold)


class Masks(NamedTuple):
    """The masks of a dataset, and what is known of them before any is read.

    Attributes:
        splits: the mask files of each split that has any, train first.
        legend: what a format or a classes file says of them; None where nothing does.
        folder: of the dataset, for messages.
    """

    splits: Sequence[Sequence[Path]]
    legend: Legend | None
    folder: Path


@dataclass
class Decision:
    """What the numbers in masks mean.

    Attributes:
        legend: the classes, with all that is ignored.
        reading: how masks are opened, and what was found in those that were read.
        notes: lines for the user about what was concluded.
    """

    legend: Legend
    reading: MaskReading
    notes: list[str] = field(default_factory=list)


def decide(masks: Masks, choices: Choices, known: Classes | None) -> Decision:
    """Decides what the numbers in masks mean; of a training from the masks of the train split, all of which are read.

    - 255 is ignored where the format or the user says so, and where it borders two or more of the other ids, of which
      there are at least two that are no evenly spread grey levels.
    - Masks of 0 and 255 alone say background and foreground, or the two classes of a file that numbers them 0 and 1.
    - Evenly spread grey levels, such as 0, 85, 170 and 255, are classes where no file names any.
    - Anything else that has a 255 is refused until the user says what it is.

    Args:
        masks: of the dataset.
        choices: what is decided already.
        known: the classes of a model, whose training has decided; None for a training.

    Raises:
        InputError: masks that may mean two things; anti-aliased masks; no mask that can be read.
    """
    legend = masks.legend
    colours = legend is not None and bool(legend.colours) and not choices.threshold
    palette = colours and legend is not None and not legend.stated
    decision = Decision(legend or _by_number(masks, known, choices), MaskReading(colours, palette, choices.threshold))
    if choices.threshold:
        decision.legend = _two(masks, known)
    elif known is not None:
        _as_trained(decision, masks, choices, known)
    elif legend is None:
        _name_numbers(decision, masks, choices)
    elif legend.given:
        _look_for_255(decision, masks, choices)
    return decision


def _by_number(masks: Masks, known: Classes | None, choices: Choices) -> Legend:
    """The classes of a model, by their ids; of a training none yet."""
    place = f"{masks.folder / CLASSES_FILE} (which is to name all classes)"
    classes = known or Classes((), ())
    # Void classes that nothing named are called by their ids.
    return Legend(place, classes, classes.ids, ignored=tuple(int(name) for name in choices.void if name.isdecimal()))


def _two(masks: Masks, known: Classes | None) -> Legend:
    """Masks that a threshold made black and white."""
    legend, place = masks.legend, str(masks.folder / CLASSES_FILE)
    if legend is None:
        names = known.names if known is not None and len(known) == 2 else ("background", "foreground")
        return Legend(place, Classes(names, BINARY), BINARY, given=False)
    if len(legend.classes) != 2:
        raise InputError(
            f"{legend.place}: names {len(legend.classes)} classes, and --threshold-masks makes two: name the "
            "background and the foreground alone"
        )
    return _second_is_255(legend)


def _second_is_255(legend: Legend) -> Legend:
    """Two classes, of which masks have 0 and 255; ids that were stated stay what outputs have."""
    classes = legend.classes if legend.stated else Classes(legend.classes.names, BINARY)
    return Legend(legend.place, classes, BINARY, stated=legend.stated, given=legend.given)


def _as_trained(decision: Decision, masks: Masks, choices: Choices, known: Classes) -> None:
    """What a model's training decided; masks of 0 and 255 alone may still be of its two classes."""
    legend = decision.legend
    if IGNORE in (*legend.values, *legend.ignored):
        return
    if legend.values == (0, 1) and not legend.colours:
        numbers = _binary_numbers(decision, masks)
        if numbers == set(BINARY) or (known.ids == BINARY and numbers <= set(BINARY)):
            if IGNORE in choices.ignore:
                raise InputError(
                    f"{masks.folder}: masks hold 0 and 255 alone, and the model's training ignored 255: nothing would "
                    f"be measured but {legend.classes.names[0]!r}: say --ignore none if 255 is "
                    f"{legend.classes.names[1]!r} here"
                )
            _take_as_second(decision)
            return
    if not choices.decided:  # bundles of before this was decided ignored 255 without looking
        decision.legend = replace(legend, ignored=(*legend.ignored, IGNORE))


def _binary_numbers(decision: Decision, masks: Masks) -> set[int]:
    """The numbers of the first split, or of all where these are all alike; more than 0 and 255 as far as the first."""
    numbers = survey(masks.splits[0] if masks.splits else (), decision.reading, BINARY).numbers
    if len(numbers) == 1:
        numbers = survey(list(chain(*masks.splits)), decision.reading, BINARY).numbers
    return numbers


def _take_as_second(decision: Decision) -> None:
    names = decision.legend.classes.names
    decision.legend = _second_is_255(decision.legend)
    decision.notes.append(f"masks hold 0 and 255 alone: 0 is {names[0]!r}, 255 is {names[1]!r}")


def _name_numbers(decision: Decision, masks: Masks, choices: Choices) -> None:
    """The numbers in the masks of the train split are the classes, and their names."""
    total = _all_of_train(decision, masks)
    numbers = {value for value in total.numbers if value >= 0 and value not in choices.ignore}
    place = decision.legend.place
    if numbers == set(BINARY) or (len(numbers) == 1 and _binary_numbers(decision, masks) == set(BINARY)):
        decision.legend = Legend(place, Classes(("background", "foreground"), BINARY), BINARY, given=False)
        decision.notes.append("masks hold 0 and 255 alone: 0 is 'background', 255 is 'foreground'")
        return
    if (soft := _soft_edges(total, numbers)) and _refuse_soft(decision, masks, soft, total):
        return
    ignored: tuple[int, ...] = ()
    if IGNORE in numbers and not choices.decided:
        if _evenly_spread(numbers):
            levels = ", ".join(map(str, sorted(numbers)))
            decision.notes.append(f"masks hold the grey levels {levels}: each is a class")
        else:
            _ignore_255_or_refuse(decision, masks, total)
            ignored = (IGNORE,)
    values = tuple(sorted(numbers - set(ignored)))
    legend = Legend(place, Classes(tuple(map(str, values)), values), values, given=False)
    decision.legend = replace(legend, ignored=ignored)


def _all_of_train(decision: Decision, masks: Masks, *, strict: bool = True) -> Survey:
    return survey(masks.splits[0] if masks.splits else (), decision.reading, strict=strict)


def _look_for_255(decision: Decision, masks: Masks, choices: Choices) -> None:
    """What is 255 beside classes of a file that does not say it."""
    legend = decision.legend
    total = _all_of_train(decision, masks, strict=is_strict())
    named = {*legend.values, *legend.ignored, *choices.ignore}
    unnamed = {value for value in total.numbers if value >= 0 and value not in named}
    if (soft := _soft_edges(total, unnamed - {IGNORE})) and _refuse_soft(decision, masks, soft, total):
        return
    if IGNORE in named:
        return
    if legend.values == (0, 1) and not legend.colours and _is_binary(total.numbers, decision, masks):
        _take_as_second(decision)
        return
    levels = total.numbers - {value for value in total.numbers if value < 0}
    if len(levels) == len(legend.classes) and not levels <= named and _evenly_spread(levels):
        line = "; ".join(f"{level} {name}" for level, name in zip(sorted(levels), legend.classes.names, strict=True))
        report(
            f"{legend.place}: masks hold the grey levels {', '.join(map(str, sorted(levels)))} for its {len(levels)} "
            f"classes: write which is which, a line each, as in: {line}",
            "mask-levels-unnamed", file=legend.place,
        )  # fmt: skip
    elif IGNORE in unnamed and not choices.decided:
        _ignore_255_or_refuse(decision, masks, total)
        decision.legend = replace(decision.legend, ignored=(*legend.ignored, IGNORE))


def _is_binary(numbers: set[int], decision: Decision, masks: Masks) -> bool:
    if len(numbers) == 1:
        numbers = _binary_numbers(decision, masks)
    return numbers == set(BINARY)


def _ignore_255_or_refuse(decision: Decision, masks: Masks, total: Survey) -> None:
    """Says that 255 is ignored; complains where it may as well be a class."""
    others = {value for value in total.numbers if 0 <= value != IGNORE}
    reason = _doubt(others, total.beside)
    share = total.pixels[IGNORE] / sum(total.pixels.values())
    if not reason:
        decision.notes.append(f"255 is ignored: it has no name, and borders {len(total.beside):,} of the other ids")
        return
    named = "name it in the classes file" if masks.legend else f"name all ids in {masks.folder / CLASSES_FILE}"
    first = total.first[IGNORE]
    report(
        f"{first}: 255 may be a class or stand for ignored pixels ({100 * share:.2f} % of all): {reason}: say --ignore "
        f"255, or --ignore none if it is a class, or {named}",
        "mask-255-unclear", file=str(first),
    )  # fmt: skip


def _doubt(others: set[int], beside: set[int]) -> str:
    """Why 255 may be a class; "" where it is hardly one."""
    listed = ", ".join(map(str, sorted(others)[:5]))
    if len(others) < 2:
        return f"masks hold only {listed} beside it" if others else "masks hold nothing else"
    if max(others) > IGNORE:
        return f"masks hold greater ids, too, such as {max(others)}"
    if _grid(others | {IGNORE}):
        return f"{listed} and 255 look like grey levels"
    if len(beside) < 2:
        return f"it lies beside {next(iter(beside))} alone" if beside else "it borders no other id"
    return ""


def _grid(numbers: set[int]) -> int:
    """Into how many steps 0 to 255 is divided so that all numbers are among the levels, give or take 1; 0: no way."""
    if min(numbers - {0}) < _STEP:
        return 0
    counts = range(2, IGNORE // _STEP + 1)
    return next((n for n in counts if all(abs(v - round(v * n / 255) * 255 / n) <= 1 for v in numbers)), 0)


def _evenly_spread(numbers: set[int]) -> bool:
    """Whether numbers divide 0 to 255 into equal steps, two or more, and none is missing."""
    return len(numbers) > 2 and {0, IGNORE} <= numbers and _grid(numbers) == len(numbers) - 1


def _soft_edges(total: Survey, numbers: set[int]) -> list[int]:
    """Of some numbers those that lie on edges alone, as anti-aliasing and lossy files leave them; none where few do.

    Where all numbers between 0 and 255 lie on edges alone, their share does not matter; otherwise they must be rare.
    """
    pixels = max(1, sum(total.pixels.values()))
    edges = [
        value
        for value in sorted(numbers)
        if total.looked.get(value) and total.inner[value] < _INNER * total.looked[value]
    ]
    between = numbers - set(BINARY)
    if set(BINARY) <= total.numbers and len(between) > 2 and between <= set(edges):
        return sorted(between)
    soft = [value for value in edges if total.pixels[value] < _RARE * pixels]
    return soft if len(soft) >= _SOFT and 2 * len(soft) >= len(between) else []


def _refuse_soft(decision: Decision, masks: Masks, soft: list[int], total: Survey) -> bool:
    """Complains of anti-aliased masks; where that is collected, they are read as the message advises."""
    first = total.first[soft[len(soft) // 2]]
    share = sum(total.pixels[value] for value in soft) / sum(total.pixels.values())
    report(
        f"{first}: looks like an anti-aliased mask: {len(soft)} numbers such as {', '.join(map(str, soft[:3]))} lie on "
        f"edges alone ({100 * share:.2f} % of all pixels): save masks without smoothing, or read masks of two classes "
        f"with --threshold-masks {DEFAULT_THRESHOLD}",
        "mask-anti-aliased", file=str(first),
    )  # fmt: skip
    if masks.legend is None or len(masks.legend.classes) == 2:
        decision.legend = _two(masks, None)
        decision.reading = MaskReading(threshold=DEFAULT_THRESHOLD)
        return True
    return False
