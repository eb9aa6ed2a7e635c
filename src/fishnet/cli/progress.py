"""A progress bar on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fishnet.files.terminal import unescaped


@contextmanager
def bar(title: str, *, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Yields a function to call with the work done and the total. Draws on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=unescaped(sys.stderr))
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not show or not console.is_terminal, transient=True) as progress:
        line = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(line, completed=done, total=total)
