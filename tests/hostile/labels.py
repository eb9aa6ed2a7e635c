"""Odd and hostile folders, tables, shards and samples of labelled images."""

import io
import json
import os
import tarfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.detection_makers import coco_folder
from tests.hostile.case import Case
from tests.makers import CLASSES, image, image_folder, split_folder

Write = Callable[[Path], Sequence[str]]
_FAST = (
    "--backbone", "fishnet_nano", "--size", "32", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--epochs",
    "1", "--quiet", "--dry-run",
)  # fmt: skip
_CHECK = ("data", "check", "data")
_TABLE = ("data", "check", "data/all.csv")


def _folder(change: Callable[[Path], object], *arguments: str, count: int = 4) -> Write:
    """A folder of three classes, changed."""

    def write(folder: Path) -> Sequence[str]:
        data = image_folder(folder / "data", count)
        if count == 4:
            for name in CLASSES:
                (data / name / "3.png").unlink()
                image(name, 1000 + CLASSES.index(name)).save(data / name / "x.png")
        change(data)
        return arguments or _CHECK

    return write


def _rows(text: str | bytes, *arguments: str) -> Write:
    """A table beside a folder of three classes."""

    def change(data: Path) -> None:
        content = text.encode() if isinstance(text, str) else text
        (data / "all.csv").write_bytes(content)

    return _folder(change, *(arguments or _TABLE))


def _named(root: str = "", extension: str = ".png", head: str = "path,label", **more: str) -> str:
    """Rows for images 0 and 1 of each class."""
    extra = "".join(f",{value}" for value in more.values())
    head = ",".join([head, *more])
    return "\n".join([head, *(f"{root}{name}/{i}{extension},{name}{extra}" for name in CLASSES for i in (0, 1))])


def _heic(data: Path) -> None:
    for path in sorted((data / "red").iterdir())[1:]:
        path.rename(path.with_suffix(".heic"))


def _thumbnails(data: Path) -> None:
    for folder in ("red/@eaDir", "__MACOSX/red", "red/.ipynb_checkpoints", "@eaDir", "lost+found"):
        (data / folder).mkdir(parents=True)
        image("blue", 5).save(data / folder / "thumb.png")
    (data / "red" / "Thumbs.db").write_bytes(b"x")


def _no_ending(data: Path) -> None:
    for path in sorted(data.rglob("*.png")):
        path.rename(path.with_suffix(""))


def _two_forms(data: Path) -> None:
    for form, name in (("NFC", "red"), ("NFD", "green")):
        (data / name).rename(data / unicodedata.normalize(form, "größe"))  # type: ignore[arg-type]


def _alike(data: Path) -> None:
    (data / "green").rename(data / "RED")


def _escape(data: Path) -> None:
    (data / "red").rename(data / "\x1b[31mred\x1b]0;owned\x07")


def _link_out(data: Path) -> None:
    (data.parent / "elsewhere").mkdir()
    image("red", 7).save(data.parent / "elsewhere" / "7.png")
    (data / "red" / "more").symlink_to(data.parent / "elsewhere")


def _class_link_out(data: Path) -> None:
    (data / "violet").symlink_to("/etc")


def _loop(data: Path) -> None:
    (data / "red" / "loop").symlink_to(data)
    (data / "red" / "self").symlink_to(data / "red" / "self")


def _pipes(data: Path) -> None:
    os.mkfifo(data / "red" / "pipe.png")
    os.mkfifo(data / "blue" / "pipe")


def _self_link(data: Path) -> None:
    (data / "red" / "x.png").unlink()
    (data / "red" / "x.png").symlink_to(data / "red" / "x.png")


def _silent(data: Path) -> None:
    """A regular file by its kind, whose reading gives nothing or is refused."""
    (data / "red" / "x.png").unlink()
    (data / "red" / "x.png").symlink_to("/proc/kmsg")


def _two_lines(data: Path) -> None:
    (data / "red").rename(data / "x\nnothing wrong")


def _deep(data: Path) -> None:
    place = data / "red"
    for _ in range(70):
        place = place / "d"
        place.mkdir()


def _pipe_table(data: Path) -> None:
    os.mkfifo(data / "all.csv")


def _zero_table(data: Path) -> None:
    (data / "all.csv").symlink_to("/dev/zero")


def _sparse_table(data: Path) -> None:
    with (data / "all.csv").open("wb") as file:
        file.write(b"path,label\n")
        file.truncate(1 << 33)


