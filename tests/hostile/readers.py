"""Bad and odd labelme, Supervisely, box table and YOLO data, object files, and layouts that nothing reads."""

import base64
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.detection_makers import (
    box_table,
    darknet_folder,
    labelme_folder,
    object_files,
    open_images_folder,
    supervisely_folder,
)  # fmt: skip
from tests.hostile.case import Case

CHECK = ("data", "check")
SQUARE = [[2, 3], [12, 3], [12, 13]]
HEADER = "image_path,xmin,ymin,xmax,ymax,label\n"


def check(data: Path, *more: str) -> list[str]:
    return [*CHECK, str(data), "--quiet", *more]


def labelme(*more: str, text: str | None = None, **content: Any) -> Callable[[Path], list[str]]:
    """One image and its labelme file, whose content is changed, or given as text."""

    def write(root: Path) -> list[str]:
        Image.new("RGB", (40, 30), "red").save(root / "a.png")
        whole = {"shapes": [{"label": "x", "points": SQUARE}], "imagePath": "a.png", "imageData": None, **content}
        (root / "a.json").write_text(json.dumps(whole) if text is None else text)
        return check(root, *more)

    return write


def shapes(*values: Any, more: tuple[str, ...] = ()) -> Callable[[Path], list[str]]:
    return labelme(*more, shapes=list(values))


def supervisely(**objects: Any) -> Callable[[Path], list[str]]:
    """A project with one more object in its first file."""

    def write(root: Path) -> list[str]:
        data = supervisely_folder(root / "project", train=2)
        file = data / "train" / "ann" / "000.png.json"
        content = json.loads(file.read_text())
        content["objects"] = [{"classTitle": "berry", **objects}]
        file.write_text(json.dumps(content))
        return check(data, "--task", "instances")

    return write


def bitmap(content: bytes, origin: Any = (0, 0)) -> Callable[[Path], list[str]]:
    data = base64.b64encode(content).decode()
    return supervisely(geometryType="bitmap", bitmap={"data": data, "origin": list(origin)})


