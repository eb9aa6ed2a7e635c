"""Data of other formats, made COCO by Datumaro (the extra ``convert``). Torch-free."""

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
"""Datumaro's name of each format that is tested here."""


@dataclass
class Converted:
    """What a conversion wrote.

    Attributes:
        images, objects: how many of each split.
        ignored: annotations that COCO's objects have no place for, by kind.
    """

    images: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)


def convert(source: Path, target: Path, name: str) -> Converted:
    """Writes a dataset as COCO: ``annotations/instances_SPLIT.json`` and ``images/SPLIT/``, whole or not at all.

    Args:
        source: the dataset's folder, or its file.
        target: a folder that does not exist yet.
        name: of the format, a key of :data:`FORMATS`.

    Raises:
        InputError: an unknown name, a target that exists, data that Datumaro cannot read, an image that is missing or
            lies outside of the source, no objects.
        ModuleNotFoundError: Datumaro is not installed.
        WorkError: a full disk, or a place that cannot be written to.
    """
    if name not in FORMATS:
        raise InputError(f"--from {name}: choose from {', '.join(FORMATS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if target.exists():
        raise InputError(f"{target}: exists: name a folder that does not")
    items, labels = _read(source, name)
    with _whole_folder(target) as folder:
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
    except Exception as error:  # its readers raise nearly every kind
        cause = error.__cause__
        reason = first_line(cause if isinstance(cause, Exception) else error)
        raise InputError(f"{source}: Datumaro cannot read it as {name} ({reason})") from None
    if not items:
        raise InputError(f"{source}: Datumaro finds no image in it as {name}")
    return items, [] if categories is None else [label.name for label in categories]


def _write(items: Iterable[Any], labels: list[str], source: Path, folder: Path) -> Converted:
    done = Converted()
    files: dict[str, dict[str, Any]] = {}
    categories = [{"id": i, "name": label} for i, label in enumerate(labels, 1)]
    taken: set[str] = set()
    for item in items:
        split = split_named(str(item.subset)) or "all"
        file = files.setdefault(split, {"images": [], "annotations": [], "categories": categories})
        path = _image(item, source)
        name = f"{item.id}{path.suffix}".replace("\\", "/").lstrip("/")
        place = folder / "images" / split / name
        if ".." in Path(name).parts or str(place) in taken:
            raise InputError(f"{path}: its name {name!r} leads elsewhere or is another image's too")
        taken.add(str(place))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        height, width = upright_size(path, 3)
        number = len(file["images"]) + 1
        file["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        done.images[split] += 1
        for value in _objects(item.annotations, (height, width), done.ignored):
            id_ = len(file["annotations"]) + 1
            file["annotations"].append({"id": id_, "image_id": number, "iscrowd": 0, **value})
            done.objects[split] += 1
    if not done.objects:
        raise InputError(f"{source}: no box and no outline in {done.images.total():,} images")
    (folder / "annotations").mkdir()
    for split, file in files.items():
        name = "instances.json" if split == "all" and len(files) == 1 else f"instances_{split}.json"
        text = json.dumps(file, allow_nan=False)
        (folder / "annotations" / name).write_text(text, encoding="utf-8")
    return done


def _image(item: Any, source: Path) -> Path:
    """An item's image file, which must lie in the source."""
    path = Path(str(getattr(item.media, "path", "") or ""))
    root = source if source.is_dir() else source.parent
    if not path.name or path.suffix.lower() not in EXTENSIONS or not is_regular(path):
        raise InputError(f"{source}: the image {item.id!r} is not there, or of no known ending")
    if not inside(root, path):
        raise InputError(f"{source}: the image {item.id!r} lies outside of {root}")
    return path


def _objects(annotations: Iterable[Any], size: tuple[int, int], ignored: Counter[str]) -> Iterator[dict[str, Any]]:
    """COCO's annotations. A box and outlines of one group and label are one object, the box that of all."""
    groups: dict[tuple[int, int], list[Any]] = {}
    for number, one in enumerate(annotations):
        kind = one.type.name
        if kind not in ("bbox", "polygon", "mask", "rotated_bbox") or one.label is None:
            ignored[kind if one.label is not None else "without a label"] += 1
            continue
        groups.setdefault((one.group or 0, one.label) if one.group else (-1, number), []).append(one)
    for members in groups.values():
        boxes = [one for one in members if one.type.name == "bbox"]
        if len(boxes) == 1 and len(members) > 1:
            x, y, width, height = map(float, boxes[0].get_bbox())
            shapes = [_shape(one, size) for one in members if one is not boxes[0]]
            rings = [ring for shape in shapes if isinstance(shape, list) for ring in shape]
            shape: Any = rings if len(rings) == len(shapes) else shapes[0]
            yield {"category_id": boxes[0].label + 1, "bbox": [x, y, width, height], "segmentation": shape}
            continue
        for one in members:
            yield _single(one, size)


def _single(one: Any, size: tuple[int, int]) -> dict[str, Any]:
    box = [float(value) for value in one.get_bbox()]
    value = {"category_id": one.label + 1, "bbox": box, "area": box[2] * box[3]}
    if one.type.name == "bbox":
        return value
    shape = _shape(one, size)
    if isinstance(shape, list):
        corners = np.asarray(shape[0]).reshape(-1, 2)
        low, high = corners.min(0), corners.max(0)
        return {
            **value,
            "bbox": [*low.tolist(), *(high - low).tolist()],
            "area": outline_area(corners),
            "segmentation": shape,
        }
    return {**value, "area": float(one.get_area()), "segmentation": shape}


def _shape(one: Any, size: tuple[int, int]) -> list[list[float]] | dict[str, object]:
    if one.type.name == "polygon":
        return [[float(value) for value in one.points]]
    if one.type.name == "rotated_bbox":
        return [[float(value) for value in one.as_polygon()]]
    bits = np.asarray(one.image).astype(bool)
    if bits.shape != size:
        raise InputError(f"a mask of {bits.shape[1]}x{bits.shape[0]} px in an image of {size[1]}x{size[0]}")
    return encode(bits, size)


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, renamed to it at the end and removed after any failure."""
    partial = target.with_name(f".partial-{target.name}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except OSError as error:
        raise WorkError(f"{target}: not written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
