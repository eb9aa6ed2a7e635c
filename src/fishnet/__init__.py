"""fishnet-vision: one FishNet trunk under image-, region- and pixel-level prediction.

The public names are resolved on first use, so that importing this package imports neither torch nor timm.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from fishnet.backbone.registry import create_model, list_models
    from fishnet.bulk.batches import BatchPredictor
    from fishnet.evaluation.evaluate import evaluate
    from fishnet.exporting.export import export
    from fishnet.tasks.loading import load
    from fishnet.training.train import train

_HOMES = {
    "BatchPredictor": "fishnet.bulk.batches",
    "create_model": "fishnet.backbone.registry",
    "evaluate": "fishnet.evaluation.evaluate",
    "export": "fishnet.exporting.export",
    "list_models": "fishnet.backbone.registry",
    "load": "fishnet.tasks.loading",
    "train": "fishnet.training.train",
}

__all__ = ["BatchPredictor", "__version__", "create_model", "evaluate", "export", "list_models", "load", "train"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fishnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