def png(side: int) -> bytes:
    """A blank image of one bit and side x side px: a few kB."""
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def table(text: str, name: str = "boxes.csv") -> Callable[[Path], list[str]]:
    def write(root: Path) -> list[str]:
        Image.new("RGB", (40, 30), "red").save(root / "a.png")
        (root / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        return check(root / name)

    return write


def edited(make: Callable[..., Path], place: str, text: str, **options: Any) -> Callable[[Path], list[str]]:
    """Good data with one file replaced."""

    def write(root: Path) -> list[str]:
        data = make(root / "data", train=2, **options)
        (data / place).write_text(text)
        return check(data)

    return write


def pipe(make: Callable[..., Path], place: str) -> Callable[[Path], list[str]]:
    """Good data with a named pipe in the place of a file."""

    def write(root: Path) -> list[str]:
        data = make(root / "data", train=2)
        (data / place).unlink()
        os.mkfifo(data / place)
        return check(data)

    return write


def linked_out(root: Path) -> list[str]:
    """An image path that leads out of the dataset, to an image that is there."""
    Image.new("RGB", (40, 30)).save(root / "secret.png")
    (root / "data").mkdir()
    labelme(imagePath="../secret.png")(root / "data")
    (root / "data" / "a.png").unlink()
    return check(root / "data")


def one_bit_each(root: Path) -> list[str]:
    """A thousand blank bitmaps of 16 million px each, a few kB as text."""
    text = base64.b64encode(png(4000)).decode()
    points = [[0, 0], [3999, 3999]]
    values = [{"label": "x", "points": points, "shape_type": "mask", "mask": text} for _ in range(1000)]
    return shapes(*values)(root)


def soft_masks(root: Path) -> list[str]:
    data = object_files(root / "data", train=2)
    folder = next((data / "stage1_train").iterdir())
    Image.fromarray(np.arange(96 * 80, dtype=np.uint8).reshape(80, 96)).save(folder / "masks" / "soft.png")
    return check(data)


def layout(*files: tuple[str, str], task: str = "") -> Callable[[Path], list[str]]:
    """A folder of images, and files that no reader knows."""

    def write(root: Path) -> list[str]:
        data = root / "data"
        (data / "images").mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(data / "images" / "a.png")
        for name, text in files:
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_text(text)
        return check(data, *(("--task", task) if task else ()))

    return write


CVAT = '<annotations><version>1.1</version><image id="0" name="a.png" width="40" height="30"></image></annotations>'
KITTI = "Car 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n"

CASES = [
    Case("labelme-deep", labelme(text='{"shapes":' + "[" * 100_000), 2, ("a.json", "nested too deeply")),
    Case("labelme-digits", labelme(text='{"shapes": [' + "9" * 5000 + "]}"), 2, ("a.json", "5,000 digits")),
    Case("labelme-key-twice", labelme(text='{"shapes": [], "shapes": []}'), 2, ("a.json", "'shapes' comes twice")),
    Case("labelme-cut-off", labelme(text='{"shapes": [{"label"'), 2, ("a.json line 1", "not JSON")),
    Case("labelme-shapes-no-list", labelme(shapes={"a": 1}), 2, ("a.json", "no list of shapes")),
    Case("labelme-nan", shapes({"label": "x", "points": [[float("nan"), 1], [2, 3], [4, 9]]}), 2, ("a.json", "NaN")),
    Case("labelme-far", shapes({"label": "x", "points": [[1, 1], [2, 10**300], [4, 9]]}), 2, ("shapes[0]", "farther")),
    Case("labelme-two-points", shapes({"label": "x", "points": [[1, 1], [2, 2]]}), 2, ("shapes[0]", "3 or more")),
    Case("labelme-outside", labelme(imagePath="../../../../etc/passwd", shapes=[]), 2, ("no object",)),
    Case("labelme-outside-image", linked_out, 2, ("no image '../secret.png'",)),
    Case("labelme-no-base64", shapes({"label": "x", "points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": "?"}), 2,
         ("shapes[0]", "not base64")),
    Case("labelme-bitmaps-of-16-billion-px", one_bit_each, 2, ("shapes[6]", "px in all")),
    Case("labelme-size-of-a-continent", labelme("--task", "instances", imageHeight=9_000_000, imageWidth=9_000_000), 2,
         ("9000000x9000000",)),
    Case("labelme-maps-of-a-continent", labelme("--task", "segment", imageHeight=9_000_000, imageWidth=9_000_000), 2,
         ("9000000x9000000",)),
    Case("labelme-image-by-the-files-name", labelme(imagePath="gone.png", imageData="AAAA", shapes=[
        {"label": "x", "points": SQUARE}]), 0, ()),
    Case("labelme-escape-in-a-name", shapes({"label": "\x1b[2Jx", "points": SQUARE}), 0, (r"\x1b[2Jx",)),
    Case("supervisely-zip-bomb", bitmap(zlib.compress(bytes(300_000_000), 9)), 2, ("objects[0]", "unpacks to more")),
    Case("supervisely-large-bitmap", bitmap(zlib.compress(png(10_000))), 2, ("objects[0]", "10000x10000", "96x80")),
    Case("supervisely-no-png", bitmap(zlib.compress(b"%!PS-Adobe-3.0 EPSF-3.0")), 2, ("objects[0]", "PostScript")),
    Case("supervisely-origin", bitmap(zlib.compress(png(4)), ("a", None)), 2, ("objects[0]", "points must be")),
    Case("supervisely-meta-no-list", edited(
        supervisely_folder, "meta.json", '{"classes": 3}'), 2, ("meta.json", "list classes")),
    Case("supervisely-meta-twice", edited(
        supervisely_folder, "meta.json", '{"classes": [{"title": "a"}, {"title": "a"}]}'), 2, ("not unique: a",)),
    Case("supervisely-pipe", pipe(supervisely_folder, "train/ann/000.png.json"), 2, ("000.png.json", "named pipe")),
    Case("table-not-utf8", table(HEADER + "a.png,1,2,3,4,\udcff\n"), 2, ("boxes.csv", "UTF-8")),
    Case("table-infinite", table(HEADER + "a.png,1,2,1e999,4,x\n"), 2, ("line 2", "not a position in an image")),
    Case("table-outside", table(HEADER + "../../../etc/passwd,1,2,3,4,x\n"), 2, ("line 2", "no image")),
    Case("table-shares", table(HEADER + "a.png,0.1,0.2,0.3,0.4,x\n"), 2, ("look like shares",)),
    Case("table-long-field", table(HEADER + "a.png,1,2,3,4," + "x" * 200_000 + "\n"), 2, ("line 2", "field larger")),
    Case("table-open-quote", table(HEADER + 'a.png,1,2,3,4,"x\n' * 3), 2, ("boxes.csv line 2",)),
    Case("table-zero-byte", table(HEADER + "a\0.png,1,2,3,4,x\n"), 2, ("line 2",)),
    Case("open-images-px", edited(
        open_images_folder, "oidv6-train-annotations-bbox.csv",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\ntrain000,x,/m/00,1,3,40,5,60\n",
    ), 2, ("line 2", "shares, from 0 to 1")),
    Case("box-table-of-two-splits", edited(
        box_table, "valid.csv", HEADER + "images/train_000.png,1,2,3,4,moss\n"), 2, ("moss",)),
    Case("darknet-outside", edited(
        darknet_folder, "obj.data", "names = ../../../../etc/passwd\ntrain = train.txt\n",
        layout="darknet"), 2, ("obj.data: names",)),
    Case("darknet-names-twice", edited(darknet_folder, "classes.txt", "a\na\n"), 2, ("classes.txt", "not unique")),
    Case("darknet-pipe", pipe(darknet_folder, "labels/train/000.txt"), 2, ("000.txt",)),
    Case("object-files-soft", soft_masks, 2, ("soft.png", "several values")),
    Case("labelme-pipe", pipe(labelme_folder, "train/000.json"), 2, ("000.json", "named pipe")),
    Case("layout-cvat", layout(("annotations.xml", CVAT)), 2, ("nearest: CVAT",)),
    Case("layout-kitti", layout(("labels/a.txt", KITTI)), 2, ("nearest: KITTI",)),
    Case("layout-via", layout(("via.json", '{"_via_img_metadata": {}}')), 2, ("nearest: VIA",)),
    Case("layout-datumaro", layout(("annotations/default.json", '{"dm_format_version": "1.0"}'), task="detect"), 2,
         ("nearest: Datumaro",)),
    Case("layout-yolo", layout(("labels/a.txt", "0 0.5 0.5 0.1 0.1\n")), 2, ("nearest: YOLO", "classes.txt")),
    Case("layout-images-alone", layout(task="detect"), 2, ("images without annotations",)),
]  # fmt: skip
