"""Reads ahead in threads while the caller's thread computes. Torch-free.

Decoders, Pillow's filters and the engines release Python's lock. The network itself stays in the caller's thread, where
an interrupt finds it and the allocator's settings apply.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MAX_READERS = 8  # threads that read images
_WAIT = 0.1  # seconds between looks at whether anybody still takes from a full queue
_PATIENCE = 5.0  # seconds to wait for a thread that is to end; one may wait for a source of the user's


def readers() -> int:
    """The number of threads that read images: the processor cores of this process, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MAX_READERS, cores)


@contextmanager
def beside(items: Iterable[T], ahead: int) -> Iterator[Iterator[T]]:
    """Iterates in a thread of its own, and passes the items on in their order.

    Args:
        items: no further ones are taken after the context has been left. An exception that they raise is raised at its
            place among them.
        ahead: maximum number of items that wait to be taken.
    """
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(max(1, ahead))
    stopped = Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                queue.put((item, error), timeout=_WAIT)
            except Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item, None)
                if stopped.is_set():
                    break
            if hasattr(items, "close"):  # a generator ends its own threads in the thread that ran it
                items.close()
            put(None, _EndError())
        except BaseException as error:  # of any kind: it belongs to the taker
            put(None, error)

    def taken() -> Iterator[T]:
        while True:
            item, error = queue.get()
            if isinstance(error, _EndError):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only beside an error

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        thread.join(_PATIENCE)


class _EndError(Exception):
    """Marks the end of the items."""


def mapped(function: Callable[[T], R], items: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """The function's values for the items, in their order, computed in threads.

    Args:
        function: is called by all threads at once.
        items: is iterated in a thread of its own, up to ``ahead`` + 1 items beyond the values that were taken.
        threads: number of threads that call the function.
        ahead: maximum number of values that wait to be taken.
    """
    pool = ThreadPoolExecutor(threads)

    def started() -> Iterator[Future[R]]:
        for item in items:
            yield pool.submit(function, item)

    with beside(started(), ahead) as futures:
        try:
            for future in futures:
                yield future.result()
        finally:  # calls that have not begun never do; those that have are not waited for
            pool.shutdown(wait=False, cancel_futures=True)
