"""Writes embeddings to a file: .npy with the sources beside it, or .parquet."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError, WorkError
from fishnet.files.writing import atomic_path, write_errors, write_text

EXTENSIONS = (".npy", ".parquet")


class EmbeddingFile:
    """Collects embeddings and writes them at the end, completely or not at all.

    ``.npy``: float32 of shape (images, dims), and the sources in ``FILE.npy.txt``, one per line. ``.parquet``: columns
    ``source`` and ``embedding``, a list of fixed size. Rows are in the order in which they were added.

    Args:
        path: the file; its folder is created.

    Raises:
        InputError: the path has another suffix, or is a folder.
        WorkError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in EXTENSIONS:
            raise InputError(f"--embed {path}: must end in {' or '.join(EXTENSIONS)}")
        if path.is_dir():
            raise InputError(f"--embed {path}: is a folder: name a file")
        if path.suffix == ".parquet":
            import pyarrow.parquet  # noqa: F401 (before the work, so that a missing package is an early error)
        self.path = path
        self.sources: list[str] = []
        self.vectors: list[NDArray[np.float32]] = []
        probe = path.with_name(f".partial-{path.name}")
        with write_errors(path):  # before the work, so that an unwritable file is an early error
            path.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def add(self, source: str, vector: NDArray[np.float32]) -> None:
        """Adds the embedding of one image."""
        self.sources.append(source.encode(errors="backslashreplace").decode().replace("\n", "\\n"))
        self.vectors.append(vector)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes the file, unless an exception ended the work.

        Raises:
            WorkError: there is no embedding to write, or the disk is full.
        """
        if kind is not None:
            return
        if not self.vectors:
            raise WorkError(f"{self.path}: not written: no image could be read")
        vectors = np.stack(self.vectors).astype(np.float32)
        with atomic_path(self.path) as partial:
            if self.path.suffix == ".npy":
                with partial.open("wb") as file:
                    np.save(file, vectors)
                names = self.path.with_name(f"{self.path.name}.txt")
                write_text(names, "".join(f"{source}\n" for source in self.sources))
            else:
                self._write_parquet(partial, vectors)

    def _write_parquet(self, partial: Path, vectors: NDArray[np.float32]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = pa.table({"source": pa.array(self.sources, pa.string()), "embedding": lists})
        parquet.write_table(table, partial)
