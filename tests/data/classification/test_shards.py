"""WebDataset shards on disk: indexed, read by place, and exact in order."""

import io
import json
import os
import pickle
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.data.classification.braces import expand_braces
from fishnet.data.classification.open import open_classification
from fishnet.data.classification.shard_index import read_index
from fishnet.data.classification.shards import ShardDataset
from fishnet.data.classification.transforms import EvalTransform
from fishnet.data.identity import fingerprint
from fishnet.data.loading import EpochSampler, SeededDataset, collate
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import CLASSES, image


def encoded(name: str, seed: int, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    image(name, seed).save(stream, {"jpg": "jpeg"}.get(kind, kind))
    return stream.getvalue()


def shard(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def samples(begin: int, count: int, kind: str = "png") -> dict[str, bytes]:
    """Images in turn of the classes 0, 1 and 2, with their labels."""
    files = {}
    for i in range(begin, begin + count):
        files[f"{i:04d}.{kind}"] = encoded(CLASSES[i % 3], i, kind)
        files[f"{i:04d}.cls"] = f"{i % 3}".encode()
    return files


def opened(data: object, classes: Classes | None = None, *, keep_splits: bool = True) -> dict[str, LabelledDataset]:
    return open_classification(f"wds/{data}", 3, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep_splits)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of training and one of validation, 6 images each."""
    for i, name in enumerate(("colours-train-0000", "colours-train-0001", "colours-validation-0000")):
        shard(tmp_path / "shards" / f"{name}.tar", samples(6 * i, 6))
    return tmp_path / "shards"


def test_splits_by_name(shards: Path) -> None:
    splits = opened(shards)
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 12, "val": 6}
    train = splits["train"]
    assert (train.classes.names, train.classes.ids) == (("0", "1", "2"), (0, 1, 2))
    assert train.labels == [i % 3 for i in range(12)]
    assert train.key(7) == "colours-train-0001.tar/0007.png"
    assert train.source(7) == f"{shards / 'colours-train-0001.tar'}: 0007.png"
    for i in range(12):
        decoded, label = train.read(i)
        assert decoded.tobytes() == image(CLASSES[i % 3], i).tobytes()  # type: ignore[union-attr]
        assert label == i % 3
    assert list(opened(shards, keep_splits=False)) == ["train", "val"]


def test_as_webdataset_writes_them(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    with wds.ShardWriter(str(tmp_path / "a-%04d.tar"), maxcount=4, verbose=0) as writer:
        for i in range(10):
            writer.write({"__key__": f"deep/{i:03d}", "jpg": image(CLASSES[i % 3], i), "cls": i % 3, "json": {"x": 1}})
    assert len(list(tmp_path.glob("*.tar"))) == 3
    dataset = opened(tmp_path)["all"]
    assert dataset.labels == [i % 3 for i in range(10)]
    streamed = list(wds.WebDataset(sorted(map(str, tmp_path.glob("*.tar"))), shardshuffle=False, empty_check=False))
    assert isinstance(dataset, ShardDataset)
    assert [dataset.encoded(i) for i in range(10)] == [sample["jpg"] for sample in streamed]
    assert [member.name for member in dataset.members] == [f"{sample['__key__']}.jpg" for sample in streamed]


def test_as_timm_reads_them(shards: Path) -> None:
    pytest.importorskip("webdataset")
    from timm.data.readers.reader_wds import ReaderWds

    reader = ReaderWds(str(shards), split="colours-train-{0000..0001}.tar|12", input_key="jpg;png;webp")
    dataset = opened(shards)["train"]
    samples_read = list(reader)
    assert [label for _, label in samples_read] == dataset.labels
    for i, (decoded, _) in enumerate(samples_read):
        assert decoded.tobytes() == dataset.read(i)[0].tobytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["_info.json", "info.json"])
@pytest.mark.parametrize("braces", [False, True])
def test_splits_by_timms_description(name: str, braces: bool, shards: Path) -> None:
    names = [f"colours-train-000{i}.tar" for i in (0, 1)]
    info = {"splits": {
        "validation": {"name": "validation", "filenames": names[1:], "shard_lengths": [6], "num_samples": 6},
        "train": {"filenames": "colours-train-{0000..0000}.tar" if braces else names[:1]},
        "extra": {"filenames": ["nowhere.tar"]},
    }}  # fmt: skip
    (shards / name).write_text(json.dumps(info))
    splits = opened(shards)
    assert {split: dataset.key(0) for split, dataset in splits.items()} == {
        "train": "colours-train-0000.tar/0000.png",
        "val": "colours-train-0001.tar/0006.png",
    }


def test_splits_by_folder_and_a_pattern(tmp_path: Path) -> None:
    for split, begin in (("train", 0), ("test", 6)):
        shard(tmp_path / split / "0.tar", samples(begin, 6))
        shard(tmp_path / split / "1.tar", samples(begin, 6))
    assert {name: len(dataset) for name, dataset in opened(tmp_path).items()} == {"train": 12, "test": 12}
    assert len(opened(tmp_path / "train" / "0.tar")["all"]) == 6
    assert len(opened(f"{tmp_path}/train/{{0..1}}.tar")["all"]) == 12
    with pytest.raises(InputError, match=r"train/2\.tar: no such shard"):
        opened(f"{tmp_path}/train/{{0..2}}.tar")
    with pytest.raises(InputError, match="not a pattern such as"):
        opened(f"{tmp_path}/train/{{0..2}}{{.tar")


def test_labels_from_json_and_names(tmp_path: Path) -> None:
    files = {
        "a.json": b'{"label": "red", "other": 5}', "a.jpg": encoded("red", 0, "jpg"),
        "b.c.png": encoded("blue", 1), "b.cls": b"blue\n", "b.txt": b"a caption",
        "sub.d/e.webp": encoded("red", 2, "webp"), "sub.d/e.json": b'{"label": "red"}',
        "__meta__": b"", "README": b"none of these", "f.txt": b"no image", "f.cls": b"3",
    }  # fmt: skip
    dataset = opened(shard(tmp_path / "a.tar", files))["all"]
    assert (dataset.classes.names, dataset.labels) == (("blue", "red"), [1, 0, 1])
    assert [dataset.key(i) for i in range(3)] == ["a.tar/a.jpg", "a.tar/b.c.png", "a.tar/sub.d/e.webp"]
    assert dataset.read(2)[0].size == (40, 36)  # type: ignore[union-attr]


def test_another_field_of_the_label(tmp_path: Path) -> None:
    files = {}
    for i in range(4):
        files |= {f"{i}.png": encoded("red", i), f"{i}.cls": b"0", f"{i}.json": json.dumps({"kind": i % 2}).encode()}
    shard(tmp_path / "0.tar", files)
    (tmp_path / "_info.json").write_text('{"splits": {"train": {"filenames": ["0.tar"], "alt_label": "kind"}}}')
    assert opened(tmp_path)["train"].labels == [0, 1, 0, 1]


def test_arrays_in_shards(tmp_path: Path) -> None:
    stream = io.BytesIO()
    array = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
    np.save(stream, array)
    place = shard(tmp_path / "0.tar", {"a.npy": stream.getvalue(), "a.cls": b"1", "b.npy": b"", "b.cls": b"0"})
    dataset = open_classification(f"wds/{place}", 7, val_fraction=0.1, seed=0, keep_splits=True)["all"]
    np.testing.assert_array_equal(dataset.read(0)[0], array)


def test_known_classes(shards: Path) -> None:
    table = Classes(("red", "green", "blue"), (2, 1, 0))
    assert list(opened(shards, table)["train"].labels)[:4] == [2, 1, 0, 2]
    with pytest.raises(InputError, match=r"0002\.png: class '2' is not known"):
        opened(shards, Classes(("red", "green"), (0, 1)))


def test_hold_out_and_shuffling_are_exact(shards: Path) -> None:
    (shards / "colours-validation-0000.tar").unlink()
    first, second = opened(shards, keep_splits=False), opened(shards, keep_splits=False)
    assert [first["val"].key(i) for i in range(3)] == [second["val"].key(i) for i in range(3)]
    assert (
        fingerprint(f"wds/{shards}", first)
        == fingerprint(f"wds/{shards}", opened(shards))
        == fingerprint(f"wds/{shards}/", second)
    )
    preprocess = Preprocess((16, 16))

    def epoch(workers: int) -> list[bytes]:
        loader = DataLoader(
            SeededDataset(first["train"], EvalTransform(preprocess)),  # type: ignore[arg-type]
            batch_size=4,
            sampler=EpochSampler(9, shuffle=True, seed=1),
            num_workers=workers,
            collate_fn=collate,
        )
        return [batch.images.numpy().tobytes() for batch in loader]

    assert epoch(0) == epoch(2)


def test_no_file_stays_open(shards: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0  # noqa: PTH208
    dataset = pickle.loads(pickle.dumps(opened(shards)["train"]))
    for i in range(len(dataset)):
        dataset.read(i)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# what is wrong


def refuses(data: object, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("place", ["https://host/a-{000..010}.tar", "s3://bucket/a.tar", "pipe:cat a.tar"])
def test_remote_shards_are_refused(place: str, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", f"wds/{place}", "--out", tmp_path / "run", *fast())
    says(result, 2, "only shards on disk", "resumed", "download")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": b""}, ("0.tar: a.png", "no label", ".cls", "'label'")),
        ({"a.png": b"", "a.cls": b" "}, ("a.png", "no label")),
        ({"a.png": b"", "a.cls": b"\xff"}, ("a.png", "label cannot be read")),
        ({"a.png": b"", "a.json": b"{"}, ("a.png", "label cannot be read")),
        ({"a.png": b"", "a.json": b"[1]"}, ("a.png", "label cannot be read")),
        ({"a.png": b"", "a.json": b'{"label": [1, 2]}'}, ("a.png", "'label' in its .json is a list", "several labels")),
        ({"a.png": b"", "a.json": b'{"label": ' + b"9" * 5000 + b"}"}, ("a.png", "label cannot be read", "digits")),
        ({"a.png": b"", "a.json": b"[" * 100_000}, ("a.png", "label cannot be read", "nested too deeply")),
        ({"a.png": b"", "a.json": bytes(2 << 20)}, ("a.json", "too many for a label")),
        ({"a.png": b"", "a.cls": b"cat|dog", "b.png": b"", "b.cls": b"dog"}, ("'cat|dog' looks like several labels",)),
        ({"a.png": b"", "a.json": b'{"class": 1}'}, ("a.png", "no label")),
        ({"a.txt": b"", "a.cls": b"1"}, ("0.tar: no images inside",)),
        ({}, ("0.tar: no images inside",)),
        ({"a.png": b"", "a.cls": b"1"}, ("one class only (1)",)),
    ],
)
def test_bad_samples(files: dict[str, bytes], words: tuple[str, ...], tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", files)
    refuses(tmp_path, *words)


def test_bad_shards(tmp_path: Path) -> None:
    whole = shard(tmp_path / "0.tar", samples(0, 6)).read_bytes()
    headers = [i for i in range(0, len(whole), 512) if whole[i : i + 4] == b"0001"]
    damaged = whole[: headers[0]] + b"\xff" * 512 + whole[headers[0] + 512 :]
    for content in (b"", whole[:1100], whole[: headers[0]], whole[: headers[0] + 100], damaged, b"text" * 500):
        (tmp_path / "0.tar").write_bytes(content)
        refuses(tmp_path, "0.tar")
    shard(tmp_path / "0.tar", samples(0, 6), "w:gz")
    refuses(tmp_path, "0.tar", "compressed")


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header of an entry that need not be there."""
    block = bytearray(name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2)
    block += size + b"00000000000\0" + b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 247
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("a.png", b"\xff" * 12), "damaged"),  # -1 byte
        (header("a.png", b"\xff" * 10 + b"\xf0\x00"), "damaged"),  # so that the next header would be this one
        (header("a.png", b"77777777777\0"), "truncated: ends within a.png"),
        (header("a.png", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7), "ends within a.png"),
        (header("a", b"77777777777\0", b"L") + bytes(1024), "damaged"),  # a long name of 8 GB
        (header("a", b"77777777777\0", b"x") + bytes(1024), "damaged"),
    ],
)
def test_headers_that_lie(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(content + bytes(1024))
    refuses(tmp_path, "0.tar", words)


def test_entries_that_are_no_files(tmp_path: Path) -> None:
    place = shard(
        tmp_path / "0.tar", samples(0, 6) | {"../../x.png": encoded("red", 9), "../../x.cls": b"1", "z.heic": b""}
    )
    with tarfile.open(place, "a") as tar:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("pipe.png", tarfile.FIFOTYPE), ("dir.png", tarfile.DIRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    dataset = opened(tmp_path)["all"]
    assert dataset.skipped == {".heic": 1, "link": 1, "special file": 1}
    assert (len(dataset), dataset.key(6)) == (7, "0.tar/../../x.png")  # a name is only a name: nothing is unpacked


def test_shards_that_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    refuses(tmp_path / "0.tar", "no such shard")
    refuses(tmp_path, "no shards inside")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["a-{000000..999999999}.tar", "{0..999}{0..999}.tar"])
def test_patterns_for_too_many_names(pattern: str) -> None:
    with pytest.raises(InputError, match="more than 100,000 names"):
        expand_braces(pattern)


@pytest.mark.parametrize("pattern", ["a-{3..1}.tar", "a-{.tar", "a-{{0..1}..2}.tar", "a-{x}.tar"])
def test_no_patterns(pattern: str) -> None:
    with pytest.raises(InputError, match="not a pattern such as"):
        expand_braces(pattern)


def test_shards_without_their_prefix(shards: Path) -> None:
    with pytest.raises(InputError, match=f"no class folders .* give wds/{shards}"):
        open_classification(str(shards), 3, val_fraction=0.1, seed=0)


def test_bad_places(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuses(tmp_path / "empty", "no shards inside")
    refuses(tmp_path / "nowhere", "no such folder of shards")
    refuses("", "wds/NAME")
    (shards / "more.tar").write_bytes((shards / "colours-train-0000.tar").read_bytes())
    refuses(shards, "more.tar", "contains no split")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"splits": {"train": {"filenames": ["../a.tar"]}}}', "outside of its folder"),
        ('{"splits": {"train": {"filenames": "/x/{0..5}.tar"}}}', "outside of its folder"),
        ('{"splits": {"train": {"filenames": "a-{000000..999999999}.tar"}}}', "more than 100,000 names"),
        ("[]", "cannot be read"),
        ('{"splits": {"train": {}}}', "filenames"),
        ('{"splits": {"train": {"filenames": ["x.tar"]}}}', "x.tar: no such shard"),
        ('{"splits": {"extra": {"filenames": ["x.tar"]}}}', "no splits named train"),
    ],
)
def test_bad_descriptions(text: str, words: str, shards: Path) -> None:
    (shards / "_info.json").write_text(text)
    refuses(shards, "_info.json", words)


