"""Small data sets with objects, in every format: coloured ellipses and rectangles on noise that a net can tell apart.

Each maker writes ``count`` images a part, as ``train=6, val=3``, and returns what a user would name as DATA. Image
``i`` of a part is ``scene(part_seed(part) + i)``; every fifth one (4, 9, ...) has no objects.
"""

import base64
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

KINDS = ("berry", "leaf", "stone")
COLOURS = ((225, 60, 60), (70, 200, 80), (80, 100, 230))
SIZE = (96, 80)
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Scene:
    """An image and the truth about it.

    Attributes:
        image: RGB.
        boxes: (n, 4) x1, y1, x2, y2 in px; whole numbers, tight around the masks.
        labels: (n,) indices into ``KINDS``.
        masks: (n, height, width) of 0 and 1; they do not overlap.
    """

    image: Image.Image
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8]

    def polygons(self, index: int) -> list[list[float]]:
        """An object's outline as COCO polygons; an ellipse has 24 corners."""
        x1, y1, x2, y2 = self.boxes[index].tolist()
        if KINDS[self.labels[index]] == "leaf":
            return [[x1, y1, x2, y1, x2, y2, x1, y2]]
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        x, y = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(angles), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(angles)
        return [[float(value) for value in np.stack([x, y], 1).round(2).reshape(-1)]]


