"""``fishnet data check|show DATA`` and ``fishnet data convert SOURCE TARGET``."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.cli.flags import Codes, flags_of, given_of
from fishnet.errors import InputError
from fishnet.recipes.joint_recipe import JointRecipe, load_joint_recipe
from fishnet.recipes.loading import load_recipe
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task, task_info

if TYPE_CHECKING:
    from fishnet.tasks.base import Splits, Task

app = App(name="data", help="Check data, show what a network sees of it, and convert it.")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
PANOPTIC = "panoptic"
_Many = Parameter(negative_iterable=(), consume_multiple=True, show_default=False)


@app.command
def check(
    data: str,
    /,
    *,
    channels: int = 3,
    task: str | None = None,
    ignore: Annotated[tuple[int | Literal["none"], ...], _Many] = (),
    void: Annotated[tuple[str, ...], _Many] = (),
    classes: Annotated[tuple[str, ...], _Many] = (),
    multi_label: Annotated[bool, Parameter(negative=())] = False,
    threshold_masks: int = 0,
    sheet: Path | None = None,
    only: Codes = (),
    skip: Codes = (),
    strict: Annotated[bool, Parameter(negative=())] = False,
    workers: int = 0,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Read every image and every annotation, count them and list what is wrong.

    Prints counts, sizes, file formats and classes of each split, and then the findings: errors, warnings and notes,
    each with its code, the file and the line, and what to do. docs/findings.md lists the codes. The column
    duplicates counts images with the same decoded pixels as an earlier one of their split.

    The exit code is 2 if there is an error, or with --strict if there is an error or a warning.

    Parameters
    ----------
    data
        As for training.
    channels
        Number of channels to read images with: 3 (RGB), 1 (grey), or as many as the files have.
    task
        What the data is for: classify, detect (boxes), instances (boxes and masks), segment (a class for every pixel),
        panoptic (things and stuff). Default: panoptic for COCO panoptic, detect for formats that hold objects, segment
        for formats that hold only label maps, otherwise classify.
    ignore
        For segment: mask ids to ignore, as for training; none: ignore only the format's own.
    void
        For segment: names of classes to ignore, as for training.
    classes
        Names of the classes to check, as for training. Default: all.
    multi_label
        For classify, which is then the default task: images may have several labels, as for training.
    threshold_masks
        For segment: binarize masks, as for training: pixels with a value of at least this threshold are foreground,
        all others background; 0: masks contain class ids.
    sheet
        Draw some images with their boxes or labels into this file (not for classify).
    only
        Codes of the findings to report, separated by commas; all others are ignored.
    skip
        Codes of findings to ignore, separated by commas.
    strict
        Exit with 2 on warnings too.
    workers
        Processes that read images; 0 reads in the main process.
    quiet
        Show no progress bar.
    as_json
        Print one JSON object, with all findings instead of the first ones of each code.
    """
    if channels < 1 or workers < 0:
        raise InputError("--channels must be 1 or more, --workers 0 or more")
    if sheet is not None and sheet.suffix.lower() not in EXTENSIONS:
        raise InputError(f"--sheet {sheet}: must end in {', '.join(EXTENSIONS)}")
    name = task or ("classify" if multi_label else _task_of(data))
    settings = _mask_settings(name, ignore, void, threshold_masks)
    _check_level(name, data, multi_label, sheet)
    from fishnet.cli.check_report import draw_sheet, report_lines
    from fishnet.cli.progress import bar
    from fishnet.data.check import check_splits
    from fishnet.data.collector import collecting
    from fishnet.data.findings import parse_codes, selected

    only, skip = parse_codes(only, "--only"), parse_codes(skip, "--skip")
    checked_task = _task(name, data, Recipe(multi_label=multi_label))
    with collecting() as collector:
        datasets = _open(checked_task, data, channels, classes, settings)
    with bar("reading", show=not (quiet or as_json)) as step:
        report = check_splits(datasets, checked_task.split_check, collector.findings, workers=workers, progress=step)
    report = replace(report, findings=tuple(selected(report.findings, only, skip)), strict=strict)
    drawn = draw_sheet(datasets, sheet, checked_task.draw_sample) if sheet is not None else 0
    if as_json:
        print(json.dumps({"data": data, **report.to_dict()}, allow_nan=False))
    else:
        print(*report_lines(data, report), sep="\n")
        if sheet is not None:
            print(f"{drawn} images as annotated: {sheet}" if drawn else "no image that could be drawn")
    return 0 if report.ok else 2


def _check_level(task: str, data: str, multi_label: bool, sheet: Path | None) -> None:
    """Raises InputError for options that are not of the task's level."""
    info = None if task == PANOPTIC else task_info(task)
    if multi_label and (info is None or info.level != "classification"):
        raise InputError(f"--multi-label is for --task classify, not {task}")
    if sheet is not None and info is not None and info.output == "scores":
        raise InputError(f"--sheet draws boxes or labels, but {data} has neither: use fishnet data show")


