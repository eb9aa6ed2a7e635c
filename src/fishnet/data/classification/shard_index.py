"""The index of a WebDataset shard: where each image is in the tar file, with its label. Torch-free."""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tarfile import TarInfo
from typing import Any, BinaryIO, cast

from fishnet.bundle.classes import Label
from fishnet.data.classification.several import REFUSED
from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import GIB, MIB, open_regular
from fishnet.images.decoding import EXTENSIONS

_LABELS = (".cls", ".json")


@dataclass(frozen=True)
class Member:
    """An image in a shard.

    Attributes:
        shard: the tar file.
        name: the image file's name in the shard.
        offset, size: where the image file's content begins in the shard, and its length, bytes.
        label: the label, as the shard spells it.
    """

    shard: Path
    name: str
    offset: int
    size: int
    label: Label


def read_index(shard: Path, field: str = "label", skipped: Counter[str] | None = None) -> list[Member]:
    """The images of one shard with their labels; no image is read.

    Consecutive files whose paths are equal up to the first dot of their names are one sample. Its image is the first
    one, and its label is in ``.cls`` or in a field of ``.json``. A sample without an image is skipped.

    Args:
        shard: the tar file.
        field: the field of ``key.json`` that holds the label. If it is ``label``, ``key.cls`` takes precedence.
        skipped: counts links, further images of a sample, and samples without an image by their first file's suffix.

    Raises:
        InputError: a shard that is damaged, compressed or missing; an image without a label; a sample with two files
            of the same name.
    """
    skipped = Counter() if skipped is None else skipped
    with open_regular(shard, "shard") as stream:
        try:
            samples = groupby(_files(shard, stream, skipped), lambda file: _key_and_suffix(file.name)[0])
            members = [_member(shard, stream, list(files), field, skipped) for _, files in samples]
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{shard}: cannot be read ({error.strerror or error})") from None
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"{shard}: damaged or compressed: shards are plain tar files ({error})") from None
    return [member for member in members if member is not None]


class _HeaderStream:
    """Wraps a tar file for :mod:`tarfile`, which reads only headers from it. Refuses headers of more than 1 MiB."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises tarfile.ReadError if ``size`` is larger than any header."""
        if not 0 <= size <= MIB:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.stream.read(size)


def _files(shard: Path, stream: BinaryIO, skipped: Counter[str]) -> Iterator[TarInfo]:
    """A shard's regular files that have a key and a suffix, in order."""
    length = os.fstat(stream.fileno()).st_size
    with tarfile.open(fileobj=cast(BinaryIO, _HeaderStream(stream)), mode="r:") as tar:
        while (entry := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else tarfile keeps every header in memory
            if entry.size < 0 or entry.offset_data < 0:
                raise InputError(f"{shard}: damaged: {entry.name} has a size of {entry.size:,} bytes")
            if not entry.isfile() or entry.issparse():
                if not entry.isdir():
                    skipped[_kind(entry)] += 1
                continue
            if entry.offset_data + entry.size > length:
                raise InputError(f"{shard}: truncated: ends within {entry.name}")
            what, limit = ("a label", MIB) if _suffix(entry) in _LABELS else ("an image", GIB)
            if entry.size > limit:
                raise InputError(f"{shard}: {entry.name}: {entry.size:,} bytes are too many for {what}")
            if _key_and_suffix(entry.name)[0]:
                yield entry
        stream.seek(tar.offset)  # tarfile also stops at a damaged header, but a shard ends with a block of zeros
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise InputError(f"{shard}: damaged or truncated at byte {tar.offset:,} of {length:,}")


def _key_and_suffix(name: str) -> tuple[str, str]:
    """``x/a`` and ``.mask.png`` of ``x/a.mask.png``; an empty key for names that belong to no sample."""
    folder, _, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (f"{folder}/{stem}" if stem and dot and not base.startswith("__") else ""), f".{suffix.lower()}"


def _suffix(entry: TarInfo) -> str:
    return f".{entry.name.rpartition('.')[2].lower()}"


def _kind(entry: TarInfo) -> str:
    """The name under which an entry that is not a file is counted."""
    if entry.issym() or entry.islnk():
        return "link"
    return "sparse file" if entry.issparse() else "special file"


def _member(shard: Path, stream: BinaryIO, files: list[TarInfo], field: str, skipped: Counter[str]) -> Member | None:
    """The image of a sample with its label; None if the sample has no image."""
    by_name: dict[str, TarInfo] = {}
    for file in files:
        if by_name.setdefault(file.name, file) is not file:
            raise InputError(f"{shard}: {file.name} occurs twice in one sample: give each sample its own name")
    images = [file for file in files if _suffix(file) in EXTENSIONS]
    if not images:
        skipped[_suffix(next((file for file in files if _suffix(file) not in _LABELS), files[0]))] += 1
        return None
    for image in images[1:]:
        skipped[f"second image ({_key_and_suffix(image.name)[1]})"] += 1
    image = images[0]
    sources = {_suffix(file): file for file in reversed(files)}  # the first file of each suffix counts
    suffix = ".cls" if ".cls" in sources and (field == "label" or ".json" not in sources) else ".json"
    content = _content(stream, sources[suffix]) if suffix in sources else b"{}"
    label = _label(suffix, content, field, f"{shard}: {image.name}")
    return Member(shard, image.name, image.offset_data, image.size, label)


def _content(stream: BinaryIO, file: TarInfo) -> bytes:
    stream.seek(file.offset_data)
    return stream.read(file.size)


def _label(suffix: str, content: bytes, field: str, where: str) -> Label:
    """The label in the content of a ``.cls`` or ``.json``; ``where`` is for messages."""
    try:
        label: Any = content.decode().strip() if suffix == ".cls" else parse_json(content, where).get(field)
    except InputError as error:
        raise InputError(f"{where}: its label cannot be read ({str(error).removeprefix(f'{where}: ')})") from None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{where}: its label cannot be read ({error})") from None
    if isinstance(label, list | dict):
        kind = "list" if isinstance(label, list) else "table"
        raise InputError(f"{where}: {field!r} in its .json is a {kind}: {REFUSED}")
    if not isinstance(label, str | int) or label == "":
        raise InputError(f"{where}: no label: expected a file .cls, or {field!r} in a file .json, beside it")
    return label
