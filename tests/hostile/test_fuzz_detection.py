"""Changed bytes in every file that the readers of objects read: nothing but an InputError may come of them.

``FISHNET_FUZZ=20000 pytest tests/hostile/test_fuzz_detection.py`` tries so many changes of each file, each time others.
"""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fishnet.data.collector import collecting
from fishnet.data.detection.open import open_detection
from fishnet.data.detection.plausibility import plausibility, repaired
from fishnet.errors import InputError
from tests.detection_makers import coco_folder, mask_folder, voc_folder, yolo_folder

EXAMPLES = int(os.environ.get("FISHNET_FUZZ", "0"))
PIECES = [
    b"", b"\0", b"\xff", b"\n", b" ", b"-", b"1e999", b"NaN", b"null", b"true", b"[", b"]", b"{", b"}", b'"',
    b"9" * 30, b"9" * 400, b"<", b"</object>", b"<object>", b"&x;", b"*a", b"&a ", b": ", b"!!python/object:os.system ",
    b"0.5", b"-1", b"1.0", b"\xc3\xa9", b"e\xcc\x81", b"/", b"..", b"%20", b"\\\\",
]  # fmt: skip
Edit = tuple[float, int, bytes]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, edits: list[Edit]) -> bytes:
    """The content after edits: at a share of its length, so many bytes go and others come."""
    for share, gone, come in edits:
        place = int(share * len(content))
        content = content[:place] + come + content[place + gone :]
    return content


def read(data: Path, masks: bool) -> None:
    """All that a check and a training read of a dataset, but for the images' pixels."""
    for context in (contextlib.nullcontext, collecting):
        with contextlib.suppress(InputError):
            with context():
                splits = open_detection(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True, masks=masks)
            plausibility(splits)
            repaired(splits)
            for samples in splits.values():
                for index in range(len(samples)):
                    with contextlib.suppress(InputError):
                        samples.location(index, 0)
                        samples.read(index)[1].masks() if masks else samples.read(index)


FILES: dict[str, tuple[Callable[..., Path], dict[str, Any], str, bool]] = {
    "coco": (coco_folder, {}, "annotations/instances_train2017.json", False),
    "coco-polygons": (coco_folder, {}, "annotations/instances_train2017.json", True),
    "coco-runs": (coco_folder, {"form": "rle"}, "annotations/instances_train2017.json", True),
    "coco-text": (coco_folder, {"form": "compressed"}, "annotations/instances_train2017.json", True),
    "yolo-yaml": (yolo_folder, {}, "data.yaml", False),
    "yolo-boxes": (yolo_folder, {}, "labels/train/000.txt", False),
    "yolo-outlines": (yolo_folder, {"polygons": True}, "labels/train/000.txt", True),
    "voc": (voc_folder, {}, "Annotations/train_000.xml", False),
    "voc-masks": (voc_folder, {"masks": True}, "SegmentationObject/train_000.png", True),
    "voc-list": (voc_folder, {}, "ImageSets/Main/train.txt", False),
    "masks": (mask_folder, {}, "train/masks/000.png", True),
    "masks-deep": (mask_folder, {"depth": 32, "suffix": "tif"}, "train/masks/000.tif", True),
}


def fuzz(path: Path, check: Callable[[], None], examples: int) -> None:
    """Calls ``check`` for many changed contents of a file; numpy's RuntimeWarnings are errors in it."""
    content = path.read_bytes()

    @settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def run(edits: list[Edit]) -> None:
        path.write_bytes(changed(content, edits))
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # overflows that would go on as numbers
            check()

    run()


@pytest.mark.parametrize("name", FILES)
def test_nothing_but_input_errors(name: str, tmp_path: Path) -> None:
    make, options, place, masks = FILES[name]
    data = make(tmp_path / "data", train=2, **options)
    fuzz(data / place, lambda: read(data, masks), 15)
