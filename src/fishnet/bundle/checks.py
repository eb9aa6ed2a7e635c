"""Checks of a bundle's config before anything is built from it. Torch-free."""

import re
from collections.abc import Mapping
from typing import Any

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.files.values import integer, mapping, plain, real, shown, text

_LARGEST_ARGUMENT = 100_000  # maximum of the numbers that a network is built with; no recipe accepts more
_MAX_ARGUMENTS = 1_000  # maximum count of such numbers
_TEXT_KEYS = ("backbone", "sha256")
_OBJECT_KEYS = ("preprocess", "backbone_args", "metrics", "recipe", "data", "versions")
MAX_HEADS = 64  # of one model
RESERVED_NAMES = ("source", "panoptic")  # keys of predictions beside the names of the heads
_HEAD_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_BACKBONE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOADING_ARGUMENTS = ("checkpoint_path", "cache_dir", "features_only", "exportable", "scriptable", "no_jit")
_MAX_INTEGERS = {
    "width": 4096, "mask_width": 4096, "box_width": 16384, "box_convs": 16, "proposals": 100_000,
    "roi_samples": 100_000, "max_detections": 100_000, "semantic_classes": 255,
}  # fmt: skip  # whole numbers of heads and the largest value of each
_MAY_BE_ZERO = ("box_convs", "semantic_classes")
_SHARES = ("nms_iou", "score_threshold", "drop_rate")
_ANCHOR_LEVELS, _MAX_ANCHORS = 5, 32


def check_values(values: dict[str, Any]) -> None:
    """Raises InputError for a value of the wrong type, one that is not a finite number, or one that is out of range."""
    for name in _TEXT_KEYS:
        text(values.get(name, ""), name, 1000)
    for name in _OBJECT_KEYS:
        mapping(values.get(name, {}), name)
    plain(values.get("backbone_args", {}), "backbone_args", _LARGEST_ARGUMENT, _MAX_ARGUMENTS)
    heads = mapping(values["heads"], "heads")
    if not 1 <= len(heads) <= MAX_HEADS:
        raise InputError(f"heads: {len(heads):,} heads: must be from 1 to {MAX_HEADS}")
    for name in heads:
        if name in RESERVED_NAMES:
            raise InputError(f"heads: {name!r} is a key of predictions beside those of the heads: rename the head")
        if not _HEAD_NAME.fullmatch(name):
            raise InputError(
                f"heads: {shown(name)} is not a valid name: use lower-case letters, digits, - and _, a letter first"
            )
    for name in ("preprocess", "recipe"):
        plain(values.get(name, {}), name)
    for name, value in values.get("metrics", {}).items():
        real(value, f"metrics: {name}")
    for kind in ("data", "versions"):
        for name, value in values.get(kind, {}).items():
            text(value, f"{kind}: {name}")


def check_head(args: dict[str, Any]) -> None:
    """Checks the ranges of a head's numbers. Unknown keys are left to the head.

    Raises:
        InputError: a number out of range, or anchors of the wrong form.
    """
    plain(args, "head_args", _LARGEST_ARGUMENT, _MAX_ARGUMENTS)
    for name, largest in _MAX_INTEGERS.items():
        if name in args:
            integer(args[name], f"head_args: {name}", 0 if name in _MAY_BE_ZERO else 1, largest)
    for name in _SHARES:
        if name in args:
            real(args[name], f"head_args: {name}", 0, 1)
    if not isinstance(args.get("multi_label", False), bool):
        raise InputError(f"head_args: multi_label: must be true or false, not {shown(args['multi_label'])}")
    if args.get("anchors") is not None:
        _check_anchors(mapping(args["anchors"], "head_args: anchors"))


def _check_anchors(anchors: Mapping[str, Any]) -> None:
    sizes: Any = anchors.get("sizes")
    ratios: Any = anchors.get("ratios")
    if not isinstance(sizes, list | tuple) or not all(isinstance(row, list | tuple) for row in (*sizes, ratios)):
        raise InputError(f"head_args: anchors: must hold lists of sizes and ratios, not {shown(anchors)}")
    if len(sizes) != _ANCHOR_LEVELS or len(set(map(len, sizes))) > 1:
        raise InputError(f"head_args: anchors: must have the same number of sizes on each of {_ANCHOR_LEVELS} levels")
    for row in (*sizes, ratios):
        if not 1 <= len(row) <= _MAX_ANCHORS:
            raise InputError(f"head_args: anchors: {len(row):,} sizes or ratios: must be from 1 to {_MAX_ANCHORS}")
        for value in row:
            real(value, "head_args: anchors", 1e-3, 1e5)


def check_backbone(name: str, args: Mapping[str, Any]) -> None:
    """Refuses a backbone that would be loaded from a hub or a folder, or with other weights than the bundle's.

    Raises:
        InputError: the name or an argument would do so.
    """
    if not _BACKBONE_NAME.fullmatch(name):
        raise InputError(
            f"backbone {shown(name)}: must be the name of a registered network, not a place to load it from: see "
            "fishnet list '*'; weights are loaded from a file with weights (--weights)"
        )
    for key in args:
        if key in _LOADING_ARGUMENTS or key.startswith("pretrained"):
            raise InputError(f"backbone_args: {key} does not belong in a bundle: a bundle brings its own weights")


def read_classes(rows: Any) -> Classes:
    """The class table of a config. Raises InputError for rows without a valid name and id."""
    if not isinstance(rows, list) or not rows:
        raise InputError(f"classes: must be a list of names and ids, not {shown(rows)}")
    for number, row in enumerate(rows):
        mapping(row, f"classes: row {number}")
        text(row["name"], f"classes: name of row {number}", 10_000)
        integer(row["id"], f"classes: id of row {number}", -(2**63), 2**63 - 1)
    return Classes.from_list(rows)
