"""Bad and odd masks and classes files."""

import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.hostile.case import Case

Values = NDArray[Any]
SIDE = 64


def _labels(index: int = 0) -> Values:
    """Three kinds: ground, a disc and a bar that touches it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[(y - 24) ** 2 + (x - 20 - 4 * index) ** 2 < 196] = 1
    labels[44:56, 8:50] = 2
    labels[30:46, 20:28] = 2
    return labels


def _data(
    root: Path, change: Callable[[Values], Values] = lambda labels: labels, classes: str = "", count: int = 3
) -> Path:
    """Images and masks; every mask holds what ``change`` makes of the three kinds."""
    for folder in ("images", "masks"):
        (root / "data" / folder).mkdir(parents=True)
    for i in range(count):
        labels = _labels(i)
        Image.fromarray(np.stack([80 * labels] * 3, -1)).save(root / "data" / "images" / f"{i}.png")
        Image.fromarray(change(labels).astype(np.uint8)).save(root / "data" / "masks" / f"{i}.png")
    if classes:
        (root / "data" / "classes.txt").write_text(classes)
    return root / "data"


def _check(data: Path, *flags: str) -> list[str]:
    return ["data", "check", str(data), "--task", "segment", "--quiet", *flags]


def _case(
    name: str,
    words: Sequence[str],
    spoil: Callable[[Path], object] = lambda data: None,
    *,
    change: Callable[[Values], Values] = lambda labels: labels,
    classes: str = "ground\ndisc\nbar\n",
    flags: Sequence[str] = (),
    code: int = 2,
) -> Case:
    def write(root: Path) -> list[str]:
        data = _data(root, change, classes)
        spoil(data)
        return _check(data, *flags)

    return Case(name, write, code, tuple(words))


def _named(content: str | bytes, file: str = "classes.txt") -> Callable[[Path], object]:
    """Writes another classes file."""

    def spoil(data: Path) -> None:
        (data / "classes.txt").unlink(missing_ok=True)
        (data / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def _mask(make: Callable[[Path], object], suffix: str = ".png") -> Callable[[Path], object]:
    """Replaces the second mask."""

    def spoil(data: Path) -> None:
        (data / "masks" / "1.png").unlink()
        make(data / "masks" / f"1{suffix}")

    return spoil


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def png(path: Path, width: int, height: int, colour: int, rows: int) -> None:
    """A PNG of zeros, 8 bits a channel, with so many rows of pixels; colour as the format numbers it."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    packer = zlib.compressobj(1)
    line = bytes(1 + width * channels)
    packed = b"".join([*(packer.compress(line) for _ in range(rows)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    palette = [(b"PLTE", bytes(range(9)))] if colour == 3 else []
    chunks = [(b"IHDR", head), *palette, (b"IDAT", packed), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, body in chunks:
            file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))


def npy(path: Path, header: str, body: bytes = b"") -> None:
    """A ``.npy`` file with such a header."""
    text = header.encode().ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)


def _smooth(labels: Values) -> Values:
    image = Image.fromarray((255 * (labels > 0)).astype(np.uint8))
    return np.asarray(
        image.resize((256, 256), Image.Resampling.NEAREST).rotate(9).resize((SIDE, SIDE), Image.Resampling.BOX)
    )


def _lossy(kind: str, **options: Any) -> Callable[[Path], object]:
    """Masks of 0 and 255 in a lossy format under a name that says PNG."""

    def spoil(data: Path) -> None:
        for path in sorted((data / "masks").iterdir()):
            Image.fromarray((255 * (_labels() > 0)).astype(np.uint8)).save(path, kind, **options)

    return spoil


def _turned(data: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(data / "images" / "1.png", exif=exif)
    Image.new("L", (48, 64)).save(data / "masks" / "1.png")


def _huge(colour: int, rows: int, side: int = 13_300) -> Callable[[Path], object]:
    return lambda data: png(data / "masks" / "1.png", side, side, colour, rows)


def _photo(data: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65_536, (200, 200)).astype(np.uint16)
    Image.fromarray(pixels).save(data / "masks" / "1.png")


def _coco(root: Path, width: int, height: int, polygon: list[float]) -> list[str]:
    Image.new("RGB", (SIDE, SIDE)).save(root / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0,
             "segmentation": [polygon]}
        ],
    }  # fmt: skip
    (root / "a.json").write_text(json.dumps(content))
    return _check(root / "a.json")


