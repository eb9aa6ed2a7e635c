"""Predictions into Parquet files: every image once, whatever happens; locally and in a real S3 server."""

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fishnet
from fishnet.bulk.columns import ERROR, columns_of, schema_of
from fishnet.bulk.job import FAILURES, RESULTS, SOURCE, Job
from fishnet.bulk.places import Folder
from fishnet.bulk.sources import Shard, iter_sources
from fishnet.errors import InputError
from tests.bright import scene
from tests.conftest import Run
from tests.makers import CLASSES, image
from tests.serve.running import PREDICTORS, encoded, wait_until

IMAGES = [scene(96, 64, ((8, 8, 40 + i, 30), "red")) for i in range(7)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i, photo in enumerate(IMAGES):
        photo.save(folder / ("more" if i % 2 else ".") / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def rows_of(out: str, folder: str = RESULTS) -> list[dict[str, Any]]:
    place = Folder(out)
    rows = []
    for name in place.names(folder):
        with place.open(f"{folder}/{name}") as file:
            rows += pq.read_table(file).to_pylist()
    return rows


def sources_of(out: str) -> Counter[str]:
    return Counter(row[SOURCE] for folder in (RESULTS, FAILURES) for row in rows_of(out, folder))


def run_job(kind: str, out: Path | str, *sources: object, shard: str = "1/1", part: int = 3, **options: Any) -> Any:
    job = Job(PREDICTORS[kind](), str(out), Shard.parse(shard), part)
    *_, last = job.run(list(map(str, sources)), **options)
    return last


@pytest.mark.parametrize("kind", PREDICTORS)
def test_results_and_failures_in_tables(kind: str, photos: Path, tmp_path: Path) -> None:
    progress = run_job(kind, tmp_path / "out", photos)
    assert (progress.predicted, progress.failed, progress.skipped, progress.parts) == (7, 1, 0, 3)
    predictor = PREDICTORS[kind]()
    table = pq.read_table(tmp_path / "out" / RESULTS)
    schema = schema_of(predictor.bundle)
    assert table.schema.equals(pa.schema([(SOURCE, pa.string()), *(each for each in schema if each.name != ERROR)]))
    for row in table.to_pylist():
        expected = columns_of(predictor.predict(row[SOURCE]))
        cast = pa.Table.from_pylist([expected], pa.schema([schema.field(name) for name in expected])).to_pylist()[0]
        assert {name: row[name] for name in expected} == cast
    failed = rows_of(str(tmp_path / "out"), FAILURES)
    assert [row[SOURCE] for row in failed] == [str(photos / "broken.png")]
    assert failed[0][ERROR].startswith("not an image")


def test_a_second_run_does_only_what_is_new(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job("detect", out, photos)
    before = sorted(out.rglob("*.parquet"))
    again = run_job("detect", out, photos)
    assert (again.predicted, again.failed, again.skipped, again.parts) == (0, 0, 8, 0)
    assert sorted(out.rglob("*.parquet")) == before
    IMAGES[0].save(photos / "new.png")
    third = run_job("detect", out, photos, photos / "new.png")
    assert (third.predicted, third.skipped) == (1, 9), "a name that comes twice is predicted once"
    assert set(sources_of(str(out)).values()) == {1}
    assert len(sources_of(str(out))) == 9


def test_shards_share_the_images(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts = [run_job("detect", out, photos, shard=f"{i}/3") for i in (1, 2, 3)]
    assert sum(each.predicted + each.failed for each in counts) == 8
    assert max(each.predicted for each in counts) < 7
    assert set(sources_of(str(out)).values()) == {1}
    assert run_job("detect", out, photos, shard="1/2").predicted == 0, "another number of shards skips them too"


def test_tar_parquet_lists_and_patterns(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, photo in enumerate(IMAGES[:3]):
            for name, content in ((f"{i}.png", encoded(photo)), (f"{i}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    contents = [encoded(photo) for photo in IMAGES[:2]]
    pq.write_table(pa.table({"bytes": [*contents, b"no"], "label": [1, 2, 3]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"photo": [{"bytes": each, "path": "x"} for each in contents]}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text(f"{photos / '0.png'}\n\n{photos / 'more' / '1.png'}\n")
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    given = [tmp_path / name for name in ("a.tar", "b.parquet", "d.txt", "broken.tar")]
    out = tmp_path / "out"
    progress = run_job("detect", out, *given)
    assert (progress.predicted, progress.failed) == (3 + 2 + 2, 1 + 1)
    names = {name.removeprefix(f"{tmp_path}/") for name in sources_of(str(out))}
    assert names >= {"a.tar#0.png", "a.tar#2.png", "b.parquet#0", "b.parquet#2", "photos/0.png", "broken.tar"}
    assert run_job("detect", out, tmp_path / "c.parquet").failed == 1, "no column of images"
    assert run_job("detect", tmp_path / "other", tmp_path / "c.parquet", column="photo").predicted == 2
    for row in rows_of(str(out)):
        assert len(row["boxes"]) == 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_wrong_shards(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        Shard.parse(text)


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    for source in (tmp_path / "nothing" / "*.png", tmp_path / "nothing.txt", "nowhere://x"):
        with pytest.raises(InputError):
            list(iter_sources([str(source)], Shard()))


def test_the_command(bundle: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    code, text, err = run("predict", bundle, folder, "--format", "parquet", "--out", tmp_path / "out", "--part", 10)
    assert (code, err) == (0, "")
    assert text.splitlines()[-1] == f"{tmp_path / 'out'}: 24 predicted, 0 failed, 0 done before; 3 parts"
    assert {row["names"][0] for row in rows_of(str(tmp_path / "out"))} == set(CLASSES)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    code, _, err = run("predict", bundle, broken, "--format", "parquet", "--out", tmp_path / "out", "--quiet")
    assert code == 1
    assert "1 images failed" in err
    for words, line in (
        ((), "needs --out"),
        (("--out", "o", "--overlay"), "--overlay"),
        (("--out", "o", "--shard", "3/2"), "3/2"),
    ):
        code, _, err = run("predict", bundle, folder, "--format", "parquet", *words)
        assert code == 2
        assert line in err


# --- a server of S3 -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a bucket in moto's server on this machine, to which fsspec's settings lead."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    values = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(endpoint_url=address).mkdir("photos")
    yield "s3://photos"
    server.stop()
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def upload(bucket: str, folder: str, count: int) -> list[str]:
    """Images of the three colours; their addresses."""
    import s3fs

    store, names = s3fs.S3FileSystem(), []
    for i in range(count):
        name = f"{bucket}/{folder}/{CLASSES[i % 3]}/{i:03}.png"
        store.pipe_file(name, encoded(image(CLASSES[i % 3], i)))
        names.append(name)
    store.pipe_file(f"{bucket}/{folder}/broken.png", b"no image")
    store.pipe_file(f"{bucket}/{folder}/notes.md", b"no image either")
    return names


def test_from_and_to_an_object_store(bucket: str, bundle: Path, run: Run) -> None:
    names = upload(bucket, "first", 9)
    out = f"{bucket}/out-first"
    words = ("predict", bundle, f"{bucket}/first", "--format", "parquet", "--out", out, "--part", 4, "--device", "cpu")
    code, text, _ = run(*words)
    assert code == 1, "one image is broken"
    assert "9 predicted, 1 failed" in text
    best = {row[SOURCE]: row["names"][0] for row in rows_of(out)}
    assert best == {name: name.split("/")[-2] for name in names}
    assert [row[SOURCE] for row in rows_of(out, FAILURES)] == [f"{bucket}/first/broken.png"]
    assert "0 predicted, 0 failed, 10 done before" in run(*words)[1]
    code, _, err = run("predict", bundle, f"{bucket}/nothing", "--format", "parquet", "--out", out)
    assert code == 2
    assert f"{bucket}/nothing: no such file" in err


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "store"])
def test_killed_again_and_again(where: str, bundle: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nothing is lost, and nothing is there twice."""
    chance = random.Random(where)
    if where == "store":
        bucket = request.getfixturevalue("bucket")
        source, out, expected = f"{bucket}/killed", f"{bucket}/out-killed", set(upload(bucket, "killed", 60))
    else:
        folder = tmp_path / "photos"
        folder.mkdir()
        for i in range(60):
            image(CLASSES[i % 3], i).save(folder / f"{i:03}.png")
        (folder / "broken.png").write_bytes(b"no image")
        source, out, expected = str(folder), str(tmp_path / "out"), {str(path) for path in folder.glob("0*.png")}
    exported = tmp_path / "colours.onnx"
    fishnet.export(bundle, out=exported)
    slow = "import time, fishnet.runtime.engines as e; run_ = e.RuntimeEngine.__call__\n"
    slow += "e.RuntimeEngine.__call__ = lambda *args: (time.sleep(0.15), run_(*args))[1]\n"
    command = [
        sys.executable, "-c", f"{slow}from fishnet.cli import run; run()", "predict", str(exported), source, "--format",
        "parquet", "--out", out, "--part", "4", "--batch-size", "2", "--quiet",
    ]  # fmt: skip
    for _ in range(6):
        wanted = len(Folder(out).names(RESULTS)) + chance.randrange(3)
        process = subprocess.Popen(command)
        wait_until(lambda: len(Folder(out).names(RESULTS)) >= wanted or process.poll() is not None, 120)  # noqa: B023
        time.sleep(0.3 * chance.random())
        assert process.poll() is None, "killed before the end"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: the broken image was left to the last run
    found = sources_of(out)
    assert set(found.values()) == {1}
    assert {name for name in found if "broken" not in name} == expected
    assert len(found) == 61
