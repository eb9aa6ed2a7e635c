"""What the checks of all levels print and draw alike: tables of splits and classes, findings, a contact sheet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.data.findings import Finding, count_by_severity
from fishnet.files.text import printable

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.check import ImagesCheck

CLASSES = 40  # of the table of classes
LINES = 20  # of each code, and of the smallest classes
COUNT, SIDE, COLUMNS = 12, 360, 4  # images of the contact sheet, px of each, and in a row


def images_table(
    data: str, parts: Mapping[str, Any], more: Sequence[tuple[str, Callable[[Any], str]]] = ()
) -> list[str]:
    """How many images the data has, and a table of each split's.

    Args:
        data: its name.
        parts: a :class:`~fishnet.data.check.ImagesCheck` each, by name.
        more: columns of one level alone: a head, and what stands below it for a split.
    """
    head = ["split", "images", "unreadable", "repeated", *(title for title, _ in more), "smallest", "median", "largest"]
    rows = [
        [
            name, f"{part.images:,}", f"{part.corrupt:,}", f"{part.repeated:,}",
            *(cell(part) for _, cell in more),
            *("-" if size is None else f"{size[0]}x{size[1]}" for size in (part.smallest, part.median, part.largest)),
            _kinds(part),
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    total = sum(part.images for part in parts.values())
    return [f"{data}: {total:,} images", "", *aligned([[*head, "formats"], *rows])]


def _kinds(part: "ImagesCheck") -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in part.kinds.items()) or "-"


def classes_table(
    title: str,
    parts: Mapping[str, Any],
    names: Sequence[str],
    count: Callable[[Any, str], int],
    cell: Callable[[Any, str], str] | None = None,
) -> list[str]:
    """A table of classes, a column each split; of many classes the smallest alone.

    Args:
        title: what is counted, behind the number of classes.
        parts: by name.
        names: of all classes.
        count: how much a split has of a class.
        cell: what stands in the table; by default the count.
    """
    cell = cell or (lambda part, name: f"{count(part, name):,}")
    title = f"{len(names):,} classes{title}:"
    if len(names) > CLASSES:
        names = sorted(names, key=lambda name: sum(count(part, name) for part in parts.values()))[:LINES]
        title = f"the {LINES} smallest of {title}"
    rows = [[name, *(cell(part, name) for part in parts.values())] for name in names]
    return ["", title, *aligned([["class", *parts], *rows])]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns: the first and a last one of texts to the left, numbers to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = {0, *({len(widths) - 1} if rows[0][-1] == "formats" else ())}
    return [
        "  ".join(
            cell.ljust(width) if i in texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def findings_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings code by code: what the code means, the first places, what to do; and a verdict at the end.

    Args:
        findings: those of one code together, see :func:`~fishnet.data.findings.in_order`.
    """
    for code, group in groupby(findings, key=lambda finding: finding.code):
        members = list(group)
        rule = members[0].rule
        yield ""
        yield f"{rule.severity} {code} ({sum(one.count for one in members):,}): {rule.meaning}"
        yield from (f"  {printable(one.message)}" for one in members[:LINES])
        if len(members) > LINES:
            yield f"  ... and {len(members) - LINES:,} more (--json gives all)"
        yield f"  -> {rule.action}"
    counts = count_by_severity(findings)
    yield ""
    if counts["error"] or counts["warning"]:
        yield ", ".join(f"{severity}s: {count:,}" for severity, count in counts.items())
    else:
        yield "nothing wrong"


def draw_sheet(parts: Mapping[str, Any], out: Path, draw: "Callable[[Any, int], Image.Image]") -> int:
    """Draws some images of all splits, evenly chosen, on one sheet; returns how many there are.

    Args:
        parts: :class:`~fishnet.data.base.ImageDataset` by name.
        out: the file; its folder is made.
        draw: of a set the image by index, with its target; InputError leaves it out.
    """
    from fishnet.errors import InputError
    from fishnet.prediction.drawing import card, sheet
    from fishnet.prediction.drawing.text import DARK

    every = [(name, index) for name, images in parts.items() for index in range(len(images))]
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
