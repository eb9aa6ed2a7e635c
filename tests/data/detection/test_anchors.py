"""Anchors fit the boxes, and never worse than the default."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fishnet.data.detection.anchors import Anchors, best_overlap, fit_anchors

DEFAULT = Anchors(((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), (0.5, 1.0, 2.0))
STRIDES = (4, 8, 16, 32, 64)


def boxes_of(sizes: NDArray[np.float64], ratios: NDArray[np.float64]) -> NDArray[np.float32]:
    """Boxes of these sizes (root of the area) and heights / widths, somewhere."""
    corner = np.random.default_rng(1).uniform(0, 300, (len(sizes), 2))
    sides = np.stack([sizes / np.sqrt(ratios), sizes * np.sqrt(ratios)], -1)
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def modes(sizes: tuple[float, ...], ratios: tuple[float, ...], count: int = 200) -> NDArray[np.float32]:
    """Boxes that vary by a few percent around every combination of these."""
    rng = np.random.default_rng(0)
    size, ratio = (grid.ravel().repeat(count) for grid in np.meshgrid(sizes, ratios))
    return boxes_of(size * rng.lognormal(0, 0.03, len(size)), ratio * rng.lognormal(0, 0.03, len(ratio)))


def test_the_shapes_are_torchvisions() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    generator = AnchorGenerator(DEFAULT.sizes, (DEFAULT.ratios,) * 5)
    expected = np.concatenate([(cell[:, 2:] - cell[:, :2]).numpy() for cell in generator.cell_anchors])
    np.testing.assert_allclose(expected, DEFAULT.shapes(), atol=1.01)  # torchvision rounds each corner to whole px


def test_overlap() -> None:
    boxes = np.array([[10, 10, 20, 30], [0, 0, 32, 32], [5, 5, 69, 37]], np.float32)
    single = Anchors(((32.0,),), (1.0,))
    np.testing.assert_allclose(best_overlap(boxes, single), [200 / 1024, 1, 0.5])
    double = Anchors(((32.0, 64.0),), (1.0,))
    np.testing.assert_allclose(best_overlap(boxes, double), [200 / 1024, 1, 0.5])


def test_known_modes_are_found() -> None:
    wanted = (9.0, 20.0, 45.0, 100.0, 220.0)
    fitted, text = fit_anchors(modes(wanted, (0.6, 1.4, 3.0)), 5, DEFAULT)
    # the mean of 600 draws of 3 % each is good to 0.1 %; three digits are kept
    np.testing.assert_allclose([size for (size,) in fitted.sizes], wanted, rtol=0.02)
    np.testing.assert_allclose(fitted.ratios, (0.6, 1.4, 3.0), rtol=0.02)
    assert text.startswith("anchors fitted to 3,000 boxes: sizes ")
    assert "\n" not in text
    assert "(default: 0." in text


def test_several_sizes_a_level() -> None:
    wanted = (10.0, 14.0, 30.0, 50.0)
    default = Anchors(((32.0, 40.0), (64.0, 80.0)), (1.0,))
    fitted, _ = fit_anchors(modes(wanted, (1.0,)), 2, default, per_level=2)
    np.testing.assert_allclose(fitted.sizes, ((10, 14), (30, 50)), rtol=0.02)
    assert len(fitted.ratios) == 1


def test_no_size_is_lost_between_the_anchors_of_a_coarse_level() -> None:
    boxes = modes((10.0, 12.0, 14.0, 16.0, 18.0), (1.0,))
    free, _ = fit_anchors(boxes, 5, DEFAULT)
    assert free.sizes[4][0] < 20, "by shape alone"
    fitted, _ = fit_anchors(boxes, 5, DEFAULT, strides=STRIDES)
    assert all(size >= 2 * stride for (size,), stride in zip(fitted.sizes, STRIDES, strict=True))
    assert 10 < fitted.sizes[0][0] < 16


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.5, 900), st.floats(0.05, 20)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.booleans(),
)
def test_never_worse_than_the_default(shapes: list[tuple[float, float]], per_level: int, stepped: bool) -> None:
    boxes = boxes_of(*(np.array(values) for values in zip(*shapes, strict=True)))
    fitted, text = fit_anchors(boxes, 5, DEFAULT, per_level, STRIDES if stepped else ())
    kept = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)]
    if len(kept):
        assert best_overlap(kept, fitted).mean() >= best_overlap(kept, DEFAULT).mean()
    assert [list(level) == sorted(level) for level in fitted.sizes] == [True] * 5
    flat = [size for level in fitted.sizes for size in level]
    assert flat == sorted(flat)
    assert "\n" not in text
    assert fit_anchors(boxes, 5, DEFAULT, per_level, STRIDES if stepped else ()) == (fitted, text)


def test_what_fits_the_default_stays() -> None:
    boxes = boxes_of(np.array([32.0, 64, 128, 256, 512]).repeat(3), np.tile([0.5, 1.0, 2.0], 5))
    fitted, text = fit_anchors(boxes, 5, DEFAULT)
    assert best_overlap(boxes, fitted).mean() == pytest.approx(1, abs=1e-4)
    assert "mean best IoU 1.00, 100 % of boxes at 0.5 or more" in text


@pytest.mark.parametrize("boxes", [np.zeros((0, 4), np.float32), np.array([[3, 3, 3, 9]], np.float32)])
def test_without_boxes(boxes: NDArray[np.float32]) -> None:
    fitted, text = fit_anchors(boxes, 5, DEFAULT)
    assert fitted == DEFAULT
    assert text == "anchors: the default, sizes 32 64 128 256 512 px, height/width 0.5 1 2: no boxes to fit to"


def test_one_box() -> None:
    fitted, _ = fit_anchors(np.array([[0, 0, 20, 20]], np.float32), 5, DEFAULT)
    assert fitted.sizes == ((20.0,),) * 5


def test_levels_must_agree() -> None:
    with pytest.raises(ValueError, match="3 levels, but 5 of default sizes"):
        fit_anchors(np.zeros((0, 4), np.float32), 3, DEFAULT)
