"""Makes small detection datasets of every format: coloured ellipses and rectangles on noise, which a net can learn.

Each maker writes a number of images per split, as ``train=6, val=3``, and returns what a user would pass as DATA. Image
``i`` of a split is ``scene(split_seed(split) + i)``; every fifth one (4, 9, ...) has no objects.
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
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Scene:
    """An image and its objects.

    Attributes:
        image: RGB.
        boxes: (n, 4) x1, y1, x2, y2 in px; integers, tight around the masks.
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
    """One to four objects (or ``objects``), each in its own quarter of the image."""
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


def split_seed(split: str) -> int:
    return 1000 * SPLITS.index(split)


def scenes(split: str, count: int, **options: Any) -> list[Scene]:
    """The scenes of a split; every fifth is empty."""
    first = split_seed(split)
    return [scene(first + i, **({"objects": 0} if i % 5 == 4 else {}), **options) for i in range(count)]


def run_lengths(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """COCO's uncompressed run-length encoding: by columns, starting with a run of zeros."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def compressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coco

    encoding = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": bytes(encoding["counts"]).decode()}


def coco_dict(
    drawn: Sequence[Scene],
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
        form: of the segmentations: polygon, rle or compressed; None for none.
        ids: of the categories.
        first: id of the first image and the first annotation.
    """
    forms: dict[str, Callable[[Scene, int], Any]] = {
        "polygon": lambda s, i: s.polygons(i),
        "rle": lambda s, i: run_lengths(s.masks[i]),
        "compressed": lambda s, i: compressed(s.masks[i]),
    }
    images, annotations = [], []
    for n, (scene_, name) in enumerate(zip(drawn, names, strict=True)):
        width, height = scene_.image.size
        images.append({"id": first + n, "file_name": name, "width": width, "height": height})
        for i, (x1, y1, x2, y2) in enumerate(scene_.boxes.tolist()):
            annotation = {
                "id": first + len(annotations),
                "image_id": first + n,
                "category_id": ids[scene_.labels[i]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(scene_.masks[i].sum()),
                "iscrowd": 0,
            }
            if form is not None:
                annotation["segmentation"] = forms[form](scene_, i)
            annotations.append(annotation)
    categories = [{"id": id_, "name": name, "supercategory": "thing"} for id_, name in zip(ids, KINDS, strict=True)]
    return {"info": {"year": 2020}, "images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, content: Any) -> Path:
    """Writes one line per entry of each list, so that errors have lines to name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        members = []
        for key, value in content.items():
            rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else json.dumps(value)
            members.append(f"{json.dumps(key)}: " + (f"[\n{rows}\n]" if isinstance(value, list) else rows))
        path.write_text("{" + ",\n".join(members) + "}\n")
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
        The folder; with ``layout="file"`` the JSON, its images next to it (all splits in one).
    """
    counts = counts or {"train": 6, "val": 3}
    pairs: list[tuple[Scene, str]] = []
    for split, count in counts.items():
        drawn = scenes(split, count)
        names = [f"{split}_{i:03d}.png" for i in range(count)]
        if layout == "roboflow":
            folder = root / {"val": "valid"}.get(split, split)
            write_json(folder / "_annotations.coco.json", coco_dict(drawn, names, form=form, ids=ids))
        elif layout == "standard":
            folder = root / f"{split}2017"
            content = coco_dict(drawn, names, form=form, ids=ids)
            write_json(root / "annotations" / f"instances_{split}2017.json", content)
        else:
            folder = root
        folder.mkdir(parents=True, exist_ok=True)
        for scene_, name in zip(drawn, names, strict=True):
            scene_.image.save(folder / name)
        pairs += zip(drawn, names, strict=True)
    if layout != "file":
        return root
    content = coco_dict([scene_ for scene_, _ in pairs], [name for _, name in pairs], form=form, ids=ids)
    return write_json(root / "objects.json", content)


def voc_xml(name: str, scene: Scene, size: tuple[int, int] | None = None) -> str:
    width, height = size or scene.image.size
    lines = ["<annotation>", f"  <filename>{name}</filename>"]
    lines += [f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for label, box in zip(scene.labels.tolist(), scene.boxes.astype(int).tolist(), strict=True):
        places = "".join(
            f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        lines += ["  <object>", f"    <name>{KINDS[label]}</name>", "    <difficult>0</difficult>"]
        lines += [f"    <bndbox>{places}</bndbox>", "  </object>"]
    return "\n".join([*lines, "</annotation>"]) + "\n"


def voc_folder(root: Path, *, layout: str = "lists", masks: bool = False, **counts: int) -> Path:
    """Pascal VOC: ``lists`` (Annotations, JPEGImages, ImageSets/Main), ``flat`` (all splits in one folder), or
    ``folders`` (train / valid / test folders, each flat)."""
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        images, xmls = {
            "lists": (root / "JPEGImages", root / "Annotations"),
            "flat": (root, root),
            "folders": (root / {"val": "valid"}.get(split, split),) * 2,
        }[layout]
        images.mkdir(parents=True, exist_ok=True)
        xmls.mkdir(parents=True, exist_ok=True)
        stems = [f"{split}_{i:03d}" for i in range(count)]
        for stem, scene_ in zip(stems, scenes(split, count), strict=True):
            scene_.image.save(images / f"{stem}.jpg", quality=95)
            (xmls / f"{stem}.xml").write_text(voc_xml(f"{stem}.jpg", scene_))
            if masks:
                _voc_masks(root, stem, scene_)
        if layout == "lists":
            main = root / "ImageSets" / "Main"
            main.mkdir(parents=True, exist_ok=True)
            (main / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return root


def _voc_masks(root: Path, stem: str, scene: Scene) -> None:
    """SegmentationObject and SegmentationClass, as palette PNGs; class ids count from 1."""
    for folder, values in (
        ("SegmentationObject", range(1, len(scene.labels) + 1)),
        ("SegmentationClass", (scene.labels + 1).tolist()),
    ):
        place = root / folder / f"{stem}.png"
        place.parent.mkdir(exist_ok=True)
        image = Image.fromarray(_painted(scene, list(values)).astype(np.uint8)).convert("P")
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
        image.save(place)


def _painted(scene: Scene, values: Sequence[int]) -> NDArray[np.int32]:
    id_map = np.zeros(scene.image.size[::-1], np.int32)
    for mask, value in zip(scene.masks, values, strict=True):
        id_map[mask == 1] = value
    return id_map


def yolo_folder(root: Path, *, polygons: bool = False, **counts: int) -> Path:
    """YOLO: ``data.yaml``, ``images/<part>/`` and ``labels/<part>/``; images without objects have no label file."""
    counts = counts or {"train": 6, "val": 3}
    lines = ["path: ."]
    for split, count in counts.items():
        lines.append(f"{split}: images/{split}")
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for i, scene_ in enumerate(scenes(split, count)):
            scene_.image.save(root / "images" / split / f"{i:03d}.png")
            if rows := yolo_rows(scene_, polygons):
                (root / "labels" / split / f"{i:03d}.txt").write_text("\n".join(rows) + "\n")
    names = "".join(f"\n  {i}: {name}" for i, name in enumerate(KINDS))
    (root / "data.yaml").write_text("\n".join([*lines, f"names:{names}"]) + "\n")
    return root


def yolo_rows(scene: Scene, polygons: bool = False) -> list[str]:
    scale = np.array(scene.image.size * 2, np.float64)
    rows = []
    for i, (label, box) in enumerate(zip(scene.labels.tolist(), scene.boxes, strict=True)):
        centre, side = (box[:2] + box[2:]) / 2 / scale[:2], (box[2:] - box[:2]) / scale[:2]
        values = np.concatenate([centre, side])
        if polygons:
            values = (np.array(scene.polygons(i)[0]).reshape(-1, 2) / scale[:2]).reshape(-1)
        rows.append(" ".join([str(label), *(f"{value:.6f}" for value in values)]))
    return rows


def mask_folder(root: Path, *, depth: int = 8, suffix: str = "png", **counts: int) -> Path:
    """``images/`` and ``masks/`` paired by stem, in a folder per split; with ``all=6`` without splits.

    Ids within a mask are not contiguous, and of 16 bits with ``depth=16``.
    """
    counts = counts or {"train": 6, "val": 3}
    dtype = {8: np.uint8, 16: np.uint16, 32: np.int32}[depth]
    for split, count in counts.items():
        place = root if split == "all" else root / split
        for folder in ("images", "masks"):
            (place / folder).mkdir(parents=True)
        for i, scene_ in enumerate(scenes("train" if split == "all" else split, count)):
            scene_.image.save(place / "images" / f"{i:03d}.png")
            step = 300 if depth > 8 else 40
            id_map = _painted(scene_, [step * (n + 1) for n in range(len(scene_.labels))])
            Image.fromarray(id_map.astype(dtype)).save(place / "masks" / f"{i:03d}.{suffix}")
    return root


def split_folders_of(root: Path, counts: dict[str, int]) -> dict[str, tuple[Path, list[Scene]]]:
    """Each split's folder and scenes."""
    counts = counts or {"train": 6, "val": 3}
    folders = {split: root / {"val": "valid"}.get(split, split) for split in counts}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return {split: (folders[split], scenes(split, count)) for split, count in counts.items()}


def labelme_json(scene: Scene, image: str, **more: Any) -> dict[str, Any]:
    """A labelme file: leaves are rectangles, given by corners in the wrong order, the others polygons."""
    shapes = []
    for i, (label, (x1, y1, x2, y2)) in enumerate(zip(scene.labels.tolist(), scene.boxes.tolist(), strict=True)):
        ring = np.array(scene.polygons(i)[0]).reshape(-1, 2).tolist()
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
    width, height = scene.image.size
    sizes = {"imagePath": image, "imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.7.0", "flags": {}, "shapes": shapes, **sizes, **more}


def labelme_folder(root: Path, **counts: int) -> Path:
    """labelme: a folder per split, with a JSON file next to each image."""
    for folder, drawn in split_folders_of(root, counts).values():
        for i, scene_ in enumerate(drawn):
            scene_.image.save(folder / f"{i:03d}.png")
            (folder / f"{i:03d}.json").write_text(json.dumps(labelme_json(scene_, f"{i:03d}.png")))
    return root


def bitmap_text(mask: NDArray[np.uint8], packed: bool = True) -> str:
    """A mask as base64 of a PNG of one bit, compressed by zlib as Supervisely does."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(buffer, "PNG")
    return base64.b64encode(zlib.compress(buffer.getvalue()) if packed else buffer.getvalue()).decode()


def supervisely_json(scene: Scene) -> dict[str, Any]:
    """A Supervisely file: leaves are rectangles, stones bitmaps, berries polygons."""
    objects = []
    for i, (label, (x1, y1, x2, y2)) in enumerate(
        zip(scene.labels.tolist(), scene.boxes.astype(int).tolist(), strict=True)
    ):
        value: dict[str, Any] = {"classTitle": KINDS[label], "tags": []}
        if KINDS[label] == "leaf":
            value |= {"geometryType": "rectangle", "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []}}
        elif KINDS[label] == "stone":
            bits = bitmap_text(scene.masks[i, y1:y2, x1:x2])
            value |= {"geometryType": "bitmap", "bitmap": {"data": bits, "origin": [x1, y1]}}
        else:
            ring = np.array(scene.polygons(i)[0]).reshape(-1, 2).tolist()
            value |= {"geometryType": "polygon", "points": {"exterior": ring, "interior": []}}
        objects.append(value)
    width, height = scene.image.size
    return {"description": "", "tags": [], "size": {"height": height, "width": width}, "objects": objects}


def supervisely_folder(root: Path, **counts: int) -> Path:
    """Supervisely: a project whose datasets are the splits."""
    for folder, drawn in split_folders_of(root, counts).values():
        for name in ("ann", "img"):
            (folder / name).mkdir()
        for i, scene_ in enumerate(drawn):
            scene_.image.save(folder / "img" / f"{i:03d}.png")
            (folder / "ann" / f"{i:03d}.png.json").write_text(json.dumps(supervisely_json(scene_)))
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
        for i, scene_ in enumerate(scenes(split, count)):
            name = f"images/{split}_{i:03d}.png"
            scene_.image.save(root / name)
            width, height = scene_.image.size
            objects = [
                (KINDS[label], *box)
                for label, box in zip(scene_.labels.tolist(), scene_.boxes.astype(int).tolist(), strict=True)
            ]
            for kind, *box in objects or [("", "", "", "", "")]:
                place = ",".join(map(str, box))
                sizes = f"{name},{width},{height},{kind},{place}"
                rows.append(sizes if columns == "tensorflow" else f"{name},{place},{kind}")
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return root


def open_images_folder(root: Path, **counts: int) -> Path:
    """Open Images: ``train-annotations-bbox.csv`` ..., images in a folder per split, names in class descriptions."""
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    for split, (folder, drawn) in split_folders_of(root, counts).items():
        rows = [head]
        for i, scene_ in enumerate(drawn):
            scene_.image.save(folder / f"{split}{i:03d}.png")
            width, height = scene_.image.size
            for label, (x1, y1, x2, y2) in zip(scene_.labels.tolist(), scene_.boxes.tolist(), strict=True):
                shares = f"{x1 / width},{x2 / width},{y1 / height},{y2 / height}"
                rows.append(f"{split}{i:03d},xclick,/m/0{label},1,{shares},0,0,0")
            if not len(scene_.labels):
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
    """A folder per image with ``images/`` and ``masks/`` of one file per object, in ``stage1_train/`` ..."""
    counts = counts or {"train": 6, "val": 3}
    for split, count in counts.items():
        for i, scene_ in enumerate(scenes(split, count)):
            folder = root / f"stage1_{split}" / f"{split}{i:03d}"
            for name in ("images", "masks"):
                (folder / name).mkdir(parents=True)
            scene_.image.save(folder / "images" / f"{split}{i:03d}.png")
            for n, mask in enumerate(scene_.masks):
                Image.fromarray(mask * 255).save(folder / "masks" / f"{n}.png")
    return root
