"""One view of an image moves the targets of all heads alike."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.joint.transforms import JointEvalTransform, JointTrainTransform
from fishnet.data.segmentation.base import IGNORE, SegmentationTarget
from fishnet.images.preprocess import Preprocess
from fishnet.tasks import get_task
from fishnet.tasks.detection.task import Instances

PREPROCESS = Preprocess((64, 96), interpolation="nearest", mean=(0.5,) * 3, std=(1.0,) * 3, fit="whole")
HEADS = {"things": get_task("instances"), "ground": get_task("segment"), "kind": get_task("classify")}
BOX = (20, 12, 36, 30)  # left, top, right, bottom of the object


def sample() -> tuple[Image.Image, dict[str, Any]]:
    """A dark image of 60 x 50 px with one bright rectangle, and its targets: the rectangle is of class 1."""
    pixels, labels = np.full((50, 60, 3), 10, np.uint8), np.zeros((50, 60), np.uint8)
    left, top, right, bottom = BOX
    pixels[top:bottom, left:right] = 250
    labels[top:bottom, left:right] = 1
    outline = np.array([[left, top, right, top, right, bottom, left, bottom]], np.float64)
    objects = Objects.of([BOX], [0], (50, 60), segmentations=[list(outline)])
    return Image.fromarray(pixels), {"things": objects, "ground": labels, "kind": 3}


def transform(*, canvas: bool, jitter: tuple[float, float] = (0.6, 1.6), flip: float = 0.5) -> JointTrainTransform:
    return JointTrainTransform(
        PREPROCESS, {name: task.view_target for name, task in HEADS.items()},
        canvas=canvas, flip=flip, flip_vertical=flip, jitter=jitter, photometric=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("canvas", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_box_mask_label_map_and_pixels_move_alike(seed: int, canvas: bool) -> None:
    image, targets = sample()
    torch.manual_seed(seed)
    pixels, moved = transform(canvas=canvas)(image, targets)
    things, ground = moved["things"], moved["ground"].labels
    assert isinstance(things, DetectionTarget)
    assert things.masks is not None
    assert pixels.shape[1:] == ground.shape == things.masks.shape[1:]
    assert all(side % 32 == 0 for side in ground.shape)
    if canvas:
        assert ground.shape == (96, 96)
    bright = pixels[0] > 200
    assert torch.equal(bright, ground == 1), "interpolation nearest samples pixels and labels at the same places"
    if not len(things):  # cropped away: less than 30 % are left
        assert (ground == 1).sum() < 0.31 * (ground != IGNORE).sum()
        return
    assert torch.equal(things.masks[0].bool(), bright)
    rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
    around = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
    assert (things.boxes[0] - around).abs().max() <= 1, "a px is bright if its centre is inside the box"
    assert moved["kind"] == 3


def test_views_differ_in_flip_and_scale() -> None:
    """What the test above moves does move."""
    image, targets = sample()
    corners = []
    for seed in range(12):
        torch.manual_seed(seed)
        corners.append(tuple(transform(canvas=True)(image, targets)[1]["things"].boxes.flatten().tolist()))
    assert len(set(corners)) > 8


def test_without_jitter_and_flips_it_is_the_view_of_validation() -> None:
    image, targets = sample()
    pixels, moved = transform(canvas=False, jitter=(1, 1), flip=0)(image, targets)
    expected, _ = JointEvalTransform(PREPROCESS, {n: t.eval_transform(PREPROCESS) for n, t in HEADS.items()})(
        image, targets
    )
    height, width = expected.shape[1:]
    assert torch.equal(pixels[:, :height, :width], expected)
    scale = 64 / 50
    assert moved["things"].boxes[0].tolist() == pytest.approx([side * scale for side in BOX], rel=0.02)


@pytest.mark.parametrize("kept", [("ground",), ("things", "kind"), ("kind",)])
def test_heads_without_a_target_stay_without_and_change_nothing(kept: tuple[str, ...]) -> None:
    image, targets = sample()
    torch.manual_seed(1)
    pixels, moved = transform(canvas=True)(image, targets)
    torch.manual_seed(1)
    others, fewer = transform(canvas=True)(image, {name: targets[name] for name in kept})
    assert torch.equal(pixels, others)
    assert set(fewer) == set(kept)
    if "ground" in kept:
        assert torch.equal(fewer["ground"].labels, moved["ground"].labels)


def test_validation_prepares_each_heads_target_as_its_task_does() -> None:
    image, targets = sample()
    both = JointEvalTransform(PREPROCESS, {name: task.eval_transform(PREPROCESS) for name, task in HEADS.items()})
    pixels, moved = both(image, targets)
    for name, task in HEADS.items():
        alone = task.eval_transform(PREPROCESS)
        if name == "kind":
            assert moved[name] == 3
            continue
        expected = alone(image, targets[name])
        assert torch.equal(pixels, expected[0])
        if isinstance(moved[name], SegmentationTarget):
            assert torch.equal(moved[name].labels, expected[1].labels)
        else:
            assert torch.equal(moved[name].boxes, expected[1].boxes)
    assert both.target((50, 60), {"kind": 3}) == {"kind": 3}
    assert isinstance(HEADS["things"], Instances)
