"""What ``fishnet data check`` prints and draws: tables of splits and classes, findings, a contact sheet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.data.findings import Finding, count_by_severity
from fishnet.files.text import printable

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.check import CheckReport, SplitStatistics

    Statistics = Mapping[str, SplitStatistics]

CLASSES = 40  # with more classes, only the smallest are listed
LINES = 20  # maximum number of lines per code, and in the table of the smallest classes
COUNT, SIDE, COLUMNS = 12, 360, 4  # contact sheet: images, px of each image's side, images in a row


def report_lines(data: str, report: "CheckReport[SplitStatistics]") -> Iterator[str]:
    """Yields the lines of a report.

    Args:
        data: the data's name.
        report: the result of the check.
    """
    splits = report.splits
    yield f"{data}: {sum(statistics.images for statistics in splits.values()):,} images"
    yield ""
    yield from _table(splits, {split: _image_columns(statistics) for split, statistics in splits.items()})
    annotations = {split: statistics.annotation_columns() for split, statistics in splits.items()}
    if any(annotations.values()):
        yield ""
        yield from _table(splits, annotations)
    yield ""
    yield from _classes_table(splits)
    yield from findings_lines(report.findings)


def _table(splits: "Statistics", columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A table with a row for each split. ``columns`` has the cells of each split by the heads of their columns."""
    heads = next(iter(columns.values()))
    return aligned([["split", *heads], *([split, *columns[split].values()] for split in splits)])


def _image_columns(statistics: "SplitStatistics") -> dict[str, str]:
    sizes = {"smallest": statistics.smallest, "median": statistics.median, "largest": statistics.largest}
    return {
        "images": f"{statistics.images:,}",
        "unreadable": f"{statistics.corrupt:,}",
        "duplicates": f"{statistics.duplicates:,}",
        **statistics.image_columns(),
        **{title: "-" if size is None else f"{size[0]}x{size[1]}" for title, size in sizes.items()},
        "formats": ", ".join(f"{kind} {count:,}" for kind, count in statistics.kinds.items()) or "-",
    }


def _classes_table(splits: "Statistics") -> Iterator[str]:
    """A table of classes with a column for each split. If there are many classes, only the smallest are shown."""
    first = next(iter(splits.values()))
    names: list[str] = list(first.class_counts)
    title = f"{len(names):,} classes{first.class_title}:"
    if len(names) > CLASSES:
        totals = {name: sum(statistics.class_counts[name] for statistics in splits.values()) for name in names}
        names = sorted(names, key=totals.__getitem__)[:LINES]
        title = f"the {LINES} smallest of {title}"
    yield title
    rows = [[name, *(statistics.class_cell(name) for statistics in splits.values())] for name in names]
    yield from aligned([["class", *splits], *rows])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns: the first one, and a last one of formats, to the left; numbers to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = {0, *({len(widths) - 1} if rows[0][-1] == "formats" else ())}
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def findings_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yields the findings code by code: the code's meaning, the first places, and what to do. The counts come last.

    Args:
        findings: sorted by code, see :func:`~fishnet.data.findings.in_order`.
    """
    for code, group in groupby(findings, key=lambda finding: finding.code):
        members = list(group)
        rule = members[0].rule
        yield ""
        yield f"{rule.severity} {code} ({sum(finding.count for finding in members):,}): {rule.meaning}"
        yield from (f"  {printable(finding.message)}" for finding in members[:LINES])
        if len(members) > LINES:
            yield f"  ... and {len(members) - LINES:,} more (--json prints all)"
        yield f"  -> {rule.action}"
    counts = count_by_severity(findings)
    yield ""
    if counts["error"] or counts["warning"]:
        yield ", ".join(f"{severity}s: {count:,}" for severity, count in counts.items())
    else:
        yield "nothing wrong"


def draw_sheet(datasets: Mapping[str, Any], out: Path, draw: "Callable[[Any, int], Image.Image]") -> int:
    """Draws some images of all splits, evenly chosen, on one sheet. Returns their number.

    Args:
        datasets: the :class:`~fishnet.data.base.ImageDataset` of each split.
        out: the file; its folder is created.
        draw: draws an image of a dataset by index, with its annotation. The image is left out if this raises
            InputError.
    """
    from fishnet.errors import InputError
    from fishnet.prediction.drawing import card, sheet
    from fishnet.prediction.drawing.text import DARK

    images = [(split, index) for split, dataset in datasets.items() for index in range(len(dataset))]
    cards = []
    for split, index in images[:: max(1, -(-len(images) // COUNT))]:
        try:
            drawn = draw(datasets[split], index)
        except InputError:
            continue
        cards.append(card(drawn, [(Path(datasets[split].source(index)).name, split, DARK)], SIDE))
    if cards:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet(cards, columns=COLUMNS).save(out)
    return len(cards)
