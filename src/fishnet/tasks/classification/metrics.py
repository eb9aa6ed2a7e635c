"""What is measured of a classifier."""

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy


def accuracies(classes: int) -> MetricCollection:
    """Fresh ``acc@1``, and ``acc@5`` where there are more than five classes: shares of the images, 0..1."""
    return MetricCollection(
        {f"acc@{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in (1, 5) if k < classes}
    )
