"""Finds the image that an annotation names, inside the dataset's folder only. Torch-free."""

import os
from pathlib import Path

from fishnet.data.resolving import TailIndex, spellings
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS


class ImageFinder:
    """Finds the images of a dataset by the names that annotations give them.

    Args:
        root: the dataset's folder; files outside it are never accessed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = str(root.absolute())
        self._tails: TailIndex | None = None

    def at(self, name: str, *bases: Path) -> Path | None:
        """The image file at exactly the path that a name gives; None if there is none.

        Args:
            name: the image's name, as the annotation spells it.
            bases: folders that the name may be relative to.
        """
        for base in bases:
            for spelled in spellings(name):
                path = Path(os.path.normpath(base / spelled))
                if self._within(path) and path.suffix.lower() in EXTENSIONS and is_regular(path):
                    return path
        return None

    def find(self, name: str, *bases: Path) -> Path:
        """The image file at the path that a name gives, or else the one whose path shares the longest tail with it.

        Raises:
            InputError: no such image inside the root, or several that match equally well.
        """
        path = self.at(name, *bases)
        if path is not None:
            return path
        if self._tails is None:
            self._tails = TailIndex(path for path in walk(self.root) if path.suffix.lower() in EXTENSIONS)
        path = self._tails.find(name, bases[0] if bases else None)
        if path is None:
            raise InputError(f"no image {name!r} in {self.root}")
        return path

    def _within(self, path: Path) -> bool:
        return os.path.normpath(path.absolute()).startswith(os.path.normpath(self._top).rstrip(os.sep) + os.sep)
