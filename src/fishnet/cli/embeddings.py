"""Embeddings as a file: .npy with the sources beside it, or .parquet."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError, WorkError
from fishnet.files.writing import naming, whole, write_text

ENDINGS = (".npy", ".parquet")


class EmbeddingFile:
    """Collects embeddings and writes them at the end, whole or not at all.

    ``.npy``: float32 of shape (images, dims), and the sources one a line in ``FILE.npy.txt``. ``.parquet``: columns
    ``source`` and ``embedding``, a list of fixed size. Rows in the order they were added.

    Args:
        path: the file; its folder is made.

    Raises:
        InputError: another ending, or a folder of that name.
        WorkError: a place that cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in ENDINGS:
            raise InputError(f"--embed {path}: must end in {' or '.join(ENDINGS)}")
        if path.is_dir():
            raise InputError(f"--embed {path}: is a folder: name a file")
        if path.suffix == ".parquet":
            import pyarrow.parquet  # noqa: F401 (a missing one is told before the work)
        self.path = path
        self.sources: list[str] = []
        self.vectors: list[NDArray[np.float32]] = []
        probe = path.with_name(f".partial-{path.name}")
        with naming(path):  # a place that cannot be written to is said before the work
            path.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def add(self, source: str, vector: NDArray[np.float32]) -> None:
        """One image's."""
        self.sources.append(source.encode(errors="backslashreplace").decode().replace("\n", "\\n"))
        self.vectors.append(vector)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes the file, unless the work was broken off.

        Raises:
            WorkError: there is no embedding to write, or the disk is full.
        """
        if kind is not None:
            return
        if not self.vectors:
            raise WorkError(f"{self.path}: not written: no image could be read")
        vectors = np.stack(self.vectors).astype(np.float32)
        with whole(self.path) as partial:
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
