"""The weights in this package: bundles, each in a folder named after its network; see docs/weights.md. Torch-free."""

from pathlib import Path

TAG = "tiny_imagenet"  # timm's tag of these weights: NETWORK.TAG

_FOLDER = Path(__file__).parent


def weight_names() -> list[str]:
    """Names of the networks that have weights in this package."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def weights_folder(name: str) -> Path | None:
    """The folder of a network's bundle in this package; None for a network without weights here.

    Args:
        name: of a network, with or without :data:`TAG`.
    """
    name = name.removesuffix(f".{TAG}")
    return _FOLDER / name if name in weight_names() else None
