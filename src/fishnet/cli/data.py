"""``fishnet data check|show DATA``."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import App, Parameter

from fishnet.cli.flags import flags_of, given_of
from fishnet.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from fishnet.data.base import PictureSet
    from fishnet.data.check import DataCheck, PartCheck, Twin
    from fishnet.data.findings import Finding

app = App(name="data", help="Check data, and look at what a network sees of it.")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
Task = Literal["classify", "detect", "instances", "segment"]
_Many = Parameter(negative_iterable=(), consume_multiple=True)


@app.command
def check(
    data: str,
    /,
    *,
    channels: int = 3,
    task: Task | None = None,
    ignore: Annotated[tuple[int, ...], _Many] = (),
    void: Annotated[tuple[str, ...], _Many] = (),
    sheet: Path | None = None,
    workers: int = 0,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Read every picture: counts, sizes, formats, corrupt files, the same picture in two parts or under two classes.

    Of data with objects also, by file and line: pictures missing or of another size than annotated, boxes outside or
    empty, unknown categories, repeated ids; and how many objects of which class and size there are.

    Of data with a class for every pixel also: pictures and masks without their other half or of another size, masks
    that cannot be read, ids without a name, pictures that are ignored altogether, classes that are never trained on;
    and each class's share of the pixels.

    The exit code is 1 where anything is wrong. Pictures are the same where their decoded pixels are.

    Parameters
    ----------
    data
        As for training.
    channels
        That pictures are read with: 3 (RGB), 1 (grey), or what the files hold.
    task
        What the data is for: classify, detect (boxes), instances (boxes and masks) or segment (a class for every
        pixel). By default detect for the formats that hold objects, segment for those that hold label maps alone, else
        classify.
    ignore
        Of segment: ids that are neither learnt from nor measured, as for training.
    void
        Of segment: names of such classes.
    sheet
        Draw some pictures with their boxes or labels into this file (not of classify).
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
    task = task or _task_of(data)
    if (ignore or void) and task != "segment":
        raise InputError(f"--ignore and --void are for --task segment, not {task}")
    if sheet is not None and task == "classify":
        raise InputError(f"--sheet draws boxes or labels, which {data} has not: see fishnet data show")
    from fishnet.cli.check_tables import draw_sheet
    from fishnet.cli.progress import bar

    level = _level(task, data, channels, ignore, void)
    with bar("reading", show=not (quiet or as_json)) as step:
        found = level.check(workers=workers, progress=step)
    drawn = draw_sheet(level.parts, sheet, level.draw) if sheet is not None and level.draw is not None else 0
    if as_json:
        print(json.dumps({"data": data, **found.to_dict()}))
    else:
        print(*level.told(data, found), sep="\n")
        if sheet is not None:
            print(f"{drawn} pictures as annotated: {sheet}" if drawn else "no picture that could be drawn")
    return 0 if found.ok else 1


class _Level(NamedTuple):
    """The check of one kind of data.

    Attributes:
        parts: of the data.
        check: takes workers and progress, and gives what it found, with ``ok`` and ``to_dict``.
        told: of the data's name and what was found, the lines for people.
        draw: of a part the picture by index, as annotated; None where there is nothing to be drawn.
    """

    parts: "Mapping[str, PictureSet]"
    check: Callable[..., Any]
    told: Callable[[str, Any], list[str]]
    draw: "Callable[[Any, int], Image.Image] | None" = None


def _level(task: Task, data: str, channels: int, ignore: tuple[int, ...], void: tuple[str, ...]) -> _Level:
    whole: dict[str, Any] = {"val_fraction": 0.1, "seed": 0, "whole": True}
    wrong: list[Finding] = []
    if task == "classify":
        from fishnet.data.check import check as check_parts
        from fishnet.data.open import open_labelled

        parts = open_labelled(data, channels, **whole)
        return _Level(parts, partial(check_parts, parts), _told)
    if task == "segment":
        from fishnet.cli import pixel_check
        from fishnet.data.pixels.check import check_pixels
        from fishnet.data.pixels.open import open_pixels

        maps = open_pixels(data, channels, **whole, ignore=ignore, void=void, problems=wrong)
        return _Level(maps, partial(check_pixels, maps, wrong), pixel_check.told, pixel_check.draw)
    from fishnet.cli import region_check
    from fishnet.data.regions.check import check_regions
    from fishnet.data.regions.open import open_regions

    sets = open_regions(data, channels, **whole, masks=task == "instances", problems=wrong)
    return _Level(sets, partial(check_regions, sets, wrong), region_check.told, region_check.draw)


def _told(data: str, found: "DataCheck") -> list[str]:
    """The lines for people."""
    from fishnet.cli.check_tables import classes_told, gathered, pictures_told, wrong_told

    def imbalance(part: "PartCheck") -> str:
        return f"{part.imbalance:.2f}"

    parts = found.parts
    names = list(next(iter(parts.values())).per_class)
    lists = (
        ("corrupt", gathered(parts, "corrupt")),
        ("the same picture in two parts", [_pair(twin) for twin in found.leaked]),
        ("the same picture under two classes", [_pair(twin) for twin in found.two_classes]),
    )
    return [
        *pictures_told(data, parts, [("imbalance", imbalance)]),
        *classes_told("", parts, names, lambda part, name: part.per_class.get(name, 0)),
        *wrong_told(found.ok, lists),
    ]


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
        What is trained. By default detect for the formats that hold objects, segment for those that hold label maps
        alone, else classify.
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
    from fishnet.data.pixels.open import looks_like_pixels
    from fishnet.data.regions.open import looks_like_regions

    # Pictures and masks beside a list of classes are both: the list says that the masks are of classes, not of objects.
    if looks_like_pixels(data):
        return "segment"
    return "detect" if looks_like_regions(data) else "classify"
