"""`put` and `get`: between files of this machine and the tree."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.progress import Note
from headrace.cli.tree_path import TREE_PATH
from headrace.cli.work import Tally, working
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    IsFolder,
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
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@click.argument("target", type=TREE_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@json_option
@pass_call
def put(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    as_json: bool,
) -> int:
    """Write files of this machine into the tree.

    FILE - is standard input. Where the target is a folder, or ends with a slash, each goes into it
    under its own name. Nobody sees an object before it is written whole.
    """
    service = call.service()
    into = target.endswith("/") or len(sources) > 1 or _is_folder(service, target)
    with working("written", as_json) as (tally, note):
        for source in sources:
            path = NamespacePath.parse(target)
            if source == "-":
                if into:
                    raise click.UsageError("standard input has no name: say the object's own path")
                with open(0, "rb", closefd=False) as file:
                    _put(service, file, path, no_clobber, tally, note)
                continue
            local = Path(source)
            if into:
                path = path.child(Path(os.path.abspath(source)).name)
            if local.is_dir() and not recursive:
                tally.fail(path, IsFolder(f"{source} is a folder", hint="give -r", path=source))
                continue
            for file_name, relative in _files_below(local):
                _put_file(service, file_name, path.below(relative), no_clobber, tally, note)
    return tally.code


@click.command(
    cls=Described,
    examples=("headrace get /lake/reports/2026.csv .", "headrace get -r /lake/2026 ./2026"),
    codes=WORKING,
)
@click.argument("sources", type=TREE_PATH, nargs=-1, required=True, metavar="PATH...")
@click.argument("target", type=click.Path())
@click.option("-r", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@click.option("--to-disk", is_flag=True, help="Also what the policy keeps from every disk.")
@json_option
@pass_call
def get(
    call: Call,
    sources: tuple[str, ...],
    target: str,
    recursive: bool,
    no_clobber: bool,
    to_disk: bool,
    as_json: bool,
) -> int:
    """Write objects of the tree to files of this machine.

    What the policy keeps in memory only is refused, for a file would leave it on this disk, unless
    --to-disk says that you may. A file takes its place when it is whole.
    """
    service = call.service()
    folder = Path(target)
    into = target.endswith("/") or len(sources) > 1 or folder.is_dir()
    with working("written", as_json) as (tally, note):
        for source in sources:
            path = NamespacePath.parse(source)
            place = folder / path.name if into else folder
            try:
                if service.stat(path).is_folder and not recursive:
                    raise IsFolder(f"{path} is a folder", path=path.text, hint="give -r")
            except HeadraceError as error:
                tally.fail(path, error)
                continue
            _get_all(service, path, place, no_clobber, to_disk, tally, note)
    return tally.code


def _put_file(
    service: CacheService,
    file_name: Path,
    path: NamespacePath,
    exclusive: bool,
    tally: Tally,
    note: Note,
) -> None:
    try:
        file = file_name.open("rb")
    except OSError as error:
        tally.fail(path, error)
        return
    with file:
        _put(service, file, path, exclusive, tally, note)


def _put(
    service: CacheService,
    file: IO[bytes],
    path: NamespacePath,
    exclusive: bool,
    tally: Tally,
    note: Note,
) -> None:
    """One object, seen by nobody before it is whole; an error of it ends only it."""
    try:
        writer = service.create(path, exclusive=exclusive)
        try:
            while data := file.read(PIECE_BYTES):
                writer.write(memoryview(data))
                note(tally.objects, tally.bytes + writer.written)
            writer.commit()
        except BaseException:
            writer.abort()
            raise
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
    tally: Tally,
    note: Note,
) -> None:
    from headrace_mounts.selecting import Unlisted, objects_below

    entry = service.stat(path)
    for found in objects_below(service, path) if entry.is_folder else (entry,):
        if isinstance(found, Unlisted):
            tally.fail(found.path, found.error)
            continue
        relative = found.path.relative_to(path)
        file = place / relative if relative else place
        if no_clobber and file.exists():
            continue
        try:
            _get(service, found.path, file, to_disk, tally, note)
        except (HeadraceError, OSError) as error:
            tally.fail(found.path, error)


def _get(
    service: CacheService, path: NamespacePath, file: Path, to_disk: bool, tally: Tally, note: Note
) -> None:
    """One file: written beside its place, then moved there; of a failure nothing is left."""
    with closing(service.open(path)) as opened:
        if opened.restricted and not to_disk:
            raise PolicyDenied(
                f"the policy keeps {path} from every disk",
                path=path.text,
                hint="headrace cat it into a program, or give --to-disk if you may",
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        size = opened.version.size
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".headrace-")
        try:
            with open(handle, "wb") as target:
                for start in range(0, size, PIECE_BYTES):
                    target.write(opened.read_at(start, start + PIECE_BYTES))
                    note(tally.objects, tally.bytes + start)
            os.chmod(draft, 0o666 & ~_umask())
            os.replace(draft, file)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            raise
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


def _is_folder(service: CacheService, text: str) -> bool:
    try:
        return service.stat(NamespacePath.parse(text)).is_folder
    except NotFound:
        return False


def _umask() -> int:
    # There is no way to ask for it but to set it; one thread runs here.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
