"""A progress bar on standard error, only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

#: Objects and bytes done so far.
Note = Callable[[int, int], None]


@contextmanager
def progress(what: str) -> Generator[Note]:
    """Call the result with how many objects and bytes are done.

    How much there is in all is not known before the last folder was listed, so the bar has no end.
    """
    if not sys.stderr.isatty():
        yield lambda objects, done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[objects]:,} objects"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None, objects=0)

        def note(objects: int, done: int) -> None:
            bar.update(task, completed=done, objects=objects)

        yield note
