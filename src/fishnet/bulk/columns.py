"""Results as columns of Arrow tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fishnet.bundle.bundle import Bundle
from fishnet.images.segment_ids import to_png
from fishnet.prediction.results import Classification, Detections, Panoptic, Result, Scene, Segmentation
from fishnet.prediction.results.scene import PANOPTIC
from fishnet.prediction.sources import Failure
from fishnet.tasks.info import task_info

if TYPE_CHECKING:
    import pyarrow as pa

ERROR = "error"
"""Why there is no result; null where there is one."""

_IDS, _NAMES, _SCORES = {"ids": "ids"}, {"names": "names"}, {"scores": "scores"}
_SIZE = {"height": "size", "width": "size"}
_CLASSES = {**_IDS, **_NAMES}
# Column -> kind, by what a head predicts.
_COLUMNS: Mapping[str, dict[str, str]] = {
    "scores": {**_CLASSES, **_SCORES},
    "objects": {**_SIZE, **_CLASSES, **_SCORES, "boxes": "boxes"},
    "masks": {**_SIZE, **_CLASSES, **_SCORES, "boxes": "boxes", "masks": "names"},
    "label map": {**_SIZE, **_CLASSES, "shares": "scores", "png": "file"},
    "segments": {
        **_SIZE, **_CLASSES, "segments": "ids", "scores": "scores", "boxes": "boxes", "areas": "ids", "png": "file",
    },
}  # fmt: skip


def columns_of(result: Result) -> dict[str, Any]:
    """The values of a result's columns; see :func:`schema_of`."""
    if isinstance(result, Scene):
        return {
            f"{name}/{column}": value
            for name, part in result.parts().items()
            for column, value in columns_of(part).items()
        }
    if isinstance(result, Classification):
        rows = result.rows()
        kept = [row for row in rows if row.get("present", True)]
        return {**_classes(kept), "scores": [row["score"] for row in kept]}
    if isinstance(result, Detections):
        return _object_columns(result)
    if isinstance(result, Segmentation):
        rows = result.rows()
        shares = [row["share"] for row in rows]
        return {**_size(result.size), **_classes(rows), "shares": shares, "png": to_png(result.id_map())}
    assert isinstance(result, Panoptic)
    return {
        **_size(result.size),
        "ids": [segment.category_id for segment in result.segments],
        "names": [segment.name for segment in result.segments],
        "segments": [segment.id for segment in result.segments],
        "scores": [segment.score for segment in result.segments],
        "boxes": [list(map(float, segment.box)) for segment in result.segments],
        "areas": [segment.area for segment in result.segments],
        "png": to_png(result.ids),
    }


def _object_columns(result: Detections) -> dict[str, Any]:
    objects = result.to_dict()["objects"]
    masks = {} if result.cropped_masks is None else {"masks": [each["segmentation"]["counts"] for each in objects]}
    return {
        **_size(result.size), **_classes(objects), "scores": [each["score"] for each in objects],
        "boxes": [each["box"] for each in objects], **masks,
    }  # fmt: skip


def _size(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"ids": [row["id"] for row in rows], "names": [row["name"] for row in rows]}


def schema_of(bundle: Bundle) -> "pa.Schema":
    """The columns of a model's results, and :data:`ERROR`.

    With one head: ``ids`` (original ids of classes), ``names`` and ``scores``, best first; for objects ``boxes`` (x1,
    y1, x2, y2 in px of the image), and ``masks`` (COCO's compressed run lengths) if there are any; for label maps
    ``shares`` of the classes in the image, and ``png``, a file in which the id of a pixel is R + 256 G + 65536 B; for
    panoptic segments ``segments`` (ids in ``png``) and ``areas``, px. ``height`` and ``width`` are those of the image.
    With several heads, each column's name begins with the head's, ``HEAD/NAME``.
    """
    import pyarrow as pa

    kinds = {
        "ids": pa.list_(pa.int64()), "names": pa.list_(pa.string()), "scores": pa.list_(pa.float32()),
        "boxes": pa.list_(pa.list_(pa.float32(), 4)), "size": pa.int32(), "file": pa.binary(),
    }  # fmt: skip
    outputs = {name: _output(config.task) for name, config in bundle.heads.items()}
    if bundle.panoptic is not None:
        outputs[PANOPTIC] = "segments"
    fields = [
        (f"{name}/{column}" if len(outputs) > 1 else column, kinds[kind])
        for name, output in outputs.items()
        for column, kind in _COLUMNS[output].items()
    ]
    return pa.schema([*fields, (ERROR, pa.string())])


def _output(task: str) -> str:
    info = task_info(task)
    return "masks" if info.masks else info.output


def row_of(name: str, result: Result | Failure) -> dict[str, Any]:
    """A row of :func:`table_of`. A failure has an ``error`` and nothing else: the reason without the image's name."""
    return (
        {ERROR: result.reason.removeprefix(f"{name}: ").removeprefix("the image: ")}
        if isinstance(result, Failure)
        else columns_of(result)
    )


def table_of(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    """The rows of a model's results as a table."""
    import pyarrow as pa

    schema = schema_of(bundle)
    if not rows:
        return schema.empty_table()
    return pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema)
