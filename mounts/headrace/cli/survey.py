"""`tree` and `du`: a folder with all below it, streamed, so that its size does not matter."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.each import each
from headrace.cli.exit_codes import DONE, FAILED, READING
from headrace.cli.failures import sentence, shared_code
from headrace.cli.printing import counted, escaped, print_json
from headrace.cli.reading import by_name, shown_name
from headrace.cli.streams import complain
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath
from headrace_namespace.units import format_bytes

if TYPE_CHECKING:
    from headrace_cache.service import CacheService


@dataclass(frozen=True, slots=True)
class _Lines:
    """What a tree is drawn with: before an entry that others follow, before the last, and before
    what lies below each of the two."""

    middle: str
    last: str
    below_middle: str
    below_last: str


_BOXES = _Lines("├── ", "└── ", "│   ", "    ")
#: For what no person looks at: `grep` and `sed` like it plain.
_PLAIN = _Lines("  ", "  ", "  ", "  ")


@click.command(
    cls=Described,
    examples=("headrace tree --depth 2 /lake", "headrace tree --json /lake | jq .path"),
    codes=READING,
)
@click.argument("path", type=TREE_PATH, default="/")
@click.option("--depth", type=click.IntRange(1), metavar="N", help="Only so many levels.")
@json_option
@pass_call
def tree(call: Call, path: str, depth: int | None, as_json: bool) -> int:
    """Draw a folder with all below it.

    With --json, one object or folder a line, each folder before what lies in it.
    A folder that cannot be listed is named on standard error, and the rest is shown.
    """
    service, root = call.service(), NamespacePath.parse(path)
    walk = Walk(service, depth)
    if as_json:
        for _, entry, _ in walk.entries(root):
            print_json(entry.facts())
        return walk.code()
    lines = _BOXES if sys.stdout.isatty() else _PLAIN
    sys.stdout.write(escaped(root.text) + "\n")
    folders = objects = 0
    below: list[str] = []
    for level, entry, is_last in walk.entries(root):
        del below[level:]
        mark = lines.last if is_last else lines.middle
        sys.stdout.write("".join(below) + mark + shown_name(entry) + "\n")
        below.append(lines.below_last if is_last else lines.below_middle)
        folders += entry.is_folder
        objects += not entry.is_folder
    sys.stdout.write(f"\n{counted(folders, 'folder')}, {counted(objects, 'object')}\n")
    return walk.code()


@click.command(
    cls=Described,
    examples=("headrace du -h /lake/2026", "headrace du -s --json /lake/a /lake/b"),
    codes=READING,
    # -h is what `du` calls its sizes for people.
    context_settings={"help_option_names": ["--help"]},
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-s", "--summarize", is_flag=True, help="Only the sum of each PATH.")
@click.option("-h", "--human-readable", "human", is_flag=True, help="Sizes as 1.5 MiB.")
@json_option
@pass_call
def du(call: Call, paths: tuple[str, ...], summarize: bool, human: bool, as_json: bool) -> int:
    """Sum the sizes and numbers of objects of folders.

    Each folder below is shown, then the PATH itself.
    With --json, one folder a line, as `stat` shows it, `size` its sum and `objects` their number.
    """
    service = call.service()
    walks: list[Walk] = []

    def sum_up(path: NamespacePath) -> None:
        walk = Walk(service, None)
        walks.append(walk)
        for entry, size, objects in walk.sums(path):
            if summarize and entry.path != path:
                continue
            if as_json:
                print_json(entry.facts() | {"size": size, "objects": objects})
            else:
                shown = format_bytes(size) if human else str(size)
                sys.stdout.write(f"{shown:>14}  {objects:>9}  {escaped(entry.path.text)}\n")

    codes = {each(paths, sum_up), *(walk.code() for walk in walks)} - {DONE}
    return DONE if not codes else codes.pop() if len(codes) == 1 else FAILED


class Walk:
    """Everything below a folder, depth first, holding no more than the folders on the way."""

    def __init__(self, service: CacheService, depth: int | None) -> None:
        self._service = service
        self._depth = depth
        self._errors: list[HeadraceError] = []

    def code(self) -> int:
        """The exit code, after folders that could not be listed."""
        return shared_code(self._errors)

    def entries(self, root: NamespacePath) -> Iterator[tuple[int, Entry, bool]]:
        """Each entry, how deep it lies, and whether it is the last of its folder."""
        open_folders = [(root, self._children(root))]
        while open_folders:
            folder, children = open_folders[-1]
            try:
                entry, is_last = next(children)
            except StopIteration:
                open_folders.pop()
                continue
            except HeadraceError as error:
                if folder == root:
                    raise
                self._note(folder, error)
                open_folders.pop()
                continue
            level = len(open_folders) - 1
            yield level, entry, is_last
            if (
                entry.is_folder
                and not entry.link
                and (self._depth is None or level + 1 < self._depth)
            ):
                open_folders.append((entry.path, self._children(entry.path)))

    def sums(self, root: NamespacePath) -> Iterator[tuple[Entry, int, int]]:
        """Each folder after those below it, with the bytes and the number of objects in it all."""
        top = self._service.stat(root)
        if not top.is_folder:
            yield top, top.size, 1
            return
        open_folders = [_Sum(top, self._service.list(root))]
        while open_folders:
            here = open_folders[-1]
            below = self._next_folder(here)
            if below is not None:
                open_folders.append(_Sum(below, self._service.list(below.path)))
                continue
            open_folders.pop()
            if open_folders:
                open_folders[-1].size += here.size
                open_folders[-1].objects += here.objects
            yield here.entry, here.size, here.objects

    def _next_folder(self, here: _Sum) -> Entry | None:
        """Sum the objects up to the next folder in it; None at its end."""
        try:
            for entry in here.children:
                if entry.is_folder and not entry.link:
                    return entry
                here.size += entry.size
                here.objects += not entry.is_folder
        except HeadraceError as error:
            self._note(here.entry.path, error)
        return None

    def _children(self, folder: NamespacePath) -> Iterator[tuple[Entry, bool]]:
        """The children, each with whether none follows. Nothing is asked before the first."""
        entries = by_name(self._service.list(folder))
        before = next(entries, None)
        for entry in itertools.chain(entries, (None,)):
            if before is not None:
                yield before, entry is None
            before = entry

    def _note(self, path: NamespacePath, error: HeadraceError) -> None:
        complain(sentence(path.text, error))
        self._errors.append(error)


@dataclass(slots=True, eq=False)
class _Sum:
    """A folder being summed; its listing goes on where a folder below was gone into."""

    entry: Entry
    children: Iterator[Entry]
    size: int = 0
    objects: int = 0
