"""``fishnet data check|show DATA``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from fishnet.cli.flags import flags_of, given_of
from fishnet.cli.told import LINES, aligned, listed
from fishnet.errors import InputError

if TYPE_CHECKING:
    from fishnet.data.check import DataCheck, Twin

app = App(name="data", help="Check data, and look at what a network sees of it.")
CLASSES = 40  # of the table of classes
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
Task = Literal["classify", "detect", "instances"]


@app.command
def check(
    data: str,
    /,
    *,
    channels: int = 3,
    task: Task | None = None,
    sheet: Path | None = None,
    workers: int = 0,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Read every picture: counts, sizes, formats, corrupt files, the same picture in two parts or under two classes.

    Of data with objects also, by file and line: pictures missing or of another size than annotated, boxes outside or
    empty, unknown categories, repeated ids; and how many objects of which class and size there are.

    The exit code is 1 where anything is wrong. Pictures are the same where their decoded pixels are.

    Parameters
    ----------
    data
        As for training.
    channels
        That pictures are read with: 3 (RGB), 1 (grey), or what the files hold.
    task
        What the data is for: classify, detect (boxes) or instances (boxes and masks). By default detect for the formats
        that hold objects, else classify.
    sheet
        Draw some pictures with their boxes into this file (of data with objects).
    workers
        Processes that read pictures; 0 reads in this one.
    quiet
        No progress bar.
    as_json
        Print one JSON object, with everything that is wrong and not only the first of it.
    """
    if channels < 1 or workers < 0:
        raise InputError("--channels must be 1 or more, --workers 0 or more")
    if sheet is not None and sheet.suffix.lower() not in ENDINGS:
        raise InputError(f"--sheet {sheet}: must end in {', '.join(ENDINGS)}")
    if (task or _task_of(data)) != "classify":
        return _check_regions(data, channels, workers, task == "instances", sheet, quiet, as_json)
    if sheet is not None:
        raise InputError(f"--sheet draws objects, which {data} has not: see fishnet data show for its pictures")
    from fishnet.cli.progress import bar
    from fishnet.data.check import check as check_parts
    from fishnet.data.open import open_labelled

    parts = open_labelled(data, channels, val_fraction=0.1, seed=0, whole=True)
    with bar("reading", show=not (quiet or as_json)) as step:
        found = check_parts(parts, workers=workers, progress=step)
    if as_json:
        print(json.dumps({"data": data, **found.to_dict()}))
    else:
        print(*_told(data, found), sep="\n")
    return 0 if found.ok else 1


def _check_regions(
    data: str, channels: int, workers: int, masks: bool, sheet: Path | None, quiet: bool, as_json: bool
) -> int:
    from fishnet.cli.progress import bar
    from fishnet.cli.region_check import draw_sheet, told
    from fishnet.data.regions.check import check_regions
    from fishnet.data.regions.open import open_regions

    wrong: list[str] = []
    parts = open_regions(data, channels, val_fraction=0.1, seed=0, whole=True, masks=masks, problems=wrong)
    with bar("reading", show=not (quiet or as_json)) as step:
        found = check_regions(parts, wrong, workers=workers, progress=step)
    drawn = draw_sheet(parts, sheet) if sheet is not None else 0
    if as_json:
        print(json.dumps({"data": data, **found.to_dict()}))
        return 0 if found.ok else 1
    print(*told(data, found), sep="\n")
    if sheet is not None:
        print(f"{drawn} pictures with their boxes: {sheet}" if drawn else "no picture that could be drawn")
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
    lines = [f"{data}: {sum(part.pictures for part in parts.values()):,} pictures", "", *aligned([head, *table])]

    names = list(next(iter(parts.values())).per_class)
    title = f"{len(names):,} classes:"
    if len(names) > CLASSES:
        names.sort(key=lambda name: sum(part.per_class.get(name, 0) for part in parts.values()))
        names = names[:LINES]
        title = f"the {LINES} smallest of {title}"
    rows = [[name, *(f"{part.per_class.get(name, 0):,}" for part in parts.values())] for name in names]
    lines += ["", title, *aligned([["class", *parts], *rows])]

    corrupt = [line for part in parts.values() for line in part.corrupt]
    for title, wrong in (
        ("corrupt", corrupt),
        ("the same picture in two parts", [_pair(twin) for twin in found.leaked]),
        ("the same picture under two classes", [_pair(twin) for twin in found.two_classes]),
    ):
        lines += listed(title, wrong)
    return [*lines, "", "nothing wrong" if found.ok else "something is wrong: see above"]


def _pair(twin: "Twin") -> str:
    first, second = twin.parts
    return f"{twin.first} ({first}, {twin.first_class}) = {twin.second} ({second}, {twin.second_class})"


_Flags = flags_of()


@app.command
def show(
    data: str,
    /,
    *,
    task: Task | None = None,
    recipe: str = "small-data",
    split: str = "train",
    count: int = 24,
    out: Path = Path("sheet.png"),
    flags: Annotated[_Flags, Parameter(name="*")] = _Flags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Draw what the network sees: pictures after the recipe's augmentation, with their targets, on one sheet.

    Parameters
    ----------
    data
        As for training.
    task
        What is trained. By default detect for the formats that hold objects, else classify.
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
    task = task or _task_of(data)
    settings = load_recipe(task, recipe, given_of(flags))
    from fishnet.draw import sheet
    from fishnet.tasks import get_task
    from fishnet.training.batches import shown

    def tell(line: str) -> None:
        print(f"fishnet: left out: {line}", file=sys.stderr)

    pictures = shown(settings, get_task(task), data, split, count, tell)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures, columns=6).save(out)
    print(f"{len(pictures)} pictures of {data} ({split}): {out}")


def _task_of(data: str) -> Task:
    """What data is for where it is not said."""
    from fishnet.data.regions.open import looks_like_regions

    return "detect" if looks_like_regions(data) else "classify"
