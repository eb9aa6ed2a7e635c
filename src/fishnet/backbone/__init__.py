"""The trunk: importing this package registers every FishNet with timm."""

from fishnet.backbone.fishnet import STAGES, STRIDES, FishNet, Spec
from fishnet.backbone.variants import SPECS

__all__ = ["SPECS", "STAGES", "STRIDES", "FishNet", "Spec"]
