"""Bad and odd inputs of the readers of objects: COCO, YOLO, Pascal VOC, numbered masks."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.case import Case

SIDE = (40, 30)
BOX = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
OBJECT = "<object><name>leaf</name>{}</object>"
NAMES = "names: [berry, leaf]\n"
CHECK = ("--task", "detect", "--quiet")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE[1], SIDE[0], 3), dtype=np.uint8)).save(path)
    return path


def checked(data: Path, *more: str) -> list[str]:
    return ["data", "check", str(data), *(more or CHECK)]


def content(count: int = 2, **values: Any) -> dict[str, Any]:
    """A COCO file's content of ``count`` images 0.png, 1.png ... with an object each; then ``values``."""
    numbers = range(count)
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIDE[0], "height": SIDE[1]} for n in numbers],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 3, 20, 15]} for n in numbers],
        "categories": [{"id": 1, "name": "leaf"}],
        **values,
    }


def coco(folder: Path, change: Callable[[dict[str, Any]], None], *more: str) -> list[str]:
    """A COCO folder after a change of its content."""
    values = content()
    change(values)
    return coco_text(folder, json.dumps(values), *more)


def coco_text(folder: Path, text: str | bytes, *more: str) -> list[str]:
    """A COCO folder whose file has this text."""
    for n in range(2):
        image(folder / f"{n}.png")
    encoded = text if isinstance(text, bytes) else text.encode()
    (folder / "annotations.json").write_bytes(encoded)
    return checked(folder / "annotations.json", *more)


