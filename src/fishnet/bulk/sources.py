"""The images of a large job, one by one: files, object stores, lists, tar files, and Parquet files of images."""

import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fishnet.bulk.places import RemoteFile, store_of, walk
from fishnet.errors import InputError, first_line
from fishnet.files.reading import GIB
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.remote import is_address
from fishnet.prediction.sources import Failure, Source, find_sources

Named = tuple[str, Source | Failure]
Skip = Callable[[str], bool]

_CONTAINERS = (".tar", ".parquet")
_IMAGE_COLUMNS = ("image", "bytes", "jpg", "png")
_ROWS = 64  # of a Parquet file that are read at once
_WEB = ("http://", "https://")


@dataclass(frozen=True)
class Shard:
    """One of several parts of a job. A source belongs to a shard by its name alone, whatever others there are.

    Attributes:
        number: from 1.
        count: of all shards.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads ``NUMBER/COUNT``.

        Raises:
            InputError: anything else, or a number that is out of range.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InputError(f"--shard {text}: must be NUMBER/COUNT, such as 1/8 to 8/8")
        return cls(int(number), int(count))

    def has(self, name: str) -> bool:
        """Whether a source belongs to this shard."""
        return zlib.crc32(name.encode("utf-8", "surrogateescape")) % self.count == self.number - 1


def iter_sources(sources: Sequence[str], shard: Shard) -> Iterator[str]:
    """The files of a shard, as they are found. Tar and Parquet files belong to one shard as a whole.

    Args:
        sources: files, folders and patterns; addresses of files and folders in object stores; http and https addresses
            of files; text files with a source in each line (``.txt``); ``-`` for such a list on standard input.
        shard: which of the files.

    Raises:
        InputError: a source that does not exist, or without images.
    """
    for source in sources:
        for name in _found(source):
            if shard.has(name):
                yield name


def _found(source: str) -> Iterator[str]:
    if source == "-":
        yield from _lines(sys.stdin)
    elif source.endswith(".txt"):
        yield from _lines(_text_of(source).splitlines())
    elif not is_address(source):
        yield from [source] if source.endswith(_CONTAINERS) else find_sources([source])
    elif source.startswith(_WEB):
        yield source
    else:
        for name in walk(source):
            if name == source or name.lower().endswith((*EXTENSIONS, *_CONTAINERS)):
                yield name


def _text_of(source: str) -> str:
    try:
        content = RemoteFile(source).read() if is_address(source) else Path(source).read_bytes()
        return content.decode()
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be read ({first_line(error)})") from error


def _lines(lines: Iterable[str]) -> Iterator[str]:
    return (line.strip() for line in lines if line.strip())


def iter_images(names: Iterable[str], skip: Skip, column: str | None = None) -> Iterator[Named]:
    """The images of some files, by name: that of the file, ``FILE.tar#MEMBER`` or ``FILE.parquet#ROW``.

    Args:
        names: from :func:`iter_sources`.
        skip: whether to leave an image out, by its name.
        column: of Parquet files, with the images' bytes; by default ``image``, ``bytes``, ``jpg`` or ``png``.
    """
    for name in names:
        kind = next((kind for kind in _CONTAINERS if name.endswith(kind)), None)
        if kind is None:
            if not skip(name):
                is_in_store = is_address(name) and not name.startswith(_WEB)
                yield name, RemoteFile(name) if is_in_store else name  # type: ignore[misc]
            continue
        try:
            members = _members(name) if kind == ".tar" else _rows(name, column)
            yield from ((member, content) for member, content in members if not skip(member))
        except Exception as error:  # of tarfile, pyarrow and stores; the other files are fine
            if not skip(name):
                yield name, Failure(name, f"{name}: {first_line(error)}")


def _members(name: str) -> Iterator[tuple[str, bytes]]:
    """The images of a tar file, such as a shard of WebDataset, in one pass."""
    store, path = store_of(name)
    with store.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if member.isfile() and member.name.lower().endswith(EXTENSIONS):
                content = tar.extractfile(member)
                assert content is not None
                yield f"{name}#{member.name}", content.read(GIB + 1)


def _rows(name: str, column: str | None) -> Iterator[tuple[str, bytes]]:
    """The images of a Parquet file: bytes, or structs with ``bytes``, as Hugging Face's datasets write them."""
    import pyarrow.parquet as pq

    store, path = store_of(name)
    with store.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        known = table.schema_arrow.names
        chosen = column or next((each for each in _IMAGE_COLUMNS if each in known), None)
        if chosen is None or chosen not in known:
            wanted = column or " or ".join(_IMAGE_COLUMNS)
            raise InputError(f"no column {wanted}: it has {', '.join(known)}; choose one with --column")
        number = 0
        for batch in table.iter_batches(_ROWS, columns=[chosen]):
            for value in batch.column(0):
                yield f"{name}#{number}", _content(value.as_py())
                number += 1


def _content(value: Any) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else b""
