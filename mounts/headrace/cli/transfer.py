"""`put` and `get`: between files of this machine and the tree."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.going_on import Rest, no_target_directory, require_one_name, tell_rest
from headrace.cli.local_path import LOCAL_FILE, source_then_target
from headrace.cli.progress import Note
from headrace.cli.side_by_side import SideBySide, jobs_option
from headrace.cli.tree_path import TREE_PATH
from headrace.cli.work import Tally, working
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    IsFolder,
    NotFolder,
    NotFound,
    PolicyDenied,
)
from headrace_namespace.path import NamespacePath

if TYPE_CHECKING:
    from headrace_cache.service import CacheService

#: What is held at a time: eight pages, as much as one fetch of the reader.
PIECE_BYTES = 8 << 20


@click.command(
    cls=Described,
    examples=(
        "headrace put report.csv /lake/reports/",
        "headrace put -r ./2026 /lake/2026",
        "make-report | headrace put - /lake/report.csv",
    ),
    codes=WORKING,
)
@click.argument(
    "sources", nargs=-1, metavar="FILE...", shell_complete=source_then_target(LOCAL_FILE, TREE_PATH)
)
@click.argument("target", type=TREE_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@no_target_directory
@jobs_option
@json_option
@pass_call
def put(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    exact: bool,
    jobs: int,
    as_json: bool,
) -> int:
    """Write files of this machine into the tree.

    FILE - is standard input. Where the target is a folder, or ends with a slash, each goes into it
    under its own name. Nobody sees an object before it is written whole.
    """
    require_one_name(sources, target, exact)
    service = call.service()
    place = NamespacePath.parse(target)
    with working("written", as_json) as (tally, note):
        try:
            there = _entry(service, place)
        except HeadraceError as error:
            tally.fail(place, error)
            sources, there = (), None
        into = not exact and (
            target.endswith("/") or len(sources) > 1 or (there is not None and there.is_folder)
        )
        if into and "-" in sources:
            raise click.UsageError("standard input has no name: say the object's own path")
        # What was written to where nothing was is whole, and need not be written again.
        left_alone = no_clobber or (there is None and not into)
        options = ("put", "-r", "-n") if left_alone else ("put", "-r")
        rest = Rest(call, options, sources if recursive else (), target, into)
        for source in sources:
            failures = tally.failures
            path = place.child(Path(os.path.abspath(source)).name) if into else place
            _put_all(service, source, path, recursive, no_clobber, jobs, tally, note)
            if recursive and tally.failures == failures:
                rest.done(source)
    tell_rest(call, tally)
    return tally.code


@click.command(
    cls=Described,
    examples=("headrace get /lake/reports/2026.csv .", "headrace get -r /lake/2026 ./2026"),
    codes=WORKING,
)
@click.argument(
    "sources", nargs=-1, metavar="PATH...", shell_complete=source_then_target(TREE_PATH, LOCAL_FILE)
)
@click.argument("target", type=LOCAL_FILE)
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@click.option("--to-disk", is_flag=True, help="Also what the policy keeps from every disk.")
@no_target_directory
@jobs_option
@json_option
@pass_call
def get(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    to_disk: bool,
    exact: bool,
    jobs: int,
    as_json: bool,
) -> int:
    """Write objects of the tree to files of this machine.

    What the policy keeps in memory only is refused, for a file would leave it on this disk, unless
    --to-disk says that you may. A file takes its place when it is whole.
    """
    require_one_name(sources, target, exact)
    service = call.service()
    folder = Path(target)
    into = not exact and (target.endswith("/") or len(sources) > 1 or folder.is_dir())
    options = ["get", *(("-r",) if recursive else ()), *(("--to-disk",) if to_disk else ())]
    if no_clobber or not (into or folder.exists()):
        options.append("-n")
    rest = Rest(call, options, sources if recursive else (), target, into)
    with working("written", as_json) as (tally, note):
        for source in sources:
            path, failures = NamespacePath.parse(source), tally.failures
            place = folder / path.name if into else folder
            try:
                if service.stat(path).is_folder:
                    if not recursive:
                        raise IsFolder(f"{path} is a folder", path=path.text, hint="give -r")
                    if place.exists() and not place.is_dir():
                        raise NotFolder(
                            f"{path} is a folder, and {place} is a file",
                            path=path.text,
                            hint="name a folder, or what is not there yet",
                        )
                _get_all(service, path, place, no_clobber, to_disk, jobs, tally, note)
            except HeadraceError as error:
                tally.fail(path, error)
            if recursive and tally.failures == failures:
                rest.done(source)
    tell_rest(call, tally)
    return tally.code


def _put_all(
    service: CacheService,
    source: str,
    path: NamespacePath,
    recursive: bool,
    exclusive: bool,
    jobs: int,
    tally: Tally,
    note: Note,
) -> None:
    """A file, a folder with all below it, or standard input."""
    many = SideBySide(jobs)
    if source == "-":
        with open(0, "rb", closefd=False) as file:
            _put(service, file, path, exclusive, many, tally, note)
        return
    local = Path(source)
    if local.is_dir() and not recursive:
        tally.fail(local, IsFolder(f"{source} is a folder", hint="give -r"))
        return
    many.run(
        partial(_put_file, service, name, path.below(relative), exclusive, many, tally, note)
        for name, relative in _files_below(local)
    )


def _put_file(
    service: CacheService,
    file_name: Path,
    path: NamespacePath,
    exclusive: bool,
    many: SideBySide,
    tally: Tally,
    note: Note,
) -> None:
    try:
        file = file_name.open("rb")
    except FileNotFoundError:
        missing = NotFound(f"there is no file {file_name} on this machine")
        tally.fail(file_name, missing)
        return
    except OSError as error:
        tally.fail(file_name, error)
        return
    with file:
        _put(service, file, path, exclusive, many, tally, note)


def _put(
    service: CacheService,
    file: IO[bytes],
    path: NamespacePath,
    exclusive: bool,
    many: SideBySide,
    tally: Tally,
    note: Note,
) -> None:
    """One object, seen by nobody before it is whole; an error of it ends only it."""
    try:
        writer = service.create(path, exclusive=exclusive)
        try:
            while data := file.read(PIECE_BYTES):
                many.check()
                writer.write(memoryview(data))
                note(tally.objects, tally.moving(len(data)))
            writer.commit()
        except BaseException:
            writer.abort()
            raise
        finally:
            tally.moving(-writer.written)
    except AlreadyExists as error:
        if not exclusive:
            tally.fail(path, error)
    except (HeadraceError, OSError) as error:
        tally.fail(path, error)
    else:
        tally.done(writer.written)


def _get_all(
    service: CacheService,
    path: NamespacePath,
    place: Path,
    no_clobber: bool,
    to_disk: bool,
    jobs: int,
    tally: Tally,
    note: Note,
) -> None:
    from headrace_mounts.selecting import Unlisted, objects_below

    entry = service.stat(path)
    many, mode = SideBySide(jobs), 0o666 & ~_umask()

    def bring(source: NamespacePath, file: Path) -> None:
        try:
            _get(service, source, file, to_disk, mode, many, tally, note)
        except (HeadraceError, OSError) as error:
            tally.fail(source, error)

    def steps() -> Iterator[Callable[[], None]]:
        for found in objects_below(service, path) if entry.is_folder else (entry,):
            if isinstance(found, Unlisted):
                tally.fail(found.path, found.error)
                continue
            relative = found.path.relative_to(path)
            file = place / relative if relative else place
            if not (no_clobber and file.exists()):
                yield partial(bring, found.path, file)

    many.run(steps())


def _get(
    service: CacheService,
    path: NamespacePath,
    file: Path,
    to_disk: bool,
    mode: int,
    many: SideBySide,
    tally: Tally,
    note: Note,
) -> None:
    """One file: written beside its place, then moved there; of a failure nothing is left."""
    with closing(service.open(path)) as opened:

        def check() -> None:
            """The policy may change while the file is copied."""
            if opened.restricted and not to_disk:
                raise PolicyDenied(
                    f"the policy keeps {path} from every disk",
                    path=path.text,
                    hint="headrace cat it into a program, or give --to-disk if you may",
                )

        check()
        file.parent.mkdir(parents=True, exist_ok=True)
        size = opened.version.size
        moved = 0
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".headrace-")
        try:
            with open(handle, "wb") as target:
                for start in range(0, size, PIECE_BYTES):
                    many.check()
                    piece = opened.read_at(start, start + PIECE_BYTES)
                    check()
                    count = target.write(piece)
                    moved += count
                    note(tally.objects, tally.moving(count))
            check()
            os.chmod(draft, mode)
            os.replace(draft, file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            raise
        finally:
            tally.moving(-moved)
    tally.done(size)


def _files_below(place: Path) -> Iterator[tuple[Path, str]]:
    """The file itself, or each file below a folder, with its path from there. Links to folders are
    not followed: they can lead in circles."""
    if not place.is_dir():
        yield place, ""
        return
    for folder, folders, files in os.walk(place):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            yield file, file.relative_to(place).as_posix()


def _entry(service: CacheService, path: NamespacePath) -> Entry | None:
    try:
        return service.stat(path)
    except NotFound:
        return None


def _umask() -> int:
    # There is no way to ask for it but to set it; no file is being made yet.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
