"""BatchPredictor: columns in, Arrow tables out; alone, and in two processes of a real Ray."""

import io
import pickle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fishnet
from fishnet import BatchPredictor
from fishnet.bulk.columns import ERROR, columns_of, schema_of
from fishnet.errors import InputError
from fishnet.images.segment_ids import rgb_to_ids
from fishnet.prediction.predictor import Predictor
from tests.bright import scene
from tests.serve.running import PREDICTORS, encoded

IMAGES = [
    scene(96, 64, ((8, 8, 40, 30), "red"), ((50, 20, 80, 60), "green")),
    scene(64, 120, ((4, 60, 30, 100), "green")),
    scene(96, 64),
]


def batch_predictor(predictor: Predictor, **options: Any) -> BatchPredictor:
    made = BatchPredictor("nowhere", **options)
    with patch("fishnet.tasks.loading.load", lambda *args, **kwargs: predictor):
        assert made.predictor is predictor
    return made


def as_column(kind: str, tmp_path: Path) -> Any:
    """The images as a column of each kind that engines hand over."""
    match kind:
        case "image":
            arrays = np.empty(len(IMAGES), object)
            arrays[:] = [np.asarray(image) for image in IMAGES]
            return arrays
        case "bytes":
            return [encoded(image) for image in IMAGES]
    paths = [tmp_path / f"{i}.png" for i in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        image.save(path)
    return np.array([str(path) for path in paths])


@pytest.mark.parametrize("kind", PREDICTORS)
@pytest.mark.parametrize("column", ["image", "bytes", "path"])
def test_tables_equal_the_results(kind: str, column: str, tmp_path: Path) -> None:
    predictor = PREDICTORS[kind]()
    table = batch_predictor(predictor)({column: as_column(column, tmp_path), "number": np.arange(3)})
    results = predictor.predict(IMAGES)
    assert table.schema.equals(pa.schema([*leading(column), *schema_of(predictor.bundle)]))
    assert table["number"].to_pylist() == [0, 1, 2]
    assert table[ERROR].null_count == 3
    for name in columns_of(results[0]):
        expected = pa.array([columns_of(result)[name] for result in results], table.schema.field(name).type)
        assert table[name].combine_chunks().equals(expected), name


def leading(column: str) -> list[tuple[str, Any]]:
    """The batch's own columns that stay."""
    return [*([("path", pa.string())] if column == "path" else []), ("number", pa.int64())]


def test_maps_are_those_of_the_results() -> None:
    predictor = PREDICTORS["segment"]()
    row = batch_predictor(predictor)({"image": IMAGES[:1]}).to_pylist()[0]
    result: Any = predictor.predict(IMAGES[0])
    ids = rgb_to_ids(np.asarray(Image.open(io.BytesIO(row["png"]))))
    assert (ids == np.array(result.classes.ids)[result.labels]).all()
    assert (row["height"], row["width"]) == result.size


def test_what_cannot_be_read_has_an_error_and_the_others_a_result() -> None:
    files = [encoded(IMAGES[0]), b"no image", encoded(IMAGES[1])]
    rows = batch_predictor(PREDICTORS["detect"]())({"bytes": files}).to_pylist()
    assert [len(row["boxes"]) if row["boxes"] is not None else None for row in rows] == [2, None, 1]
    assert [row[ERROR] is None for row in rows] == [True, False, True]
    assert rows[1][ERROR].startswith("not an image")


def test_empty_batches_arrow_tables_and_tensors() -> None:
    predictor = PREDICTORS["detect"]()
    empty = batch_predictor(predictor)({"bytes": [], "number": np.arange(0)})
    assert empty.num_rows == 0
    assert empty.schema.equals(pa.schema([("number", pa.int64()), *schema_of(predictor.bundle)]))
    files = pa.table({"bytes": [encoded(image) for image in IMAGES], "number": [1, 2, 3]})
    table = batch_predictor(predictor)(files)
    assert table["number"].to_pylist() == [1, 2, 3]
    assert [len(boxes) for boxes in table["boxes"].to_pylist()] == [2, 1, 0]
    tensor = batch_predictor(predictor)({"image": IMAGES, "vector": np.zeros((3, 2, 4))})
    assert tensor["vector"].to_pylist()[0] == [[0.0] * 4] * 2


def test_options_reach_the_model() -> None:
    table = batch_predictor(PREDICTORS["detect"](), max_detections=1)({"image": IMAGES})
    assert [len(boxes) for boxes in table["boxes"].to_pylist()] == [1, 1, 0]


def test_it_is_sent_without_its_model_and_loads_it_once(bundle: Path, folder: Path) -> None:
    first = BatchPredictor(bundle, device="cpu", k=1)
    photo = min((folder / "red").iterdir())
    assert first({"path": [str(photo)]})["names"].to_pylist() == [["red"]]
    sent = pickle.dumps(first)
    assert len(sent) < 2000
    other = pickle.loads(sent)
    assert other({"path": [str(photo)]}).equals(first({"path": [str(photo)]}))
    assert other.predictor is other.predictor


@pytest.mark.parametrize(
    ("options", "batch", "words"),
    [
        ({}, {"photo": []}, "no column image or bytes or path: the batch has photo"),
        ({"column": "x"}, {"image": []}, "no column x"),
        ({}, {"image": [], "scores": []}, "a column scores"),
    ],
)
def test_wrong_columns(options: dict[str, Any], batch: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        batch_predictor(PREDICTORS["detect"](), **options)(batch)


def test_wrong_options(bundle: Path) -> None:
    with pytest.raises(InputError, match="tile"):
        BatchPredictor(bundle, device="cpu", tile=64)({"image": []})


@pytest.mark.slow
def test_two_processes_of_ray(bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs ray[data]")
    data = pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # logical cores: one for each of the two models, and some to read with, without which Ray waits forever
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        photos = data.read_binary_files(str(folder), include_paths=True)
        predicted = photos.map_batches(
            BatchPredictor, fn_constructor_args=[str(bundle)],
            fn_constructor_kwargs={"device": "cpu", "column": "bytes"},
            batch_size=5, compute=data.ActorPoolStrategy(size=2), num_cpus=1,
        )  # fmt: skip
        rows = {row["path"]: row for row in predicted.take_all()}
    finally:
        ray.shutdown()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(rows) == [str(path) for path in paths]
    for path, result in zip(paths, fishnet.load(bundle, "cpu").predict(paths), strict=True):
        expected = columns_of(result)
        assert rows[str(path)]["names"] == expected["names"]
        assert rows[str(path)]["scores"] == pytest.approx(expected["scores"], abs=1e-5)
