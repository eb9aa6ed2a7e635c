"""The metrics of classification: top-k accuracy."""

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fishnet.bundle.classes import Classes


def make_metrics(classes: Classes) -> MetricCollection:
    """New ``acc@1``, and ``acc@5`` where there are more than five classes: shares of the images, 0..1."""
    count = len(classes)
    return MetricCollection(
        {f"acc@{k}": MulticlassAccuracy(count, top_k=k, average="micro") for k in (1, 5) if k < count}
    )