def scene(seed: int, size: tuple[int, int] = SIZE, kinds: int = 3, objects: int | None = None) -> Scene:
    """One to four objects (or ``objects``), each in a quarter of the image of its own."""
    random = np.random.default_rng(seed)
    width, height = size
    image = Image.fromarray(random.integers(0, 70, (height, width, 3), dtype=np.uint8))
    count = int(random.integers(1, 5)) if objects is None else objects
    boxes, labels, masks = [], [], []
    for quarter in random.permutation(4)[:count].tolist():
        room = (width // 2, height // 2)
        w, h = (int(random.integers(side // 3, side - 4)) for side in room)
        x = quarter % 2 * room[0] + int(random.integers(1, room[0] - w - 1))
        y = quarter // 2 * room[1] + int(random.integers(1, room[1] - h - 1))
        label = int(random.integers(kinds))
        mask = Image.new("L", size)
        draw = ImageDraw.Draw(mask)
        (draw.rectangle if KINDS[label] == "leaf" else draw.ellipse)((x, y, x + w - 1, y + h - 1), fill=1)
        image.paste(COLOURS[label], mask=mask.point(lambda value: value * 255))
        boxes.append([x, y, x + w, y + h])
        labels.append(label)
        masks.append(np.asarray(mask, np.uint8))
    return Scene(
        image,
        np.asarray(boxes, np.float64).reshape(-1, 4),
        np.asarray(labels, np.int64),
        np.stack(masks) if masks else np.zeros((0, height, width), np.uint8),
    )


def part_seed(part: str) -> int:
    return 1000 * PARTS.index(part)


def scenes(part: str, count: int, **options: Any) -> list[Scene]:
    """The scenes of a part; every fifth is empty."""
    first = part_seed(part)
    return [scene(first + i, **({"objects": 0} if i % 5 == 4 else {}), **options) for i in range(count)]


def run_lengths(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """COCO's uncompressed run-length encoding: column by column, the first run of zeros."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def compressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coco

    found = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": bytes(found["counts"]).decode()}


def coco_dict(
    shown: Sequence[Scene],
    names: Sequence[str],
    *,
    form: str | None = "polygon",
    ids: Sequence[int] = (3, 7, 11),
    first: int = 0,
) -> dict[str, Any]:
    """A COCO annotation file's content.

    Args:
        shown: the scenes.
        names: their ``file_name``.
        form: of the segmentations: polygon, rle, compressed; None leaves them out.
        ids: of the categories.
        first: id of the first image and the first annotation.
    """
    forms: dict[str, Callable[[Scene, int], Any]] = {
        "polygon": lambda s, i: s.polygons(i),
        "rle": lambda s, i: run_lengths(s.masks[i]),
        "compressed": lambda s, i: compressed(s.masks[i]),
    }
    images, annotations = [], []
    for n, (one, name) in enumerate(zip(shown, names, strict=True)):
        width, height = one.image.size
        images.append({"id": first + n, "file_name": name, "width": width, "height": height})
        for i, (x1, y1, x2, y2) in enumerate(one.boxes.tolist()):
            annotation = {
                "id": first + len(annotations),
                "image_id": first + n,
                "category_id": ids[one.labels[i]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(one.masks[i].sum()),
                "iscrowd": 0,
            }
            if form is not None:
                annotation["segmentation"] = forms[form](one, i)
            annotations.append(annotation)
    categories = [{"id": id_, "name": name, "supercategory": "thing"} for id_, name in zip(ids, KINDS, strict=True)]
    return {"info": {"year": 2020}, "images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, content: Any) -> Path:
    """One line an entry of each list, so that errors have lines to name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        parts = []
        for key, value in content.items():
            rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else json.dumps(value)
            parts.append(f"{json.dumps(key)}: " + (f"[\n{rows}\n]" if isinstance(value, list) else rows))
        path.write_text("{" + ",\n".join(parts) + "}\n")
    else:
        path.write_text(json.dumps(content))
    return path


def coco_folder(
    root: Path,
    *,
    layout: str = "standard",
    form: str | None = "polygon",
    ids: Sequence[int] = (3, 7, 11),
    **counts: int,
) -> Path:
    """COCO: ``annotations/instances_train2017.json`` and ``train2017/``; ``roboflow``; or ``file``, one JSON.

    Returns:
        The folder; with ``layout="file"`` the JSON, its images beside it (all parts in one).
    """
    counts = counts or {"train": 6, "val": 3}
    every: list[tuple[Scene, str]] = []
    for part, count in counts.items():
        shown = scenes(part, count)
        names = [f"{part}_{i:03d}.png" for i in range(count)]
        if layout == "roboflow":
            folder = root / {"val": "valid"}.get(part, part)
            write_json(folder / "_annotations.coco.json", coco_dict(shown, names, form=form, ids=ids))
        elif layout == "standard":
            folder = root / f"{part}2017"
            content = coco_dict(shown, names, form=form, ids=ids)
            write_json(root / "annotations" / f"instances_{part}2017.json", content)
        else:
            folder = root
        folder.mkdir(parents=True, exist_ok=True)
        for one, name in zip(shown, names, strict=True):
            one.image.save(folder / name)
        every += zip(shown, names, strict=True)
    if layout != "file":
        return root
    content = coco_dict([one for one, _ in every], [name for _, name in every], form=form, ids=ids)
    return write_json(root / "objects.json", content)


def voc_xml(name: str, shown: Scene, size: tuple[int, int] | None = None) -> str:
    width, height = size or shown.image.size
    lines = ["<annotation>", f"  <filename>{name}</filename>"]
    lines += [f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for label, box in zip(shown.labels.tolist(), shown.boxes.astype(int).tolist(), strict=True):
        places = "".join(
            f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        lines += ["  <object>", f"    <name>{KINDS[label]}</name>", "    <difficult>0</difficult>"]
        lines += [f"    <bndbox>{places}</bndbox>", "  </object>"]
    return "\n".join([*lines, "</annotation>"]) + "\n"


def voc_folder(root: Path, *, layout: str = "lists", masks: bool = False, **counts: int) -> Path:
    """Pascal VOC: ``lists`` (Annotations, JPEGImages, ImageSets/Main), ``flat`` (train and others in one folder), or
    ``parts`` (train / valid / test folders, flat each)."""
    counts = counts or {"train": 6, "val": 3}
    for part, count in counts.items():
        images, xmls = {
            "lists": (root / "JPEGImages", root / "Annotations"),
            "flat": (root, root),
            "parts": (root / {"val": "valid"}.get(part, part),) * 2,
        }[layout]
        images.mkdir(parents=True, exist_ok=True)
        xmls.mkdir(parents=True, exist_ok=True)
        stems = [f"{part}_{i:03d}" for i in range(count)]
        for stem, one in zip(stems, scenes(part, count), strict=True):
            one.image.save(images / f"{stem}.jpg", quality=95)
            (xmls / f"{stem}.xml").write_text(voc_xml(f"{stem}.jpg", one))
            if masks:
                _voc_masks(root, stem, one)
        if layout == "lists":
            main = root / "ImageSets" / "Main"
            main.mkdir(parents=True, exist_ok=True)
            (main / f"{part}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return root


def _voc_masks(root: Path, stem: str, shown: Scene) -> None:
    """SegmentationObject and SegmentationClass, as palette PNGs; class ids count from 1."""
    for folder, values in (
        ("SegmentationObject", range(1, len(shown.labels) + 1)),
        ("SegmentationClass", (shown.labels + 1).tolist()),
    ):
        place = root / folder / f"{stem}.png"
        place.parent.mkdir(exist_ok=True)
        image = Image.fromarray(_painted(shown, list(values)).astype(np.uint8)).convert("P")
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
        image.save(place)


def _painted(shown: Scene, values: Sequence[int]) -> NDArray[np.int32]:
    map_ = np.zeros(shown.image.size[::-1], np.int32)
    for mask, value in zip(shown.masks, values, strict=True):
        map_[mask == 1] = value
    return map_


def yolo_folder(root: Path, *, polygons: bool = False, **counts: int) -> Path:
    """YOLO: ``data.yaml``, ``images/<part>/`` and ``labels/<part>/``; images without objects have no label file."""
    counts = counts or {"train": 6, "val": 3}
    lines = ["path: ."]
    for part, count in counts.items():
        lines.append(f"{part}: images/{part}")
        for folder in ("images", "labels"):
            (root / folder / part).mkdir(parents=True)
        for i, one in enumerate(scenes(part, count)):
            one.image.save(root / "images" / part / f"{i:03d}.png")
            if rows := yolo_rows(one, polygons):
                (root / "labels" / part / f"{i:03d}.txt").write_text("\n".join(rows) + "\n")
    names = "".join(f"\n  {i}: {name}" for i, name in enumerate(KINDS))
    (root / "data.yaml").write_text("\n".join([*lines, f"names:{names}"]) + "\n")
    return root


def yolo_rows(shown: Scene, polygons: bool = False) -> list[str]:
    scale = np.array(shown.image.size * 2, np.float64)
    rows = []
    for i, (label, box) in enumerate(zip(shown.labels.tolist(), shown.boxes, strict=True)):
        centre, side = (box[:2] + box[2:]) / 2 / scale[:2], (box[2:] - box[:2]) / scale[:2]
        values = np.concatenate([centre, side])
        if polygons:
            values = (np.array(shown.polygons(i)[0]).reshape(-1, 2) / scale[:2]).reshape(-1)
        rows.append(" ".join([str(label), *(f"{value:.6f}" for value in values)]))
    return rows


def mask_folder(root: Path, *, depth: int = 8, suffix: str = "png", **counts: int) -> Path:
    """``images/`` and ``masks/`` paired by stem, below each part's folder; with ``all=6`` without parts.

    Ids within a mask are not contiguous, and of 16 bits with ``depth=16``.
    """
    counts = counts or {"train": 6, "val": 3}
    dtype = {8: np.uint8, 16: np.uint16, 32: np.int32}[depth]
    for part, count in counts.items():
        place = root if part == "all" else root / part
        for folder in ("images", "masks"):
            (place / folder).mkdir(parents=True)
        for i, one in enumerate(scenes("train" if part == "all" else part, count)):
            one.image.save(place / "images" / f"{i:03d}.png")
            step = 300 if depth > 8 else 40
            map_ = _painted(one, [step * (n + 1) for n in range(len(one.labels))])
            Image.fromarray(map_.astype(dtype)).save(place / "masks" / f"{i:03d}.{suffix}")
    return root


def split_folders_of(root: Path, counts: dict[str, int]) -> dict[str, tuple[Path, list[Scene]]]:
    """Each split's folder and scenes."""
    counts = counts or {"train": 6, "val": 3}
    folders = {split: root / {"val": "valid"}.get(split, split) for split in counts}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return {split: (folders[split], scenes(split, count)) for split, count in counts.items()}


def labelme_json(shown: Scene, image: str, **more: Any) -> dict[str, Any]:
    """A labelme file: leaves are rectangles, given by corners in the wrong order, the others polygons."""
    shapes = []
    for i, (label, (x1, y1, x2, y2)) in enumerate(zip(shown.labels.tolist(), shown.boxes.tolist(), strict=True)):
        ring = np.array(shown.polygons(i)[0]).reshape(-1, 2).tolist()
        leaf = KINDS[label] == "leaf"
        shapes.append(
            {
                "label": KINDS[label],
                "points": [[x2, y1], [x1, y2]] if leaf else ring,
                "shape_type": "rectangle" if leaf else "polygon",
                "group_id": None,
                "flags": {},
            }
        )
    width, height = shown.image.size
    sizes = {"imagePath": image, "imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.7.0", "flags": {}, "shapes": shapes, **sizes, **more}


def labelme_folder(root: Path, **counts: int) -> Path:
    """labelme: a folder a split, with a JSON file beside each image."""
    for folder, shown in split_folders_of(root, counts).values():
        for i, one in enumerate(shown):
            one.image.save(folder / f"{i:03d}.png")
            (folder / f"{i:03d}.json").write_text(json.dumps(labelme_json(one, f"{i:03d}.png")))
    return root


def bitmap_text(mask: NDArray[np.uint8], packed: bool = True) -> str:
    """A mask as base64 of a PNG of one bit, compressed by zlib as Supervisely does."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(buffer, "PNG")
    return base64.b64encode(zlib.compress(buffer.getvalue()) if packed else buffer.getvalue()).decode()


def supervisely_json(shown: Scene) -> dict[str, Any]:
    """A Supervisely file: leaves are rectangles, stones bitmaps, berries polygons."""
    objects = []
    for i, (label, (x1, y1, x2, y2)) in enumerate(
        zip(shown.labels.tolist(), shown.boxes.astype(int).tolist(), strict=True)
    ):
        value: dict[str, Any] = {"classTitle": KINDS[label], "tags": []}
        if KINDS[label] == "leaf":
            value |= {"geometryType": "rectangle", "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []}}
        elif KINDS[label] == "stone":
            bits = bitmap_text(shown.masks[i, y1:y2, x1:x2])
            value |= {"geometryType": "bitmap", "bitmap": {"data": bits, "origin": [x1, y1]}}
        else:
            ring = np.array(shown.polygons(i)[0]).reshape(-1, 2).tolist()
            value |= {"geometryType": "polygon", "points": {"exterior": ring, "interior": []}}
        objects.append(value)
    width, height = shown.image.size
    return {"description": "", "tags": [], "size": {"height": height, "width": width}, "objects": objects}


def supervisely_folder(root: Path, **counts: int) -> Path:
    """Supervisely: a project whose datasets are the splits."""
    for folder, shown in split_folders_of(root, counts).values():
        for name in ("ann", "img"):
            (folder / name).mkdir()
        for i, one in enumerate(shown):
            one.image.save(folder / "img" / f"{i:03d}.png")
            (folder / "ann" / f"{i:03d}.png.json").write_text(json.dumps(supervisely_json(one)))
    classes = [{"title": kind, "shape": "any", "color": "#ff0000"} for kind in KINDS]
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return root


BOX_HEADERS = {
    "deepforest": "image_path,xmin,ymin,xmax,ymax,label",
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax",
    "retinanet": "",
}


def box_table(root: Path, *, columns: str = "deepforest", **counts: int) -> Path:
    """A table of boxes for each split, ``train.csv`` ..., with images in ``images/``."""
    counts = counts or {"train": 6, "val": 3}
    (root / "images").mkdir(parents=True)
    for split, count in counts.items():
        rows = [BOX_HEADERS[columns]] if BOX_HEADERS[columns] else []
        for i, one in enumerate(scenes(split, count)):
            name = f"images/{split}_{i:03d}.png"
            one.image.save(root / name)
            width, height = one.image.size
            objects = [
                (KINDS[label], *box)
                for label, box in zip(one.labels.tolist(), one.boxes.astype(int).tolist(), strict=True)
            ]
            for kind, *box in objects or [("", "", "", "", "")]:
                place = ",".join(map(str, box))
                sizes = f"{name},{width},{height},{kind},{place}"
                rows.append(sizes if columns == "tensorflow" else f"{name},{place},{kind}")
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return root


def open_images_folder(root: Path, **counts: int) -> Path:
    """Open Images: ``train-annotations-bbox.csv`` ..., images in a folder a split, names in class descriptions."""
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    for split, (folder, shown) in split_folders_of(root, counts).items():
        rows = [head]
        for i, one in enumerate(shown):
            one.image.save(folder / f"{split}{i:03d}.png")
            width, height = one.image.size
            for label, (x1, y1, x2, y2) in zip(one.labels.tolist(), one.boxes.tolist(), strict=True):
                shares = f"{x1 / width},{x2 / width},{y1 / height},{y2 / height}"
                rows.append(f"{split}{i:03d},xclick,/m/0{label},1,{shares},0,0,0")
            if not len(one.labels):
                rows.append(f"{split}{i:03d},xclick,,1,,,,,0,0,0")
        (root / f"oidv6-{split}-annotations-bbox.csv").write_text("\n".join(rows) + "\n")
    names = "".join(f"/m/0{i},{kind}\n" for i, kind in enumerate(KINDS))
    (root / "class-descriptions-boxable.csv").write_text(names)
    return root


def darknet_folder(root: Path, *, layout: str = "classes", **counts: int) -> Path:
    """YOLO without ``data.yaml``: ``classes`` (classes.txt), or ``darknet`` (obj.data, obj.names, lists)."""
    yolo_folder(root, polygons=True, **counts)
    (root / "data.yaml").unlink()
    names = "\n".join(KINDS) + "\n"
    if layout == "classes":
        (root / "classes.txt").write_text(names)
        return root
    (root / "obj.names").write_text(names)
    rows = [f"classes = {len(KINDS)}", "names = data/obj.names", "backup = backup/"]
    for split in counts or ("train", "val"):
        images = sorted((root / "images" / split).iterdir())
        (root / f"{split}.txt").write_text("".join(f"images/{split}/{path.name}\n" for path in images))
        rows.append(f"{ {'val': 'valid'}.get(split, split) } = data/{split}.txt")
    (root / "obj.data").write_text("\n".join(rows) + "\n")
    return root


def object_files(root: Path, **counts: int) -> Path:
    """A folder an image with ``images/`` and ``masks/`` of one file an object, in ``stage1_train/`` ..."""
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        for i, one in enumerate(scenes(split, count)):
            folder = root / f"stage1_{split}" / f"{split}{i:03d}"
            for name in ("images", "masks"):
                (folder / name).mkdir(parents=True)
            one.image.save(folder / "images" / f"{split}{i:03d}.png")
            for n, mask in enumerate(one.masks):
                Image.fromarray(mask * 255).save(folder / "masks" / f"{n}.png")
    return root
