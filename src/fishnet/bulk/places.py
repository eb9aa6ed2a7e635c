"""Files in folders and in object stores, by fsspec: ``s3://``, ``gs://``, ``az://`` and the like."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.writing import write_bytes
from fishnet.images.remote import is_address

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}


@contextmanager
def _readable_errors(place: str, error_type: type[InputError | WorkError]) -> Iterator[None]:
    """Turns the errors of stores, which are of many kinds, into one line."""
    try:
        yield
    except (InputError, WorkError):
        raise
    except Exception as error:
        raise error_type(f"{place}: {type(error).__name__}: {first_line(error)}") from error


def store_of(place: str) -> tuple[Any, str]:
    """The file system of a place, and the place's path in it.

    Raises:
        InputError: an unknown scheme, or one whose package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(place)  # type: ignore[no-any-return]
    except ImportError as error:
        package = _PACKAGES.get(place.partition("://")[0], "its package of fsspec")
        raise InputError(f"{place}: needs {package}: pip install {package}") from error
    except ValueError as error:
        raise InputError(f"{place}: {first_line(error)}") from error


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store. It is read when it is needed, by whichever thread needs it.

    Attributes:
        place: with its scheme.
    """

    place: str

    def read(self, size: int = -1) -> bytes:
        """The first bytes of the file, by default all.

        Raises:
            OSError: it cannot be read.
        """
        store, path = store_of(self.place)
        try:
            content: bytes = store.cat_file(path, start=0, end=size) if size >= 0 else store.cat_file(path)
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {first_line(error)}") from error
        return content


def walk(place: str) -> Iterator[str]:
    """All files below a place in a store, or the place itself if it is a file, in the store's order.

    Raises:
        InputError: there is nothing, or it cannot be listed.
    """
    store, path = store_of(place)
    is_empty = True
    with _readable_errors(place, InputError):
        if store.isfile(path):
            yield place
            return
        for folder, _, names in store.walk(path):
            for name in sorted(names):
                is_empty = False
                yield store.unstrip_protocol(f"{folder}/{name}")
    if is_empty:
        raise InputError(f"{place}: no such file, or an empty folder")


class Folder:
    """A folder of results, in a file system or a store. Files appear in it whole or not at all.

    Args:
        place: a path, or an address.
    """

    def __init__(self, place: str) -> None:
        self.place, self._is_local = place.rstrip("/"), not is_address(place)
        self._store, self._path = store_of(self.place)

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder of this one, sorted; none if it does not exist.

        Raises:
            WorkError: it cannot be listed.
        """
        with _readable_errors(f"{self.place}/{folder}", WorkError):
            try:
                self._store.invalidate_cache()
                entries = self._store.ls(f"{self._path}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(entry).rpartition("/")[2] for entry in entries)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file, open for reading.

        Raises:
            WorkError: it cannot be read.
        """
        with _readable_errors(f"{self.place}/{name}", WorkError), self._store.open(f"{self._path}/{name}") as file:
            yield file

    def write(self, name: str, content: bytes) -> None:
        """Writes a file: locally under another name first, in a store by one upload.

        Raises:
            WorkError: it cannot be written.
        """
        with _readable_errors(f"{self.place}/{name}", WorkError):
            if self._is_local:
                self._store.makedirs(f"{self._path}/{name}".rpartition("/")[0], exist_ok=True)
                write_bytes(f"{self._path}/{name}", content)
            else:
                self._store.pipe_file(f"{self._path}/{name}", content)
