"""Changed bytes in every file that the readers of labelled images read, and odd names of folders: nothing but an
InputError may come of them.

``FISHNET_FUZZ=20000 pytest tests/hostile/test_fuzz_labels.py`` tries so many changes of each, other ones each time.
"""

import contextlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fishnet.data.classification.open import open_classification
from fishnet.data.classification.several import refuse_several
from fishnet.data.plausibility import plausibility
from fishnet.data.resolving import Resolver
from fishnet.errors import InputError
from tests.hostile.test_fuzz_detection import EDITS, EXAMPLES, Edit, changed
from tests.makers import CLASSES, image, image_folder

FUZZ = settings(
    max_examples=EXAMPLES or 10,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
HEAD = "path,label,split,is_valid,fold\n"
ROWS = "".join(f"{name}/{i}.png,{name},train,{i > 0},{i}\n" for name in CLASSES for i in (0, 1))


def read(data: str) -> None:
    """All that a check and a training read of a dataset."""
    for fold in (-1, 1):
        with contextlib.suppress(InputError):
            splits = open_classification(data, 3, val_fraction=0.3, seed=0, keep_splits=fold < 0, fold=fold)
            plausibility(splits)
            for samples in splits.values():
                for index in range(min(len(samples), 4)):
                    samples.key(index)
                    with contextlib.suppress(InputError):
                        samples.read_tensor(index)


def csv_table(folder: Path) -> tuple[Path, str]:
    (folder / "all.csv").write_text(HEAD + ROWS)
    return folder / "all.csv", str(folder / "all.csv")


def parquet_table(folder: Path) -> tuple[Path, str]:
    pyarrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values = [row.split(",") for row in ROWS.splitlines()]
    columns = {name: [row[i] for row in values] for i, name in enumerate(HEAD.strip().split(","))}
    pq.write_table(pyarrow.table(columns), folder / "all.parquet")
    return folder / "all.parquet", str(folder / "all.parquet")


def parquet_images(folder: Path) -> tuple[Path, str]:
    pyarrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": encoded(name), "path": f"{name}.png"} for name in CLASSES]
    pq.write_table(pyarrow.table({"image": images, "label": list(CLASSES)}), folder / "all.parquet")
    return folder / "all.parquet", str(folder / "all.parquet")


def encoded(name: str) -> bytes:
    stream = io.BytesIO()
    image(name, 0).save(stream, "png")
    return stream.getvalue()


def shard(folder: Path) -> tuple[Path, str]:
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "0.tar", "w") as tar:
        for i, name in enumerate(CLASSES):
            for extension, content in ((".png", encoded(name)), (".json", b'{"label": "%s"}' % name.encode())):
                entry = tarfile.TarInfo(f"{'x' * 120 * (i % 2)}{i}{extension}")  # some with a long name
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return folder / "shards" / "0.tar", f"wds/{folder / 'shards'}"


def description(folder: Path) -> tuple[Path, str]:
    shard(folder)
    text = '{"splits": {"train": {"filenames": ["{0..0}.tar"], "alt_label": "label"}, "validation": {"filenames": []}}}'
    (folder / "shards" / "_info.json").write_text(text)
    return folder / "shards" / "_info.json", f"wds/{folder / 'shards'}"


@pytest.mark.parametrize("make", [csv_table, parquet_table, parquet_images, shard, description])
def test_changed_bytes(make: Callable[[Path], tuple[Path, str]], tmp_path: Path) -> None:
    path, data = make(image_folder(tmp_path / "data", 2))
    content = path.read_bytes()

    @FUZZ
    @given(EDITS)
    def try_edits(edits: list[Edit]) -> None:
        path.write_bytes(changed(content, edits))
        read(data)

    try_edits()


@FUZZ
@given(st.binary(max_size=600), st.sampled_from([512 * i for i in range(8)]))
def test_changed_tar_headers(tmp_path_factory: pytest.TempPathFactory, block: bytes, at: int) -> None:
    folder = tmp_path_factory.mktemp("shards")
    path, data = shard(folder)
    content = bytearray(path.read_bytes())
    content[at : at + len(block)] = block
    header = content[at : at + 512]
    header[148:156] = b" " * 8
    content[at + 148 : at + 156] = f"{sum(header):06o}\0 ".encode()  # so that it counts as a header
    path.write_bytes(content)
    read(data)


@FUZZ
@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=60), min_size=1, max_size=4))
def test_names_of_folders(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("folders")
    for name in names:
        with contextlib.suppress(OSError, UnicodeEncodeError, ValueError):
            (folder / name).mkdir()
            image("red", 0).save(folder / name / "0.png")
    read(str(folder))


@FUZZ
@given(st.text(max_size=300))
def test_names_of_files(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    resolver = Resolver(image_folder(tmp_path_factory.mktemp("files") / "data", 1))
    with contextlib.suppress(InputError):
        assert resolver.find(name).is_file()


@FUZZ
@given(st.lists(st.text(st.sampled_from("ab|;, []'"), max_size=9), max_size=12))
def test_labels(labels: list[str]) -> None:
    with contextlib.suppress(InputError):
        refuse_several(labels, "all.csv")
