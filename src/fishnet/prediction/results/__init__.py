"""The results of predictions: one frozen dataclass per task, numpy inside. Torch-free."""

from fishnet.prediction.results.base import Result
from fishnet.prediction.results.classification import Classification, MultiLabel
from fishnet.prediction.results.detections import CroppedMask, Detections
from fishnet.prediction.results.panoptic import Panoptic, Segment
from fishnet.prediction.results.scene import Scene
from fishnet.prediction.results.segmentation import Segmentation

__all__ = [
    "Classification",
    "CroppedMask",
    "Detections",
    "MultiLabel",
    "Panoptic",
    "Result",
    "Scene",
    "Segment",
    "Segmentation",
]
