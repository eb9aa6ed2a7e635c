"""What a prediction is: one frozen dataclass per task, numpy inside. Torch-free."""

from collections.abc import Callable

from fishnet.prediction.results.base import Result
from fishnet.prediction.results.classification import Classification
from fishnet.prediction.results.detections import Cutout, Detections
from fishnet.prediction.results.segmentation import Segmentation

__all__ = ["RESULTS", "Classification", "Cutout", "Detections", "Result", "Segmentation"]

# What makes a task's result from one picture's raw outputs, the classes and the placement; further arguments are the
# task's options.
RESULTS: dict[str, Callable[..., Result]] = {
    "classify": Classification.from_logits,
    "detect": Detections.from_raw,
    "instances": Detections.from_raw,
    "segment": Segmentation.from_logits,
}