def _cityscapes(root: Path) -> list[str]:
    """A train split whose masks are links to a file outside."""
    data, name = root / "data", "ulm_000000_000019"
    images, masks = data / "leftImg8bit" / "train" / "ulm", data / "gtFine" / "train" / "ulm"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE)).save(images / f"{name}_leftImg8bit.png")
    (root / "secret").write_text("secret words")
    (masks / f"{name}_gtFine_labelIds.png").symlink_to(root / "secret")
    return _check(data)


def _ade(root: Path, info: str) -> list[str]:
    data = root / "data"
    for folder in ("images", "annotations"):
        (data / folder / "training").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE)).save(data / "images" / "training" / "ADE_1.png")
    Image.new("L", (SIDE, SIDE), 1).save(data / "annotations" / "training" / "ADE_1.png")
    (data / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tName\n{info}\n")
    return _check(data)


def _apart(labels: Values) -> Values:
    """A disc of 1 and a bar of 255 that do not touch: 255 borders the ground alone."""
    changed = np.asarray((0, 1, 255))[labels]
    changed[38:44] = 0
    changed[30:44][changed[30:44] == 255] = 0
    return changed


def as_ids(*ids: int) -> Callable[[Values], Values]:
    return lambda labels: np.asarray(ids)[labels]


NO_NAMES = {"classes": ""}
CASES = [
    # classes files
    _case("classes-pipe", ["classes.txt: is a named pipe"], lambda d: _instead(d / "classes.txt", os.mkfifo)),
    _case("classes-device", ["classes.txt: is a device"],
          lambda d: _instead(d / "classes.txt", lambda p: p.symlink_to("/dev/zero"))),
    _case("classes-deep-json", ["classes.json", "nested too deeply"], _named("[" * 100_000, "classes.json")),
    _case("classes-nan-json", ["classes.json", "NaN"], _named('["a", NaN]', "classes.json")),
    _case("classes-digits-json", ["classes.json"], _named('{"' + "9" * 5000 + '": "a"}', "classes.json")),
    _case("classes-numbers-json", ["expected an object of names by id"], _named('[1, 2]', "classes.json")),
    _case("classes-digits", ["classes.txt line 1", "5,002 characters"], _named("9" * 5000 + " a\n1 b\n")),
    _case("classes-id-too-large", ["ids are 0 to"], _named(f"id,name\n{'9' * 200},a\n1,b\n")),
    _case("classes-gaps", ["classes.txt"], _named(("a" + " " * 250 + "1 1 x\n") * 3000)),
    _case("classes-large", ["bytes are too many for a classes file"], _named("a\n" * 2_000_000)),
    _case("classes-latin-1", ["classes.txt line 2: not UTF-8"], _named("a\nb\xe9\n".encode("latin-1"))),
    _case("classes-broken-csv", ["classes.csv line"], _named('name,r,g,b\n"a,1,2\n', "classes.csv")),
    _case("classes-twice", ["classes.txt line 2: name 'a' occurs twice"], _named("a\na\n")),
    _case("classes-empty", ["names no class"], _named("# nothing\n")),
    _case("classes-control", ["\\x1b[31m"], _named("\x1b[31mground\ndisc\nbar\n"), code=0),
    _case("class-without-pixels", ["class-without-pixels", "moss: no mask of all has a pixel of it"],
          _named("ground\ndisc\nbar\nmoss\n")),
    # mask files
    _case("mask-pipe", ["1.png"], _mask(os.mkfifo)),
    _case("mask-device", ["1.png"], _mask(lambda path: path.symlink_to("/dev/zero"))),
    _case("mask-lying-npy", ["1.npy"],
          _mask(lambda p: npy(p, "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000)}"), ".npy")),
    _case("mask-pickle-npy", ["1.npy"],
          _mask(lambda p: npy(p, "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n"), ".npy")),
    _case("mask-deep-npy", ["1.npy"], _mask(lambda p: npy(p, "(" * 1000), ".npy")),
    _case("mask-huge-colours", ["refused, 13,300 x 13,300 px of PNG RGBA"], _huge(6, 10)),
    _case("mask-huge-palette", ["is 64x64 px, but its mask 11000x11000"], _huge(3, 11_000, 11_000)),
    _case("mask-bomb", ["1.png: refused, too many pixels"], _huge(0, 10, 60_000)),
    _case("mask-noise", ["1.png: holds more than 4,096 different numbers"], _photo, **NO_NAMES),
    _case("mask-float", ["1.tif: holds F: a mask is one channel"],
          _mask(lambda p: Image.new("F", (SIDE, SIDE)).save(p), ".tif")),
    _case("mask-colours-unnamed", ["holds colours without names"],
          _mask(lambda p: Image.new("RGB", (SIDE, SIDE), (9, 8, 7)).save(p))),
    _case("mask-jpeg-named-png", ["JPEG changes pixels", "threshold_masks 128"], _lossy("JPEG"), **NO_NAMES),
    _case("mask-lossy-webp", ["WebP (lossy) changes pixels"], _lossy("WEBP", quality=80), **NO_NAMES),
    _case("mask-lossy-with-threshold", ["background", "foreground"], _lossy("JPEG"), **NO_NAMES,
          flags=["--threshold-masks", "128"], code=0),
    _case("mask-not-turned", ["EXIF orientation (6) turns it upright"], _turned),
    _case("mask-unpaired", ["files-unpaired", "1.png: has no image in"], lambda d: (d / "images" / "1.png").unlink()),
    # what masks hold
    _case("anti-aliased", ["looks like an anti-aliased mask"], change=_smooth, **NO_NAMES),
    _case("anti-aliased-named", ["looks like an anti-aliased mask"], change=_smooth, classes="ground\nplant\n"),
    _case("binary", ["background", "foreground", "mask-reading"], change=as_ids(0, 255, 255), code=0, **NO_NAMES),
    _case("binary-stated", ["crack"], change=as_ids(0, 255, 255), classes="id,name\n0,ground\n1,crack\n", code=0),
    _case("levels-named-otherwise", ["write one line for each class"], change=as_ids(0, 127, 255)),
    _case("255-unclear", ["255 may be a class", "set ignore to 255"], change=_apart, classes="ground\ndisc\n"),
    _case("255-ignored", ["ground", "disc"], change=as_ids(0, 1, 255), classes="ground\ndisc\n", code=0,
          flags=["--ignore", "255"]),
    _case("255-unnamed", ["255: ", "mask-id-unnamed"], change=as_ids(0, 1, 255), classes="ground\ndisc\n",
          flags=["--ignore", "none"]),
    _case("all-ignored", ["mask-all-ignored", "every pixel of its mask is ignored"], change=as_ids(9, 9, 9),
          flags=["--ignore", "9"]),
    _case("threshold-of-three", ["names 3 classes, but threshold_masks makes two"], flags=["--threshold-masks", "1"]),
    _case("threshold-out-of-range", ["--threshold-masks must be 0 to 65535"], flags=["--threshold-masks", "-1"]),
    # other layouts
    Case("coco-size-of-annotations", lambda root: _coco(root, 100_000, 100_000, [1, 1, 9, 1, 9, 9]), 2,
         ("is 64x64 px, but its mask 100000x100000",)),
    Case("cityscapes-linked-outside", _cityscapes, 2, ("gtFine",)),
    Case("ade-digits", lambda root: _ade(root, f"{'9' * 200}\t0.1\t1\t1\twall"), 2, ("line 2: id", "ids are 0 to")),
    Case("ade-line", lambda root: _ade(root, "9" * 5000), 2, ("objectInfo150.txt line 2", "characters")),
]  # fmt: skip
