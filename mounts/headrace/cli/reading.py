"""`ls`, `stat`, `cat`: looking at the tree and reading from it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import closing

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.each import each
from headrace.cli.exit_codes import READING
from headrace.cli.mounting import note_empty
from headrace.cli.printing import escaped, print_facts, print_json, shown_time
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.entry import Entry
from headrace_namespace.path import ROOT, NamespacePath
from headrace_namespace.units import format_bytes, parse_bytes

#: A listing is sorted as far as this, about 0.1 s and 10 MB; what follows comes as it arrives,
#: so that a folder of millions neither waits nor fills the memory.
SORTED_ENTRIES = 10_000

#: What `cat` holds at a time: eight pages, as much as one fetch of the reader.
PIECE_BYTES = 8 << 20

#: Whether the store promises that this version stands for exactly these bytes.
_STRONG = {True: "yes", False: "no", None: "-"}


@click.command(cls=Described, examples=("headrace ls -l /lake/sales",), codes=READING)
@click.argument("path", type=TREE_PATH, default="/")
@click.option("-l", "--long", is_flag=True, help="Also show size, time and version.")
@json_option
@pass_call
def ls(call: Call, path: str, long: bool, as_json: bool) -> None:
    """List a folder of the tree."""
    service, folder = call.service(), NamespacePath.parse(path)
    if folder == ROOT and not service.mounts():
        note_empty()
    for entry in by_name(service.list(folder)):
        if as_json:
            print_json(entry.facts())
        elif long:
            sys.stdout.write(_long(entry) + "\n")
        else:
            sys.stdout.write(shown_name(entry) + "\n")


@click.command(cls=Described, examples=("headrace stat /lake/sales/2026.parquet",), codes=READING)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@json_option
@pass_call
def stat(call: Call, paths: tuple[str, ...], as_json: bool) -> int:
    """Show what paths are: type, size, time, version and mount."""
    service = call.service()
    shown = itertools.count()

    def show(path: NamespacePath) -> None:
        entry = service.stat(path)
        if as_json:
            print_json(entry.facts())
            return
        if next(shown):
            sys.stdout.write("\n")
        version = entry.version
        print_facts(
            entry.facts()
            | {
                "size": f"{entry.size} ({format_bytes(entry.size)})",
                "mtime": shown_time(version.mtime if version else None),
                "version": version.tag if version else "-",
                "strong": _STRONG[version.strong if version else None],
                "mount": entry.mount or "-",
            }
        )

    return each(paths, show)


@click.command(
    cls=Described, examples=("headrace cat --length 1MiB /lake/big.csv | head",), codes=READING
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--offset", type=parse_bytes, default="0", metavar="BYTES", help="Where to begin in each file."
)
@click.option(
    "--length", type=parse_bytes, metavar="BYTES", help="How much to write of each file, as 1MiB."
)
@pass_call
def cat(call: Call, paths: tuple[str, ...], offset: int, length: int | None) -> int:
    """Write the bytes of files to standard output."""
    service = call.service()
    piece = memoryview(bytearray(PIECE_BYTES))

    def write(path: NamespacePath) -> None:
        with closing(service.open(path)) as opened:
            end = opened.version.size
            stop = end if length is None else min(end, offset + length)
            for start in range(offset, stop, PIECE_BYTES):
                target = piece[: min(PIECE_BYTES, stop - start)]
                count = opened.read_into(start, target)
                sys.stdout.buffer.write(target[:count])

    return each(paths, write)


def by_name(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries by name, as far as `SORTED_ENTRIES` allows."""
    first = list(itertools.islice(entries, SORTED_ENTRIES))
    return itertools.chain(sorted(first, key=lambda entry: entry.path), entries)


def shown_name(entry: Entry) -> str:
    """An entry's last name, escaped; a folder's ends with a slash."""
    return escaped(entry.path.name or "/") + ("/" if entry.is_folder and entry.path.name else "")


def _long(entry: Entry) -> str:
    size = str(entry.size) if entry.version else "-"
    version = entry.version
    time = shown_time(version.mtime if version else None)
    tag = escaped(version.tag) if version else "-"
    return f"{size:>14}  {time:>19}  {shown_name(entry)}  {tag}"
