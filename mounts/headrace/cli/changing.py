"""`cp`, `mv`, `rm` and `mkdir`: changing the tree."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.each import each
from headrace.cli.exit_codes import FAILED, WORKING
from headrace.cli.going_on import Rest, no_target_directory, require_one_name, tell_rest
from headrace.cli.printing import escaped, print_json
from headrace.cli.progress import Note
from headrace.cli.side_by_side import jobs_option
from headrace.cli.streams import complain
from headrace.cli.tree_path import TREE_PATH
from headrace.cli.work import Tally, working
from headrace_namespace.entry import Entry
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

_sources = click.argument("sources", type=TREE_PATH, nargs=-1, metavar="SOURCE...")
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
@no_target_directory
@jobs_option
@json_option
@pass_call
def cp(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    exact: bool,
    jobs: int,
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
        return copy_tree(service, source, place, note, exclusive=no_clobber, jobs=jobs)

    how = _How("copied", copy, ("cp", "-r") if recursive else None, no_clobber, exact, as_json)
    return _to_target(call, service, sources, target, how)


@click.command(
    cls=Described,
    examples=("headrace mv /lake/draft.csv /lake/final.csv", "headrace mv /lake/2025 /archive/"),
    codes=WORKING,
)
@_sources
@click.argument("target", type=TREE_PATH)
@_no_clobber
@no_target_directory
@jobs_option
@json_option
@pass_call
def mv(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    no_clobber: bool,
    exact: bool,
    jobs: int,
    as_json: bool,
) -> int:
    """Give objects and folders other names.

    In one step where their store can; else object by object: each is removed when it has arrived.
    With -T, a folder is moved into a folder that has its new name already.
    """
    from headrace_mounts.tree_work import move_tree

    service = call.service()

    def move(source: NamespacePath, place: NamespacePath, note: Note) -> Work:
        _refuse_mount(service, source)
        if no_clobber and _entry(service, place):
            raise AlreadyExists(f"{place} is there already", path=place.text)
        return move_tree(service, source, place, note, merge=exact, jobs=jobs)

    how = _How("moved", move, ("mv",), no_clobber, exact, as_json)
    return _to_target(call, service, sources, target, how)


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
@jobs_option
@json_option
@pass_call
def rm(
    call: Call, paths: tuple[str, ...], recursive: bool, force: bool, jobs: int, as_json: bool
) -> int:
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
            if not _agreed(service, path):
                complain("nothing was removed")
                return FAILED
    with working("removed", as_json) as (tally, note):
        for path in map(NamespacePath.parse, paths):
            try:
                _refuse_mount(service, path)
                if not recursive and service.stat(path).is_folder:
                    raise IsFolder(f"{path} is a folder", path=path.text, hint="give -r")
                removed = remove_tree(service, path, _after(tally, note), jobs=jobs)
                _count(tally, removed, ignored=())
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
def mkdir(call: Call, paths: tuple[str, ...], parents: bool, as_json: bool) -> int:
    """Make folders.

    Of stores without folders, such as S3, an empty one is marked by an object of no bytes.
    """
    service = call.service()

    def make(path: NamespacePath) -> None:
        if not parents and not service.stat(path.parent).is_folder:
            raise NotFound(f"{path.parent} is no folder", path=path.text)
        service.make_folder(path, exist_ok=parents)
        if as_json:
            print_json({"path": path.text})

    return each(paths, make)


@dataclass(frozen=True, slots=True)
class _How:
    """What is done from each source to its place, and how: the command's options."""

    word: str
    work: Callable[[NamespacePath, NamespacePath, Note], Work]
    #: The command that goes on after an interrupt; None where the same one does.
    again: tuple[str, ...] | None
    no_clobber: bool
    exact: bool
    as_json: bool

    def options(self, fresh: bool) -> tuple[str, ...]:
        """The words that go on. What was copied to where nothing was is whole: it is left alone;
        what was moved is at its source no longer."""
        again = self.again or ()
        if again[:1] == ("mv",) and fresh:
            return again
        return (*again, "-n") if self.no_clobber or fresh else again


def _to_target(
    call: Call, service: CacheService, sources: tuple[str, ...], target: str, how: _How
) -> int:
    """Do the work from each source to its place; an error of one ends only that one."""
    require_one_name(sources, target, how.exact)
    place = NamespacePath.parse(target)
    ignored = (AlreadyExists,) if how.no_clobber else ()
    with working(how.word, how.as_json) as (tally, note):
        try:
            there = _entry(service, place)
        except HeadraceError as error:
            tally.fail(place, error)
            sources = ()
            there = None
        into = not how.exact and (
            target.endswith("/") or len(sources) > 1 or (there is not None and there.is_folder)
        )
        options = how.options(fresh=there is None and not into)
        rest = Rest(call, options, sources if how.again else (), target, into)
        for text in sources:
            source, failures = NamespacePath.parse(text), tally.failures
            try:
                to = place.child(source.name) if into and source.name else place
                _count(tally, how.work(source, to, _after(tally, note)), ignored)
            except HeadraceError as error:
                if not isinstance(error, ignored):
                    tally.fail(source, error)
            if how.again and tally.failures == failures:
                rest.done(text)
    tell_rest(call, tally)
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


def _agreed(service: CacheService, path: NamespacePath) -> bool:
    """Ask before much is removed."""
    from headrace_mounts.selecting import objects_below

    some = sum(1 for _ in itertools.islice(objects_below(service, path), ASK_ABOVE + 1))
    question = f"{escaped(path.text)} holds more than {ASK_ABOVE:,} objects; remove them?"
    return some <= ASK_ABOVE or click.confirm(question, err=True)


def _entry(service: CacheService, path: NamespacePath) -> Entry | None:
    try:
        return service.stat(path)
    except NotFound:
        return None
