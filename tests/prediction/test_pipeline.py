"""Steps that run beside each other: the order, what is read ahead, errors at their place, and the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from fishnet.prediction.pipeline import beside, mapped


def wait_until(condition: object) -> None:
    """Waits for something that another thread does."""
    for _ in range(500):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


def counting(taken: list[int]) -> Iterator[int]:
    for number in range(10_000):
        taken.append(number)
        yield number


def test_items_keep_their_order() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 4 == 0 else 0)
        return number * number

    assert list(mapped(slow_first, range(40), 4, 8)) == [number * number for number in range(40)]


@pytest.mark.parametrize("ahead", [1, 5])
def test_no_more_is_read_than_what_may_wait(ahead: int) -> None:
    taken: list[int] = []
    with beside(counting(taken), ahead) as items:
        assert next(items) == 0
        wait_until(lambda: len(taken) == ahead + 2)  # one was taken, some wait, and one waits for room
        time.sleep(0.05)
        assert len(taken) == ahead + 2


def test_steps_run_beside_each_other() -> None:
    """Each side waits until the other is there; one after the other, they would wait for ever."""
    meeting = threading.Barrier(2, timeout=5)

    def meet() -> Iterator[int]:
        yield 0
        meeting.wait()
        yield 1

    with beside(meet(), 1) as items:
        assert next(items) == 0
        meeting.wait()
        assert next(items) == 1


def test_several_values_are_computed_at_once() -> None:
    meeting = threading.Barrier(2, timeout=5)
    assert sorted(mapped(lambda number: (meeting.wait(), number)[1], range(4), 2, 4)) == [0, 1, 2, 3]


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with beside(failing(), 4) as items:
        assert next(items) == 1
        with pytest.raises(KeyError, match="broken"):
            next(items)

    def divide(number: int) -> float:
        return 6 / number

    with closing(mapped(divide, [3, 2, 0, 1], 2, 4)) as values:
        assert [next(values), next(values)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            next(values)


def test_nothing_runs_on_after_the_end() -> None:
    before, taken, closed = threading.active_count(), [], []

    def source() -> Iterator[int]:
        try:
            yield from counting(taken)
        finally:
            closed.append(True)

    with closing(mapped(lambda number: number, source(), 2, 3)) as values:
        assert next(values) == 0
    wait_until(lambda: threading.active_count() == before)
    assert len(taken) < 20
    assert closed == [True]
