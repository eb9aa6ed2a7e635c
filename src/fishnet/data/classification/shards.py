"""WebDataset shards: tar files of key.jpg and key.cls, read by index so that shuffling and resuming stay exact.

timm's and webdataset's own readers stream shards: the order of a stream depends on buffers and workers, and cannot be
taken up again in the middle. Here the headers are read once, and each image by its place in its shard.
Naming follows timm's reader (timm.data.readers.reader_wds): ``_info.json``, or the split in the shards' names.
"""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from fishnet.bundle.classes import Classes, Label, labelling
from fishnet.data.base import EncodedDataset
from fishnet.data.classification.braces import expand_braces
from fishnet.data.classification.several import REFUSED, refuse_several
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.documents import parse_json, read_json
from fishnet.files.reading import GIB, MIB, is_regular, open_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS

INFO = ("_info.json", "info.json")


@dataclass(frozen=True)
class Member:
    """An image inside a shard.

    Attributes:
        shard: the tar file.
        name: of the image's file inside.
        offset, size: of its bytes in the shard.
        label: as the shard has it.
    """

    shard: Path
    name: str
    offset: int
    size: int
    label: Label


class ShardDataset(EncodedDataset):
    """The images of some shards.

    Args:
        shards: tar files, in order.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default those of these shards.
        field: of ``key.json``, for the label of images without ``key.cls``.

    Raises:
        InputError: a shard that is damaged, compressed or missing; an image without a label; see also
            :func:`~fishnet.bundle.classes.labelling`.
    """

    def __init__(
        self, shards: Sequence[Path], channels: int, classes: Classes | None = None, field: str = "label"
    ) -> None:
        self.channels = channels
        skipped = Counter[str]()
        self.members = [member for shard in shards for member in read_index(shard, field, skipped)]
        self.skipped = skipped
        if not self.members:
            raise InputError(f"{shards[0]}: no images inside (expected key.jpg and key.cls)")
        refuse_several((str(member.label) for member in self.members), str(shards[0].parent))
        try:
            self.classes, self.labels = labelling([member.label for member in self.members], self.source, classes)
        except InputError as error:
            raise InputError(str(error) if ".tar: " in str(error) else f"{shards[0].parent}: {error}") from None

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedDataset`. Opens the shard anew: workers share nothing."""
        member = self.members[index]
        try:
            with open_regular(member.shard, "shard") as stream:
                stream.seek(member.offset)
                content = stream.read(member.size)
        except OSError as error:
            raise InputError(f"{self.source(index)}: cannot be read ({error.strerror or error})") from None
        if len(content) < member.size:
            raise InputError(f"{self.source(index)}: the shard has become shorter")
        return content

    def source(self, index: int) -> str:
        """The shard and the image inside."""
        member = self.members[index]
        return f"{member.shard}: {member.name}"

    def key(self, index: int) -> str:
        """The shard's name and the image's inside it."""
        member = self.members[index]
        return f"{member.shard.name}/{member.name}"


def open_shards(place: str, channels: int, classes: Classes | None = None) -> dict[str, ShardDataset]:
    """The parts of a folder of shards, or of the shards that a pattern such as ``train-{0000..0003}.tar`` names.

    Raises:
        InputError: remote shards, none there, or names that do not say which part they are.
    """
    if "://" in place or place.startswith("pipe:"):
        raise InputError(
            f"wds/{place}: shards are read from disk only, as a stream's order cannot be resumed exactly: "
            "download them into a folder and give wds/FOLDER"
        )
    splits: dict[str, ShardDataset] = {}
    parts = find_shards(place)
    for split in in_order(parts):
        shards, field = parts[split]
        splits[split] = ShardDataset(shards, channels, classes, field)
        classes = splits[split].classes
    return splits


def find_shards(place: str) -> dict[str, tuple[list[Path], str]]:
    """split -> (its shards in order, the field of the label in key.json). Errors as in :func:`open_shards`."""
    path = Path(place)
    if not path.is_dir():
        shards = [Path(name) for name in expand_braces(place)]
        missing = next((shard for shard in shards if not is_regular(shard)), None)
        if missing is not None:
            raise InputError(f"{missing}: no such {'shard' if missing.suffix == '.tar' else 'folder of shards'}")
        return {"all": (shards, "label")}
    info = next((path / name for name in INFO if (path / name).is_file()), None)
    if info is not None:
        return _from_info(path, info)
    shards = sorted(entry for entry in walk(path) if entry.suffix == ".tar" and is_regular(entry))
    if not shards:
        raise InputError(f"{path}: no shards inside (*.tar)")
    found: dict[str, tuple[list[Path], str]] = {}
    for shard in shards:
        words = re.split(r"[-_./\\]+", str(shard.relative_to(path).with_suffix("")))
        split = next((split for word in words if (split := split_named(word))), "all")
        found.setdefault(split, ([], "label"))[0].append(shard)
    if "all" in found and len(found) > 1:
        raise InputError(
            f"{found['all'][0][0]}: its name says no part (train, val, test) but those of other shards do: "
            "rename it or remove it"
        )
    return found


def _from_info(folder: Path, info: Path) -> dict[str, tuple[list[Path], str]]:
    found: dict[str, tuple[list[Path], str]] = {}
    try:
        splits = read_json(info)["splits"]
        for name, part in splits.items():
            names = part["filenames"]
            names = [names] if isinstance(names, str) else names
            shards = [folder / _below(file, info) for pattern in names for file in expand_braces(str(pattern))]
            split = split_named(name)
            if split is not None and shards:
                found[split] = (shards, str(part.get("alt_label") or "label"))
    except InputError as error:
        raise InputError(str(error) if str(info) in str(error) else f"{info}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{info}: cannot be read as {{"splits": {{"train": {{"filenames": [...]}}}}}} ({error!r})'
        ) from None
    missing = next((shard for shards, _ in found.values() for shard in shards if not is_regular(shard)), None)
    if missing is not None:
        raise InputError(f"{missing}: no such shard, though {info} names it")
    if not found:
        raise InputError(f"{info}: has no splits named train, validation or test")
    return found


def _below(name: str, info: Path) -> str:
    """A shard's name, which must not lead out of its folder. Raises InputError where it does."""
    if os.path.isabs(name) or os.path.normpath(name).startswith(".."):  # noqa: PTH117 (a text, perhaps of another system)
        raise InputError(f"{info}: names {name!r}, which is outside of its folder")
    return name


def read_index(shard: Path, field: str = "label", skipped: Counter[str] | None = None) -> list[Member]:
    """The images of one shard with their labels; no image is read.

    Files that follow each other and have the same name up to the first dot are one sample: its first image, and its
    label from ``.cls`` or from a field of ``.json``. A sample without an image is passed over.

    Args:
        shard: the tar file.
        field: of ``key.json``, for the label of images without ``key.cls``.
        skipped: counts the samples that are passed over, by the ending of their first file, links, and further images
            of a sample.

    Raises:
        InputError: a shard that is damaged, compressed or missing; an image without a label; two files of one name in
            a sample.
    """
    skipped = Counter() if skipped is None else skipped
    members: list[Member] = []
    key, sample, names = "", dict[str, Any](), set[str]()
    for name, offset, content_or_size in _files(shard, skipped):
        folder, _, base = name.rpartition("/")
        stem, dot, ending = base.partition(".")
        if not stem or not dot or base.startswith("__"):
            continue
        if f"{folder}/{stem}" != key:
            members += _member(shard, sample, field, skipped)
            key, sample, names = f"{folder}/{stem}", {}, set()
        if name in names:
            raise InputError(f"{shard}: {name} comes twice in one sample: give each sample a name of its own")
        names.add(name)
        kind = ending.rpartition(".")[2].lower()
        if f".{kind}" not in EXTENSIONS:
            sample.setdefault(kind, content_or_size)
        elif "image" in sample:
            skipped[f"second image (.{ending.lower()})"] += 1
        else:
            sample["image"] = (name, offset, content_or_size)
    return members + _member(shard, sample, field, skipped)


class _Headers:
    """A tar file's bytes for :mod:`tarfile`, which reads headers alone: a header of many bytes is refused."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """So many bytes. Raises tarfile.ReadError for more than a header has."""
        if not 0 <= size <= MIB:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.stream.read(size)


def _files(shard: Path, skipped: Counter[str]) -> Iterator[tuple[str, int, Any]]:
    """(name, offset, size) of a shard's files; for labels (name, offset, content)."""
    with open_regular(shard, "shard") as stream:
        whole = os.fstat(stream.fileno()).st_size
        try:
            with tarfile.open(fileobj=cast(BinaryIO, _Headers(stream)), mode="r:") as tar:
                while (entry := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # or the headers of a whole shard would be kept
                    if entry.size < 0 or entry.offset_data < 0:
                        raise InputError(f"{shard}: damaged: {entry.name} has a size of {entry.size:,} bytes")
                    if not entry.isfile() or entry.issparse():
                        if not entry.isdir():
                            skipped[_kind(entry)] += 1
                        continue
                    if entry.offset_data + entry.size > whole:
                        raise InputError(f"{shard}: truncated: ends within {entry.name}")
                    yield entry.name, entry.offset_data, _label_or_size(shard, stream, entry)
                stream.seek(tar.offset)  # tarfile takes a damaged header for the end, which is a block of zeros
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise InputError(f"{shard}: damaged or truncated at byte {tar.offset:,} of {whole:,}")
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{shard}: cannot be read ({error.strerror or error})") from None
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"{shard}: damaged or compressed: shards are plain tar files ({error})") from None


def _label_or_size(shard: Path, stream: BinaryIO, entry: tarfile.TarInfo) -> bytes | int:
    """A label's content; the size of any other file. Raises InputError for one that is too large."""
    label = entry.name.lower().endswith((".cls", ".json"))
    if entry.size > (MIB if label else GIB):
        raise InputError(
            f"{shard}: {entry.name}: {entry.size:,} bytes are too many for {'a label' if label else 'an image'}"
        )
    if not label:
        return entry.size
    stream.seek(entry.offset_data)
    return stream.read(entry.size)


def _kind(entry: tarfile.TarInfo) -> str:
    """What an entry that is no file is counted as."""
    if entry.issym() or entry.islnk():
        return "link"
    return "sparse file" if entry.issparse() else "no regular file"


def _member(shard: Path, sample: dict[str, Any], field: str, skipped: Counter[str]) -> list[Member]:
    if "image" not in sample:
        if sample:
            skipped[f".{next((kind for kind in sample if kind not in ('cls', 'json')), next(iter(sample)))}"] += 1
        return []
    name, offset, size = sample["image"]
    where = f"{shard}: {name}"
    label: Any = None
    try:
        if "cls" in sample and (field == "label" or "json" not in sample):
            label = sample["cls"].decode().strip()
        elif "json" in sample:
            label = parse_json(sample["json"], where).get(field)
    except InputError as error:
        raise InputError(f"{where}: its label cannot be read ({str(error).removeprefix(f'{where}: ')})") from None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{where}: its label cannot be read ({error})") from None
    if isinstance(label, list | dict):
        raise InputError(
            f"{where}: {field!r} in its .json is a {'list' if isinstance(label, list) else 'table'}: {REFUSED}"
        )
    if not isinstance(label, str | int) or label == "":
        raise InputError(f"{where}: no label: expected a file .cls, or {field!r} in a file .json, beside it")
    return [Member(shard, name, offset, size, label)]
