"""WebDataset shards: tar files of key.jpg and key.cls, indexed so that shuffling and resuming are exact.

timm's and webdataset's readers stream shards: the order of a stream depends on buffers and workers, so it cannot be
resumed in the middle. Here the headers are read once, and then each image by its offset in its shard. The splits follow
timm's conventions (timm.data.readers.reader_wds): ``_info.json``, or the names of the shards.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fishnet.bundle.classes import Classes, index_labels
from fishnet.data.base import EncodedDataset
from fishnet.data.classification.braces import expand_braces
from fishnet.data.classification.several import refuse_several
from fishnet.data.classification.shard_index import read_index
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.documents import read_json
from fishnet.files.reading import is_regular, open_regular
from fishnet.files.walking import walk

INFO = ("_info.json", "info.json")


class ShardDataset(EncodedDataset):
    """The images of some shards.

    Args:
        shards: tar files, in order.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default those of the shards.
        field: the field of ``key.json`` that holds the label of images without ``key.cls``.

    Raises:
        InputError: a shard that is damaged, compressed or missing; an image without a label; see also
            :func:`~fishnet.bundle.classes.index_labels`.
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
            self.classes, self.labels = index_labels([member.label for member in self.members], self.source, classes)
        except InputError as error:
            raise InputError(str(error) if ".tar: " in str(error) else f"{shards[0].parent}: {error}") from None

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedDataset`. Opens the shard anew, so workers share no open file."""
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
        """The shard's path and the image's name in it."""
        member = self.members[index]
        return f"{member.shard}: {member.name}"

    def key(self, index: int) -> str:
        """The shard's name and the image's name in it."""
        member = self.members[index]
        return f"{member.shard.name}/{member.name}"


def open_shards(source: str, channels: int, classes: Classes | None = None) -> dict[str, ShardDataset]:
    """The splits of a folder of shards, or of the shards that a pattern such as ``train-{0000..0003}.tar`` names.

    Raises:
        InputError: remote shards, no shards, or some shards without a split in their name where others have one.
    """
    if "://" in source or source.startswith("pipe:"):
        raise InputError(
            f"wds/{source}: only shards on disk are supported, because a stream cannot be resumed exactly: "
            "download them into a folder and give wds/FOLDER"
        )
    splits: dict[str, ShardDataset] = {}
    shards_by_split = find_shards(source)
    for split in in_order(shards_by_split):
        shards, field = shards_by_split[split]
        splits[split] = ShardDataset(shards, channels, classes, field)
        classes = splits[split].classes
    return splits


def find_shards(source: str) -> dict[str, tuple[list[Path], str]]:
    """split -> (its shards in order, the field of key.json that holds the label). Raises as :func:`open_shards`."""
    path = Path(source)
    if not path.is_dir():
        shards = [Path(name) for name in expand_braces(source)]
        missing = next((shard for shard in shards if not is_regular(shard)), None)
        if missing is not None:
            raise InputError(f"{missing}: no such {'shard' if missing.suffix == '.tar' else 'folder of shards'}")
        return {"all": (shards, "label")}
    info = next((path / name for name in INFO if (path / name).is_file()), None)
    return _splits_by_name(path) if info is None else _splits_by_info(path, info)


def _splits_by_name(folder: Path) -> dict[str, tuple[list[Path], str]]:
    """The shards below a folder by split. A word of their path names the split; ``all`` if none does."""
    shards = sorted(entry for entry in walk(folder) if entry.suffix == ".tar" and is_regular(entry))
    if not shards:
        raise InputError(f"{folder}: no shards inside (*.tar)")
    by_split: dict[str, tuple[list[Path], str]] = {}
    for shard in shards:
        words = re.split(r"[-_./\\]+", str(shard.relative_to(folder).with_suffix("")))
        split = next((split for word in words if (split := split_named(word))), "all")
        by_split.setdefault(split, ([], "label"))[0].append(shard)
    if "all" in by_split and len(by_split) > 1:
        raise InputError(
            f"{by_split['all'][0][0]}: its name contains no split (train, val, test), but those of other shards do: "
            "rename it or remove it"
        )
    return by_split


def _splits_by_info(folder: Path, info: Path) -> dict[str, tuple[list[Path], str]]:
    """The shards of a folder by the splits that its ``_info.json`` lists."""
    by_split: dict[str, tuple[list[Path], str]] = {}
    try:
        for name, entry in read_json(info)["splits"].items():
            names = entry["filenames"]
            names = [names] if isinstance(names, str) else names
            shards = [folder / _inside(file, info) for pattern in names for file in expand_braces(str(pattern))]
            split = split_named(name)
            if split is not None and shards:
                by_split[split] = (shards, str(entry.get("alt_label") or "label"))
    except InputError as error:
        raise InputError(str(error) if str(info) in str(error) else f"{info}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{info}: cannot be read as {{"splits": {{"train": {{"filenames": [...]}}}}}} ({error!r})'
        ) from None
    missing = next((shard for shards, _ in by_split.values() for shard in shards if not is_regular(shard)), None)
    if missing is not None:
        raise InputError(f"{missing}: no such shard, but {info} names it")
    if not by_split:
        raise InputError(f"{info}: has no splits named train, validation or test")
    return by_split


def _inside(name: str, info: Path) -> str:
    """A shard's name. Raises InputError if it leads out of its folder."""
    if os.path.isabs(name) or os.path.normpath(name).startswith(".."):  # noqa: PTH117 (perhaps a path of another system)
        raise InputError(f"{info}: names {name!r}, which is outside of its folder")
    return name
