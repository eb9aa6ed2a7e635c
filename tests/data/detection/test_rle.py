"""Run-length encodings are bit for bit those of pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishnet.images.rle import compress, encode, runs

coco = pytest.importorskip("pycocotools.mask")


def expected(mask: np.ndarray) -> str:
    text: bytes = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return text.decode()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_part_of_any_image(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    top, left = data.draw(st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)))
    h, w = data.draw(st.tuples(st.integers(0, height - top), st.integers(0, width - left)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    bits = rng.random((h, w)) < data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    mask = np.zeros((height, width), bool)
    mask[top : top + h, left : left + w] = bits
    assert encode(bits, (height, width), top, left) == {"size": [height, width], "counts": expected(mask)}


@pytest.mark.parametrize("value", [False, True])
def test_one_run(value: bool) -> None:
    mask = np.full((5, 7), value)
    assert runs(mask, (5, 7)) == ([0, 35] if value else [35])
    assert compress(runs(mask, (5, 7))) == expected(mask)


def test_long_runs() -> None:
    mask = np.zeros((3000, 3000), bool)
    mask[5:8, 10] = mask[:, 200:2900] = mask[2999, 2999] = True
    assert compress(runs(mask, (3000, 3000))) == expected(mask)
    np.testing.assert_array_equal(coco.decode({"size": [3000, 3000], "counts": compress(runs(mask, mask.shape))}), mask)
