"""`cp`, `mv`, `rm` and `mkdir`: changing the tree."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.printing import escaped, print_json
from headrace.cli.progress import Note
from headrace.cli.tree_path import TREE_PATH
from headrace.cli.work import Tally, working
from headrace_namespace.errors import (
    AlreadyExists,
    ConfigError,
    HeadraceError,
    IsFolder,
    NotFound,
)
from headrace_namespace.path import NamespacePath

if TYPE_CHECKING:
    from headrace_cache.service import CacheService
    from headrace_mounts.tree_work import Work

#: Removing more than this is asked about on a terminal: a slip of the fingers costs the most there.
ASK_ABOVE = 1000

_sources = click.argument("sources", type=TREE_PATH, nargs=-1, required=True, metavar="SOURCE...")
_no_clobber = click.option(
    "-n", "--no-clobber", is_flag=True, help="Leave alone what is there already."
)


@click.command(
    cls=Described,
    examples=("headrace cp /lake/a.csv /lake/b.csv", "headrace cp -r /lake/2026 /archive/"),
    codes=WORKING,
)
@_sources
@click.argument("target", type=TREE_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@_no_clobber
@json_option
@pass_call
def cp(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    as_json: bool,
) -> int:
    """Copy objects within the tree, also from store to store.

    Where the target is a folder, or ends with a slash, each goes into it under its own name. What
    the policy restricts is not copied to where it would be restricted less.
    """
    from headrace_mounts.tree_work import copy_tree

    service = call.service()

    def copy(source: NamespacePath, place: NamespacePath, note: Note) -> Work:
        if not recursive and service.stat(source).is_folder:
            raise IsFolder(f"{source} is a folder", path=source.text, hint="give -r")
        return copy_tree(service, source, place, note, exclusive=no_clobber)

    return _to_target(service, sources, target, "copied", copy, no_clobber, as_json)


@click.command(
    cls=Described,
    examples=("headrace mv /lake/draft.csv /lake/final.csv", "headrace mv /lake/2025 /archive/"),
    codes=WORKING,
)
@_sources
@click.argument("target", type=TREE_PATH)
@_no_clobber
@json_option
@pass_call
def mv(call: Call, sources: tuple[str, ...], target: str, no_clobber: bool, as_json: bool) -> int:
    """Give objects and folders other names.

    In one step where their store can; else each is copied and, when all have arrived, removed.
    """
    from headrace_mounts.tree_work import move_tree

    service = call.service()

    def move(source: NamespacePath, place: NamespacePath, note: Note) -> Work:
        _refuse_mount(service, source)
        if no_clobber and _exists(service, place):
            raise AlreadyExists(f"{place} is there already", path=place.text)
        return move_tree(service, source, place, note)

    return _to_target(service, sources, target, "moved", move, no_clobber, as_json)


@click.command(
    cls=Described,
    examples=("headrace rm /lake/old.csv", "headrace rm -r /lake/2020"),
    codes=WORKING,
)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option(
    "-f", "--force", is_flag=True, help="Ask nothing, and say nothing of what is not there."
)
@json_option
@pass_call
def rm(call: Call, paths: tuple[str, ...], recursive: bool, force: bool, as_json: bool) -> int:
    """Remove objects and folders.

    They are removed from their stores, not only from the tree.
    On a terminal it asks before it removes more than 1,000 objects of a folder. A mount is never
    removed: unmount it.
    """
    from headrace_mounts.tree_work import remove_tree

    service = call.service()
    if recursive and not force and sys.stdin.isatty() and sys.stderr.isatty():
        for path in map(NamespacePath.parse, paths):
            _refuse_mount(service, path)
            _ask(service, path)
    with working("removed", as_json) as (tally, note):
        for path in map(NamespacePath.parse, paths):
            try:
                _refuse_mount(service, path)
                if not recursive and service.stat(path).is_folder:
                    raise IsFolder(f"{path} is a folder", path=path.text, hint="give -r")
                _count(tally, remove_tree(service, path, _after(tally, note)), ignored=())
            except NotFound as error:
                if not force:
                    tally.fail(path, error)
            except HeadraceError as error:
                tally.fail(path, error)
    return tally.code


@click.command(cls=Described, examples=("headrace mkdir -p /lake/2026/11",), codes=WORKING)
@click.argument("paths", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-p", "--parents", is_flag=True, help="Also the folders above; no fault where it is there."
)
@json_option
@pass_call
def mkdir(call: Call, paths: tuple[str, ...], parents: bool, as_json: bool) -> None:
    """Make folders.

    Of stores without folders, such as S3, an empty one is marked by an object of no bytes.
    """
    service = call.service()
    for path in map(NamespacePath.parse, paths):
        if not parents and not service.stat(path.parent).is_folder:
            raise NotFound(f"{path.parent} is no folder", path=path.text)
        service.make_folder(path, exist_ok=parents)
        if as_json:
            print_json({"path": path.text})


def _to_target(
    service: CacheService,
    sources: tuple[str, ...],
    target: str,
    word: str,
    work: Callable[[NamespacePath, NamespacePath, Note], Work],
    no_clobber: bool,
    as_json: bool,
) -> int:
    """Do `work` from each source to its place; an error of one ends only that one."""
    place = NamespacePath.parse(target)
    into = target.endswith("/") or len(sources) > 1 or _is_folder(service, place)
    ignored = (AlreadyExists,) if no_clobber else ()
    with working(word, as_json) as (tally, note):
        for source in map(NamespacePath.parse, sources):
            try:
                there = place.child(source.name) if into and source.name else place
                _count(tally, work(source, there, _after(tally, note)), ignored)
            except HeadraceError as error:
                if not isinstance(error, ignored):
                    tally.fail(source, error)
    return tally.code


def _after(tally: Tally, note: Note) -> Note:
    """Progress of one source, told as that of all so far."""
    objects, count = tally.objects, tally.bytes
    return lambda more, more_bytes: note(objects + more, count + more_bytes)


def _count(tally: Tally, work: Work, ignored: tuple[type[HeadraceError], ...]) -> None:
    tally.done(work.bytes, work.objects)
    for failure in work.failed:
        if not isinstance(failure.error, ignored):
            tally.fail(failure.path, failure.error)


def _refuse_mount(service: CacheService, path: NamespacePath) -> None:
    """A mount, and a folder that holds one, is what the tree is made of: never removed."""
    for mount in service.mounts():
        if mount.path.is_under(path):
            what = "is a mount" if mount.path == path else f"holds the mount {mount.path}"
            raise ConfigError(
                f"{path} {what}, which is not removed or moved as a folder is",
                path=path.text,
                hint=f"headrace unmount {mount.path}, or take it out of the configuration",
            )


def _ask(service: CacheService, path: NamespacePath) -> None:
    """Ask before much is removed. Raises click.Abort for a no."""
    from headrace_mounts.selecting import objects_below

    some = sum(1 for _ in itertools.islice(objects_below(service, path), ASK_ABOVE + 1))
    if some > ASK_ABOVE:
        question = f"{escaped(path.text)} holds more than {ASK_ABOVE:,} objects; remove them?"
        click.confirm(question, abort=True, err=True)


def _is_folder(service: CacheService, path: NamespacePath) -> bool:
    try:
        return service.stat(path).is_folder
    except NotFound:
        return False


def _exists(service: CacheService, path: NamespacePath) -> bool:
    try:
        service.stat(path)
    except NotFound:
        return False
    return True