def _measured(data: Path) -> None:
    paths = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.*"))]
    (data / "all.csv").write_text("path,label\n" + "".join(f"{path},{i}.5\n" for i, path in enumerate(paths)))


def _parquet(columns: Callable[[], dict[str, Any]], **options: Any) -> Write:
    def change(data: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns()), data / "all.parquet", **options)

    return _folder(change, "data", "check", "data/all.parquet")


def _cut_parquet(data: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"] * 500, "label": ["b"] * 500}), data / "all.parquet")
    content = bytearray((data / "all.parquet").read_bytes())
    content[8:40] = bytes(32)
    (data / "all.parquet").write_bytes(content)


def _shards(change: Callable[[dict[str, bytes]], object], after: Callable[[Path], object] = lambda path: None) -> Write:
    """One shard of six images, changed."""

    def write(folder: Path) -> Sequence[str]:
        files: dict[str, bytes] = {}
        for i in range(6):
            stream = io.BytesIO()
            image(CLASSES[i % 3], i).save(stream, "png")
            files |= {f"{i:04d}.png": stream.getvalue(), f"{i:04d}.cls": f"{i % 3}".encode()}
        change(files)
        (folder / "data").mkdir()
        with tarfile.open(folder / "data" / "0.tar", "w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        after(folder / "data" / "0.tar")
        return "data", "check", "wds/data"

    return write


def _negative(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[124:136] = b"\xff" * 10 + b"\xf0\x00"
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1200])


def _twice(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        for name, content in (("0005.png", b"x"), ("0005.cls", b"1")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _links(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.FIFOTYPE), ("c.png", tarfile.LNKTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)


def _info(text: str) -> Write:
    def after(path: Path) -> None:
        (path.parent / "_info.json").write_text(text)

    return _shards(_nothing, after)


def _many_files(count: int) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({f"more{i}.heic": b"" for i in range(count)})


def _with(key: str, extension: str, label: bytes) -> Callable[[dict[str, bytes]], object]:
    """An empty image more, and its label."""
    return lambda files: files.update({f"{key}.png": b"", f"{key}{extension}": label})


def _nothing(data: object) -> None:
    """As it is."""


def _chosen(*classes: str) -> Write:
    return _folder(_nothing, *_CHECK, "--classes", *classes)


def _train(data: str, *flags: str) -> list[str]:
    return ["train", "classify", data, *flags, *_FAST]


def _place(data: str) -> Write:
    return lambda folder: ("data", "check", data)


def _splits(change: Callable[[Path], object], *arguments: str) -> Write:
    def write(folder: Path) -> Sequence[str]:
        change(split_folder(folder / "data", train=4, val=4))
        return arguments or _CHECK

    return write


def _coco(folder: Path) -> Sequence[str]:
    coco_folder(folder / "data", train=6, val=3)
    return *_CHECK, "--classes", "berri"


_OUTSIDE = "path,label\n/etc/passwd,a\n/dev/zero,b\n"
_NFD = unicodedata.normalize("NFD", "röt")
_TWO_FORMS = f"path,label\nred/0.png,röt\nred/1.png,{_NFD}\nblue/0.png,blau\nblue/1.png,blau\n"

CASES = [
    # folders
    Case("half-a-class-in-another-format", _folder(_heic), 0, ("skipped 3 files: 3 .heic", "file-skipped")),
    Case("thumbnails-of-systems", _folder(_thumbnails), 0, ("data: 12 ",)),
    Case("images-without-extension", _folder(_no_ending), 0, ("data: 12 ",)),
    Case("one-class-in-two-forms-of-unicode", _folder(_two_forms), 0, ("2 classes", "größe")),
    Case("classes-that-differ-in-case", _folder(_alike), 0, ("class-alike", "'RED', 'red'")),
    Case("escape-sequences-in-a-class", _folder(_escape), 0, (r"\x1b[31mred",)),
    Case("linked-folder-that-leads-out", _folder(_link_out), 0, ("link-not-followed", "red/more")),
    Case("linked-class-that-leads-out", _folder(_class_link_out), 2, ("data/violet: is a link to /etc, outside of",)),
    Case("links-in-a-circle", _folder(_loop), 0, ("link-not-followed",)),
    Case("link-to-itself", _folder(_self_link), 0, ("1 broken link",)),
    Case("link-to-a-file-that-gives-nothing", _folder(_silent), 2, ("x.png", "cannot be read")),
    Case("class-of-two-lines", _folder(_two_lines), 0, (r"x\nnothing wrong",)),
    Case(
        "folder-beside-the-splits",
        _splits(lambda data: image_folder(data / "extra", 2), *_CHECK, "--skip", "image-in-two-splits"),
        0,
        ("image-without-split (6)", "beside train, val, in no split: in extra (6)"),
    ),
    Case("pipes-among-images", _folder(_pipes), 0, ("skipped 2 files: 2 special file",)),
    Case("folders-in-folders", _folder(_deep), 2, ("more than 64 folders inside each other",)),
    Case("proc", _place("/proc/self"), 2, ("/proc/self: is a folder of the system",)),
    Case("two-folders-for-a-split", _splits(lambda data: image_folder(data / "Valid", 2)), 2, ("two folders for",)),
    Case(
        "unknown-class-chosen",
        _folder(lambda data: None, *_CHECK, "--classes", "redd", "blue"),
        2,
        ("did you mean red",),
    ),
    Case("one-class-chosen", _chosen("red"), 2, ("one class only (red)",)),
    Case("some-classes-chosen", _chosen("red,blue"), 0, ("data: 8 ",)),
    Case("unknown-class-of-objects-chosen", _coco, 2, ("no class 'berri': did you mean berry?",)),
    Case(
        "fold-of-a-folder",
        _folder(lambda data: None, "train", "classify", "data", "--fold", "1", *_FAST),
        2,
        ("--fold 1",),
    ),
    # tables
    Case("table-pipe", _folder(_pipe_table, *_TABLE), 2, ("all.csv: is a named pipe, not a table",)),
    Case("table-of-dev-zero", _folder(_zero_table, *_TABLE), 2, ("all.csv: is a device, not a table",)),
    Case("table-of-8-gb-of-zeros", _folder(_sparse_table, *_TABLE), 2, ("all.csv line 2: longer than",)),
    Case("table-of-a-million-columns", _rows(",".join(f"c{i}" for i in range(1_000_000))), 2, ("line 1: longer than",)),
    Case("table-with-nul", _rows("path,label\nred/0.png,re\0d\n"), 2, ("line 2: holds a NUL",)),
    Case("table-with-an-endless-field", _rows('path,label\nred/0.png,"' + "red\n" * 200_000), 2, ("cannot be read",)),
    Case("table-in-utf-16", _rows(_named().encode("utf-16")), 2, ("line 1: not UTF-8",)),
    Case("table-with-escapes", _rows("path,label\n\x1b[2Jx.png,red\n"), 2, (r"\x1b[2Jx.png",)),
    Case("table-with-several-labels", _rows("path,label\nred/0.png,cat|dog\nred/1.png,dog\n"), 2, ("several labels",)),
    Case("table-with-one-hot-columns", _rows("image,cat,dog\nred/0.png,1,0\nred/1.png,0,1\n"), 2, ("one-hot",)),
    Case(
        "table-with-an-image-for-each-label",
        _rows("path,label\nred/0.png,cat\nred/0.png,dog\nred/1.png,cat\nred/1.png,dog\n"),
        2,
        ("has another label than in line 2", "several labels"),
    ),
    Case(
        "labels-with-two-separators",
        _rows("path,labels\nred/0.png,a;b\nred/1.png,a|b\n", "data", "check", "data/all.csv", "--multi-label"),
        2,
        ("all.csv line 2: labels separated by ;", "line 3 by |"),
    ),
    Case(
        "labels-in-a-list-of-python",
        _rows("path,labels\nred/0.png,\"['a', 'b']\"\n", "data", "check", "data/all.csv", "--multi-label"),
        2,
        ("line 2", "is not a list of labels"),
    ),
    Case(
        "labels-in-deep-json",
        _rows("path,labels\nred/0.png," + "[" * 99_999 + "\n", "data", "check", "data/all.csv", "--multi-label"),
        2,
        ("line 2", "is not a list of labels"),
    ),
    Case(
        "columns-of-0-and-1-and-2",
        _rows("path,a,b\nred/0.png,1,0\nred/1.png,0,2\n", "data", "check", "data/all.csv", "--multi-label"),
        2,
        ("line 3", "'2' in the column 'b'"),
    ),
    Case(
        "no-label-at-all",
        _rows("path,a,b\nred/0.png,0,0\nred/1.png,0,0\n", *_train("data/all.csv", "--multi-label")),
        2,
        ("no image of train has a label",),
    ),
    Case("labels-of-a-folder", _folder(_nothing, *_train("data", "--multi-label")), 2, ("multi_label",)),
    Case("table-of-measurements", _folder(_measured, *_TABLE, count=8), 2, ("24 different numbers with fractions",)),
    Case("table-with-is-valid", _rows(_named(is_valid="maybe")), 2, ("line 2: is_valid is 'maybe'",)),
    Case("table-with-folds", _rows(_named(fold="3")), 0, ("column-fold", "--fold N")),
    Case(
        "table-with-folds-but-not-that",
        _rows(_named(fold="3"), *_train("data/all.csv", "--fold", "7")),
        2,
        ("fold 7 has none of the training rows: the folds are 3",),
    ),
    Case("table-of-another-machine", _rows(_named("C:\\me\\")), 0, ("name-by-tail", "6 of 6 images")),
    Case("table-of-ids", _rows(_named(extension="", head="id,label")), 0, ("name-by-tail",)),
    Case("table-in-two-forms-of-unicode", _rows(_TWO_FORMS), 0, ("2 classes",)),
    Case("table-without-its-images", _rows(_named(extension=".webp")), 2, ("none of its 6 images found",)),
    Case(
        "table-out-of-the-folder",
        _rows(_OUTSIDE),
        2,
        ("/etc/passwd: not an image",),
    ),
    Case(
        "parquet-of-many-rows",
        _parquet(lambda: {"path": ["a"] * 2_000_000, "label": ["b"] * 2_000_000}),
        2,
        ("declares 2,000,000 rows",),
    ),
    Case(
        "parquet-of-one-image-many-times",
        _parquet(lambda: {"image": [bytes(900_000)] * 400, "label": ["a", "b"] * 200}, compression="zstd"),
        2,
        ("the images unpack to more than",),
    ),
    Case(
        "parquet-of-a-long-label",
        _parquet(lambda: {"path": [f"{i}" for i in range(999)], "label": ["x" * 900_000] * 999}, compression="zstd"),
        2,
        ("more than 65,536 bytes",),
    ),
    Case("parquet-of-lists", _parquet(lambda: {"path": ["a"], "label": [["x", "y"]]}), 2, ("several labels",)),
    Case("parquet-with-holes", _folder(_cut_parquet, "data", "check", "data/all.parquet"), 2, ("all.parquet",)),
    # shards
    Case("shard-of-negative-size", _shards(_nothing, _negative), 2, ("0.tar", "damaged")),
    Case("shard-cut-off", _shards(_nothing, _cut), 2, ("0.tar: truncated",)),
    Case("shard-with-a-name-twice", _shards(_nothing, _twice), 2, ("0005.png occurs twice in one sample",)),
    Case(
        "shard-with-second-images",
        _shards(lambda files: files.update({"0005.mask.png": b""})),
        0,
        ("1 second image (.mask.png)",),
    ),
    Case("shard-with-links", _shards(_nothing, _links), 0, ("2 link, 1 special file",)),
    Case("shard-with-another-format", _shards(_many_files(6)), 0, ("skipped 6 files: 6 .heic",)),
    Case(
        "shard-name-that-leads-out",
        _shards(lambda files: files.update({"../../e.png": b"", "../../e.cls": b"1"})),
        2,
        ("e.png",),
    ),
    Case(
        "shard-of-deep-json",
        _shards(lambda files: files.update({"9.png": b"", "9.json": b"[" * 99_999})),
        2,
        ("nested",),
    ),
    Case(
        "shard-of-a-list-of-labels",
        _shards(_with("9", ".json", b'{"label": [1, 2]}')),
        2,
        ("several labels",),
    ),
    Case("shards-a-billion", _place("wds/a-{000000..999999999}.tar"), 2, ("more than 100,000 names",)),
    Case("shards-elsewhere", _info('{"splits": {"train": {"filenames": "../../{0..9}.tar"}}}'), 2, ("outside of",)),
    Case("shards-by-deep-json", _info("[" * 99_999), 2, ("_info.json", "nested too deeply")),
    Case("shards-by-no-list", _info(json.dumps({"splits": 7})), 2, ("_info.json",)),
]
