"""Files by the ends of their paths: for annotations that name them as another machine had them. Torch-free."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from fishnet.errors import InputError

_DRIVE = re.compile(r"^(?:file://|[A-Za-z]:)")


def spellings(name: str) -> tuple[str, ...]:
    """How a file's name may be meant: as it is; with / for a Windows separator; with ``%20`` for a blank."""
    plain = name.replace("\\", "/")
    return tuple(dict.fromkeys((name, plain, unquote(plain))))


class Tails:
    """Files that are found by the end of a path.

    Args:
        files: that may be meant.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._named: dict[str, list[Path]] = {}
        for path in files:
            self._named.setdefault(unicodedata.normalize("NFC", path.name), []).append(path)

    def find(self, name: str, among: Path | None = None) -> Path | None:
        """The file that shares the most last parts of its path with a name; None where no file has its last part.

        Args:
            name: a path of any machine: with either separator, ``%20``, a drive, in either Unicode form.
            among: a folder whose files go first.

        Raises:
            InputError: two files share as many; names both.
        """
        for spelled in spellings(name)[1:] or (name,):
            parts = [part for part in _DRIVE.sub("", _composed(spelled)).split("/") if part not in ("", ".", "..")]
            shared = [(_common(parts, path), path) for path in self._named.get(parts[-1] if parts else "", ())]
            most = max((count for count, _ in shared), default=0)
            best = [path for count, path in shared if count == most]
            if among is not None and len(best) > 1:
                best = [path for path in best if path.is_relative_to(among)] or best
            if len(best) > 1:
                raise InputError(f"{name} may be {best[0]} or {best[1]}: give more of its path")
            if best:
                return best[0]
        return None


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _common(parts: list[str], path: Path) -> int:
    """How many last parts two paths share."""
    count = 0
    for one, other in zip(reversed(parts), reversed(path.parts), strict=False):
        if one != _composed(other):
            break
        count += 1
    return count
