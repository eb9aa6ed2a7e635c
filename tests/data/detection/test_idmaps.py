"""Run-length encodings, against the COCO API's own."""

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco
from numpy.typing import NDArray

from fishnet.data.detection.idmaps import instances
from fishnet.images.rle import box_of, runs_of


def tight(mask: NDArray[np.uint8]) -> tuple[float, ...]:
    y, x = mask.nonzero()
    return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0)


@pytest.mark.parametrize("share", [0, 0.03, 0.5, 0.97, 1])
def test_compressed_text(share: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        height, width = random.integers(1, 60, 2).tolist()
        mask = (random.random((height, width)) < share).astype(np.uint8)
        mask[height // 3 :, width // 4 : width // 2] = share > 0  # long runs, whose differences are negative too
        runs = runs_of(bytes(coco.encode(np.asfortranarray(mask))["counts"]))
        assert runs.sum() == height * width
        again = np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T
        assert np.array_equal(again, mask)
        assert box_of(runs, height) == tight(mask)


@pytest.mark.parametrize("text", [b"\x01", b"\x7f", b"P", b"oooooooooo0"])
def test_no_such_text(text: bytes) -> None:
    with pytest.raises(ValueError, match="run-length"):
        runs_of(text)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_objects_of_a_map(dtype: type) -> None:
    random = np.random.default_rng(1)
    id_map = random.integers(0, 6, (23, 31)).astype(dtype) * 42
    id_map[5:9, :] = 210
    objects = instances(id_map, background=(0, 84))
    assert objects.ids.tolist() == [42, 126, 168, 210]
    for id_, box, area, shape in zip(objects.ids, objects.boxes, objects.areas, objects.segmentations, strict=True):
        mask = coco.decode(coco.frPyObjects(shape, 23, 31))
        assert np.array_equal(mask, id_map == id_)
        assert (tuple(box), area) == (tight(mask), mask.sum())


def test_a_map_without_objects() -> None:
    objects = instances(np.zeros((4, 5), np.uint8))
    assert (len(objects.ids), objects.boxes.shape, objects.segmentations) == (0, (0, 4), ())
