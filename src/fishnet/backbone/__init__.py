"""The FishNet backbones. Importing this package registers every FishNet with timm."""

from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.spec import STAGES, STRIDES, Spec
from fishnet.backbone.variants import SPECS

__all__ = ["SPECS", "STAGES", "STRIDES", "FishNet", "Spec"]
