"""Puts a network's weights from Tiny-ImageNet into the package: half precision, their metrics, and a model card.

    git clone https://github.com/seshuad/IMagenet SRC
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 DATA
    fishnet train classify DATA --recipe tiny-imagenet --backbone fishnet_nano --seed 0 --out RUN
    python benchmarks/package_weights.py RUN DATA        # writes src/fishnet/weights/fishnet_nano

The metrics are those of the weights in half precision, measured on val again.
"""

import argparse
import dataclasses
from pathlib import Path

import fishnet
from fishnet.bundle.bundle import WEIGHTS, Bundle, read_bundle, write_bundle
from fishnet.tasks.store import save_state

TARGET = Path(__file__).parents[1] / "src" / "fishnet" / "weights"


def write(bundle: Bundle, source: Path, target: Path) -> None:
    """Writes a bundle with its floating-point tensors in half precision."""
    from safetensors.torch import load_file

    state = load_file(source / WEIGHTS)
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if not all(tensor.isfinite().all() for tensor in halved.values()):
        raise SystemExit("some values are too large for half precision")
    write_bundle(target, bundle, lambda path: save_state(halved, path))


def card(bundle: Bundle, parameters: int) -> str:
    """The model card."""
    recipe, wrong = bundle.recipe, 100 - bundle.metrics["acc@1"]
    return f"""# {bundle.backbone}, trained on Tiny-ImageNet

Classifies photos into {len(bundle.classes)} classes, and is a start for training on other images.

- **Network**: {bundle.backbone}, {parameters / 1e6:.2f} M parameters, stored in half precision.
- **Data**: Tiny-ImageNet, made for Stanford's course CS231n: 100,000 train and 10,000 val photos of 64 x 64 px, 200
  classes of ImageNet. ImageNet's terms allow non-commercial research and education only. The photos are not part of
  this package. Whether their terms bind what was learned from them is not settled: decide for your use.
- **Recipe**: tiny-imagenet of this package (`fishnet train classify DATA --recipe tiny-imagenet --backbone
  {bundle.backbone}`): {recipe["epochs"]} epochs from random weights, batch size {recipe["batch_size"]}, learning rate
  {recipe["lr"]}, seed {recipe["seed"]}, precision {recipe["precision"]}. DATA: benchmarks/tiny_imagenet.py.
- **Metrics** on the val photos, which also chose the epoch, of the weights as they are stored: acc@1
  {bundle.metrics["acc@1"]:.2f} %, acc@5 {bundle.metrics["acc@5"]:.2f} %.
- **Input**: RGB photos, resized and cropped to 64 x 64 px. As a start for training, any size and number of channels.
- **Not for**: decisions about people, and anything that must be right: {wrong:.0f} % of the predictions on photos
  like those of the val split are wrong, and photos of anything but the 200 classes get one of their names all the same.
- **Versions**: {", ".join(f"{name} {number}" for name, number in bundle.versions.items())}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="the trained bundle")
    parser.add_argument("data", type=Path, help="Tiny-ImageNet from benchmarks/tiny_imagenet.py")
    args = parser.parse_args()
    bundle = read_bundle(args.run)
    target = TARGET / bundle.backbone
    write(bundle, args.run, target)
    measured = fishnet.evaluate(target, args.data, split="val").metrics
    metrics = {name: measured[name] for name in ("acc@1", "acc@5")}
    write(dataclasses.replace(bundle, metrics=metrics), args.run, target)
    network = fishnet.create_model(bundle.backbone, num_classes=len(bundle.classes))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    (target / "README.md").write_text(card(read_bundle(target), parameters), encoding="utf-8")
    size = sum(file.stat().st_size for file in TARGET.glob("*/*"))
    print(f"{target}: {metrics}; all weights in the package: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
