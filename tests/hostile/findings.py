"""Datasets with something odd in them that a look at the whole finds: leaks, repetitions, broken and orphaned files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.detection_makers import coco_folder, voc_folder, yolo_folder
from tests.hostile.case import Case
from tests.makers import image_folder, split_folder
from tests.segmentation_makers import KINDS, SIZE, save_mask
from tests.segmentation_makers import mask_folder as label_maps

_FAST = (
    "--backbone", "fishnet_nano", "--size", "32", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--quiet",
)  # fmt: skip
_CHECK = ("data", "check", "data")


def _train(task: str, data: str = "data", *flags: str) -> list[str]:
    return ["train", task, data, "--out", "run", *_FAST, *flags]


def _split(folder: Path) -> Path:
    """Splits of classes whose images are all different."""
    data = split_folder(folder / "data", train=4)
    rng = np.random.default_rng(7)
    for name in ("blue", "green", "red"):
        (data / "val" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(data / "val" / name / f"{i}.png")
    return data


def _clean(folder: Path) -> list[str]:
    _split(folder)
    return [*_CHECK, "--strict"]


def _leak(folder: Path) -> list[str]:
    data = _split(folder)
    with Image.open(data / "train" / "red" / "0.png") as image:
        image.save(data / "val" / "red" / "other-file-same-pixels.bmp")
    return [*_CHECK]


def _leak_skipped(folder: Path) -> list[str]:
    return [*_leak(folder), "--skip", "image-in-two-splits"]


def _two_classes(folder: Path) -> list[str]:
    data = _split(folder)
    (data / "train" / "red" / "blue.png").write_bytes((data / "train" / "blue" / "0.png").read_bytes())
    return [*_CHECK]


def _duplicate(folder: Path) -> list[str]:
    data = _split(folder)
    (data / "train" / "red" / "again.png").write_bytes((data / "train" / "red" / "0.png").read_bytes())
    return [*_CHECK, "--strict"]


def _corrupt(content: bytes) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        data = _split(folder)
        (data / "train" / "red" / "0.png").write_bytes(content)
        return [*_CHECK]

    return write


def _all_corrupt(folder: Path) -> list[str]:
    for path in _split(folder).rglob("*.*"):
        path.write_bytes(b"\xff\xd8\xff garbage")
    return [*_CHECK]


def _table(rows: str, *flags: str) -> Callable[[Path], list[str]]:
    """A table of images of ``data/``."""

    def write(folder: Path) -> list[str]:
        image_folder(folder / "data", 4)
        (folder / "all.csv").write_text(rows)
        return list(flags)

    return write


_ROWS = "path,label,split\n" + "".join(
    f"data/{name}/{i}.{'jpg' if i == 2 else 'png'},{name},{'val' if i == 3 else 'train'}\n"
    for name in ("red", "green", "blue")
    for i in range(4)
)
_LEAKING = _ROWS + "data/red/0.png,red,val\n"
_DOUBTFUL = _ROWS + "data/red/0.png,green,train\n"
_TWICE = _ROWS + "data/red/0.png,red,train\n"


def _unknown_code(folder: Path) -> list[str]:
    image_folder(folder / "data", 2)
    return [*_CHECK, "--only", "image-in-two-split"]


def _unknown_code_in_training(folder: Path) -> list[str]:
    image_folder(folder / "data", 2)
    return _train("classify", "data", "--skip-findings", "image-in-two-split")


def _objects(change: Callable[[Path], object], *flags: str) -> Callable[[Path], list[str]]:
    """COCO with a change."""

    def write(folder: Path) -> list[str]:
        change(coco_folder(folder / "data", train=6, val=3))
        return list(flags or _CHECK)

    return write


def _edit(data: Path, edit: Callable[[dict[str, list[dict[str, object]]]], object]) -> None:
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _empty_box(data: Path) -> None:
    _edit(data, lambda content: content["annotations"][0].update(bbox=[5, 5, 0, 9]))


def _outside_box(data: Path) -> None:
    _edit(data, lambda content: content["annotations"][0].update(bbox=[500, 5, 9, 9]))


def _other_size(data: Path) -> None:
    _edit(data, lambda content: content["images"][1].update(width=300))


def _file_of_two_splits(data: Path) -> None:
    """The file of val names an image of train."""
    path = data / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../train2017/train_000.png"
    path.write_text(json.dumps(content))


def _file_of_two_ids(data: Path) -> None:
    _edit(data, lambda content: content["images"][1].update(file_name=content["images"][0]["file_name"]))


def _image_gone(folder: Path) -> list[str]:
    data = voc_folder(folder / "data")
    sorted(data.rglob("*.jpg"))[0].unlink()
    return [*_CHECK]


def _yolo_edges(folder: Path) -> list[str]:
    data = yolo_folder(folder / "data")
    (data / "labels" / "train" / "000.txt").write_text("0 0.99 0.5 0.5 0.1\n0 .5 .5 0 .1\n")
    return [*_CHECK]


def _masks(
    change: Callable[[Path], object], *flags: str, names: list[str] | None = None
) -> Callable[[Path], list[str]]:
    """Images and label maps with a change."""

    def write(folder: Path) -> list[str]:
        change(label_maps(folder / "data", train=6, val=3, names=names or list(KINDS)))
        return list(flags or _CHECK)

    return write


def _no_mask(data: Path) -> None:
    (data / "train" / "masks" / "000.png").unlink()


def _other_mask_size(data: Path) -> None:
    save_mask(data / "train" / "masks" / "000.png", np.zeros((3, 3), np.uint8), "index")


def _unnamed_id(data: Path) -> None:
    save_mask(data / "train" / "masks" / "000.png", np.full(SIZE[::-1], 7, np.uint8), "index")


def _broken_mask(data: Path) -> None:
    (data / "train" / "masks" / "000.png").write_bytes(b"no mask")


CASES = [
    Case("no-such-folder", lambda folder: ["data", "check", "nowhere"], 2, ("nowhere", "no such folder")),
    Case("unknown-code", _unknown_code, 2, ("--only image-in-two-split", "did you mean image-in-two-splits")),
    Case("unknown-code-in-training", _unknown_code_in_training, 2, ("--skip-findings", "did you mean")),
    Case("clean", _clean, 0, ("nothing wrong",)),
    Case("same-pixels-in-two-splits", _leak, 2, ("error image-in-two-splits (1)", "same-pixels.bmp (val, red)")),
    Case("same-pixels-in-two-splits-skipped", _leak_skipped, 0, ("nothing wrong",)),
    Case("same-pixels-under-two-classes", _two_classes, 2, ("error image-in-two-classes (1)", "red/blue.png")),
    Case("same-pixels-twice", _duplicate, 0, ("note image-duplicate (1)", "red/again.png")),
    Case("empty-image", _corrupt(b""), 2, ("error image-unreadable (1)", "red/0.png")),
    Case("image-of-text", _corrupt(b"no image"), 2, ("error image-unreadable (1)", "red/0.png")),
    Case("image-cut-off", _corrupt(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0"), 2, ("error image-unreadable (1)",)),
    Case("all-images-corrupt", _all_corrupt, 2, ("error image-unreadable (18)", "errors: 18")),
    Case(
        "table-file-in-two-splits", _table(_LEAKING, "data", "check", "all.csv"), 2, ("error image-in-two-splits (1)",)
    ),
    Case(
        "table-file-in-two-splits-trained",
        _table(_LEAKING, *_train("classify", "all.csv")),
        2,
        ("image-in-two-splits", "data/red/0.png", "skip_findings=image-in-two-splits"),
    ),
    Case("table-file-in-two-classes", _table(_DOUBTFUL, *_train("classify", "all.csv")), 2, ("data/red/0.png",)),
    Case("table-file-twice", _table(_TWICE, "data", "check", "all.csv"), 0, ("image-listed-twice (1)", "red/0.png")),
    Case("table-file-twice-strict", _table(_TWICE, "data", "check", "all.csv", "--strict"), 2, ("listed twice",)),
    Case("coco-empty-box", _objects(_empty_box), 2, ("error box-empty (1)", "annotations[0]: empty box")),
    Case("coco-box-outside", _objects(_outside_box), 2, ("error box-outside (1)", "outside of its image of 96x80 px")),
    Case("coco-other-size", _objects(_other_size), 2, ("error image-size-differs (1)", "annotated as 300x80")),
    Case("coco-file-in-two-splits", _objects(_file_of_two_splits), 2, ("error image-in-two-splits",)),
    Case("coco-file-under-two-ids", _objects(_file_of_two_ids), 2, ("error image-repeated", "train_000.png")),
    Case("voc-image-gone", _image_gone, 2, ("no such file",)),
    Case("yolo-box-beyond-edge", _yolo_edges, 2, ("error box-beyond-edge (1)", "000.txt line 1", "000.txt line 2")),
    Case("mask-gone", _masks(_no_mask), 2, ("error files-unpaired (1)", "images/000.png: has no mask in")),
    Case("mask-gone-trained", _masks(_no_mask, *_train("segment")), 2, ("files-unpaired", "images/000.png")),
    Case("mask-of-other-size", _masks(_other_mask_size), 2, ("error mask-size-differs (1)", "its mask 3x3")),
    Case("mask-id-unnamed", _masks(_unnamed_id), 2, ("error mask-id-unnamed", "7: 7,680 px in 1 masks")),
    Case("mask-broken", _masks(_broken_mask), 2, ("error mask-unreadable (1)", "masks/000.png")),
    Case(
        "stated-class-without-pixels",
        _masks(lambda data: None, names=[*KINDS, "moss"]),
        2,
        ("error class-without-pixels (1)", "moss", "--void NAME"),
    ),
]
