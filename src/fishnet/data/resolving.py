"""Finds the files that a dataset names, even if the names were written on another machine. Torch-free."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS

SHOWN = 3  # files in a message
SEARCHED = 1_500_000  # files and folders; a larger root is not searched
_DRIVE = re.compile(r"^(?:file://|[A-Za-z]:)")


def spellings(name: str) -> tuple[str, ...]:
    """The spellings that a file's name may have: unchanged, with ``/`` as separator, and with ``%20`` decoded too."""
    slashed = name.replace("\\", "/")
    return tuple(dict.fromkeys((name, slashed, unquote(slashed))))


class TailIndex:
    """Finds files by the tails of their paths.

    Args:
        files: all candidates.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        for path in files:
            self._by_name.setdefault(_nfc(path.name), []).append(path)

    def find(self, name: str, preferred: Path | None = None) -> Path | None:
        """The file whose path shares the longest tail with a name; None if no file has the name's last component.

        Args:
            name: a path from any machine: with either separator, ``%20`` or a drive, in either Unicode form.
            preferred: files in this folder win a tie.

        Raises:
            InputError: two files match equally well; names both.
        """
        for spelling in spellings(name)[1:] or (name,):
            parts = _parts(_DRIVE.sub("", spelling))
            lengths = {path: _shared(parts, path) for path in self._by_name.get(parts[-1] if parts else "", ())}
            longest = max(lengths.values(), default=0)
            best = [path for path, length in lengths.items() if length == longest]
            if preferred is not None and len(best) > 1:
                best = [path for path in best if path.is_relative_to(preferred)] or best
            if len(best) > 1:
                raise InputError(f"{name} may be {best[0]} or {best[1]}: give more of its path")
            if best:
                return best[0]
        return None


def _shared(parts: Sequence[str], path: Path) -> int:
    """The number of trailing components that two paths share."""
    count = 0
    for first, second in zip(reversed(parts), reversed(path.parts), strict=False):
        if first != _nfc(second):
            break
        count += 1
    return count


class Resolver:
    r"""Finds files below a dataset's root by the names that tables give them.

    A name is tried in these ways; the first one that leads to a file counts:

    1. unchanged, relative to the root or absolute;
    2. with ``\` as ``/``, with ``%20`` and the like decoded, and in the other Unicode form (NFC, NFD);
    3. by its tail: the file below the root whose path shares the longest tail with the name. ``C:\x\train\7.jpg`` is
       ``data/train/7.jpg``. If the root has a folder that the name ends in, the file must be in or below that folder,
       and a name that contains one split never matches a file of another split;
    4. by its tail without the files' extensions, if the name has no extension: ``7`` is ``7.jpg``.

    Ways 3 and 4 require exactly one such file. The root is searched once, for the first name that needs it; a root with
    more than 1,500,000 entries is not searched.

    Attributes:
        root: the folder that names are relative to, and that is searched.
        by_tail: how many names were found in another way than the first.
        example: the first of these names, as ``name -> path below the root``; empty if there is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_tail = 0
        self.example = ""
        self._files: dict[str, list[str]] | None = None  # paths below the root, by their NFC names
        self._stems: dict[str, list[str]] | None = None  # of images, by their NFC names without extension
        self._folders: dict[str, set[tuple[str, ...]]] = {}  # components below the root, by their last one

    def find(self, name: str) -> Path:
        """The file that a name stands for; below the root if the name is relative.

        Args:
            name: a path as a table spells it, relative to the root or absolute.

        Raises:
            InputError: an empty name, no such file, or several possible files.
        """
        if not name.strip():
            raise InputError("an empty file name")
        if os.path.isfile(self.root / name):  # noqa: PTH113 (raises nothing for names that are too long)
            return self.root / name
        path = next((path for path in self._respelled(name) if os.path.isfile(path)), None)  # noqa: PTH113
        if path is None:
            path = self._searched(name)
        self.by_tail += 1
        self.example = self.example or f"{name} -> {os.path.relpath(path, self.root)}"
        return path

    def _respelled(self, name: str) -> Iterator[Path]:
        for spelling in spellings(name):
            yield self.root / unicodedata.normalize("NFC", spelling)
            yield self.root / unicodedata.normalize("NFD", spelling)

    def _searched(self, name: str) -> Path:
        """The file below the root whose path shares the longest tail with a name."""
        plain = _DRIVE.sub("", name.strip().replace("\\", "/"))
        for spelling in dict.fromkeys((plain, unquote(plain))):
            *folders, base = _parts(spelling) or ("",)
            matches = [path for path in self._named(base) if _same_split(folders, _parts(path)[:-1])]
            matches = self._inside(tuple(folders), matches)
            if len(matches) > 1:
                shown = ", ".join(sorted(matches)[:SHOWN]) + (", ..." if len(matches) > SHOWN else "")
                raise InputError(f"{name}: may be any of {len(matches)} files in {self.root}: {shown}")
            if matches:
                return self.root / matches[0]
        raise InputError(f"{self.root / name}: no such file")

    def _named(self, base: str) -> list[str]:
        """The files with this name below the root. A name without extension also matches images by their stem."""
        if self._files is None:
            self._files = self._index()
        if base in self._files or PurePosixPath(base).suffix.lower() in EXTENSIONS:
            return self._files.get(base, [])
        if self._stems is None:
            self._stems = {}
            for name, paths in self._files.items():
                if PurePosixPath(name).suffix.lower() in EXTENSIONS:
                    self._stems.setdefault(name[: name.rindex(".")], []).extend(paths)
        return self._stems.get(base, [])

    def _inside(self, folders: tuple[str, ...], matches: list[str]) -> list[str]:
        """The matches in, or else below, the folder that shares the longest tail with a name's folders."""
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
                if (folder := str(below.parent)) in seen:
                    continue
                seen.add(folder)
                parts = _parts(below.parent.as_posix())
                for end in range(1, len(parts) + 1):
                    self._folders.setdefault(parts[end - 1], set()).add(parts[:end])
        except InputError:  # too large to search
            return {}
        return files


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _parts(path: str) -> tuple[str, ...]:
    """The components of a path, in NFC, without ``.`` and ``..``."""
    return tuple(part for part in _nfc(path).split("/") if part not in ("", ".", ".."))


def _same_split(first_folders: Iterable[str], second_folders: Iterable[str]) -> bool:
    """Whether two paths may belong to the same split, because they do not name different ones."""
    names = (first_folders, second_folders)
    first, second = ({split for name in folders if (split := split_named(name))} for folders in names)
    return not first or not second or bool(first & second)


def _contains(folder: tuple[str, ...], tail: tuple[str, ...]) -> bool:
    return any(folder[start : start + len(tail)] == tail for start in range(len(folder) - len(tail) + 1))
