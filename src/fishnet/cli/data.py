"""``fishnet data check|show DATA``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from fishnet.cli.flags import Flags, given_of
from fishnet.errors import InputError

if TYPE_CHECKING:
    from fishnet.data.check import DataCheck, Twin

app = App(name="data", help="Check data, and look at what a network sees of it.")
CLASSES, LINES = 40, 20  # of the table of classes, and of each list of what is wrong
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_INK = (30, 34, 42)


@app.command
def check(
    data: str,
    /,
    *,
    channels: int = 3,
    workers: int = 0,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Read every picture: counts, sizes, formats, corrupt files, the same picture in two parts or under two classes.

    The exit code is 1 where a picture is corrupt, in two parts, or under two classes. Pictures are the same where
    their decoded pixels are.

    Parameters
    ----------
    data
        As for training.
    channels
        That pictures are read with: 3 (RGB), 1 (grey), or what the files hold.
    workers
        Processes that read pictures; 0 reads in this one.
    quiet
        No progress bar.
    as_json
        Print one JSON object, with everything that is wrong and not only the first of it.
    """
    from fishnet.cli.progress import bar
    from fishnet.data.check import check as check_parts
    from fishnet.data.open import open_labelled

    if channels < 1 or workers < 0:
        raise InputError("--channels must be 1 or more, --workers 0 or more")
    parts = open_labelled(data, channels, val_fraction=0.1, seed=0, whole=True)
    with bar("reading", show=not (quiet or as_json)) as step:
        found = check_parts(parts, workers=workers, progress=step)
    if as_json:
        print(json.dumps({"data": data, **found.to_dict()}))
    else:
        print(*_told(data, found), sep="\n")
    return 0 if found.ok else 1


def _told(data: str, found: "DataCheck") -> list[str]:
    """The lines for people."""
    parts = found.parts
    head = ["part", "pictures", "corrupt", "repeated", "imbalance", "smallest", "median", "largest", "formats"]
    table = [
        [
            name, f"{part.pictures:,}", f"{len(part.corrupt):,}", f"{part.repeated:,}", f"{part.imbalance:.2f}",
            *("-" if size is None else f"{size[0]}x{size[1]}" for size in (part.smallest, part.median, part.largest)),
            ", ".join(f"{kind} {count:,}" for kind, count in part.kinds.items()) or "-",
        ]
        for name, part in parts.items()
    ]  # fmt: skip
    lines = [f"{data}: {sum(part.pictures for part in parts.values()):,} pictures", "", *_aligned([head, *table])]

    names = list(next(iter(parts.values())).per_class)
    title = f"{len(names):,} classes:"
    if len(names) > CLASSES:
        names.sort(key=lambda name: sum(part.per_class.get(name, 0) for part in parts.values()))
        names = names[:LINES]
        title = f"the {LINES} smallest of {title}"
    rows = [[name, *(f"{part.per_class.get(name, 0):,}" for part in parts.values())] for name in names]
    lines += ["", title, *_aligned([["class", *parts], *rows])]

    corrupt = [line for part in parts.values() for line in part.corrupt]
    for title, wrong in (
        ("corrupt", corrupt),
        ("the same picture in two parts", [_pair(twin) for twin in found.leaked]),
        ("the same picture under two classes", [_pair(twin) for twin in found.two_classes]),
    ):
        if wrong:
            more = [f"... and {len(wrong) - LINES:,} more (--json gives all)"] if len(wrong) > LINES else []
            lines += ["", f"{title} ({len(wrong):,}):", *(f"  {line}" for line in [*wrong[:LINES], *more])]
    return [*lines, "", "nothing wrong" if found.ok else "something is wrong: see above"]


def _pair(twin: "Twin") -> str:
    first, second = twin.parts
    return f"{twin.first} ({first}, {twin.first_class}) = {twin.second} ({second}, {twin.second_class})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns: the first and a last one of texts to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = {0, *({len(widths) - 1} if rows[0][-1] == "formats" else ())}
    return [
        "  ".join(
            cell.ljust(width) if i in texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


@app.command
def show(
    data: str,
    /,
    *,
    recipe: str = "small-data",
    split: str = "train",
    count: int = 24,
    out: Path = Path("sheet.png"),
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008
) -> None:
    """Draw what the network sees: pictures after the recipe's augmentation, with their classes, on one sheet.

    Parameters
    ----------
    data
        As for training.
    recipe
        As for training; every key below overrides it.
    split
        train is shown as it is trained on, val and test as they are validated.
    count
        How many pictures, drawn anew by another --seed.
    out
        The sheet.
    """
    from fishnet.training.recipe import load_recipe

    if count < 1:
        raise InputError(f"--count {count}: must be 1 or more")
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"--out {out}: must end in {', '.join(ENDINGS)}")
    settings = load_recipe("classify", recipe, given_of(flags))
    from fishnet.data.pictures import as_view
    from fishnet.draw import card, sheet
    from fishnet.tasks import get_task
    from fishnet.training.batches import shown

    def tell(line: str) -> None:
        print(f"fishnet: left out: {line}", file=sys.stderr)

    pictures: list[tuple[Any, str]] = shown(settings, get_task("classify"), data, split, count, tell)
    cards = [card(as_view(pixels), [(label, "", _INK)]) for pixels, label in pictures]
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet(cards, columns=6).save(out)
    print(f"{len(cards)} pictures of {data} ({split}): {out}")
