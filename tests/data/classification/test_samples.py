"""Fashion-MNIST's sources in turn, all faked, and the real files where Debian's package is installed."""

import gzip
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from fishnet.bundle.classes import Classes
from fishnet.cli import main
from fishnet.data.classification import samples
from fishnet.data.classification.open import open_classification
from fishnet.data.classification.samples import FashionMNIST, cache_folder, fashion_mnist_root
from fishnet.errors import InputError, WorkError

NAMES = samples._FILES
REAL = Path("/usr/share/datasets/fashion-mnist")
COUNTS = {"train": 30, "t10k": 20}


def fake_files(folder: Path, zipped: bool) -> Path:
    """The four files in Zalando's format: photo i is all of value i and of class i % 10."""
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        numbers = np.arange(count, dtype=np.uint8)
        pixels = struct.pack(">4i", 2051, count, 28, 28) + numbers.repeat(784).tobytes()
        labels = struct.pack(">2i", 2049, count) + (numbers % 10).tobytes()
        for name, content in ((f"{split}-images-idx3-ubyte", pixels), (f"{split}-labels-idx1-ubyte", labels)):
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def never(*arguments: Any, **options: Any) -> Any:
    raise AssertionError(f"not to be called: {arguments}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no Debian folder, and neither apt nor a download."""
    monkeypatch.setenv("FISHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "_DEBIAN_FOLDER", Path("nowhere/at/all"))
    monkeypatch.setattr(subprocess, "run", never)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", never)
    return tmp_path / "cache"


def raw(cache: Path) -> Path:
    return cache / "FashionMNIST" / "raw"


def failing(error: Exception) -> Callable[..., None]:
    def call(*arguments: Any, **options: Any) -> None:
        raise error

    return call


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("FISHNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fishnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "fishnet"


def test_what_is_in_the_cache_is_used(cache: Path) -> None:
    fake_files(raw(cache), zipped=False)
    assert fashion_mnist_root() == cache
    test = FashionMNIST(train=False)
    assert (len(test), len(FashionMNIST(train=True))) == (20, 30)
    image, label = test.read(17)
    assert (image.mode, image.size, image.getpixel((5, 5)), label) == ("L", (28, 28), 17, 7)
    assert test.source(17) == "fashion-mnist/test[17]"
    assert FashionMNIST(train=True, channels=3).read(3)[0].getpixel((0, 0)) == (3, 3, 3)


def test_debians_installed_package_is_unpacked_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = fake_files(tmp_path / "debian", zipped=True)
    monkeypatch.setattr(samples, "_DEBIAN_FOLDER", debian)
    assert len(FashionMNIST(train=False)) == 20
    assert sorted(path.name for path in raw(cache).iterdir()) == sorted(NAMES)
    monkeypatch.setattr(samples, "_DEBIAN_FOLDER", Path("nowhere/at/all"))
    assert len(FashionMNIST(train=False)) == 20, "now from the cache"


def test_a_cache_that_is_not_whole_is_filled_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_DEBIAN_FOLDER", fake_files(tmp_path / "debian", zipped=True))
    fake_files(raw(cache), zipped=False)
    (raw(cache) / NAMES[2]).unlink()
    assert len(FashionMNIST(train=False)) == 20


class FakeApt:
    """apt-get and dpkg-deb, as far as they are used here; ``lists`` tells whether apt has its package lists."""

    def __init__(self, lists: bool) -> None:
        self.lists, self.calls = lists, list[str]()

    def __call__(self, command: tuple[str, ...], *, cwd: Path, check: bool, **options: Any) -> None:
        assert check
        self.calls.append(" ".join(word for word in command if word in ("apt-get", "dpkg-deb", "update", "download")))
        if "update" in command:
            self.lists = True
        elif "download" in command:
            if not self.lists:
                raise subprocess.CalledProcessError(100, command, stderr="E: No packages found\n")
            (cwd / "dataset-fashion-mnist_0.0_all.deb").touch()
        else:
            _, flag, package, target = command
            assert flag == "-x"
            assert Path(package).is_file()
            fake_files(Path(target) / "nowhere/at/all", zipped=True)


@pytest.mark.parametrize("lists", [True, False])
def test_debians_package_is_fetched_without_root(lists: bool, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = FakeApt(lists)
    monkeypatch.setattr(subprocess, "run", apt)
    assert fashion_mnist_root() == cache
    update = [] if lists else ["apt-get update", "apt-get download"]
    assert apt.calls == ["apt-get download", *update, "dpkg-deb"]
    assert len(FashionMNIST(train=True)) == 30


@pytest.mark.parametrize(
    "no_apt",
    [FileNotFoundError("no apt-get"), subprocess.CalledProcessError(100, "apt-get", stderr="E: no network\n")],
)
def test_then_torchvisions_download(no_apt: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", failing(no_apt))
    monkeypatch.setattr(
        torchvision.datasets.FashionMNIST, "download", lambda self: fake_files(raw(cache), zipped=False) and None
    )
    assert len(FashionMNIST(train=False)) == 20


def test_when_nothing_works_one_line_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", failing(subprocess.TimeoutExpired("apt-get", 300)))
    monkeypatch.setattr(
        torchvision.datasets.FashionMNIST, "download", failing(RuntimeError("Error downloading\nsecond line"))
    )
    with pytest.raises(WorkError) as caught:
        fashion_mnist_root()
    message = str(caught.value)
    assert "\n" not in message
    for words in ("not installed", "apt could not", "second line", "apt-get install dataset-fashion-mnist"):
        assert words in message
    assert message.endswith(f"put its four files into {raw(cache)}")
    assert main(["train", "classify", "fashion-mnist", "--out", str(cache / "run")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("fishnet: Fashion-MNIST cannot be obtained")
    assert len(err.splitlines()) == 1


def test_labels_follow_a_models_own_order(cache: Path) -> None:
    fake_files(raw(cache), zipped=False)
    names = FashionMNIST(train=False).classes.names
    model = Classes.of([*reversed(names), "Hat"])
    splits = open_classification("fashion-mnist", 1, val_fraction=0.5, seed=0, classes=model)
    assert splits["test"].classes == model
    assert list(splits["test"].labels)[:10] == list(range(9, -1, -1))
    with pytest.raises(InputError, match="does not know: Trouser"):
        open_classification("fashion-mnist", 1, val_fraction=0.5, seed=0, classes=Classes.of(set(names) - {"Trouser"}))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing: apt-get install dataset-fashion-mnist")
def test_debians_real_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_DEBIAN_FOLDER", REAL)
    train, test = FashionMNIST(train=True), FashionMNIST(train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.pixels.shape == (60_000, 28, 28)
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert len(train.classes) == 10
    assert test.labels[0] == 9
    assert test.classes.names[9] == "Ankle boot"
    image, _ = test.read(0)
    assert (image.size, image.mode) == ((28, 28), "L")
    assert json.dumps(test.classes.to_list())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        struct.pack(">4i", 2051, 20, 28, 28),
        struct.pack(">4i", 2051, 2**31 - 1, 28, 28) + bytes(100),
        struct.pack(">4i", 2051, -20, 28, 28) + bytes(20 * 784),
        struct.pack(">4i", 2051, 20, 14, 56) + bytes(20 * 784),
        struct.pack(">4i", 3331, 20, 28, 28) + bytes(20 * 784),
    ],
)
def test_a_file_that_is_not_what_it_says(content: bytes, cache: Path) -> None:
    fake_files(raw(cache), zipped=False)
    (raw(cache) / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte: is not a file of Fashion-MNIST: remove it"):
        FashionMNIST(train=False)


@pytest.mark.parametrize("labels", [[10] * 20, [0] * 19])
def test_labels_that_do_not_fit(labels: list[int], cache: Path) -> None:
    fake_files(raw(cache), zipped=False)
    (raw(cache) / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + bytes(labels))
    with pytest.raises(InputError, match="does not have a label 0 to 9"):
        FashionMNIST(train=False)