def put(place: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the first entry of a list."""

    def change(given: dict[str, Any]) -> None:
        given[place][0].update(values)

    return change


def every(**values: Any) -> Callable[[dict[str, Any]], None]:
    """A change of all annotations."""

    def change(given: dict[str, Any]) -> None:
        for entry in given["annotations"]:
            entry.update(values)

    return change


def doubled(given: dict[str, Any]) -> None:
    given["annotations"] += [{**entry, "id": 100 + entry["id"]} for entry in given["annotations"]]


def mask(size: list[int], counts: Any) -> Callable[[dict[str, Any]], None]:
    return put("annotations", segmentation={"size": size, "counts": counts})


INSTANCES = ("--task", "instances", "--quiet")


def sparse(folder: Path) -> list[str]:
    image(folder / "0.png")
    path = folder / "annotations.json"
    path.touch()
    os.truncate(path, 3 << 30)
    return checked(path)


def ambiguous(folder: Path) -> list[str]:
    for place in ("a", "b"):
        image(folder / place / "0.png")
    (folder / "annotations.json").write_text(json.dumps(content(1)))
    return checked(folder / "annotations.json")


def away(folder: Path) -> list[str]:
    (folder / "annotations.json").write_text(json.dumps(content()))
    return checked(folder / "annotations.json")


def piped_image(folder: Path) -> list[str]:
    arguments = coco(folder, put("images"))
    (folder / "0.png").unlink()
    os.mkfifo(folder / "0.png")
    return arguments


def pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "annotations.json")
    return checked(folder / "annotations.json")


def endless(folder: Path) -> list[str]:
    (folder / "annotations.json").symlink_to("/dev/zero")
    return checked(folder / "annotations.json")


def yolo(folder: Path, text: str, *rows: str) -> list[str]:
    """A YOLO folder of two images; ``text`` is of its YAML file, ``rows`` are those of the first label file."""
    data = folder / "a" / "data"
    for n in range(2):
        image(data / "images" / f"{n}.png")
        label = data / "labels" / f"{n}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("\n".join(rows or ("0 .5 .5 .2 .2",)) + "\n")
    (data / "data.yaml").write_text(text)
    return checked(data)


def yolo_label(folder: Path, change: Callable[[Path], object]) -> list[str]:
    arguments = yolo(folder, "train: images\n" + NAMES)
    path = folder / "a" / "data" / "labels" / "0.txt"
    path.unlink()
    change(path)
    return arguments


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join([*lines, "train: images", "names: *a9"])


def renamed(folder: Path) -> list[str]:
    arguments = yolo(folder, "train: images\n" + NAMES)
    labels = folder / "a" / "data" / "labels"
    (labels / "0.txt").rename(labels / "other.txt")
    return arguments


def voc(folder: Path, text: str | bytes) -> list[str]:
    """A VOC folder whose first annotation has this text."""
    encoded = text if isinstance(text, bytes) else text.encode()
    return voc_file(folder, lambda path: path.write_bytes(encoded))


def voc_file(folder: Path, write: Callable[[Path], object]) -> list[str]:
    for n in range(2):
        image(folder / "JPEGImages" / f"{n}.jpg")
    xmls = folder / "Annotations"
    xmls.mkdir()
    (xmls / "1.xml").write_text(f"<annotation>{OBJECT.format(BOX.format(1))}</annotation>")
    write(xmls / "0.xml")
    return checked(folder)


def good_xml(encoding: str) -> bytes:
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{OBJECT.format(BOX.format(1))}</annotation>'
    return text.replace("leaf", "f\xeave").encode(encoding)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


def lists(folder: Path, **lines: str) -> list[str]:
    arguments = voc(folder, good_xml("UTF-8"))
    for name, text in lines.items():
        place = folder / "ImageSets" / "Main" / f"{name}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return arguments


def unannotated(folder: Path) -> list[str]:
    arguments = voc(folder, good_xml("UTF-8"))
    (folder / "Annotations" / "0.xml").unlink()
    return arguments


def ids(folder: Path, values: Any, name: str = "0.tif") -> list[str]:
    """A folder of images and masks, the first mask of these values."""
    for n in range(2):
        image(folder / "images" / f"{n}.png")
    (folder / "masks").mkdir()
    shape = SIDE[1], SIDE[0]
    Image.fromarray(np.ones(shape, np.uint8)).save(folder / "masks" / "1.png")
    if isinstance(values, np.ndarray):
        Image.fromarray(values).save(folder / "masks" / name)
    else:
        values(folder / "masks" / name)
    return checked(folder)


NOISE = np.arange(200 * 200, dtype=np.int32).reshape(200, 200)
DEEP = "[" * 200_000
DIGITS = "9" * 5000
POSE = " ".join(["0 .5 .5 .2 .2", *[".5 .5 2"] * 17])

CASES = [
    Case("coco-pipe", pipe, 2, ("annotations.json",)),
    Case("coco-endless", endless, 2, ("annotations.json",)),
    Case("coco-image-pipe", piped_image, 2, ("0.png",)),
    Case("coco-empty", partial(coco_text, text=""), 2, ("line 1", "ends too early")),
    Case("coco-list", partial(coco_text, text="[]"), 2, ("line 1", "expected an object")),
    Case("coco-cut", partial(coco_text, text=json.dumps(content())[:150]), 2, ("line 1",)),
    Case("coco-zeros", sparse, 2, ("line 1",)),
    Case("coco-deep", partial(coco_text, text='{"images": [{"a": ' + DEEP), 2, ("nested too deeply",)),
    Case("coco-deep-elsewhere", partial(coco_text, text='{"info": ' + DEEP), 2, ("ends too early",)),
    Case("coco-digits", partial(coco_text, text='{"images": [{"id": ' + DIGITS + "}]}"), 2, ("digits",)),
    Case("coco-many-digits", partial(coco, change=put("annotations", bbox=[int("9" * 4000), 1, 1, 1])), 2, ("bbox",)),
    Case("coco-long", partial(coco_text, text='{"images": [{"a": "' + "x" * (20 << 20)), 2, ("an entry of more than",)),
    Case("coco-latin", partial(coco_text, text='{"images": [{"file_name": "ä'.encode("latin-1")), 2, ("not UTF-8",)),
    Case("coco-utf16", partial(coco_text, text=json.dumps(content()).encode("utf-16")), 2, ("not UTF-8",)),
    Case("coco-not-a-list", partial(coco_text, text='{"annotations": 3}'), 2, ("expected a list as annotations",)),
    Case("coco-nan", partial(coco, change=put("annotations", bbox=[1, float("nan"), 3, 4])), 2, ("four numbers",)),
    Case("coco-infinite", partial(coco, change=put("annotations", bbox=[1, 2, 3, 1e300])), 2, ("four numbers",)),
    Case("coco-wide", partial(coco, change=put("images", width=1e300)), 2, ("images[0]", "width")),
    Case("coco-mask-huge", lambda folder: coco(folder, mask([10**6, 10**6], [10**12]), *INSTANCES), 2, ("fewer than",)),
    Case("coco-mask-beyond", lambda folder: coco(folder, mask([30, 40], [100, 5000]), *INSTANCES), 2, ("run length",)),
    Case(
        "coco-mask-around",
        lambda folder: coco(folder, mask([30, 40], [*[1 << 62] * 4, 1200]), *INSTANCES),
        2,
        ("run length",),
    ),
    Case("coco-mask-text", lambda folder: coco(folder, mask([30, 40], "zz~"), *INSTANCES), 2, ("counts",)),
    Case("coco-doubtful-image", ambiguous, 2, ("a/0.png", "b/0.png")),
    Case("coco-no-image", away, 2, ("none of its", "0.png")),
    Case("coco-null-name", partial(coco, change=put("images", file_name="a\0.png")), 2, ("a",)),
    Case("coco-long-name", partial(coco, change=put("images", file_name="a" * 9000 + ".png")), 2, ("aaa",)),
    Case("coco-one-image-twice", partial(coco, change=put("images", file_name="1.png")), 2, ("1.png",)),
    Case("coco-shares", partial(coco, change=every(bbox=[0.1, 0.2, 0.5, 0.5])), 2, ("0..1",)),
    Case("coco-corners", partial(coco, change=every(bbox=[15, 10, 39, 29])), 2, ("x1, y1, x2, y2",)),
    Case("coco-all-crowd", partial(coco, change=every(iscrowd=1)), 2, ("crowds",)),
    Case("coco-all-crowd-as-text", partial(coco, change=every(iscrowd="1")), 2, ("crowds",)),
    Case("coco-crowd-maybe", partial(coco, change=every(iscrowd="maybe")), 2, ("iscrowd is 'maybe'",)),
    Case("coco-boxes-twice", partial(coco, change=doubled), 0, ("box-repeated (2)", "2 of 4 boxes")),
    Case(
        "coco-outlines-of-shares",
        lambda folder: coco(folder, every(segmentation=[[0.1, 0.1, 0.6, 0.1, 0.6, 0.6]]), *INSTANCES),
        0,
        ("mask-box-differs (2)",),
    ),
    Case("coco-odd-ids", partial(coco, change=put("images", id=0.0)), 0),
    Case("yolo-bomb", partial(yolo, text=bomb()), 2, ("data.yaml", "aliases")),
    Case("yolo-deep-yaml", partial(yolo, text="names: " + "[" * 3000), 2, ("data.yaml", "nested too deeply")),
    Case("yolo-system", partial(yolo, text="train: /proc/self\n" + NAMES), 2, ("data.yaml", "of the system")),
    Case("yolo-root", partial(yolo, text="train: /\n" + NAMES), 2, ("data.yaml", "of the system")),
    Case("yolo-outside", partial(yolo, text="train: ../../..\n" + NAMES), 2, ("data.yaml", "outside")),
    Case("yolo-bool-names", partial(yolo, text="train: images\nnames: [yes, no]\n"), 2, ("in quotes",)),
    Case(
        "yolo-names-twice",
        partial(yolo, text=f"train: images\n{NAMES}names: [leaf, berry]\n"),
        2,
        ("data.yaml line 3", "'names' comes twice"),
    ),
    Case(
        "yolo-more-classes-than-names",
        partial(yolo, text=f"train: images\nnc: 9\n{NAMES}"),
        2,
        ("nc is 9, but names has 2 classes",),
    ),
    Case("yolo-date-key", partial(yolo, text="2020-01-01: 3\ntrain: images\n" + NAMES), 0),
    Case("yolo-keypoints-wrong", partial(yolo, text=f"train: images\nkpt_shape: [9e9]\n{NAMES}"), 2, ("kpt_shape",)),
    Case("yolo-pose-unsaid", lambda f: yolo(f, "train: images\n" + NAMES, POSE), 2, ("kpt_shape: [17, 3]",)),
    Case("yolo-nan", lambda f: yolo(f, "train: images\n" + NAMES, "0 .5 nan .1 .1"), 2, ("0.txt line 1", "nan")),
    Case("yolo-infinite", lambda f: yolo(f, "train: images\n" + NAMES, "0 .5 1e999 .1 .1"), 2, ("0.txt line 1", "inf")),
    Case("yolo-six", lambda f: yolo(f, "train: images\n" + NAMES, "0 .5 .5 .1 .1 .9 1"), 2, ("6 numbers",)),
    Case("yolo-label-pipe", partial(yolo_label, change=os.mkfifo), 2, ("0.txt", "pipe")),
    Case("yolo-label-endless", partial(yolo_label, change=lambda p: p.symlink_to("/dev/zero")), 2, ("0.txt", "device")),
    Case("yolo-label-huge", partial(yolo_label, change=huge), 2, ("0.txt", "label file")),
    Case("yolo-label-utf16", partial(yolo_label, change=lambda p: p.write_bytes(b"\xff\xfe0\0")), 2, ("not UTF-8",)),
    Case("yolo-orphans", renamed, 2, ("other.txt",)),
    Case("voc-deep", partial(voc, text="<annotation>" + "<a>" * 700_000), 2, ("0.xml line 1", "nested too deeply")),
    Case("voc-entity", partial(voc, text='<!DOCTYPE a [<!ENTITY b "bb">]><annotation/>'), 2, ("entity",)),
    Case("voc-unknown-encoding", partial(voc, text='<?xml version="1.0" encoding="no-such"?><a/>'), 2, ("0.xml",)),
    Case("voc-wrong-encoding", partial(voc, text="<annotation>ä</annotation>".encode("latin-1")), 2, ("0.xml",)),
    Case("voc-utf16", partial(voc, text=good_xml("UTF-16")), 0),
    Case("voc-latin", partial(voc, text=good_xml("ISO-8859-1")), 0),
    Case("voc-huge", partial(voc_file, write=huge), 2, ("0.xml", "annotation file")),
    Case("voc-pipe", partial(voc_file, write=os.mkfifo), 2, ("0.xml", "pipe")),
    Case(
        "voc-two-names",
        partial(voc, text=f"<annotation>{OBJECT.format('<name>moss</name>' + BOX.format(1))}</annotation>"),
        2,
        ("0.xml line 1", "two elements name"),
    ),
    Case(
        "voc-two-boxes",
        partial(voc, text=f"<annotation>{OBJECT.format(2 * BOX.format(1))}</annotation>"),
        2,
        ("0.xml line 1", "two elements"),
    ),
    Case(
        "voc-difficult-maybe",
        partial(voc, text=f"<annotation>{OBJECT.format('<difficult>maybe</difficult>' + BOX.format(1))}</annotation>"),
        2,
        ("difficult is 'maybe'",),
    ),
    Case("voc-nan", partial(voc, text=f"<annotation>{OBJECT.format(BOX.format('nan'))}</annotation>"), 2, ("finite",)),
    Case(
        "voc-far", partial(voc, text=f"<annotation>{OBJECT.format(BOX.format('1e300'))}</annotation>"), 2, ("finite",)
    ),
    Case(
        "voc-wide",
        partial(voc, text="<annotation><size><width>1e300</width></size></annotation>"),
        2,
        ("0.xml: width",),
    ),
    Case("voc-listed-missing", partial(lists, train="0\n9\n"), 2, ("train.txt line 2", "9.xml")),
    Case("voc-two-lists", partial(lists, val="0\n", Valid="1\n"), 2, ("two lists for the val split",)),
    Case("voc-unannotated", unannotated, 2, ("0.jpg",)),
    Case("masks-noise", partial(ids, values=NOISE), 2, ("0.tif", "a mask of numbered objects")),
    Case("masks-negative", partial(ids, values=-np.ones((30, 40), np.int32)), 2, ("0.tif", "-1")),
    Case("masks-floats", partial(ids, values=np.ones((30, 40), np.float32)), 2, ("0.tif",)),
    Case("masks-colour", partial(ids, values=np.ones((30, 40, 3), np.uint8)), 2, ("0.tif", "3 channels")),
    Case("masks-broken", partial(ids, values=lambda path: path.write_bytes(b"II*\0" * 9)), 2, ("0.tif",)),
    Case("masks-alone", partial(ids, values=lambda _: None), 2, ("0.png",)),
]
