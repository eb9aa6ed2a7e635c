"""A predictor for engines that distribute batches of rows, such as Ray Data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fishnet.bulk.columns import row_of, schema_of, table_of
from fishnet.errors import InputError
from fishnet.prediction.predictor import Predictor

if TYPE_CHECKING:
    import pyarrow as pa

PATH = "path"
COLUMNS = ("image", "bytes", PATH)


class BatchPredictor:
    """Predicts on batches of rows: a dict of columns in, an Arrow table out. Can be pickled, and loads its model late.

    ``ray.data.read_images(folder).map_batches(BatchPredictor, fn_constructor_args=[bundle], concurrency=2)`` predicts
    with two processes, each with a model of its own; see docs/scale.md.

    An image that cannot be read has a text in the column ``error``, and nothing in the others.

    Args:
        bundle: a bundle or an exported file, see :func:`fishnet.tasks.loading.load`.
        column: the column with the images: arrays of uint8, the bytes of image files, or paths; by default ``image``,
            ``bytes`` or ``path``, the first of these that a batch has.
        device, trust, only, precision: see :func:`fishnet.tasks.loading.load`.
        **options: as for :meth:`fishnet.prediction.predictor.Predictor.predict`.

    Raises:
        InputError: when the model is loaded: there is none, or it does not have an option.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        column: str | None = None,
        device: str = "auto",
        trust: bool = False,
        only: Sequence[str] | None = None,
        precision: str = "auto",
        **options: Any,
    ) -> None:
        self._source, self._column, self._options = str(bundle), column, options
        self._loading = {"device": device, "trust": trust, "only": only, "precision": precision}
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """The model, which is loaded when it is first used."""
        if self._predictor is None:
            from fishnet.tasks.loading import load

            predictor = load(self._source, **self._loading)  # type: ignore[arg-type]
            predictor.check_options(**self._options)
            self._predictor = predictor
        return self._predictor

    def __call__(self, batch: Mapping[str, Any]) -> "pa.Table":
        """Predicts on the images of a batch.

        Args:
            batch: columns by name, each an array or a list; or an Arrow table.

        Returns:
            The columns of the batch, without that of the images unless it is called ``path``, and then the columns of
            :func:`fishnet.bulk.columns.schema_of`.

        Raises:
            InputError: no column of images, or a column of the batch with the name of a result's.
        """
        names = list(getattr(batch, "column_names", batch))
        column = self._column or next((name for name in COLUMNS if name in names), "")
        if column not in names:
            wanted = self._column or " or ".join(COLUMNS)
            raise InputError(f"no column {wanted}: the batch has {', '.join(names)}; name the images' with column=")
        kept = {name: batch[name] for name in names if name != column or column == PATH}
        if clash := [name for name in kept if name in schema_of(self.predictor.bundle).names]:
            raise InputError(f"the batch has a column {clash[0]}, as the results have: give it another name")
        images = _values(batch[column])
        named = ((str(i), _source(image)) for i, image in enumerate(images))
        rows = [row_of(*pair) for pair in self.predictor.stream_images(named, **self._options)]
        table = table_of(self.predictor.bundle, rows)
        for place, (name, values) in enumerate(kept.items()):
            table = table.add_column(place, name, _array(values))
        return table


def _source(image: Any) -> Any:
    """An image as the Predictor takes it, of NumPy's own bytes and texts too."""
    return image.item() if isinstance(image, np.generic) else image


def _array(values: Any) -> "pa.Array[Any]":
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    return pa.array(values.tolist() if isinstance(values, np.ndarray) and values.ndim > 1 else values)


def _values(column: Any) -> list[Any]:
    """The values of a column of any kind."""
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)
