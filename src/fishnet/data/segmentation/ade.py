"""ADE20K in the layout of its scene parsing challenge: images/ and annotations/, in which 0 stands for no class."""

import re
from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import subfolder
from fishnet.data.segmentation.matching import match_files, split_folders
from fishnet.data.segmentation.names import MAX_ID, Legend, class_lines, find_legend
from fishnet.data.segmentation.pairs import MaskLayout
from fishnet.errors import InputError
from fishnet.images.scanning import find_images

LAYOUTS = "ADE20K (images/ and annotations/ of ADEChallengeData2016)"
NUM_CLASSES = 150
_INFO = "objectInfo150.txt"
_ROW = re.compile(r"(?P<id>\d+)\s+[\d.]+\s+\d+\s+\d+(\s+\d+)?\s+(?P<names>\D.*)")


def find_ade(data: Path) -> MaskLayout | None:
    """Finds the splits of ADE20K; None for any other folder.

    Ids are 1 to 150; 0 is ignored unless a classes file names it. A class is called by its first name in
    ``objectInfo150.txt``, or by its name in a classes file, or by its id.

    Args:
        data: a folder with ``training`` and ``validation`` in ``images/`` and in ``annotations/``, and with either
            ``objectInfo150.txt`` or images called ``ADE_...``; or the folder that contains it as
            ``ADEChallengeData2016``.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.matching.match_files`; an unreadable line in
            ``objectInfo150.txt``.
    """
    data = subfolder(data, "adechallengedata2016") or data
    images, masks = subfolder(data, "images"), subfolder(data, "annotations")
    if images is None or masks is None:
        return None
    folders, info = split_folders(images, masks), data / _INFO
    if not folders or not (info.is_file() or any(_has_ade_name(pair.images) for pair in folders.values())):
        return None
    legend = _read_info(info) if info.is_file() else _find_legend(data)
    return MaskLayout({split: match_files(pair) for split, pair in folders.items()}, legend, data, definite=True)


def _has_ade_name(folder: Path) -> bool:
    return any(path.name.startswith("ADE_") for path in find_images(folder)[:1])


def _read_info(info: Path) -> Legend:
    """Each class with the first of its names in the table."""
    names, ids = [], []
    for number, line in class_lines(info)[1:]:
        row = _ROW.fullmatch(line)
        if row is None:
            raise InputError(
                f"{info} line {number}: expected Idx, Ratio, Train, Val, optionally Stuff, and Name: {line[:60]!r}"
            )
        if int(row["id"]) > MAX_ID:
            raise InputError(f"{info} line {number}: id {row['id'][:60]}: ids are 0 to {MAX_ID}")
        ids.append(int(row["id"]))
        names.append(re.split("[,;]", row["names"])[0].strip())
    # Some classes have the same first name: their ids are appended.
    repeated = {name for name in names if names.count(name) > 1}
    unique = [f"{name} {id_}" if name in repeated else name for name, id_ in zip(names, ids, strict=True)]
    return Legend(str(info), Classes(tuple(unique), tuple(ids)), tuple(ids), ignored=(0,), from_file=False)


def _find_legend(data: Path) -> Legend:
    """The classes of a classes file (150 names without ids get the ids 1 to 150); without one, the ids as names."""
    legend = find_legend(data)
    ids = tuple(range(1, NUM_CLASSES + 1))
    if legend is None:
        return Legend(str(data / "classes.txt"), Classes(tuple(map(str, ids)), ids), ids, ignored=(0,), from_file=False)
    if not legend.has_ids and len(legend.classes) == NUM_CLASSES:
        return Legend(legend.location, Classes(legend.classes.names, ids), ids, ignored=(0,))
    return replace(legend, ignored=(*legend.ignored, 0))
