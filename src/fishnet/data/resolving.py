"""Finds the files that a dataset names, also where the names were written on another machine. Torch-free."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS

SHOWN = 3  # files in a message
SEARCHED = 1_500_000  # files and folders; in a larger root nothing is searched
_DRIVE = re.compile(r"^[A-Za-z]:")


class Resolver:
    r"""From names in tables and annotations to files below a dataset's root.

    A name is tried in this order; the first way that leads to a file counts:

    1. as it is, from the root or absolute;
    2. with ``\`` as ``/``, with ``%20`` and the like decoded, and in the other Unicode forms (NFC, NFD);
    3. by its tail: the file below the root whose path agrees with the longest end of the name. ``C:\x\train\7.jpg`` is
       ``data/train/7.jpg``. Where the root has a folder that the name ends in, the file must lie in it or below it, and
       a name that says one split is never a file of another split;
    4. a name without an ending of images, by the tail too: ``7`` is ``7.jpg``.

    Ways 3 and 4 need exactly one such file. The folder is walked once, at the first name that needs it; one with
    more than 1,500,000 entries is not.

    Attributes:
        root: the folder where names start, and that is searched.
        by_tail: how many names were found in another way than the first.
        example: the first of these, as ``name -> path below the root``; empty where there is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_tail = 0
        self.example = ""
        self._files: dict[str, list[str]] | None = None  # paths below the root, by their NFC names
        self._stems: dict[str, list[str]] | None = None  # of images, by their NFC names without ending
        self._folders: dict[str, set[tuple[str, ...]]] = {}

    def find(self, name: str) -> Path:
        """The file that a name stands for.

        Args:
            name: a path as a table or an annotation spells it, relative to the root or absolute.

        Returns:
            The path, under the root where the name is relative.

        Raises:
            InputError: an empty name, no such file, or several files that it may stand for.
        """
        if not name.strip():
            raise InputError("an empty file name")
        if os.path.isfile(self.root / name):  # noqa: PTH113 (no exception for names that are too long)
            return self.root / name
        path = next((path for path in self._respelled(name) if os.path.isfile(path)), None)  # noqa: PTH113
        if path is None:
            path = self._searched(name)
        self.by_tail += 1
        self.example = self.example or f"{name} -> {os.path.relpath(path, self.root)}"
        return path

    def _respelled(self, name: str) -> Iterator[Path]:
        slashed = name.replace("\\", "/")
        for spelling in dict.fromkeys((name, slashed, unquote(slashed))):
            yield self.root / unicodedata.normalize("NFC", spelling)
            yield self.root / unicodedata.normalize("NFD", spelling)

    def _searched(self, name: str) -> Path:
        """The file below the root with the longest tail of a name."""
        plain = _DRIVE.sub("", _nfc(name.strip().replace("\\", "/")))
        for spelling in dict.fromkeys((plain, unquote(plain))):
            *folders, base = _parts(spelling) or ("",)
            matches = [path for path in self._called(base) if _agree(folders, _parts(path)[:-1])]
            matches = self._within(tuple(folders), matches)
            if len(matches) > 1:
                shown = ", ".join(sorted(matches)[:SHOWN]) + (", ..." if len(matches) > SHOWN else "")
                raise InputError(f"{name}: may be any of {len(matches)} files in {self.root}: {shown}")
            if matches:
                return self.root / matches[0]
        raise InputError(f"{self.root / name}: no such file")

    def _called(self, base: str) -> list[str]:
        """The files below the root of a name, or, where it has no ending of images, of a name without ending."""
        if self._files is None:
            self._files = self._index()
        if base in self._files or PurePosixPath(base).suffix.lower() in EXTENSIONS:
            return self._files.get(base, [])
        if self._stems is None:
            self._stems = {}
            for other, paths in self._files.items():
                if PurePosixPath(other).suffix.lower() in EXTENSIONS:
                    self._stems.setdefault(other[: other.rindex(".")], []).extend(paths)
        return self._stems.get(base, [])

    def _within(self, folders: tuple[str, ...], matches: list[str]) -> list[str]:
        """Those of some files that lie in, or else below, the folder that agrees with the longest tail of a name's."""
        for start in range(len(folders)):
            tail = folders[start:]
            if any(folder[-len(tail) :] == tail for folder in self._folders.get(tail[-1], ())):
                direct = [path for path in matches if _parts(path)[:-1][-len(tail) :] == tail]
                return direct or [path for path in matches if _contains(_parts(path)[:-1], tail)]
        return matches

    def _index(self) -> dict[str, list[str]]:
        files: dict[str, list[str]] = {}
        seen: set[str] = set()
        try:
            for path in walk(self.root, max_entries=SEARCHED):
                below = path.relative_to(self.root)
                files.setdefault(_nfc(below.name), []).append(below.as_posix())
                if (place := str(below.parent)) in seen:
                    continue
                seen.add(place)
                parts = _parts(below.parent.as_posix())
                for end in range(1, len(parts) + 1):
                    self._folders.setdefault(parts[end - 1], set()).add(parts[:end])
        except InputError:  # too much to search: only what is named exactly is there
            return {}
        return files


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _parts(path: str) -> tuple[str, ...]:
    """The folders and the name in a path, in NFC."""
    return tuple(part for part in _nfc(path).split("/") if part not in ("", ".", ".."))


def _agree(folders: Iterable[str], other: tuple[str, ...]) -> bool:
    """Whether two folders may belong to one split: not where both name one, and not the same."""
    first, second = ({split for word in words if (split := split_named(word))} for words in (folders, other))
    return not first or not second or bool(first & second)


def _contains(folder: tuple[str, ...], tail: tuple[str, ...]) -> bool:
    return any(folder[start : start + len(tail)] == tail for start in range(len(folder) - len(tail) + 1))
