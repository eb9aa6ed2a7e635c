"""What the checks of all levels print and draw alike: tables of parts and classes, what is wrong, a contact sheet."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.cli.told import LINES, aligned, listed

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.check import PicturesCheck, Same

CLASSES = 40  # of the table of classes
COUNT, SIDE, COLUMNS = 12, 360, 4  # pictures of the contact sheet, px of each, and in a row


def pictures_told(
    data: str, parts: Mapping[str, Any], more: Sequence[tuple[str, Callable[[Any], str]]] = ()
) -> list[str]:
    """How many pictures the data has, and a table of each part's.

    Args:
        data: its name.
        parts: a :class:`~fishnet.data.check.PicturesCheck` each, by name.
        more: columns of one level alone: a head, and what stands below it for a part.
    """
    head = ["part", "pictures", "corrupt", "repeated", *(title for title, _ in more), "smallest", "median", "largest"]
    rows = [
        [
            name, f"{part.pictures:,}", f"{len(part.corrupt):,}", f"{part.repeated:,}",
            *(cell(part) for _, cell in more),
            *("-" if size is None else f"{size[0]}x{size[1]}" for size in (part.smallest, part.median, part.largest)),
            _kinds(part),
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    total = sum(part.pictures for part in parts.values())
    return [f"{data}: {total:,} pictures", "", *aligned([[*head, "formats"], *rows])]


def _kinds(part: "PicturesCheck") -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in part.kinds.items()) or "-"


def classes_told(
    title: str,
    parts: Mapping[str, Any],
    names: Sequence[str],
    count: Callable[[Any, str], int],
    cell: Callable[[Any, str], str] | None = None,
) -> list[str]:
    """A table of classes, a column each part; of many classes the smallest alone.

    Args:
        title: what is counted, behind the number of classes.
        parts: by name.
        names: of all classes.
        count: how much a part has of a class.
        cell: what stands in the table; by default the count.
    """
    cell = cell or (lambda part, name: f"{count(part, name):,}")
    title = f"{len(names):,} classes{title}:"
    if len(names) > CLASSES:
        names = sorted(names, key=lambda name: sum(count(part, name) for part in parts.values()))[:LINES]
        title = f"the {LINES} smallest of {title}"
    rows = [[name, *(cell(part, name) for part in parts.values())] for name in names]
    return ["", title, *aligned([["class", *parts], *rows])]


def wrong_told(ok: bool, lists: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """What is wrong, each kind of it under its title, and the verdict."""
    lines = [line for title, wrong in lists for line in listed(title, wrong)]
    return [*lines, "", "nothing wrong" if ok else "something is wrong: see above"]


def gathered(parts: Mapping[str, Any], field: str) -> list[str]:
    """The lines that all parts have in one field."""
    return [line for part in parts.values() for line in getattr(part, field)]


def leaks(leaked: "Sequence[Same]") -> list[str]:
    """A line for each picture in two parts."""
    return [f"{same.first} ({same.parts[0]}) = {same.second} ({same.parts[1]})" for same in leaked]


def draw_sheet(parts: Mapping[str, Any], out: Path, draw: "Callable[[Any, int], Image.Image]") -> int:
    """Draws some pictures of all parts, evenly chosen, on one sheet; returns how many there are.

    Args:
        parts: :class:`~fishnet.data.base.PictureSet` by name.
        out: the file; its folder is made.
        draw: of a set the picture by index, with its target; InputError leaves it out.
    """
    from fishnet.draw import card, sheet
    from fishnet.draw.text import DARK
    from fishnet.errors import InputError

    every = [(name, index) for name, pictures in parts.items() for index in range(len(pictures))]
    cards = []
    for name, index in every[:: max(1, -(-len(every) // COUNT))]:
        try:
            drawn = draw(parts[name], index)
        except InputError:
            continue
        cards.append(card(drawn, [(Path(parts[name].source(index)).name, name, DARK)], SIDE))
    if cards:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet(cards, columns=COLUMNS).save(out)
    return len(cards)
