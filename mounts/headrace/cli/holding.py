"""`drop`, `pin`, `unpin` and `why`: what the cache holds of an object, and for how long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import READING, WORKING
from headrace.cli.failures import Failure, as_facts, tell_failures
from headrace.cli.printing import counted, print_facts, print_json, print_table, shown_time
from headrace.cli.progress import progress
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath
from headrace_namespace.units import format_bytes

if TYPE_CHECKING:
    from headrace_cache.service import Purge, Why

#: What went wrong is named this often; past it, it is only counted.
MOST_NAMED = 10_000


@click.command(
    cls=Described,
    examples=("headrace drop /lake/2025", "headrace drop '/lake/tmp/*.csv' --json"),
    codes=WORKING,
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@json_option
@pass_call
def drop(call: Call, paths: tuple[str, ...], as_json: bool) -> int:
    """Forget what the SSD tier holds of objects.

    It is forgotten for all processes; the stores keep theirs.
    PATH is an object, a folder with all below it, or a pattern. No process finds it there any more;
    that nobody can open what was sealed, not even from the disk, a stricter policy brings about.
    Pinned objects are dropped too.
    """
    return _each(call, paths, "dropped", call.service().drop, as_json)


@click.command(
    cls=Described,
    examples=("headrace pin /lake/dimensions",),
    codes=WORKING,
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@json_option
@pass_call
def pin(call: Call, paths: tuple[str, ...], as_json: bool) -> int:
    """Keep whole objects in the SSD tier until they are unpinned.

    Half of the tier may be pinned. A pin holds the version of now: an object that is replaced
    at its store has to be pinned again.
    """
    return _each(call, paths, "pinned", call.service().pin, as_json)


@click.command(
    cls=Described,
    examples=("headrace unpin /lake/dimensions",),
    codes=WORKING,
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@json_option
@pass_call
def unpin(call: Call, paths: tuple[str, ...], as_json: bool) -> int:
    """Let pinned objects leave the SSD tier again.

    Counted are those that were pinned.
    """
    return _each(call, paths, "unpinned", call.service().unpin, as_json)


@click.command(
    cls=Described,
    examples=("headrace why /lake/hr/pay.csv", "headrace why --json /lake/a.parquet"),
    codes=READING,
)
@click.argument("path", type=TREE_PATH)
@json_option
@pass_call
def why(call: Call, path: str, as_json: bool) -> None:
    """Show why an object's bytes are where they are.

    Its version, the rules that apply, what is held of it and since when, pins and purges.
    Without a node the memory tier is this process's own, so here it is empty; in a job ask
    `headrace.connect(…).why`.
    """
    said = call.service().why(NamespacePath.parse(path))
    if as_json:
        print_json(_facts(said))
        return
    placement = said.explanation
    print_facts(
        {
            "path": placement.path.text,
            "version": said.version.tag,
            "size": f"{said.version.size} ({format_bytes(said.version.size)})",
            "persistence": placement.persistence,
            "metadata": placement.metadata,
            "guarantee": placement.guarantee,
            "readers": " and ".join(placement.readers) or "everybody",
            "pinned": "yes" if said.pinned else "no",
        }
    )
    sys.stdout.write("\n")
    print_table(("rule", "applies because"), [(rule.name, rule.why) for rule in placement.rules])
    sys.stdout.write("\n")
    if not said.extents:
        sys.stdout.write("nothing of it is held\n")
    else:
        print_table(
            ("tier", "from", "length", "fetched", "source"),
            [
                (
                    held.tier,
                    str(held.offset),
                    str(held.length),
                    shown_time(held.fetched_at),
                    held.source,
                )
                for held in said.extents
            ],
            right="-rr",
        )
    if said.purges:
        sys.stdout.write("\n")
        print_table(
            ("purged", "epoch", "rules", "objects", "bytes", "method", "verified"),
            [_purge_row(purge) for purge in said.purges],
            right="-r-rr",
        )


def _each(
    call: Call,
    paths: tuple[str, ...],
    word: str,
    work: Callable[[NamespacePath], int],
    as_json: bool,
) -> int:
    """Do it to every object that the paths mean; an error of one ends only that one."""
    from headrace_mounts.selecting import Unlisted, objects_at

    service = call.service()
    objects = total = failures = 0
    failed: list[Failure] = []
    with progress(word) as note:
        for path in map(NamespacePath.parse, paths):
            for found in objects_at(service, path):
                try:
                    if isinstance(found, Unlisted):
                        raise found.error
                    count = work(found.path)
                except HeadraceError as error:
                    failures += 1
                    if len(failed) < MOST_NAMED:
                        failed.append((found.path, error))
                    continue
                objects += 1 if count or found.size == 0 else 0
                total += count
                note(objects, total)
    service.flush()
    if as_json:
        print_json({"objects": objects, "bytes": total, "failed": as_facts(failed)})
    else:
        sys.stdout.write(f"{counted(objects, 'object')}, {format_bytes(total)} {word}\n")
    return tell_failures(failed, failures)


def _facts(said: Why) -> dict[str, object]:
    placement = said.explanation
    return {
        "path": placement.path.text,
        "version": said.version.tag,
        "rule": [{"name": rule.name, "why": rule.why} for rule in placement.rules],
        "placement": {
            "persistence": placement.persistence,
            "metadata": placement.metadata,
            "guarantee": placement.guarantee,
            "readers": list(placement.readers),
        },
        "pinned": said.pinned,
        "extents": [
            {
                "offset": held.offset,
                "length": held.length,
                "tier": held.tier,
                "fetched_at": held.fetched_at,
                "source": held.source,
            }
            for held in said.extents
        ],
        "purges": [
            {
                "at": purge.at,
                "epoch": purge.epoch,
                "rules": list(purge.rules),
                "objects": purge.objects,
                "bytes": purge.bytes,
                "method": purge.method,
                "verified": purge.verified,
            }
            for purge in said.purges
        ],
    }


def _purge_row(purge: Purge) -> tuple[str, ...]:
    return (
        shown_time(purge.at),
        str(purge.epoch),
        ", ".join(purge.rules),
        str(purge.objects),
        format_bytes(purge.bytes),
        purge.method,
        "yes" if purge.verified else "no",
    )
