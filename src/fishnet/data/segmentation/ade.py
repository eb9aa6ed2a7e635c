"""ADE20K as its scene parsing challenge gives it out: images and annotations, where 0 is no class."""

import re
from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import child
from fishnet.data.segmentation.names import MAX_ID, Legend, class_lines, find_legend
from fishnet.data.segmentation.pairs import Found, paired, split_places
from fishnet.errors import InputError
from fishnet.images.scanning import find_images

LAYOUTS = "ADE20K (images/ and annotations/ of ADEChallengeData2016)"
CLASSES = 150
_INFO = "objectInfo150.txt"
_ROW = re.compile(r"(?P<id>\d+)\s+[\d.]+\s+\d+\s+\d+(\s+\d+)?\s+(?P<names>\D.*)")


def find_ade(data: Path) -> Found | None:
    """The parts of ADE20K; None where it is none.

    Ids are 1 to 150; 0 is ignored, unless a classes file names it. Names are the first ones of ``objectInfo150.txt``,
    or those of a classes file, or the ids.

    Args:
        data: a folder with ``images/training``, ``images/validation`` and the same in ``annotations/``, and either
            ``objectInfo150.txt`` or images called ``ADE_...``; or the folder above, ``ADEChallengeData2016`` in it.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.pairs.paired`; a line of ``objectInfo150.txt`` that is none.
    """
    data = child(data, "adechallengedata2016") or data
    images, masks = child(data, "images"), child(data, "annotations")
    if images is None or masks is None:
        return None
    places, info = split_places(images, masks), data / _INFO
    if not places or not (info.is_file() or any(_called_ade(folder) for folder, _ in places.values())):
        return None
    legend = _legend(info) if info.is_file() else _named(data)
    parts = {part: paired(*place) for part, place in places.items()}
    return Found(parts, legend, data, definite=True)


def _called_ade(folder: Path) -> bool:
    return any(path.name.startswith("ADE_") for path in find_images(folder)[:1])


def _legend(info: Path) -> Legend:
    """The first of the names of each class in the table."""
    names, ids = [], []
    for number, line in list(class_lines(info))[1:]:
        found = _ROW.fullmatch(line)
        if found is None:
            raise InputError(
                f"{info} line {number}: expected Idx, Ratio, Train, Val, perhaps Stuff, and Name: {line[:60]!r}"
            )
        if not int(found["id"]) <= MAX_ID:
            raise InputError(f"{info} line {number}: id {found['id'][:60]}: ids are 0 to {MAX_ID}")
        ids.append(int(found["id"]))
        names.append(re.split("[,;]", found["names"])[0].strip())
    # Some first names are of two classes: those have their id behind them.
    doubled = {name for name in names if names.count(name) > 1}
    unique = [f"{name} {id_}" if name in doubled else name for name, id_ in zip(names, ids, strict=True)]
    return Legend(str(info), Classes(tuple(unique), tuple(ids)), tuple(ids), ignored=(0,), given=False)


def _named(data: Path) -> Legend:
    """By a classes file, whose 150 names without ids are those of 1 to 150; or by number."""
    legend = find_legend(data)
    ids = tuple(range(1, CLASSES + 1))
    if legend is None:
        return Legend(str(data / "classes.txt"), Classes(tuple(map(str, ids)), ids), ids, ignored=(0,), given=False)
    if not legend.stated and len(legend.classes) == CLASSES:
        return Legend(legend.place, Classes(legend.classes.names, ids), ids, ignored=(0,))
    return replace(legend, ignored=(*legend.ignored, 0))
