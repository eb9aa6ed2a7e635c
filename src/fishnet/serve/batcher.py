"""Computes the images of several requests together."""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from threading import Condition, Thread
from typing import Any

from fishnet.prediction.inputs import Input

LOG = logging.getLogger("uvicorn.error")

Compute = Callable[[Sequence[Input]], Sequence[Any]]
"""From inputs of one size to the raw output of each, or an exception in its place."""

Observe = Callable[[int, float, Sequence[float]], None]
"""Receives the size of a batch, the seconds that computing it took, and the seconds that each input had waited."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    prepared: Input
    future: "Future[Any]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class MicroBatcher:
    """Computes inputs in batches of one size, in a thread of its own.

    The input that has waited longest decides the size of the next batch. The batch is computed when it is full, or when
    that input has waited for ``max_wait`` seconds, or when no further input is expected. Inputs whose future was
    cancelled before are left out.

    Args:
        compute: computes a batch.
        max_batch: maximum number of inputs of a batch.
        max_wait: seconds that an input waits for others.
        expected: the number of inputs that may be submitted or computed now; if all of them wait already, a batch does
            not wait for more. By default there is no limit.
        observe: is called after each batch, in the thread.
    """

    def __init__(
        self,
        compute: Compute,
        max_batch: int,
        max_wait: float,
        observe: Observe | None = None,
        expected: Callable[[], float] = lambda: inf,
    ) -> None:
        self._compute, self._max_batch, self._max_wait, self._observe = compute, max_batch, max_wait, observe
        self._expected = expected
        self._groups: OrderedDict[tuple[int, ...], deque[_Waiting]] = OrderedDict()
        self._changed, self._closed = Condition(), False
        self._thread = Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether inputs are computed."""
        return self._thread.is_alive()

    def submit(self, prepared: Input) -> "Future[Any]":
        """Adds an input. The future has its raw output, or raises its error; it may be cancelled.

        Raises:
            RuntimeError: the batcher is closed.
        """
        waiting = _Waiting(prepared)
        with self._changed:
            if self._closed:
                raise RuntimeError("this batcher is closed")
            self._groups.setdefault(prepared.pixels.shape, deque()).append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self, timeout: float | None = None) -> None:
        """Accepts no further input, computes what waits, and ends the thread.

        Args:
            timeout: seconds to wait for that.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while batch := self._next_batch():
            start = time.monotonic()
            try:
                outputs = list(self._compute([waiting.prepared for waiting in batch]))
                if len(outputs) != len(batch):
                    raise RuntimeError(f"{len(outputs)} outputs for {len(batch)} inputs")
            except Exception as error:  # belongs to the requests, and the thread goes on
                outputs = [error] * len(batch)
            seconds = time.monotonic() - start
            for waiting, output in zip(batch, outputs, strict=True):
                if isinstance(output, Exception):
                    waiting.future.set_exception(output)
                else:
                    waiting.future.set_result(output)
            self._report(len(batch), seconds, [start - waiting.since for waiting in batch])
            del batch, outputs

    def _report(self, count: int, seconds: float, waited: Sequence[float]) -> None:
        if self._observe is None:
            return
        try:
            self._observe(count, seconds, waited)
        except Exception:  # such as a full disk, for metrics in files: predictions go on
            LOG.exception("a batch could not be counted")

    def _next_batch(self) -> list[_Waiting]:
        """Waits for a batch; empty when the batcher is closed and nothing waits."""
        with self._changed:
            while True:
                self._drop_cancelled()
                shape = min(self._groups, key=lambda each: self._groups[each][0].since, default=None)
                if shape is None:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                group = self._groups[shape]
                remaining = group[0].since + self._max_wait - time.monotonic()
                may_grow = len(group) < self._max_batch and sum(map(len, self._groups.values())) < self._expected()
                if may_grow and remaining > 0 and not self._closed:
                    self._changed.wait(remaining)
                    continue
                taken = [group.popleft() for _ in range(min(len(group), self._max_batch))]
                if not group:
                    del self._groups[shape]
                if batch := [waiting for waiting in taken if waiting.future.set_running_or_notify_cancel()]:
                    return batch

    def _drop_cancelled(self) -> None:
        """Removes inputs that nobody waits for, so that they neither fill batches nor keep memory."""
        for shape, group in list(self._groups.items()):
            kept = deque(waiting for waiting in group if not waiting.future.cancelled())
            if kept:
                self._groups[shape] = kept
            else:
                del self._groups[shape]
