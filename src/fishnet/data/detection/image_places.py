"""Which image an annotation names: looked for inside the dataset's folder only. Torch-free."""

import os
from pathlib import Path

from fishnet.data.tails import Tails, spellings
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS


class ImagePlaces:
    """The images of a dataset, by the names that annotations give them.

    Args:
        root: the dataset's folder; no file outside of it is ever looked at.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = str(root.absolute())
        self._tails: Tails | None = None

    def at(self, name: str, *bases: Path) -> Path | None:
        """The image file at the place that a name says.

        Args:
            name: as an annotation has it, with any separators.
            bases: folders that it may start from.
        """
        for base in bases:
            for spelled in spellings(name):
                path = Path(os.path.normpath(base / spelled))
                if self._within(path) and path.suffix.lower() in EXTENSIONS and is_regular(path):
                    return path
        return None

    def find(self, name: str, *bases: Path) -> Path:
        """The same, or the image that shares the end of its path with the name.

        Raises:
            InputError: no such image inside the root, or several that share as much of the path.
        """
        found = self.at(name, *bases)
        if found is not None:
            return found
        if self._tails is None:
            self._tails = Tails(path for path in walk(self.root) if path.suffix.lower() in EXTENSIONS)
        found = self._tails.find(name, bases[0] if bases else None)
        if found is None:
            raise InputError(f"no image {name!r} in {self.root}")
        return found

    def _within(self, path: Path) -> bool:
        return os.path.normpath(path.absolute()).startswith(os.path.normpath(self._top).rstrip(os.sep) + os.sep)
