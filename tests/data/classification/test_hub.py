"""Hugging Face datasets through timm's reader, from local folders: no network."""

import json
from pathlib import Path

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.data.classification.open import open_classification
from fishnet.data.identity import fingerprint
from fishnet.errors import InputError, WorkError
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import CLASSES, image, image_folder, split_folder

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def opened(data: object, classes: Classes | None = None, *, keep_splits: bool = True) -> dict[str, LabelledDataset]:
    return open_classification(f"hfds/{data}", 3, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep_splits)


def parquet(
    root: Path, names: tuple[str, ...] | None = CLASSES, label: str = "label", splits: tuple[str, ...] = ("train",)
) -> Path:
    """A folder of Parquet files as the hub has them: six images a split, labels 0, 1, 2 in turn."""
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    features = datasets.Features({"picture": datasets.Image(), label: kind, "other": datasets.Value("int32")})
    (root / "data").mkdir(parents=True)
    for split in splits:
        rows = {
            "picture": [image(CLASSES[i % 3], i) for i in range(6)],
            label: [i % 3 if names else CLASSES[i % 3] for i in range(6)],
            "other": list(range(6)),
        }
        if split == "test" and names:
            rows[label] = [-1] * 6
        content = datasets.Dataset.from_dict(rows, features=features)
        content.to_parquet(str(root / "data" / f"{split}-00000-of-00001.parquet"))
    return root


def test_a_folder_of_images(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "colours", train=4, validation=2, test=1)
    splits = opened(data)
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 12, "val": 6, "test": 3}
    train = splits["train"]
    assert (train.classes, list(train.labels)) == (Classes.of(CLASSES), [0] * 4 + [1] * 4 + [2] * 4)
    assert splits["val"].classes == train.classes
    assert (train.key(5), train.source(5)) == ("green/1.png", f"hfds/{data}/train[5]")
    decoded, label = train.read(5)
    assert decoded.tobytes() == image("green", 101).tobytes()  # type: ignore[union-attr]
    assert label == 1
    assert list(opened(data, keep_splits=False)) == ["train", "val", "test"]


@pytest.mark.parametrize("names", [CLASSES, None])
@pytest.mark.parametrize("label", ["label", "target"])
def test_parquet_files(names: tuple[str, ...] | None, label: str, tmp_path: Path) -> None:
    data = parquet(tmp_path / "colours", names, label, ("train", "validation"))
    splits = opened(data)
    assert list(splits) == ["train", "val"]
    for dataset in splits.values():
        assert (dataset.classes, list(dataset.labels)) == (Classes.of(CLASSES), [0, 1, 2, 0, 1, 2])
        for i in range(6):
            assert dataset.read(i)[0].tobytes() == image(CLASSES[i % 3], i).tobytes()  # type: ignore[union-attr]


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_without_hugging_faces_description(struct: bool, tmp_path: Path) -> None:
    pyarrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root = image_folder(tmp_path / "colours", 1)
    files = [(root / name / "0.png").read_bytes() for name in CLASSES]
    images = [{"bytes": file, "path": f"{i}.png"} for i, file in enumerate(files)] if struct else files
    (tmp_path / "rows").mkdir()
    pq.write_table(pyarrow.table({"png": images, "label": [5, 7, 5]}), tmp_path / "rows" / "train.parquet")
    train = opened(tmp_path / "rows")["train"]
    assert (train.classes, list(train.labels)) == (Classes(("5", "7"), (5, 7)), [0, 1, 0])
    assert [train.encoded(i) for i in range(3)] == files  # type: ignore[attr-defined]
    assert train.key(1) == ("7/1.png" if struct else "1")


def test_as_timm_reads_them(tmp_path: Path) -> None:
    from timm.data.readers import create_reader

    data = parquet(tmp_path / "colours")
    reader = create_reader(f"hfds/{data}", split="train", input_key="picture")
    ours = opened(data)["train"]
    for i, (stream, label) in enumerate(reader):
        with stream:
            assert (ours.encoded(i), ours.labels[i]) == (stream.read(), label)  # type: ignore[attr-defined]


def test_holding_out_and_finding_it_again(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "colours", 4)
    splits = opened(data, keep_splits=False)
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 9, "val": 3}
    assert fingerprint(f"hfds/{data}", splits) == fingerprint(f"hfds/{data}/", opened(data))


def test_known_classes_go_by_name(tmp_path: Path) -> None:
    data = parquet(tmp_path / "colours")
    assert list(opened(data, Classes(("red", "violet", "green", "blue"), (0, 1, 2, 3)))["train"].labels)[:3] == [
        3,
        2,
        0,
    ]
    with pytest.raises(InputError, match=r"hfds/.*colours: .*does not know: blue, green"):
        opened(data, Classes.of(["red", "cyan"]))


def test_a_test_part_with_secret_labels_is_left_out(tmp_path: Path) -> None:
    data = parquet(tmp_path / "colours", splits=("train", "test"))
    assert list(opened(data)) == ["train"]
    (data / "data" / "train-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match=r"test\[0\]: label -1 is not one of the 3 classes"):
        opened(data)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "colours", 2)
    train = opened(data)["train"]
    (data / "green" / "1.png").unlink()
    with pytest.raises(InputError, match=r"colours/train\[3\]: the image cannot be read"):
        train.read(3)


def test_what_is_no_dataset(tmp_path: Path, run: Run) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text(json.dumps({"text": "a", "label": 1}) + "\n")
    for data, words in (
        (tmp_path / "nowhere", "no such folder"),
        (empty, "cannot be loaded"),
        (rows, "no column of images among text, label"),
    ):
        says(run("train", "classify", f"hfds/{data}", "--out", tmp_path / "run", *fast()), 2, f"hfds/{data}", words)


def test_a_hub_that_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'user/name' on the Hub\nmore")

    monkeypatch.setattr(datasets, "get_dataset_split_names", fails)
    with pytest.raises(WorkError, match=r"^hfds/user/name: not reached, .*Couldn't reach 'user/name' on the Hub\)$"):
        opened("user/name")


def test_a_training_from_a_dataset(tmp_path: Path, run: Run) -> None:
    data = f"hfds/{image_folder(tmp_path / 'colours', 6)}"
    code, out, err = run("train", "classify", data, "--out", tmp_path / "run", *fast("--workers", 1))
    assert (code, err) == (0, "")
    code, out, err = run("val", tmp_path / "run", data, "--json", "--workers", 1, "--device", "cpu")
    assert (code, err) == (0, "")
    assert '"split": "val"' in out


def test_several_labels_an_image(tmp_path: Path) -> None:
    data = tmp_path / "rows"
    (data / "data").mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Sequence(datasets.Value("string"))})
    rows = {"image": [image("red", i) for i in range(4)], "label": [["cat"], ["cat", "dog"], ["dog"], ["cat"]]}
    content = datasets.Dataset.from_dict(rows, features=features)
    content.to_parquet(str(data / "data" / "train-00000-of-00001.parquet"))
    with pytest.raises(InputError, match="images with several labels need multi_label"):
        opened(data)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    class Silent:
        def head(self, url: str, timeout: float) -> None:
            asked.append(url)
            raise OSError("no route")

    def loads(name: str) -> None:
        assert datasets.config.HF_HUB_OFFLINE
        raise ConnectionError(f"Couldn't reach {name!r} on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", Silent)
    monkeypatch.setattr(datasets, "get_dataset_split_names", loads)
    with pytest.raises(WorkError, match="not reached, and no such local folder"):
        opened("user/name")
    assert len(asked) == 1
    assert not datasets.config.HF_HUB_OFFLINE
