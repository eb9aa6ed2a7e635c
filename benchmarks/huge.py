"""Time and memory of a label map of a huge image, from the file to masks and overlay.

    python benchmarks/huge.py
    python benchmarks/huge.py --side 4000 --tile 1024 --tta

A made-up RGB image of ``--side`` px square goes through ``fishnet predict --tile T --out DIR --overlay`` in a process
of its own, with a segmenter of random weights (fishnet_nano, head body, width 64, 7 classes): neither time nor memory
depends on these. Peak memory is the largest resident set of that process. Exits with 1 where that is above ``--most``.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("ground", "grass", "tree", "roof", "road", "car", "water")


def make_image(path: Path, side: int) -> None:
    """Soft patches of colour with fine noise."""
    rng = np.random.default_rng(0)
    patches = Image.fromarray(rng.integers(40, 200, (40, 40, 3), dtype=np.uint8)).resize((side, side))
    noise = rng.integers(0, 40, (512, 512, 3), dtype=np.uint8)
    for top in range(0, side, 512):
        for left in range(0, side, 512):
            part = np.asarray(patches.crop((left, top, min(left + 512, side), min(top + 512, side))))
            patches.paste(Image.fromarray(part + noise[: part.shape[0], : part.shape[1]]), (left, top))
    patches.save(path, compress_level=1)


def make_bundle(folder: Path, size: int) -> None:
    """A segmenter that was never trained."""
    import torch

    from fishnet.bundle.bundle import Bundle, write_bundle
    from fishnet.bundle.classes import Classes
    from fishnet.images.preprocess import Preprocess
    from fishnet.tasks.segmentation.heads import SegmenterSpec
    from fishnet.tasks.store import build_from, save_weights

    torch.manual_seed(0)
    bundle = Bundle.single(
        "segment", "fishnet_nano", Classes.of(KINDS), Preprocess((size, size), fit="native"), head="body",
        head_args=SegmenterSpec(width=64).to_dict(),
    )  # fmt: skip
    write_bundle(folder, bundle, partial(save_weights, build_from(bundle)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=10_000, help="of the image, px")
    parser.add_argument("--tile", type=int, default=512, help="px; 0: none, the bundle's own way")
    parser.add_argument("--tta", action="store_true")
    parser.add_argument("--most", type=float, default=3.0, help="GiB")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_image(place / "huge.png", args.side)
        make_bundle(place / "bundle", args.tile or 512)
        words = ["predict", place / "bundle", place / "huge.png", "--out", place / "out", "--overlay"]
        words += (["--tile", args.tile] if args.tile else []) + (["--tta"] if args.tta else [])
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fishnet", *map(str, words)], check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        for name in ("masks/huge.png", "huge.png"):
            with Image.open(place / "out" / name) as image:
                print(f"{name}: {image.width}x{image.height} px, {(place / 'out' / name).stat().st_size / 1e6:.0f} MB")
    print(
        f"{args.side}x{args.side} px, tile {args.tile}{', tta' if args.tta else ''}: {seconds:.0f} s, peak {peak:.2f} "
        f"GiB; CPU, {platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    )
    sys.exit(peak > args.most)


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    main()
