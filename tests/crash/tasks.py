"""What the processes of these tests do; each is forked by the nursery, and ends by `os._exit`.

They reach the cache as programs do: through the fsspec file system.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import (
    ConfigError,
    NotFound,
    PolicyDenied,
    StoreFull,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.path import NamespacePath
from tests.crash.site import HEAD, Site, content, generation_in, is_right, names

#: How a process says that it was served wrong bytes, and that something was raised.
WRONG, RAISED = 41, 42

#: Far above what a check takes on a busy machine.
HANGS_SECONDS = 150

#: What may happen where others write the same files and the policy changes.
_USUAL = (NotFound, PolicyDenied, StoreFull, VersionGone, WriteConflict)


def run(task: str, arguments: list[Any]) -> None:
    """Do the task and end the process, in order and by the number that it returns."""
    status = RAISED
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)  # stdout is the nursery's
        status = _TASKS[task](*arguments)
        disconnect_all()
    except BaseException:
        status = RAISED
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def file_system(site: Site) -> HeadraceFileSystem:
    return HeadraceFileSystem(config=site.config(), skip_instance_cache=True)


def work(root: str, seed: int, progress: str, rounds: int) -> int:
    """Read, write, warm, drop, pin and unpin at random; a byte into the pipe `progress` for each.
    0 rounds: until killed."""
    chance = random.Random(seed)
    site = Site(Path(root))
    fs = file_system(site)
    pipe = os.open(progress, os.O_WRONLY)
    done = 0
    while not rounds or done < rounds:
        done += 1
        name = chance.choice(names())
        step = chance.choices(list(_STEPS), [weight for _, weight in _STEPS.values()])[0]
        try:
            right = _STEPS[step][0](fs, name, chance)
        except _USUAL:
            right = True
        except OSError as error:
            # Through fsspec a vanished file is Python's own error.
            if not isinstance(error, FileNotFoundError | PermissionError):
                raise
            right = True
        if not right:
            print(f"{step} {name}: wrong bytes", file=sys.stderr)
            return WRONG
        os.write(pipe, b".")
    return 0


def _read(fs: HeadraceFileSystem, name: str, _: random.Random) -> bool:
    return is_right(name, fs.cat_file(f"/lake/{name}"))


def _read_part(fs: HeadraceFileSystem, name: str, chance: random.Random) -> bool:
    with fs.open(f"/lake/{name}") as file:
        whole = content(name, generation_in(file.read(HEAD)))
        start = chance.randrange(len(whole))
        file.seek(start)
        data = file.read(chance.randrange(1, 500_000))
    return bool(data == whole[start : start + len(data)])


def _write(fs: HeadraceFileSystem, name: str, chance: random.Random) -> bool:
    fs.pipe_file(f"/lake/{name}", content(name, chance.randrange(1, 1000)))
    return True


def _warm(fs: HeadraceFileSystem, name: str, _: random.Random) -> bool:
    opened = fs.service.open(NamespacePath(f"/lake/{name}"))
    try:
        opened.warm(0, opened.version.size)
    finally:
        opened.close()
    return True


def _drop(fs: HeadraceFileSystem, name: str, _: random.Random) -> bool:
    fs.service.drop(NamespacePath(f"/lake/{name}"))
    return True


def _pin(fs: HeadraceFileSystem, name: str, _: random.Random) -> bool:
    fs.service.pin(NamespacePath(f"/lake/{name}"))
    return True


def _unpin(fs: HeadraceFileSystem, name: str, _: random.Random) -> bool:
    fs.service.unpin(NamespacePath(f"/lake/{name}"))
    return True


def _flush(fs: HeadraceFileSystem, _: str, __: random.Random) -> bool:
    fs.service.flush()
    return True


#: Each step, and how often it is taken.
_STEPS: dict[str, tuple[Callable[[HeadraceFileSystem, str, random.Random], bool], int]] = {
    "read": (_read, 8),
    "read_part": (_read_part, 6),
    "write": (_write, 2),
    "warm": (_warm, 3),
    "drop": (_drop, 1),
    "pin": (_pin, 1),
    "unpin": (_unpin, 1),
    "flush": (_flush, 1),
}


def check(root: str, report: str, files: list[str]) -> int:
    """Start as a fresh process does, read these files, and write into `report` what is wrong, how
    long it took to the first byte, how many bytes came from the store, and what was logged."""
    # Who hangs tells where, and ends.
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
    logged = Path(report).with_suffix(".log")
    logging.basicConfig(level=logging.WARNING, filename=str(logged), filemode="w")
    told: dict[str, Any]
    try:
        told = _checked(Site(Path(root)), files)
    except ConfigError as error:
        told = {"wrong": [], "refused": str(error), "fetched": 0}
    told["warnings"] = [line for line in logged.read_text().splitlines() if line]
    Path(report).write_text(json.dumps(told))
    return WRONG if told["wrong"] else 0


def _checked(site: Site, wanted: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    fs = file_system(site)
    fs.cat_file(f"/lake/{wanted[0]}", 0, 1)
    seconds = time.perf_counter() - start
    wrong = [name for name in wanted if not is_right(name, _whole(fs, name))]
    fs.service.flush()
    status = fs.service.status()
    disconnect_all()
    return {
        "wrong": wrong,
        "seconds": seconds,
        "fetched": status.bytes_fetched,
    }


def _whole(fs: HeadraceFileSystem, name: str) -> bytes:
    """The file, of which workers may be writing another version."""
    for _ in range(10):
        try:
            return fs.cat_file(f"/lake/{name}")
        except VersionGone:
            continue
    return fs.cat_file(f"/lake/{name}")


_TASKS: dict[str, Callable[..., int]] = {"work": work, "check": check}
