"""``fishnet predict``: embeddings, lists on standard input, and files that cannot be read in any place."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fishnet
from fishnet.errors import InputError
from fishnet.prediction.predictor import Predictor
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.makers import image


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Six good images, 1 to 6."""
    (tmp_path / "work").mkdir()
    for i in range(1, 7):
        image(("red", "green", "blue")[i % 3], i).save(tmp_path / "work" / f"{i}.png")
    return tmp_path / "work"


def table(path: Path) -> tuple[list[str], np.ndarray]:
    """Sources and embeddings of a file of either kind."""
    if path.suffix == ".npy":
        vectors = np.load(path)
        return path.with_name(f"{path.name}.txt").read_text().splitlines(), vectors
    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(path)
    assert read.column_names == ["source", "embedding"]
    assert str(read.schema.field("embedding").type).startswith("fixed_size_list<")
    return read["source"].to_pylist(), np.array(read["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("extension", ["npy", "parquet"])
def test_embeddings(extension: str, bundle: Path, work: Path, tmp_path: Path, run: Run) -> None:
    if extension == "parquet":
        pytest.importorskip("pyarrow")
    (work / "3b.png").write_text("no image")
    file = tmp_path / "new" / f"vectors.{extension}"
    code, out, err = run(
        "predict", bundle, work, "--embed", file, "--batch-size", 4, "--as", "jsonl", "--device", "cpu"
    )
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "3b.png" in err
    sources, vectors = table(file)
    assert vectors.dtype == np.float32
    assert sources == [str(work / f"{i}.png") for i in range(1, 7)]
    assert [json.loads(line)["source"] for line in out.splitlines()] == sources
    predictor = fishnet.load(bundle, "cpu")
    expected = predictor.embed(sources)
    assert vectors.shape == expected.shape
    # 1e-4: convolutions sum in another order for another batch size
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert {path.name for path in file.parent.iterdir()} == {
        file.name,
        *([f"{file.name}.txt"] if extension == "npy" else []),
    }


def test_predictions_are_the_same_with_and_without_embeddings(
    bundle: Path, work: Path, tmp_path: Path, run: Run
) -> None:
    plain = run("predict", bundle, work, "--as", "jsonl", "--device", "cpu")[1]
    assert run("predict", bundle, work, "--as", "jsonl", "--device", "cpu", "--embed", tmp_path / "e.npy")[1] == plain


@pytest.mark.parametrize(
    ("file", "words"),
    [("e.csv", ("e.csv", "must end in .npy or .parquet")), ("e", (".npy or .parquet",)), ("d.npy", ("is a folder",))],
)
def test_bad_files_for_embeddings(
    file: str, words: tuple[str, ...], bundle: Path, work: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "d.npy").mkdir()
    says(run("predict", bundle, work, "--embed", tmp_path / file, "--quiet"), 2, *words)


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(
    bundle: Path, work: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "file").touch()
    result = run("predict", bundle, work, "--embed", tmp_path / "file" / "e.npy")
    says(result, 1, "file")
    assert result[1] == ""


def test_nothing_readable_leaves_the_former_file(bundle: Path, work: Path, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "e.npy"
    assert run("predict", bundle, work, "--embed", file, "--quiet")[0] == 0
    before = file.read_bytes()
    (tmp_path / "text.png").write_text("no image")
    code, _, err = run("predict", bundle, tmp_path / "text.png", "--embed", file)
    assert code == 1
    assert err.splitlines()[0].endswith("text.png: not an image that can be read")
    assert "e.npy: not written: no image could be read" in err.splitlines()[1]
    assert file.read_bytes() == before


def test_nothing_readable_leaves_the_former_predictions(bundle: Path, work: Path, tmp_path: Path, run: Run) -> None:
    out_folder = tmp_path / "out"
    assert run("predict", bundle, work, "--out", out_folder, "--quiet")[0] == 0
    before = (out_folder / "predictions.jsonl").read_bytes()
    code, out, err = run("predict", bundle, work / "missing.png", "--out", out_folder)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"fishnet: {work / 'missing.png'}: no such file",
        f"fishnet: {out_folder}: nothing written: no image could be read",
    ]
    assert {path.name for path in out_folder.iterdir()} == {"predictions.jsonl"}
    assert (out_folder / "predictions.jsonl").read_bytes() == before


def test_an_engine_without_embeddings(bundle: Path) -> None:
    predictor = fishnet.load(bundle, "cpu")
    plain = Predictor(predictor.bundle, lambda batch: batch.mean((2, 3)))
    with pytest.raises(InputError, match="computes no embeddings: use the bundle"):
        plain.embed([np.zeros((40, 40, 3), np.uint8)])
    with pytest.raises(InputError, match="a list of one image or more"):
        predictor.embed([])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("bad", [(0,), (1, 2), (5, 6), (0, 3, 8), tuple(range(4)), ()])
def test_files_that_cannot_be_read_in_any_place(
    bad: tuple[int, ...], batch_size: int, bundle: Path, work: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "text.png").write_text("no image")
    names = [str(work / f"{i}.png") for i in range(1, 7)]
    good = iter(names)
    sources = [str(tmp_path / "text.png") if i in bad else next(good) for i in range(6 + len(bad))]
    code, out, err = run("predict", bundle, *sources, "--as", "jsonl", "--batch-size", batch_size)
    assert code == (1 if bad else 0)
    assert len(err.splitlines()) == len(bad)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["source"] for row in rows] == names
    colours = [("red", "green", "blue")[i % 3] for i in range(1, 7)]
    assert [row["predictions"][0]["name"] for row in rows] == colours


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_with_blank_lines(end: str, bundle: Path, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(work / "1.png"), "", "  ", str(work / "2.png"), "", str(work / "missing.png"), str(work / "3.png")]
    monkeypatch.setattr("sys.stdin", io.StringIO(end.join(names)))  # no end of line after the last
    code, out, err = run("predict", bundle, "-", "--as", "csv", "--top", 1)
    assert code == 1
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [names[0], names[3], names[6]]
    assert err.splitlines() == [f"fishnet: {names[5]}: no such file"]


def test_overlays_have_the_size_of_the_image(bundle: Path, tmp_path: Path, run: Run) -> None:
    """Also where the network's input is computed from a photo that was decoded at a quarter of its size."""
    photo = tmp_path / "photo.jpg"
    image("red", 0, (800, 600)).save(photo)
    assert run("predict", bundle, photo, "--overlay", "--out", tmp_path / "out", "--device", "cpu")[0] == 0
    (overlay,) = (tmp_path / "out").rglob("photo*.*")
    with Image.open(overlay) as drawn:
        assert drawn.width == 800
        assert drawn.height >= 600
