"""Open files and forked children while mounts come and go, over whole services."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.limits import CacheSettings
from headrace_cache.opening import open_service
from headrace_cache.service import CacheService, OpenObject
from headrace_namespace.clock import SystemClock
from headrace_namespace.declaration import BackendContext
from headrace_namespace.errors import HeadraceError, NotFound
from headrace_namespace.mount_declarations import read_written_mount
from headrace_namespace.path import NamespacePath

#: More than is fetched ahead of a reader that has read the beginning.
SIZE = 64 << 20
FILE = NamespacePath.parse("/new/a")


class Site:
    """A service without mounts, and folders to mount."""

    def __init__(self, folder: Path) -> None:
        self.context = BackendContext(SystemClock(), {}, str(folder))
        for name in ("one", "other"):
            (folder / name).mkdir()
            with (folder / name / "a").open("wb") as file:
                file.write(name.encode())
                file.truncate(SIZE)
        cache = CacheSettings(folder / "cache", 16 << 20, 0, folder / "key", folder / "state")
        self.service: CacheService = open_service([], cache, None, self.context)

    def mount(self, url: str) -> None:
        written = {"path": "/new", "url": url}
        self.service.add_mount(read_written_mount(written, "mount /new", self.context))

    def unmount(self) -> None:
        self.service.remove_mount(NamespacePath.parse("/new"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.service.close()


def test_an_open_file_goes_on_with_what_is_held_and_fails_clearly_beyond(site: Site) -> None:
    site.mount("one")
    file = site.service.open(FILE)
    assert file.read_at(0, 3) == b"one"
    site.unmount()
    assert file.read_at(0, 3) == b"one"
    for _ in range(2):  # a claim that nobody lands would hold up the second for ever
        with pytest.raises(NotFound, match="/new was unmounted"):
            file.read_at(SIZE - 3, SIZE)
    with pytest.raises(NotFound, match="no mount answers for /new/a"):
        site.service.open(FILE)
    site.mount("other")
    with pytest.raises(NotFound, match="/new was unmounted"):
        file.read_at(SIZE - 3, SIZE)
    assert file.read_at(0, 3) == b"one"
    again = site.service.open(FILE)
    assert again.read_at(0, 5) == b"other"
    assert again.read_at(SIZE - 3, SIZE) == bytes(3)
    file.close()
    again.close()


def test_readers_at_the_time_get_right_bytes_or_a_clear_error(site: Site) -> None:
    site.mount("one")
    begun = threading.Barrier(4)
    wrong: list[BaseException | bytes] = []

    def read(file: OpenObject) -> None:
        try:
            file.read_at(0, 3)
            begun.wait()
            for start in range(0, SIZE - 3, 1 << 20):
                data = file.read_at(start, start + 3)
                if data != (b"one" if start == 0 else bytes(3)):
                    wrong.append(data)
        except HeadraceError as error:
            if not isinstance(error, NotFound) and "closed" not in str(error):
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read, args=(site.service.open(FILE),)) for _ in range(3)]
    for reader in readers:
        reader.start()
    begun.wait()
    for url in ("other", "one", "other"):
        site.unmount()
        site.mount(url)
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_forked_child_has_the_mounts_and_may_make_its_own(site: Site) -> None:
    site.mount("one")
    file = site.service.open(FILE)
    assert file.read_at(0, 3) == b"one"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            site.service.after_fork_in_child()
            assert file.read_at(SIZE - 3, SIZE) == bytes(3)
            site.unmount()
            site.mount("other")
            assert site.service.open(FILE).read_at(0, 5) == b"other"
            site.service.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    site.unmount()  # what the child mounted
    assert site.service.mounts() == ()
