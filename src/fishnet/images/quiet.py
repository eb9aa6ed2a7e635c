"""Silences warnings while any thread decodes an image."""

import warnings
from threading import Lock


class WithoutWarnings:
    """A context that ignores warnings and that several threads may be in. The last to leave restores the filters.

    ``warnings.catch_warnings`` alone restores the filters that its thread found, which may be another thread's.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


WITHOUT_WARNINGS = WithoutWarnings()
