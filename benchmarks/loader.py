"""From JPEG files to normalized, augmented batches, on one core: the pipeline of 2018 against this package's.

    OMP_NUM_THREADS=1 python benchmarks/loader.py
    OMP_NUM_THREADS=1 python benchmarks/loader.py --photos FOLDER --count 64 --rounds 5

The pipeline of 2018 works on an image at a time: PIL decodes, then come torchvision's first transforms:
RandomResizedCrop(224), RandomHorizontalFlip, ToTensor, PCA lighting, Normalize. Ours draws from the same distributions:
``SeededDataset`` over an ``ImageFolder`` with ``TrainTransform``, and per batch ``Normalize`` with ``Lighting``. Both
read the same files through torch's DataLoader, each in one process and one thread, in turns: a round is one pass over
all files by one pipeline while the other waits.

Rates are images per second of processor time, which is what one core gives and hardly depends on what else is running;
the last column is by the wall clock. The files are in the page cache.

The files are 500 x 375 px, made by this script with Pillow: from photos (BCCD where it is at hand, or any folder), and
textures with a spectrum of 1 / frequency, as that of natural images, whose files are four times as large.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image, features
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fishnet.data.classification.folder import ImageFolder
from fishnet.data.classification.transforms import TrainTransform
from fishnet.data.loading import EpochSampler, SeededDataset, collate
from fishnet.data.normalize import Lighting, Normalize
from fishnet.images.preprocess import Preprocess
from fishnet.images.scanning import find_images

SHARED = Path(os.environ.get("FISHNET_SHARED") or Path(__file__).parents[2] / "shared")
BCCD = SHARED / "data" / "bccd" / "BCCD" / "JPEGImages"
WIDTH, HEIGHT, SIZE = 500, 375, 224
WARM_UP = 2
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def texture(seed: int) -> Image.Image:
    """Coloured noise whose amplitude falls with 1 / frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1.0
    grey, *tints = (np.fft.irfft2(np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))) / frequency) for _ in range(4))
    planes = np.stack([grey / grey.std() + 0.2 * tint / tint.std() for tint in tints], -1)
    return Image.fromarray((128 + 45 * planes).clip(0, 255).astype(np.uint8))


def make_files(folder: Path, sources: list[Path], count: int, quality: int) -> int:
    """``count`` JPEGs in two class folders, from photos, or textures where there are none: mean size in bytes."""
    for i in range(count):
        if sources:
            with Image.open(sources[i % len(sources)]) as photo:
                image = photo.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        else:
            image = texture(i)
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i:04d}.jpg", quality=quality)
    return sum(path.stat().st_size for path in folder.rglob("*.jpg")) // count


class Lighting2018:
    """PCA lighting of one image, with the eigenvectors as columns."""

    def __init__(self, std: float) -> None:
        lighting = Lighting(std)
        self.std, self.vectors, self.values = std, lighting.vectors, lighting.values

    def __call__(self, image: Tensor) -> Tensor:
        """(3, height, width) of 0..1 -> the same shape."""
        alpha = torch.empty(3).normal_(0, self.std)
        return image + (self.vectors @ (alpha * self.values)).view(3, 1, 1)


class Folder2018(Dataset[tuple[Tensor, int]]):
    """Images decoded by PIL and transformed one by one."""

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self.paths = find_images(folder)
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, SCALE, RATIO),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                Lighting2018(0.1),
                transforms.Normalize(preprocess.mean, preprocess.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image), 0


def run_2018(folder: Path, batch_size: int) -> Callable[[int], int]:
    """A function that reads all files once, for an epoch's number, and gives how many images came out."""
    loader = DataLoader(Folder2018(folder, Preprocess((SIZE, SIZE))), batch_size, shuffle=True)
    return lambda epoch: sum(len(images) for images, _ in loader)


def run_ours(folder: Path, batch_size: int) -> Callable[[int], int]:
    """The same by this package."""
    preprocess = Preprocess((SIZE, SIZE))
    transform = TrainTransform(preprocess, crop_scale=SCALE, crop_ratio=RATIO, flip=0.5)
    images = ImageFolder(folder)
    sampler = EpochSampler(len(images), shuffle=True)
    loader = DataLoader(SeededDataset(images, transform), batch_size, sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]
    normalize, lighting = Normalize(preprocess), Lighting(0.1)

    def run(epoch: int) -> int:
        sampler.set_epoch(epoch)
        return sum(len(normalize(batch.images, lighting.draw(len(batch.images)))) for batch in loader)

    return run


PIPELINES = {"2018": run_2018, "ours": run_ours}


def serve(name: str, folder: Path, batch_size: int, pipe: Any) -> None:
    """Runs a pipeline for each epoch's number that arrives: images per processor second and per second."""
    torch.set_num_threads(1)
    run = PIPELINES[name](folder, batch_size)
    while (epoch := pipe.recv()) is not None:
        start, wall = time.process_time(), time.perf_counter()
        count = run(epoch)
        pipe.send((count / (time.process_time() - start), count / (time.perf_counter() - wall)))


def measure(folder: Path, batch_size: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Images per second of processor time, and of the wall clock, of each round."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    for name in PIPELINES:
        pipes[name], other = context.Pipe()
        context.Process(target=serve, args=(name, folder, batch_size, other), daemon=True).start()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    for epoch in range(WARM_UP + rounds):
        for name, pipe in pipes.items():
            pipe.send(epoch)
            rates[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(None)
    return {name: values[WARM_UP:] for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=BCCD, help="folder of photos to make files of")
    parser.add_argument("--count", type=int, default=128, help="files of each kind")
    parser.add_argument("--quality", type=int, default=92, help="of the JPEG files")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    photos = find_images(args.photos) if args.photos.is_dir() else []
    kinds = {"photos": photos, "textures": []} if photos else {"textures": []}
    before = os.getloadavg()[0]
    print("| files | mean size, kB | pipeline | minimum | median | maximum | ratio of medians | wall clock, median |")
    print("|---|---:|---|---:|---:|---:|---:|---:|", flush=True)
    for kind, sources in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            size = make_files(Path(folder), sources, args.count, args.quality)
            rates = measure(Path(folder), args.batch, args.rounds)
        base = statistics.median(own for own, _ in rates["2018"])
        for name, pairs in rates.items():
            values = [own for own, _ in pairs]
            middle = statistics.median(values)
            print(
                f"| {kind} | {size / 1000:.0f} | {name} | {min(values):.0f} | {middle:.0f} | {max(values):.0f} "
                f"| {middle / base:.2f} | {statistics.median(wall for _, wall in pairs):.0f} |",
                flush=True,
            )
    where = f"photos from {args.photos.name}" if photos else "no photos at hand"
    jpeg = features.version_feature("libjpeg_turbo")
    print(
        f"\nImages/s. {args.count} files of each kind ({where}), {WIDTH} x {HEIGHT} px, quality {args.quality}; batch "
        f"{args.batch}, {args.rounds} interleaved rounds after {WARM_UP} not counted; one thread. Pillow "
        f"{PIL.__version__} (libjpeg-turbo {jpeg}), torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; load average {before:.1f} "
        f"before, {os.getloadavg()[0]:.1f} after."
    )


if __name__ == "__main__":
    main()