def test_broken_images_are_named(shards: Path) -> None:
    files = samples(0, 6) | {"0003.png": b"text"}
    place = shard(shards / "colours-train-0000.tar", files)
    train = opened(shards)["train"]
    with pytest.raises(InputError, match=r"train-0000\.tar: 0003\.png: not an image"):
        train.read(3)
    place.write_bytes(place.read_bytes()[:3000])
    with pytest.raises(InputError, match="the shard has become shorter"):
        train.read(5)
    place.unlink()
    with pytest.raises(InputError, match="no such file"):
        train.read(0)


def test_an_index_reads_no_image(tmp_path: Path) -> None:
    place = shard(tmp_path / "0.tar", {"a.png": bytes(10**6), "a.cls": b"1"})
    [member] = read_index(place)
    assert (member.name, member.size, member.label) == ("a.png", 10**6, "1")
    with place.open("rb") as stream:
        stream.seek(member.offset)
        assert stream.read(member.size) == bytes(10**6)


@pytest.mark.parametrize(("prefix", "words"), [("hfids", "hfds/NAME"), ("tfds", "TensorFlow"), ("torch", "folder")])
def test_other_prefixes_of_timm_are_refused(prefix: str, words: str, tmp_path: Path, run: Run) -> None:
    says(
        run("train", "classify", f"{prefix}/cifar10", "--out", tmp_path / "run", *fast()), 2, f"{prefix}/cifar10", words
    )


@pytest.mark.parametrize(("module", "data"), [("datasets", "hfds/.")])
def test_a_missing_package_is_named_with_what_to_install(
    module: str, data: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = run("train", "classify", data, "--out", tmp_path / "run", *fast())
    says(result, 2, module.partition(".")[0], "pip install 'fishnet-vision[data]'")


def test_a_training_from_shards_and_its_validation(tmp_path: Path, run: Run) -> None:
    shard(tmp_path / "shards" / "0.tar", samples(0, 24))
    code, out, err = run(
        "train", "classify", f"wds/{tmp_path}/shards", "--out", tmp_path / "run", *fast("--workers", 1)
    )
    assert code == 0, err
    code, out, err = run("val", tmp_path / "run", f"wds/{tmp_path}/shards", "--json", "--workers", 1, "--device", "cpu")
    assert code == 0, err
    assert '"split": "val"' in out, "what was held out is found again"
