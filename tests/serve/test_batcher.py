"""Which inputs are computed together, and what becomes of them."""

from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import numpy as np
import pytest

from fishnet.prediction.inputs import Input
from fishnet.serve.batcher import MicroBatcher

Make = Callable[..., tuple[MicroBatcher, list[list[int]], Event]]


def numbered(number: int, side: int = 32) -> Input:
    return Input(np.full((3, side, side), number, np.uint8), None)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a batcher whose first batch waits for an event; it computes its inputs' numbers, and keeps its batches."""
    batchers = []

    def build(max_batch: int = 3, max_wait: float = 0.0, **options: Any) -> tuple[MicroBatcher, list[list[int]], Event]:
        batches, go = list[list[int]](), Event()

        def compute(inputs: Sequence[Input]) -> list[Any]:
            assert len({each.pixels.shape for each in inputs}) == 1
            numbers = [int(each.pixels[0, 0, 0]) for each in inputs]
            batches.append(numbers)
            assert go.wait(10)
            if 13 in numbers:
                raise ValueError("thirteen")
            return [ValueError("seven") if number == 7 else number for number in numbers]

        batchers.append((MicroBatcher(compute, max_batch, max_wait, **options), go))
        return batchers[-1][0], batches, go

    yield build
    for batcher, go in batchers:
        go.set()
        batcher.close(10)


def busy(batcher: MicroBatcher, batches: list[list[int]]) -> Any:
    """Keeps the thread busy with an input of its own."""
    first = batcher.submit(numbered(0, 96))
    while not batches:
        pass
    return first


def test_one_size_in_a_batch_the_longest_waiting_first(make: Make) -> None:
    batcher, batches, go = make()
    busy(batcher, batches)
    sides = [32, 64, 32, 64, 32, 32]
    futures = [batcher.submit(numbered(i, side)) for i, side in enumerate(sides, 1)]
    go.set()
    assert [future.result(10) for future in futures] == [1, 2, 3, 4, 5, 6]
    assert batches == [[0], [1, 3, 5], [2, 4], [6]]


def test_a_batch_waits_for_more_but_not_when_it_is_full(make: Make) -> None:
    batcher, batches, go = make(max_batch=2, max_wait=60)
    go.set()
    futures = [batcher.submit(numbered(i)) for i in (1, 2, 3)]
    assert [future.result(10) for future in futures[:2]] == [1, 2]
    assert not futures[2].done()
    batcher.close(10)
    assert futures[2].result(10) == 3, "what waits is computed at the end"
    assert batches == [[1, 2], [3]]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(numbered(4))


def test_a_batch_does_not_wait_for_what_is_not_expected(make: Make) -> None:
    expected = 3
    batcher, batches, go = make(max_batch=8, max_wait=60, expected=lambda: expected)
    go.set()
    first, second = batcher.submit(numbered(1)), batcher.submit(numbered(2))
    assert not first.done()
    third = batcher.submit(numbered(3))
    assert [future.result(10) for future in (first, second, third)] == [1, 2, 3]
    assert batches == [[1, 2, 3]]


def test_cancelled_inputs_are_left_out(make: Make) -> None:
    batcher, batches, go = make()
    busy(batcher, batches)
    futures = [batcher.submit(numbered(i)) for i in range(1, 6)]
    assert futures[1].cancel()
    assert futures[3].cancel()
    go.set()
    assert [future.result(10) for future in futures[::2]] == [1, 3, 5]
    assert batches == [[0], [1, 3, 5]]


def test_errors_belong_to_their_inputs_and_the_thread_goes_on(make: Make) -> None:
    batcher, batches, go = make()
    busy(batcher, batches)
    one, seven = batcher.submit(numbered(1)), batcher.submit(numbered(7))
    go.set()
    assert one.result(10) == 1
    assert str(seven.exception(10)) == "seven"
    assert str(batcher.submit(numbered(13)).exception(10)) == "thirteen"
    assert batcher.submit(numbered(2)).result(10) == 2


def test_an_observer_that_fails_stops_nothing(make: Make) -> None:
    def fail(*batch: Any) -> None:
        raise OSError("no space")

    batcher, _, go = make(observe=fail)
    go.set()
    assert [batcher.submit(numbered(i)).result(10) for i in (1, 2)] == [1, 2]
    assert batcher.is_alive


def test_a_wrong_number_of_outputs_is_an_error() -> None:
    batcher = MicroBatcher(lambda inputs: [], 2, 0)
    assert "0 outputs for 1 inputs" in str(batcher.submit(numbered(1)).exception(10))
    batcher.close(10)
    assert not batcher.is_alive


def test_batches_are_observed(make: Make) -> None:
    seen = list[tuple[int, float, Sequence[float]]]()
    batcher, batches, go = make(observe=lambda *batch: seen.append(batch))
    busy(batcher, batches)
    futures = [batcher.submit(numbered(i)) for i in (1, 2)]
    go.set()
    assert [future.result(10) for future in futures] == [1, 2]
    batcher.close(10)
    assert [images for images, _, _ in seen] == [1, 2]
    assert all(seconds >= 0 and len(waited) == images and min(waited) >= 0 for images, seconds, waited in seen)
