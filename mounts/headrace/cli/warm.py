"""`warm`: bring what a job will read before it reads it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.failures import as_facts, tell_failures
from headrace.cli.local_path import LOCAL_FILE
from headrace.cli.printing import counted, print_json
from headrace.cli.progress import progress
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath
from headrace_namespace.units import format_bytes


@click.command(
    cls=Described,
    examples=(
        "headrace warm /lake/2026",
        "headrace warm '/lake/2026/**/*.parquet' --columns dest,delay",
        "headrace warm --from files.txt --jobs 16 --json",
    ),
    codes=WORKING,
)
@click.argument("paths", type=TREE_PATH, nargs=-1, metavar="PATH...")
@click.option(
    "--from",
    "lists",
    type=LOCAL_FILE,
    multiple=True,
    metavar="FILE",
    help="Also what this file names, one path a line; - for standard input.",
)
@click.option("--columns", metavar="A,B", help="Only these columns of Parquet files.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at once."
)
@json_option
@pass_call
def warm(
    call: Call,
    paths: tuple[str, ...],
    lists: tuple[str, ...],
    columns: str | None,
    jobs: int,
    as_json: bool,
) -> int:
    """Bring objects into the SSD tier before a job asks.

    It is shared by all processes of this host that name the same cache folder.

    PATH is an object, a folder with all below it, or a pattern: * and ? within a name, ** for any
    names between. What is held already is not fetched again, so a run that was interrupted is
    simply made again. What the policy keeps in memory only is skipped: it would end with this
    process.
    """
    from headrace_mounts.parquet_ranges import require_pyarrow
    from headrace_mounts.selecting import objects_at
    from headrace_mounts.warming import Warmed, Warmer

    if not paths and not lists:
        raise click.UsageError("say what to warm: a PATH, or --from FILE")
    wanted = _columns(columns)
    if wanted:
        require_pyarrow()
    service, clock = call.service(), SystemClock()
    start = clock.monotonic()
    named = itertools.chain(map(NamespacePath.parse, paths), *map(_listed, lists))
    found = itertools.chain.from_iterable(objects_at(service, path) for path in named)
    with progress("warming") as note:

        def step(now: Warmed) -> None:
            note(now.objects, now.bytes)

        done = Warmer(service, jobs=jobs, columns=wanted).warm(found, step)
    seconds = clock.monotonic() - start
    if as_json:
        print_json(
            {
                "objects": done.objects,
                "bytes": done.bytes,
                "bytes_fetched": done.bytes_fetched,
                "seconds": seconds,
                "skipped": [
                    {"reason": reason, "objects": count} for reason, count in done.skipped.items()
                ],
                "failed": as_facts(done.failed),
            }
        )
    else:
        sys.stdout.write(
            f"{counted(done.objects, 'object')}, {format_bytes(done.bytes)} are warm; "
            f"{format_bytes(done.bytes_fetched)} fetched in {seconds:.1f} s\n"
        )
        for reason, count in done.skipped.items():
            sys.stdout.write(f"{count:,} skipped: {reason}\n")
    return tell_failures(done.failed, done.failures)


def _columns(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    columns = tuple(name.strip() for name in text.split(",") if name.strip())
    if not columns:
        raise click.UsageError("--columns names no column")
    return columns


def _listed(name: str) -> Iterator[NamespacePath]:
    """The paths that a list file names, as they are read; empty lines say nothing."""
    try:
        stdin = name == "-"
        source = 0 if stdin else Path(name)
        with open(source, encoding="utf-8", errors="surrogateescape", closefd=not stdin) as lines:
            for line in lines:
                text = line.rstrip("\r\n")
                if text.strip():
                    yield NamespacePath.parse(text)
    except OSError as error:
        raise ConfigError(f"the list {name} cannot be read: {error.strerror}") from error
