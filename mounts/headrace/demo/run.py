"""The demo from top to bottom: lay the silos, read them three ways, keep a path off the disk."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from headrace.demo.job import Job, Places, best_part, run_job
from headrace.demo.outcome import Outcome, Source
from headrace.demo.report import print_outcome, print_outcome_json
from headrace.demo.restricted import read_and_search
from headrace.demo.s3_endpoint import s3_endpoint
from headrace.demo.silos import Silos, lay_silos
from headrace.demo.surroundings import Ending, ending_cleanly, only_the_demo, undisturbed
from headrace.demo.tree import OPEN_PATH, RESTRICTED_PATH, Tree
from headrace_mounts.connect import connect, disconnect_all
from headrace_namespace.clock import Clock, SystemClock
from headrace_namespace.errors import HeadraceError

#: A direct and a warm reading are made this often, and the best counts: one reading of a tenth of
#: a second says little. A cold one can be made only once.
TIMES = 3

_STEPS = (
    "starting an S3 endpoint on loopback",
    "laying real tables into a bucket and a folder",
    "joining them directly: pandas, s3fs, files",
    "joining them through headrace, cold",
    "joining them through headrace, warm",
    "joining them again after a restart, from the sealed tier",
    "keeping a path off the disk, and searching for it",
)


def run(*, as_json: bool) -> None:
    """Show the demo. Raises HeadraceError where something that it claims did not hold.

    All that it makes is in one temporary folder and one process, both gone when it returns.
    """
    with ending_cleanly() as ending, only_the_demo():
        outcome = _outcome(SystemClock(), ending)
    if as_json:
        print_outcome_json(outcome)
    else:
        print_outcome(outcome)
    broken = [check.claim for check in outcome.checks if not check.holds]
    if broken:
        raise HeadraceError(f"the demo found what must not be: not true that {'; '.join(broken)}")


def _outcome(clock: Clock, ending: Ending) -> Outcome:
    start = clock.monotonic()
    with _folder() as folder, _progress(ending) as step:
        step()
        with s3_endpoint(folder / "s3", clock) as endpoint:
            step()
            silos = lay_silos(endpoint, folder / "silo")
            tree = Tree(folder, silos)
            step()
            direct = _repeated(tree.direct(), clock, None)
            places, fetched = tree.through_headrace(tree.plain), _fetched(tree.plain)
            step()
            cold = run_job(places, clock, fetched)
            connect(tree.plain).flush()
            step()
            warm = _repeated(places, clock, fetched)
            disconnect_all()
            step()
            governed = tree.through_headrace(tree.governed)
            restarted = run_job(governed, clock, _fetched(tree.governed))
            step()
            kept, search, status = read_and_search(
                tree.governed,
                (OPEN_PATH, silos.open_canary),
                (RESTRICTED_PATH, silos.restricted_canary),
                tree.kept,
                folder / "control.txt",
            )
    return Outcome(
        flights=silos.flights,
        answer=direct.answer,
        sources=_sources(silos, direct, cold, warm, restarted),
        same_answers=cold.answer == warm.answer == restarted.answer == direct.answer,
        kept=kept,
        search=search,
        status=status,
        seconds=clock.monotonic() - start,
    )


def _repeated(places: Places, clock: Clock, fetched: Callable[[], int] | None) -> Job:
    """Several runs as one: the best time of each part, and all bytes that any of them fetched."""
    jobs = [run_job(places, clock, fetched) for _ in range(TIMES)]
    return Job(
        bucket=best_part([job.bucket for job in jobs]),
        folder=best_part([job.folder for job in jobs]),
        answer=jobs[0].answer,
    )


def _fetched(config: Path) -> Callable[[], int]:
    service = connect(config)
    return lambda: service.status().bytes_fetched


def _sources(silos: Silos, direct: Job, cold: Job, warm: Job, again: Job) -> tuple[Source, ...]:
    return (
        Source(
            f"bucket: {silos.flights_files} Parquet files",
            silos.flights_bytes,
            direct.bucket,
            cold.bucket,
            warm.bucket,
            again.bucket,
        ),
        Source(
            "folder: Parquet and CSV",
            silos.local_bytes,
            direct.folder,
            cold.folder,
            warm.folder,
            again.folder,
        ),
    )


@contextmanager
def _folder() -> Generator[Path]:
    """The one folder of this demo, removed at the end together with all services over it."""
    folder = tempfile.TemporaryDirectory(prefix="headrace-demo-")
    try:
        yield Path(folder.name)
    finally:
        with undisturbed():
            try:
                disconnect_all()
            finally:
                folder.cleanup()


@contextmanager
def _progress(ending: Ending) -> Generator[Callable[[], None]]:
    """A progress bar on stderr, only on a terminal; call the result at each step's begin."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=len(_STEPS))
        steps = iter(_STEPS)
        begun = 0

        def step() -> None:
            nonlocal begun
            ending.heed()
            bar.update(task, description=next(steps), completed=begun)
            begun += 1

        yield step
