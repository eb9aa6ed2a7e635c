"""Entry points of torch.hub: the FishNets, and bundles.

``torch.hub.load(REPO, "fishnet99", num_classes=10)`` returns a network, ``torch.hub.load(REPO, "bundle", PATH)`` a
predictor. A clone of the repository is enough: the package need not be installed.
"""

import sys as _sys
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

if _find_spec("fishnet") is None:
    _sys.path.append(str(_Path(__file__).resolve().parent / "src"))

from fishnet.backbone import SPECS as _SPECS
from fishnet.backbone import variants as _variants
from fishnet.prediction import predictor as _predictor
from fishnet.tasks import loading as _loading

dependencies = ["numpy", "PIL", "safetensors", "timm", "torch", "torchvision", "yaml"]

globals().update({_name: getattr(_variants, _name) for _name in _SPECS})


def bundle(path: str, device: str = "auto") -> _predictor.Predictor:
    """A predictor from a trained model.

    Args:
        path: a bundle's folder, or hf-hub:user/name.
        device: auto, cpu, cuda or mps.
    """
    return _loading.load(path, device)
