"""Decoding of one-stage detectors' raw outputs in numpy, against torchvision's."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.detection.anchors import Anchors
from fishnet.errors import InputError
from fishnet.exporting.outputs import Outputs
from fishnet.images.preprocess import Preprocess
from fishnet.runtime.decode import NUMBERS, RATIOS, RAW, SIZES, STRIDES, decode, is_raw, suppress
from fishnet.tasks.detection.heads import FCOS, OneStage, RetinaNet, default_anchors
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.engine import to_numpy
from fishnet.tasks.model import Model
from fishnet.tasks.store import build_from

HEADS = {"retinanet": RetinaNet, "fcos": FCOS}
SIZES_OF_INPUT = [(64, 64), (96, 160), (256, 192)]  # with coarsest maps of one px, and steps that are no strides
OWN = Anchors(((7.0, 11.3), (20.5, 31.0), (40.0, 55.5), (80.0, 101.0), (150.0, 222.2)), (0.6, 1.0, 1.45, 2.5))


def detector(head: str, classes: int = 5, **numbers: Any) -> tuple[Bundle, Model]:
    """A small detector that finds much: of random weights, with likelier scores and larger moves of its boxes."""
    spec = DetectorSpec(width=64, **numbers)
    names = tuple(f"class {i}" for i in range(classes))
    preprocess = Preprocess((96, 160), fit="whole")
    known = Classes(names, tuple(range(classes)))
    bundle = Bundle.single("detect", "fishnet_nano", known, preprocess, head, asdict(spec))
    torch.manual_seed(3)
    model = build_from(bundle).eval()
    _, detector = model.only_head
    assert isinstance(detector, OneStage)
    scores = detector.net.head.classification_head.cls_logits
    boxes = detector.net.head.regression_head.bbox_reg
    with torch.no_grad():
        scores.weight.normal_(0, 0.05)
        scores.bias.fill_(-1.0)
        boxes.weight.normal_(0, 0.03)
        if head == "fcos":
            boxes.bias.fill_(1.0)
    return bundle, model


@torch.no_grad()
def both(bundle: Bundle, model: Model, size: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What torch finds in an image, and what numpy makes of the same raw outputs."""
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(size[0]))
    names = RAW[bundle.head]
    assert is_raw(names)
    raw = Outputs(model, {"detect": names})
    given = {name: values[0] for name, values in zip(names, to_numpy(raw(image)), strict=True)}
    return to_numpy(model(image)["detect"])[0], decode(given, bundle.only_head, size)


def same(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> None:
    """Both round as float32, but exp is not the same function to the last digit: 1e-3 px of a few hundred."""
    assert ours["labels"].dtype == np.int64
    assert ours["boxes"].dtype == ours["scores"].dtype == np.float32
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])
    np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", SIZES_OF_INPUT)
@pytest.mark.parametrize(
    ("head", "numbers"),
    [
        ("retinanet", {}),
        ("retinanet", {"anchors": OWN, "nms_iou": 0.3}),
        ("retinanet", {"score_threshold": 0.3, "max_detections": 17}),
        ("fcos", {}),
        ("fcos", {"nms_iou": 0.7, "score_threshold": 0.4, "max_detections": 300}),
        ("fcos", {"score_threshold": 0.0}),
    ],
)
def test_as_torchvision(head: str, numbers: dict[str, Any], size: tuple[int, int]) -> None:
    bundle, model = detector(head, **numbers)
    theirs, ours = both(bundle, model, size)
    assert len(theirs["scores"]) >= min(15, bundle.head_args["max_detections"])
    assert len(set(theirs["labels"].tolist())) > 1
    same(ours, theirs)


@pytest.mark.parametrize("head", HEADS)
def test_sides_grow_only_so_far(head: str) -> None:
    bundle, model = detector(head)
    with torch.no_grad():
        model.only_head[1].net.head.regression_head.bbox_reg.weight.normal_(0, 3)
    theirs, ours = both(bundle, model, (96, 96))
    same(ours, theirs)
    assert ours["boxes"].max() == 96  # cut off at the input's edge


@pytest.mark.parametrize("head", HEADS)
def test_nothing_found(head: str) -> None:
    bundle, model = detector(head, score_threshold=0.999)
    theirs, ours = both(bundle, model, (64, 96))
    assert {name: values.shape for name, values in ours.items()} == {"boxes": (0, 4), "scores": (0,), "labels": (0,)}
    same(ours, theirs)


def test_numbers_of_a_head_that_says_nothing() -> None:
    spec, theirs = DetectorSpec(), default_anchors(RetinaNet.anchors_per_level)
    assert {name: getattr(spec, name) for name in NUMBERS} == NUMBERS
    assert theirs.ratios == RATIOS
    np.testing.assert_allclose(SIZES, theirs.sizes, rtol=1e-7)
    assert OneStage.strides == STRIDES
    bundle, model = detector("retinanet")
    bare = Bundle.single("detect", "fishnet_nano", bundle.classes, bundle.preprocess, "retinanet")
    theirs_found, ours = both(bare, model, (64, 128))
    same(ours, theirs_found)


def test_refusals() -> None:
    bundle, _ = detector("fcos")
    raw = {name: np.zeros((10, values), np.float32) for name, values in zip(RAW["fcos"], (5, 4, 1), strict=True)}
    with pytest.raises(InputError, match="cls_logits: 10 values for the 86 anchors of an input of 64 x 64"):
        decode(raw, bundle.only_head, (64, 64))
    with pytest.raises(InputError, match="faster-rcnn: raw outputs are only decoded for"):
        decode(raw, HeadConfig("detect", bundle.classes, "faster-rcnn"), (64, 64))
    whole = {name: np.zeros((86, values), np.float32) for name, values in zip(RAW["fcos"], (5, 4, 1), strict=True)}
    del whole["bbox_ctrness"]
    with pytest.raises(InputError, match="bbox_ctrness: no values"):
        decode(whole, bundle.only_head, (64, 64))


def crowd(count: int, seed: int = 0) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 90, (count, 2))], 1).astype(np.float32)
    boxes[::50, 2:] = boxes[::50, :2]  # some without an area
    return boxes, random.permutation(count).astype(np.float32) / count, random.integers(0, 4, count)


@pytest.mark.parametrize("overlap", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_suppression_as_torchvision(count: int, overlap: float) -> None:
    """At 5,000 boxes torchvision goes class by class, as here; with few it moves classes apart, which rounds."""
    boxes, scores, labels = crowd(count)
    theirs = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), overlap)
    np.testing.assert_array_equal(suppress(boxes, scores, labels, overlap, count), theirs)
    np.testing.assert_array_equal(suppress(boxes, scores, labels, overlap, 100), theirs[:100])


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 9], [0, 0, 9, 8]], np.float32)
    scores, labels = np.array([0.5, 0.5, 0.5, 0.9], np.float32), np.array([0, 0, 1, 0])
    assert suppress(boxes, scores, labels, 0.5, 10).tolist() == [3, 1, 2]
