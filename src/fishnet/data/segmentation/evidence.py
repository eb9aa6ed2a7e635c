"""Recognizes what numbers in masks may be: grey levels, soft edges of anti-aliasing, or 255 for ignored pixels."""

from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.masks import BINARY
from fishnet.data.segmentation.survey import Survey

_MIN_STEP = 15  # between two grey levels; the ids of classes are usually closer
_MIN_EDGE_NUMBERS = 10  # masks with at least this many numbers on edges only look anti-aliased
_RARE = 0.005  # a number with a smaller share of all pixels is rare
_FEW_INNER = 0.1  # a number with a smaller share of inner pixels occurs on edges only
_SHOWN = 5  # ids in a message


def why_255_may_be_a_class(total: Survey) -> str:
    """The reason why 255 may be a class; "" if it clearly marks ignored pixels, such as outlines."""
    others = {number for number in total.numbers if 0 <= number != IGNORE}
    listed = ", ".join(map(str, sorted(others)[:_SHOWN]))
    if not others:
        return "masks hold no other number"
    if len(others) == 1:
        return f"masks hold only {listed} besides it"
    if max(others) > IGNORE:
        return f"masks also hold greater ids, such as {max(others)}"
    if _grey_steps(others | {IGNORE}):
        return f"{listed} and 255 look like grey levels"
    if not total.beside_255:
        return "it borders no other id"
    return f"it borders only {next(iter(total.beside_255))}" if len(total.beside_255) == 1 else ""


def is_grey_scale(numbers: set[int]) -> bool:
    """Whether the numbers are exactly the levels that divide 0 to 255 into two or more equal steps."""
    return len(numbers) > 2 and {0, IGNORE} <= numbers and _grey_steps(numbers) == len(numbers) - 1


def _grey_steps(numbers: set[int]) -> int:
    """The smallest number of equal steps from 0 to 255 whose levels include all numbers, give or take 1; 0 if none."""
    if min(numbers - {0}) < _MIN_STEP:
        return 0
    counts = range(2, IGNORE // _MIN_STEP + 1)
    return next((n for n in counts if all(abs(v - round(v * n / 255) * 255 / n) <= 1 for v in numbers)), 0)


def anti_aliased_numbers(total: Survey, numbers: set[int]) -> list[int]:
    """The numbers that occur on edges only, as anti-aliasing and lossy formats produce them; [] if there are few.

    The numbers must be rare, unless all numbers between 0 and 255 occur on edges only.
    """
    on_edges = [
        number
        for number in sorted(numbers)
        if total.examined[number] and total.inner[number] < _FEW_INNER * total.examined[number]
    ]
    between = numbers - set(BINARY)
    if set(BINARY) <= total.numbers and len(between) > 2 and between <= set(on_edges):
        return sorted(between)
    pixels = total.counts.total()
    rare = [number for number in on_edges if total.counts[number] < _RARE * pixels]
    return rare if len(rare) >= _MIN_EDGE_NUMBERS and 2 * len(rare) >= len(between) else []
