"""Converts data of other formats to COCO with Datumaro (the extra ``convert``). Torch-free."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fishnet.data.detection.outlines import outline_area
from fishnet.data.files import upright_size
from fishnet.data.splits import split_named
from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.reading import is_regular
from fishnet.files.walking import inside
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.rle import encode

FORMATS = {"cvat": "cvat", "datumaro": "datumaro", "kitti": "kitti_detection", "wider-face": "wider_face"}
"""Datumaro's name of each tested format, by our name."""


@dataclass
class Converted:
    """What a conversion wrote.

    Attributes:
        images, objects: how many were written, by split.
        ignored: annotations that COCO cannot represent as objects, by kind.
    """

    images: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def convert(source: Path, target: Path, name: str) -> Converted:
    """Writes a dataset as COCO: ``annotations/instances_SPLIT.json`` and ``images/SPLIT/``, completely or not at all.

    Args:
        source: the dataset's folder or file.
        target: a folder that does not exist yet.
        name: the format, a key of :data:`FORMATS`.

    Raises:
        InputError: an unknown name, a target that exists, data that Datumaro cannot read, an image that is missing or
            outside of the source, or no objects.
        ModuleNotFoundError: Datumaro is not installed.
        WorkError: the disk is full, or the target cannot be written.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if target.exists():
        raise InputError(f"{target}: already exists: name a new folder")
    items, labels = _read(source, name)
    with _atomic_folder(target) as folder:
        return _write(items, labels, source, folder)


def _read(source: Path, name: str) -> tuple[list[Any], list[str]]:
    """Datumaro's items, and the names of its labels."""
    import datumaro
    from datumaro.components.annotation import AnnotationType

    logging.getLogger().setLevel(logging.ERROR)
    try:
        dataset = datumaro.Dataset.import_from(str(source), FORMATS[name])
        items = list(dataset)
        categories = dataset.categories().get(AnnotationType.label)
    except Exception as error:  # its readers raise nearly every exception
        cause = error.__cause__
        reason = first_line(cause if isinstance(cause, Exception) else error)
        raise InputError(f"{source}: Datumaro cannot read it as {name} ({reason})") from None
    if not items:
        raise InputError(f"{source}: Datumaro finds no image in it as {name}")
    return items, [] if categories is None else [label.name for label in categories]


def _write(items: Iterable[Any], labels: list[str], source: Path, folder: Path) -> Converted:
    converted = Converted()
    files: dict[str, dict[str, Any]] = {}
    categories = [{"id": i, "name": label} for i, label in enumerate(labels, 1)]
    taken: set[str] = set()
    for item in items:
        split = split_named(str(item.subset)) or "all"
        file = files.setdefault(split, {"images": [], "annotations": [], "categories": categories})
        path = _image(item, source)
        name = f"{item.id}{path.suffix}".replace("\\", "/").lstrip("/")
        copy = folder / "images" / split / name
        if ".." in Path(name).parts or str(copy) in taken:
            raise InputError(f"{path}: its name {name!r} leads out of the folder, or another image has it too")
        taken.add(str(copy))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        height, width = upright_size(path, 3)
        number = len(file["images"]) + 1
        file["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        converted.images[split] += 1
        for value in _objects(item.annotations, (height, width), converted.ignored):
            id_ = len(file["annotations"]) + 1
            file["annotations"].append({"id": id_, "image_id": number, "iscrowd": 0, **value})
            converted.objects[split] += 1
    if not converted.objects:
        raise InputError(f"{source}: no boxes and no outlines in {converted.images.total():,} images")
    (folder / "annotations").mkdir()
    for split, file in files.items():
        name = "instances.json" if split == "all" and len(files) == 1 else f"instances_{split}.json"
        text = json.dumps(file, allow_nan=False)
        (folder / "annotations" / name).write_text(text, encoding="utf-8")
    return converted


def _image(item: Any, source: Path) -> Path:
    """An item's image file, which must lie in the source."""
    path = Path(str(getattr(item.media, "path", "") or ""))
    root = source if source.is_dir() else source.parent
    if not path.name or path.suffix.lower() not in EXTENSIONS or not is_regular(path):
        raise InputError(f"{source}: the image {item.id!r} is missing, or its extension is not supported")
    if not inside(root, path):
        raise InputError(f"{source}: the image {item.id!r} lies outside of {root}")
    return path


def _objects(annotations: Iterable[Any], size: tuple[int, int], ignored: Counter[str]) -> Iterator[dict[str, Any]]:
    """The annotations in COCO's form. A box and the outlines of the same group and label become one object."""
    groups: dict[tuple[int, int], list[Any]] = {}
    for number, annotation in enumerate(annotations):
        kind, label, group = annotation.type.name, annotation.label, annotation.group
        if kind not in ("bbox", "polygon", "mask", "rotated_bbox") or label is None:
            ignored[kind if label is not None else "without a label"] += 1
            continue
        groups.setdefault((group, label) if group else (-1, number), []).append(annotation)
    for members in groups.values():
        boxes = [member for member in members if member.type.name == "bbox"]
        if len(boxes) == 1 and len(members) > 1:
            x, y, width, height = map(float, boxes[0].get_bbox())
            shapes = [_shape(member, size) for member in members if member is not boxes[0]]
            rings = [ring for shape in shapes if isinstance(shape, list) for ring in shape]
            shape: Any = rings if len(rings) == len(shapes) else shapes[0]
            yield {"category_id": boxes[0].label + 1, "bbox": [x, y, width, height], "segmentation": shape}
            continue
        for member in members:
            yield _single(member, size)


def _single(annotation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """One annotation in COCO's form."""
    box = [float(value) for value in annotation.get_bbox()]
    value = {"category_id": annotation.label + 1, "bbox": box, "area": box[2] * box[3]}
    if annotation.type.name == "bbox":
        return value
    shape = _shape(annotation, size)
    if isinstance(shape, list):
        corners = np.asarray(shape[0]).reshape(-1, 2)
        low, high = corners.min(0), corners.max(0)
        return {
            **value,
            "bbox": [*low.tolist(), *(high - low).tolist()],
            "area": outline_area(corners),
            "segmentation": shape,
        }
    return {**value, "area": float(annotation.get_area()), "segmentation": shape}


def _shape(annotation: Any, size: tuple[int, int]) -> list[list[float]] | dict[str, object]:
    """An outline or a mask as COCO's ``segmentation``: polygons or RLE."""
    if annotation.type.name == "polygon":
        return [[float(value) for value in annotation.points]]
    if annotation.type.name == "rotated_bbox":
        return [[float(value) for value in annotation.as_polygon()]]
    bits = np.asarray(annotation.image).astype(bool)
    if bits.shape != size:
        raise InputError(f"a mask of {bits.shape[1]}x{bits.shape[0]} px in an image of {size[1]}x{size[0]}")
    return encode(bits, size)


@contextmanager
def _atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target. It is renamed to the target at the end, and removed after a failure."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except OSError as error:
        raise WorkError(f"{target}: not written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
