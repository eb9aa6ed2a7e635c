"""Predicts on any number of images, into Parquet files, and goes on where it stopped."""

import io
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fishnet.bulk.columns import ERROR, row_of, table_of
from fishnet.bulk.places import Folder
from fishnet.bulk.sources import Shard, iter_images, iter_sources
from fishnet.prediction.predictor import Predictor

if TYPE_CHECKING:
    import pyarrow as pa

SOURCE = "source"
RESULTS, FAILURES = "results", "failures"
PART = 1000
"""Images of a part, unless it is said otherwise."""


@dataclass
class Progress:
    """How far a job is.

    Attributes:
        predicted, failed: numbers of images of this run.
        skipped: number of images that were done before.
        parts: number of parts that this run wrote.
    """

    predicted: int = 0
    failed: int = 0
    skipped: int = 0
    parts: int = 0


class Job:
    """Predicts on the images of one shard.

    OUT/results has the results, and OUT/failures the images without one and why (``source``, ``error``). Each is a
    Parquet file for every so many images, which is there as a whole or not at all. An image that is in one of them is
    skipped. A part's failures are written before its results; if the process is killed between the two, the rest of
    the part is predicted again. So no image is lost, and none is there twice, as long as no two processes have the same
    shard at the same time.

    Args:
        predictor: the model.
        out: a path, or an address of an object store.
        shard: which of the images.
        part: number of images of a Parquet file.
    """

    def __init__(self, predictor: Predictor, out: str, shard: Shard, part: int = PART) -> None:
        self._predictor, self._folder, self._shard, self._part = predictor, Folder(out), shard, part
        self._done = set(self._sources(RESULTS)) | set(self._sources(FAILURES))

    def run(
        self, sources: Sequence[str], column: str | None = None, batch_size: int | None = None, **options: Any
    ) -> Iterator[Progress]:
        """Predicts, and yields after each part.

        Args:
            sources: see :func:`fishnet.bulk.sources.iter_sources`.
            column: of Parquet sources, see :func:`fishnet.bulk.sources.iter_images`.
            batch_size, **options: see :meth:`fishnet.prediction.predictor.Predictor.stream`.

        Raises:
            InputError: a source that does not exist, or an option that the model does not have.
            WorkError: a part cannot be written.
        """
        progress = Progress()

        def skip(name: str) -> bool:
            is_done = name in self._done
            progress.skipped += is_done
            self._done.add(name)  # a name that comes twice is predicted once
            return is_done

        images = iter_images(iter_sources(sources, self._shard), skip, column)
        waiting: list[dict[str, Any]] = []
        for name, result in self._predictor.stream_images(images, batch_size, **options):  # type: ignore[arg-type]
            waiting.append({SOURCE: name, **row_of(name, result)})
            if len(waiting) == self._part:
                self._write(waiting, progress)
                waiting = []
                yield progress
        if waiting:
            self._write(waiting, progress)
        yield progress

    def _sources(self, folder: str) -> Iterator[str]:
        """The images in the parts that are there."""
        import pyarrow.parquet as pq

        for name in self._folder.names(folder):
            if name.endswith(".parquet"):
                with self._folder.open(f"{folder}/{name}") as file:
                    yield from pq.read_table(file, columns=[SOURCE])[SOURCE].to_pylist()

    def _write(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        shard = self._shard
        name = f"part-{shard.number:05}-of-{shard.count:05}-{self._next_number():06}-{secrets.token_hex(4)}.parquet"
        failed = [row for row in rows if ERROR in row]
        good = [row for row in rows if ERROR not in row]
        if failed:
            self._save(f"{FAILURES}/{name}", self._table(failed).select([SOURCE, ERROR]))
        if good:
            self._save(f"{RESULTS}/{name}", self._table(good).drop_columns([ERROR]))
        progress.predicted += len(good)
        progress.failed += len(failed)
        progress.parts += 1

    def _next_number(self) -> int:
        """The number after the last part of this shard."""
        pattern = re.compile(rf"part-{self._shard.number:05}-of-{self._shard.count:05}-(\d+)-")
        names = [*self._folder.names(RESULTS), *self._folder.names(FAILURES)]
        return 1 + max((int(found[1]) for found in map(pattern.match, names) if found), default=0)

    def _table(self, rows: Sequence[dict[str, Any]]) -> "pa.Table":
        table = table_of(self._predictor.bundle, rows)
        return table.add_column(0, SOURCE, [[row[SOURCE] for row in rows]])

    def _save(self, name: str, table: "pa.Table") -> None:
        import pyarrow.parquet as pq

        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
        self._folder.write(name, file.getvalue())
