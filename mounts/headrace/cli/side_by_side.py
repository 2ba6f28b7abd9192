"""Files brought to and from the tree side by side: a small one costs a few round trips, in which
others may go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import click

#: Above this, a store slows down more than a folder of small files gains.
MOST_JOBS = 64
#: As many as `tree_work.FILES_AT_ONCE`, which is loaded later.
JOBS = 16

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1, MOST_JOBS),
    default=JOBS,
    show_default=True,
    help="Objects of a folder at once.",
)


class Stopped(BaseException):
    """The command was interrupted: what is under way is given up."""


class SideBySide:
    """Runs steps, `jobs` at a time."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._stopped = threading.Event()

    def check(self) -> None:
        """For a long step, between its pieces. Raises Stopped after an interrupt."""
        if self._stopped.is_set():
            raise Stopped

    def run(self, steps: Iterator[Callable[[], None]]) -> None:
        """Do all steps; they are taken as there is room. What one raises ends all."""
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="headrace-files")
        try:
            under_way: set[Future[None]] = set()
            for step in steps:
                under_way.add(pool.submit(step))
                if len(under_way) >= 2 * self._jobs:
                    under_way = _some_done(under_way)
            while under_way:
                under_way = _some_done(under_way)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _some_done(under_way: set[Future[None]]) -> set[Future[None]]:
    done, left = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left
