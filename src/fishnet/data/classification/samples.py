"""Fashion-MNIST for first steps (Zalando Research, MIT licence): 70,000 photos of 28 x 28 px in 10 classes."""

import gzip
import os
import shutil
import subprocess
import tempfile
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset
from fishnet.errors import InputError, WorkError
from fishnet.files.reading import read_bytes
from fishnet.images.decoding import to_channels

FASHION_MNIST = "fashion-mnist"
_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIDE = 28  # px
_DEBIAN_PACKAGE = "dataset-fashion-mnist"
_DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")


class FashionMNIST(LabelledDataset):
    """Fashion-MNIST, from Debian's package or torchvision's download.

    Args:
        train: True for the 60,000 training photos, False for the 10,000 test photos.
        channels: 1, as the photos are stored, or 3.
        classes: the known classes; by default the dataset's own ten.

    Raises:
        InputError: ``classes`` lacks one of the ten classes, or a file contradicts its header.
        WorkError: the files cannot be obtained; the message says what to install.
    """

    def __init__(self, train: bool, channels: int = 1, classes: Classes | None = None) -> None:
        raw = fashion_mnist_root() / "FashionMNIST" / "raw"
        images, labels = (raw / name for name in (_FILES[:2] if train else _FILES[2:]))
        self.channels, self.train = channels, train
        self.pixels = _read_idx(images, (SIDE, SIDE))
        numbers = _read_idx(labels, ())
        if len(numbers) != len(self.pixels) or (len(numbers) and numbers.max() >= len(_NAMES)):
            raise InputError(
                f"{labels}: does not have a label 0 to 9 for each of {len(self.pixels):,} images: remove {raw}"
            )
        own = Classes.of(_NAMES)
        self.classes = classes or own
        indices = own.indices_in(self.classes)
        self.labels = [indices[number] for number in numbers.tolist()]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        image = to_channels(self.pixels[index], self.channels)
        assert isinstance(image, Image.Image)
        return image, self.labels[index]

    def source(self, index: int) -> str:
        """The split and index, such as ``fashion-mnist/test[7]``."""
        return f"{FASHION_MNIST}/{'train' if self.train else 'test'}[{index}]"


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Reads an array of uint8 from a file in MNIST's format: two zeros, 8 for uint8, the number of axes, their lengths.

    Args:
        path: the file.
        shape: the shape of one item.

    Returns:
        (n, *shape).

    Raises:
        InputError: another kind of file, or one whose size contradicts its header.
    """
    content = read_bytes(path)
    axes = 1 + len(shape)
    head = 4 + 4 * axes
    lengths = np.frombuffer(content[4:head], ">i4").tolist() if len(content) >= head else []
    if content[:4] != bytes([0, 0, 8, axes]) or tuple(lengths[1:]) != shape or len(content) != head + prod(lengths):
        raise InputError(f"{path}: is not a file of Fashion-MNIST: remove it to download it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(lengths)


def cache_folder() -> Path:
    """The folder of sample datasets: ``$FISHNET_CACHE``, else ``$XDG_CACHE_HOME/fishnet`` or ``~/.cache/fishnet``."""
    if cache := os.environ.get("FISHNET_CACHE"):
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fishnet"


def fashion_mnist_root() -> Path:
    """A folder with Fashion-MNIST in torchvision's layout, filled on first use.

    Tries these sources in turn: the cache, Debian's package if it is installed, the same package downloaded and
    unpacked without root, and torchvision's download.

    Raises:
        WorkError: all of them failed.
    """
    root = cache_folder()
    raw = root / "FashionMNIST" / "raw"
    if all((raw / name).is_file() for name in _FILES):
        return root
    failures: list[str] = []
    if (Path("/") / _DEBIAN_FOLDER / f"{_FILES[0]}.gz").is_file():
        _unpack(Path("/") / _DEBIAN_FOLDER, raw)
        return root
    failures.append(f"Debian's package {_DEBIAN_PACKAGE} is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _unpack(_download_debian(Path(scratch)), raw)
            return root
        except (OSError, subprocess.SubprocessError) as error:
            failures.append(f"apt could not download it ({_last_line(error)})")
    try:
        from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

        TorchvisionFashionMNIST(str(root), download=True)
        return root
    except (OSError, RuntimeError) as error:
        failures.append(f"torchvision's download failed ({_last_line(error)})")
    raise WorkError(
        f"Fashion-MNIST cannot be obtained: {'; '.join(failures)}. Install it with: apt-get install {_DEBIAN_PACKAGE}, "
        f"or put its four files into {raw}"
    )


def _unpack(folder: Path, raw: Path) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        partial = raw / f".{name}.{os.getpid()}.partial"
        with gzip.open(folder / f"{name}.gz") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        partial.replace(raw / name)


def _download_debian(scratch: Path) -> Path:
    """Downloads and unpacks Debian's package in a scratch folder. Needs apt, but neither root nor package lists."""

    def run(*command: str) -> None:
        subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=300)

    try:
        run("apt-get", "download", _DEBIAN_PACKAGE)
    except subprocess.CalledProcessError:
        options = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}/cache", "-oAPT::Sandbox::User="]
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        run("apt-get", *options, "update")
        run("apt-get", *options, "download", _DEBIAN_PACKAGE)
    package = next(scratch.glob(f"{_DEBIAN_PACKAGE}_*.deb"))
    run("dpkg-deb", "-x", str(package), str(scratch / "unpacked"))
    return scratch / "unpacked" / _DEBIAN_FOLDER


def _last_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(text).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