def _mask_settings(
    task: str, ignore: tuple[int | Literal["none"], ...], void: tuple[str, ...], threshold_masks: int
) -> dict[str, Any]:
    """Returns the recipe keys for masks that were given. Raises InputError for an invalid value or another task."""
    mask_keys = {"ignore": list(ignore), "void": list(void), "threshold_masks": threshold_masks}
    settings = {key: value for key, value in mask_keys.items() if value}
    if not settings.keys() <= ({"void"} if task == PANOPTIC else set(keys_of(task))):
        raise InputError(f"--ignore, --void and --threshold-masks are for --task segment, not {task}")
    if not 0 <= threshold_masks <= 65_535 or any(id_ != "none" and id_ < 0 for id_ in ignore):
        raise InputError("--threshold-masks must be 0 to 65535, ids of --ignore 0 or more")
    return settings


def _open(task: "Task", data: str, channels: int, classes: tuple[str, ...], settings: dict[str, Any]) -> "Splits":
    """The datasets of all splits, with nothing held out."""
    recipe = Recipe().replace(settings)
    held_out = {"val_fraction": recipe.val_fraction, "seed": recipe.seed, "keep_splits": True}
    return task.open_splits(data, channels, recipe, only=classes, classes=None, **held_out)


_Flags = flags_of()


@app.command
def show(
    data: str,
    /,
    *,
    task: str | None = None,
    recipe: str = "small-data",
    split: str = "train",
    count: int = 24,
    out: Path = Path("sheet.png"),
    flags: Annotated[_Flags, Parameter(name="*")] = _Flags(),  # type: ignore[valid-type]  # noqa: B008
) -> None:
    """Draw the network's input on one sheet: images after the recipe's augmentation, with their targets.

    Parameters
    ----------
    data
        As for training.
    task
        Task to train. Default: panoptic for COCO panoptic, detect for formats that hold objects, segment for formats
        that hold only label maps, otherwise classify.
    recipe
        As for training; the keys below override it.
    split
        train is drawn as in training, val and test as in validation.
    count
        Number of images. --seed selects which images are drawn.
    out
        File to draw the sheet into.
    """
    if count < 1:
        raise InputError(f"--count {count}: must be 1 or more")
    if out.suffix.lower() not in EXTENSIONS:
        raise InputError(f"--out {out}: must end in {', '.join(EXTENSIONS)}")
    given = given_of(flags)
    task = task or ("classify" if given.get("multi_label") else _task_of(data))
    from fishnet.prediction.drawing import sheet
    from fishnet.training.batches import draw_samples

    if task == PANOPTIC:
        joint = load_joint_recipe(recipe, dict.fromkeys((INSTANCES, SEGMENT), data), given, kind="panoptic")
        settings, drawn_task = joint.shared, _task(task, data, joint.shared, joint)
    else:
        settings = load_recipe(task, recipe, given)
        drawn_task = _task(task, data, settings)

    def log(line: str) -> None:
        print(f"fishnet: left out: {line}", file=sys.stderr)

    images = draw_samples(settings, drawn_task, data, split, count, log)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet(images, columns=6).save(out)
    print(f"{len(images)} images of {data} ({split}): {out}")


@app.command
def convert(
    source: Path,
    target: Path,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from")],
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Convert data of another format to COCO: annotations/ and images/ in a new folder.

    If conversion fails, nothing is written. Reads with Datumaro (the extra convert, which needs no torch). Boxes,
    polygons, masks and rotated boxes become objects; other annotations are counted.

    Parameters
    ----------
    source
        The data, laid out as Datumaro expects it.
    target
        A folder that does not exist yet.
    from_
        The data's format: cvat (XML of CVAT for images), datumaro, kitti (detection) or wider-face.
    as_json
        Print one JSON object.
    """
    from fishnet.data.convert import convert as convert_data

    converted = convert_data(source, target, from_)
    if as_json:
        counts = {"images": converted.images, "objects": converted.objects, "ignored": converted.ignored}
        print(json.dumps({"data": str(target), **counts}))
        return
    for split, count in converted.images.items():
        print(f"{split}: {count:,} images, {converted.objects[split]:,} objects")
    if converted.ignored:
        print(f"ignored: {', '.join(f'{count:,} {kind}' for kind, count in converted.ignored.most_common())}")
    print(f"written: {target} (COCO): fishnet data check {target}")


def _task(name: str, data: str, recipe: Recipe, joint: JointRecipe | None = None) -> "Task":
    """The task of a name: one of the registered ones, or panoptic segmentation of this data."""
    if name != PANOPTIC:
        return get_task(name).for_recipe(recipe)
    from fishnet.tasks.panoptic.task import Panoptic

    return Panoptic.of_data(data, joint)


def _task_of(data: str) -> str:
    """The default task for data."""
    from fishnet.data.detection.open import looks_like_detection
    from fishnet.data.panoptic.open import looks_like_panoptic
    from fishnet.data.segmentation.open import looks_like_segmentation

    # Images and masks beside a list of classes look like both formats. The list means that masks hold classes.
    if looks_like_segmentation(data):
        return "segment"
    if looks_like_panoptic(data):
        return PANOPTIC
    return "detect" if looks_like_detection(data) else "classify"
