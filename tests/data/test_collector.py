from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from torch.utils.data import DataLoader

from fishnet.data.collector import MAX_COLLECTED, collecting, first_problem, is_strict, report
from fishnet.data.detection.open import open_detection
from fishnet.data.findings import Finding
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.detection_makers import coco_folder
from tests.segmentation_makers import mask_folder


def test_the_first_problem_raises_outside_of_a_block() -> None:
    assert is_strict()
    assert first_problem() == ""
    with pytest.raises(InputError, match=r"^a line is wrong$"):
        report("a line is wrong", "box-empty", file="a.txt", line=3)
    assert first_problem() == "", "nothing is kept"


def test_a_block_collects_in_order() -> None:
    with collecting() as collector:
        assert not is_strict()
        report("one", "box-empty", split="val", file="a.txt", line=3)
        report("two")
        assert first_problem() == " (one)"
    assert collector.findings == [
        Finding("box-empty", "one", "val", "a.txt", 3), Finding("annotation-unreadable", "two")
    ]  # fmt: skip
    assert is_strict()


def test_no_more_are_kept_than_the_bound() -> None:
    with collecting() as collector:
        for number in range(MAX_COLLECTED + 1):
            report(str(number))
    assert len(collector.findings) == MAX_COLLECTED
    assert collector.findings[-1].message == str(MAX_COLLECTED - 1)


def test_blocks_nest() -> None:
    with collecting() as outer:
        report("before")
        with collecting() as inner:
            report("inside")
            assert first_problem() == " (inside)"
        report("behind")
    assert [finding.message for finding in outer.findings] == ["before", "behind"]
    assert [finding.message for finding in inner.findings] == ["inside"]


def test_an_error_ends_a_block() -> None:
    with pytest.raises(KeyError), collecting():
        raise KeyError
    assert is_strict()


def test_threads_do_not_mix() -> None:
    barrier = Barrier(2)

    def collected(name: str) -> list[str]:
        with collecting() as collector:
            for number in range(3):
                barrier.wait()
                report(f"{name} {number}")
        return [finding.message for finding in collector.findings]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(collected, "ab")) == [[f"{name} {number}" for number in range(3)] for name in "ab"]


def test_a_thread_of_its_own_is_strict() -> None:
    with collecting() as collector, ThreadPoolExecutor(1) as pool:
        assert pool.submit(is_strict).result()
        assert isinstance(pool.submit(report, "elsewhere").exception(), InputError)
    assert collector.findings == []


def test_the_look_at_a_layout_reports_to_nobody(tmp_path: Path) -> None:
    data = mask_folder(tmp_path)
    image = data / "train" / "images" / "000.png"
    image.with_suffix(".bmp").write_bytes(image.read_bytes())  # two images of one name
    with pytest.raises(InputError, match="same name"):
        open_segmentation(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True)
    looks_like_segmentation(str(data))
    with collecting() as collector:
        looks_like_segmentation(str(data))
    assert collector.findings == []


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_reported_after_opening(tmp_path: Path, workers: int) -> None:
    """What is read later, also by other processes, raises; all that is collected was found when opening."""
    data = coco_folder(tmp_path / "data")
    with collecting() as collector:
        train = open_detection(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True)["train"]
        (Path(train.source(0))).write_bytes(b"broken")
        with pytest.raises(InputError, match=r"cannot be read|not an image"):
            list(DataLoader(train, batch_size=None, num_workers=workers))
    assert collector.findings == []
