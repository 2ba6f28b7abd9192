"""Mounts made at run time: what is checked before, who sees them, and what they cannot break."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.errors import (
    AlreadyExists,
    ConfigError,
    CredentialsRefused,
    HeadraceError,
    NotFolder,
    NotFound,
    StoreMissing,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.metadata.ledger import (
    Book,
    LedgerFault,
    LmdbLedger,
    MemoryLedger,
    Page,
)
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.mount_declarations import read_written_mount
from headrace_namespace.mount_loops import loop
from headrace_namespace.mount_table import RUN_TIME, Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.opening import open_namespace
from headrace_namespace.path import NamespacePath
from headrace_namespace.run_time_mounts import LOOK_SECONDS, MOST_RECORD_BYTES
from headrace_namespace.tree import MountedStore
from tests.conftest import Bucket
from tests.fakes.clock import ManualClock


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


class FaultyLedger(MemoryLedger):
    """A ledger that lasts as long as the test, and can be told to be damaged."""

    lasts = True
    damaged = False

    def book(self, name: str) -> Book:
        return FaultyBook(super().book(name), self)


class FaultyBook:
    def __init__(self, book: Book, ledger: FaultyLedger) -> None:
        self._book = book
        self._ledger = ledger

    def generation(self) -> int:
        if self._ledger.damaged:
            raise LedgerFault("the page is torn")
        return self._book.generation()

    def read(self) -> AbstractContextManager[Page]:
        return self._book.read()

    def write(self) -> AbstractContextManager[Page]:
        return self._book.write()


class World:
    """One ledger, a clock, and as many trees over them as there would be processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.ledger = FaultyLedger()
        self.environ = {"NAME": "data"}
        self.own_folders = (str(folder / "cache"), str(folder / "state"))
        self._trees: list[Namespace] = []

    def put(self, name: str, data: bytes = b"x") -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def context(self, environ: Mapping[str, str] | None = None) -> BackendContext:
        return BackendContext(self.clock, environ or self.environ, str(self.folder))

    def declaration(
        self, where: str, url: str, *, environ: Mapping[str, str] | None = None, **more: object
    ) -> MountDeclaration:
        written = {"path": where, "url": url, **more}
        return read_written_mount(written, f"mount {where}", self.context(environ))

    def tree(self, *fixed: MountDeclaration, **environ: str) -> Namespace:
        """A tree, as a process of its own would have it."""
        context = self.context(environ or None)
        made = open_namespace(fixed, context, MemoryMetadata(), self.ledger, self.own_folders)
        self._trees.append(made)
        return made

    def write(self, where: str, table: Mapping[str, object], mounting: str = "1") -> None:
        """A record as another process, with other means, would write it."""
        record = {
            "mounting": mounting,
            "base_folder": str(self.folder),
            "table": {"path": where, **table},
        }
        with self.ledger.book("mounts").write() as page:
            page.put(where.encode(), json.dumps(record).encode())

    def close(self) -> None:
        for tree in self._trees:
            tree.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def read(tree: Namespace, text: str) -> bytes:
    resolved = tree.resolve(path(text))
    version = tree.stat(resolved).version
    assert version is not None and resolved.mount is not None
    data = bytearray(version.size)
    tree.read_into(resolved.mount, version, 0, memoryview(data))
    return bytes(data)


def mounted(tree: Namespace) -> list[str]:
    return [mount.path.text for mount in tree.mounts]


def store(tree: Namespace, text: str) -> MountedStore:
    mount = tree.resolve(path(text)).mount
    assert mount is not None
    return tree.store_of(mount)


def test_another_process_sees_a_mount_within_a_second(world: World) -> None:
    world.put("data/a", b"hello")
    one, other = world.tree(), world.tree()
    assert one.add_mount(world.declaration("/d", "data")) == []
    assert read(one, "/d/a") == b"hello"
    world.clock.sleep(LOOK_SECONDS)
    assert read(other, "/d/a") == b"hello"
    assert [entry.path.text for entry in other.list(other.resolve(path("/")))] == ["/d"]
    (mount,) = other.mounts
    assert (mount.source, mount.url) == (RUN_TIME, "data")
    other.remove_mount(path("/d"))
    assert mounted(other) == []
    world.clock.sleep(LOOK_SECONDS)
    assert mounted(one) == []
    with pytest.raises(NotFound, match="nothing is mounted yet"):
        one.resolve(path("/d/a"))


def test_it_looks_no_more_than_once_a_second(world: World) -> None:
    world.put("data/a")
    one, other = world.tree(), world.tree()
    one.add_mount(world.declaration("/d", "data"))
    world.clock.sleep(LOOK_SECONDS / 2)
    assert mounted(other) == []
    world.clock.sleep(LOOK_SECONDS / 2)
    assert mounted(other) == ["/d"]


def test_mounts_that_stay_keep_their_very_stores(world: World) -> None:
    world.put("data/a")
    tree = world.tree(world.declaration("/fixed", "data"))
    tree.add_mount(world.declaration("/one", "data"))
    fixed, one = store(tree, "/fixed"), store(tree, "/one")
    tree.add_mount(world.declaration("/two", "data"))
    tree.remove_mount(path("/two"))
    assert store(tree, "/fixed") is fixed
    assert store(tree, "/one") is one


def test_requests_of_a_mount_that_went_are_not_forgotten(world: World) -> None:
    world.put("data/a")
    tree = world.tree()
    for _ in range(2):
        tree.add_mount(world.declaration("/d", "data"))
        read(tree, "/d/a")
        tree.remove_mount(path("/d"))
    assert tree.requests()["/d"]["read"] == 2
    assert type(tree.requests()["/d"]) is dict  # dataclasses.asdict breaks a Counter


def test_an_open_object_of_a_mount_that_went_fails_clearly(world: World) -> None:
    world.put("data/a", b"old")
    world.put("other/a", b"new")
    tree = world.tree()
    tree.add_mount(world.declaration("/d", "data"))
    resolved = tree.resolve(path("/d/a"))
    version, mount = tree.stat(resolved).version, resolved.mount
    assert version is not None and mount is not None
    tree.remove_mount(path("/d"))
    target = memoryview(bytearray(3))
    with pytest.raises(NotFound, match="/d was unmounted"):
        tree.read_into(mount, version, 0, target)
    tree.add_mount(world.declaration("/d", "other"))
    with pytest.raises(NotFound, match="/d was unmounted"):
        tree.read_into(mount, version, 0, target)
    assert bytes(target) == bytes(3)
    assert read(tree, "/d/a") == b"new"


def test_the_same_table_mounted_again_is_another_mount(world: World) -> None:
    world.put("data/a")
    tree = world.tree()
    found: list[Mount] = []
    for _ in range(2):
        tree.add_mount(world.declaration("/d", "data"))
        found += tree.mounts
        tree.remove_mount(path("/d"))
    assert found[0] != found[1]


def test_bytes_are_never_asked_of_another_store(world: World, bucket: Bucket) -> None:
    world.put("data/a", b"local")
    bucket.put("a", b"in s3")
    environ = s3_environ(bucket)
    tree = world.tree(**environ)
    tree.add_mount(world.declaration("/d", "data"))
    add_bucket(world, tree, bucket, "/b")
    local = tree.resolve(path("/d/a"))
    version = tree.stat(local).version
    remote = tree.resolve(path("/b/a")).mount
    assert version is not None and remote is not None
    with pytest.raises(VersionGone, match="another store was mounted at /b"):
        tree.read_into(remote, version, 0, memoryview(bytearray(5)))


@pytest.mark.parametrize(
    ("where", "url", "kind", "sentence"),
    [
        ("/fixed", "data", AlreadyExists, "/fixed is mounted already"),
        ("/FIXED", "data", AlreadyExists, "/fixed is mounted already"),
        ("/d", "data", AlreadyExists, "/d is mounted already"),
        ("/fixed/a", "data", AlreadyExists, "/fixed/a is a file"),
        ("/fixed/a/b/c", "data", NotFolder, "/fixed/a is a file"),
        ("/file/x", "data", NotFolder, "/file is a file"),
        ("/fixed/sub", "data", AlreadyExists, "folder with something in it.*--over"),
        ("/", "data/a", NotFolder, "single file"),
        ("/new", "none", StoreMissing, "none does not exist"),
        ("/new", ".", ConfigError, "headrace keeps its own files"),
        ("/new", "cache", ConfigError, "lies in .*cache"),
        ("/new", "state/x", ConfigError, "lies in .*state"),
        ("/new", "link", ConfigError, "headrace keeps its own files"),
    ],
)
def test_a_place_that_is_taken_or_wrong_is_refused(
    where: str, url: str, kind: type[HeadraceError], sentence: str, world: World
) -> None:
    world.put("data/a")
    world.put("data/sub/x")
    world.put("cache/page")
    (world.folder / "link").symlink_to(world.folder)
    tree = world.tree(world.declaration("/fixed", "data"), world.declaration("/file", "data/a"))
    tree.add_mount(world.declaration("/d", "data"))
    before = mounted(tree)
    with pytest.raises(kind, match=sentence):
        tree.add_mount(world.declaration(where, url))
    assert mounted(tree) == before


@pytest.mark.parametrize("where", ["/fixed/new", "/fixed/empty", "/fixed/new/deep/er", "/"])
def test_a_free_place_is_not_refused(where: str, world: World) -> None:
    world.put("data/a")
    (world.folder / "data/empty").mkdir()
    tree = world.tree(world.declaration("/fixed", "data"))
    others = tree.add_mount(world.declaration(where, "data"))
    assert [other.path.text for other in others] == ["/fixed"]
    assert read(tree, f"{where.rstrip('/')}/a") == b"x"
    assert read(tree, "/fixed/a") == b"x"


def test_mounting_over_hides_and_unmounting_shows_again(world: World) -> None:
    world.put("data/sub/x", b"below")
    world.put("other/x", b"above")
    tree = world.tree(world.declaration("/fixed", "data"))
    tree.add_mount(world.declaration("/fixed/sub", "other"), over=True)
    assert read(tree, "/fixed/sub/x") == b"above"
    tree.remove_mount(path("/fixed/sub"))
    assert read(tree, "/fixed/sub/x") == b"below"


def test_only_what_was_mounted_at_run_time_is_unmounted(world: World) -> None:
    world.put("data/a")
    tree = world.tree(world.declaration("/fixed", "data"))
    with pytest.raises(ConfigError, match="not mounted at run time: it stands in"):
        tree.remove_mount(path("/fixed"))
    with pytest.raises(NotFound, match=r"nothing is mounted at /none \(mounted: /fixed\)"):
        tree.remove_mount(path("/none"))


def test_the_configuration_holds_where_both_mount_a_path(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("data/a", b"file")
    world.put("other/a", b"run time")
    world.tree().add_mount(world.declaration("/D", "other"))
    with caplog.at_level(logging.WARNING):
        tree = world.tree(world.declaration("/d", "data"))
        world.tree().add_mount(world.declaration("/more", "data"))
        world.clock.sleep(LOOK_SECONDS)
        assert mounted(tree) == ["/d", "/more"]
    assert read(tree, "/d/a") == b"file"
    assert len([line for line in caplog.messages if "/D was mounted at run time" in line]) == 1
    tree.remove_mount(path("/D"))


def test_two_processes_cannot_both_take_a_path(world: World) -> None:
    world.put("data/a")
    one, other = world.tree(), world.tree()
    record = world.declaration("/d", "data")
    one.add_mount(record)
    # The other has not looked yet, as if it had been between its look and its write.
    with pytest.raises(AlreadyExists):
        other.add_mount(record)


UNREADABLE = [
    ({"url": "carrier-pigeon://coop"}, "no backend knows"),
    ({"url": "${NOWHERE}/x"}, "NOWHERE is not set"),
    ({"url": "data", "options": {"speed": "9"}}, "speed: is not a known key"),
    ({"url": "data", "colour": "red"}, "colour: is not a known key"),
    ({"url": 7}, "must be a text"),
    ({"url": "cache/x"}, "headrace keeps its own files"),
]


@pytest.mark.parametrize(("table", "sentence"), UNREADABLE)
def test_a_mount_that_this_process_cannot_open_answers_with_why(
    table: Mapping[str, object], sentence: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("data/a", b"fine")
    world.write("/bad", table)
    tree = world.tree(world.declaration("/d", "data"))
    assert read(tree, "/d/a") == b"fine"
    assert mounted(tree) == ["/bad", "/d"]
    shown = {entry.path.text for entry in tree.list(tree.resolve(path("/")))}
    assert shown == {"/bad", "/d"}
    with pytest.raises(ConfigError, match="the mount /bad cannot be used") as caught:
        tree.stat(tree.resolve(path("/bad/x")))
    assert sentence in str(caught.value)
    with pytest.raises(ConfigError, match="the mount /bad cannot be used"):
        list(tree.list(tree.resolve(path("/bad"))))
    tree.add_mount(world.declaration("/e", "data"))
    assert len([line for line in caplog.messages if "/bad" in line]) == 1
    tree.remove_mount(path("/bad"))
    assert mounted(tree) == ["/d", "/e"]


@pytest.mark.parametrize(
    ("key", "raw"),
    [(b"/bad", b"{"), (b"/bad", b"[]"), (b"/bad", b"{}"), (b"/a/../..", b"{}"), (b"\xff", b"1")],
)
def test_a_damaged_record_takes_nothing_else_down(key: bytes, raw: bytes, world: World) -> None:
    world.put("data/a", b"fine")
    with world.ledger.book("mounts").write() as page:
        page.put(key, raw)
    tree = world.tree(world.declaration("/d", "data"))
    assert read(tree, "/d/a") == b"fine"


def test_a_mount_that_cannot_be_opened_still_gives_its_names_to_policy(world: World) -> None:
    world.put("data/sub/a", b"fine")
    world.write("/bad", {"url": "data/sub", "options": {"x": "1"}, "tags": ["pii=eu", "?"]})
    tree = world.tree(world.declaration("/d", "data"))
    names = {name.path.text: name.tags for name in tree.resolve(path("/d/sub/a")).names}
    assert names == {"/d/sub/a": frozenset(), "/bad/a": frozenset({"pii=eu"})}


def test_a_ledger_that_cannot_be_read_any_more_leaves_the_tree_as_it_was(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("data/a", b"fine")
    tree = world.tree()
    tree.add_mount(world.declaration("/d", "data"))
    world.ledger.damaged = True
    for _ in range(3):
        world.clock.sleep(LOOK_SECONDS)
        assert read(tree, "/d/a") == b"fine"
    assert len([line for line in caplog.messages if "the page is torn" in line]) == 1
    world.ledger.damaged = False
    tree.remove_mount(path("/d"))
    assert mounted(tree) == []


def test_variables_are_kept_as_written(world: World) -> None:
    world.put("data/a", b"one")
    world.put("other/a", b"two")
    tree = world.tree()
    tree.add_mount(world.declaration("/d", "${NAME}"))
    with world.ledger.book("mounts").read() as page:
        raw = page.get(b"/d")
    assert raw is not None and b"${NAME}" in raw
    assert read(tree, "/d/a") == b"one"
    assert read(world.tree(NAME="other"), "/d/a") == b"two"


def test_a_mount_has_a_bound(world: World) -> None:
    world.put("data/a")
    tree = world.tree()
    with pytest.raises(ConfigError, match="at most 500 bytes"):
        tree.add_mount(world.declaration("/" + "x" * 600, "data"))
    tags = [f"a={'y' * MOST_RECORD_BYTES}"]
    with pytest.raises(ConfigError, match="at most"):
        tree.add_mount(world.declaration("/d", "data", tags=tags))


def test_two_hundred_mounts(world: World, tmp_path: Path) -> None:
    ledger = LmdbLedger(tmp_path / "ledger")
    context = world.context()
    for number in range(200):
        world.put(f"data/{number}/a", b"%d" % number)
    trees = [open_namespace((), context, MemoryMetadata(), ledger, ()) for _ in range(2)]
    for number in range(200):
        trees[0].add_mount(world.declaration(f"/m{number}", f"data/{number}"))
    world.clock.sleep(LOOK_SECONDS)
    assert len(trees[1].mounts) == 200
    for number in range(200):
        assert read(trees[1], f"/m{number}/a") == b"%d" % number
    with pytest.raises(NotFound, match="and 190 more"):
        trees[1].resolve(path("/none"))
    for tree in trees:
        tree.close()
    ledger.close()


# Over a real S3 server.


def s3_environ(bucket: Bucket) -> dict[str, str]:
    return {"KEY": bucket.access_key, "SECRET": bucket.secret_key, "WRONG": "not it"}


def add_bucket(
    world: World,
    tree: Namespace,
    bucket: Bucket,
    where: str,
    url: str | None = None,
    **changes: str,
) -> list[str]:
    options = {
        "endpoint_url": bucket.endpoint,
        "key_env": "KEY",
        "secret_env": "SECRET",
        "max_attempts": "2",
        **changes,
    }
    declaration = world.declaration(
        where, url or f"s3://{bucket.name}", environ=s3_environ(bucket), options=options
    )
    return [other.path.text for other in tree.add_mount(declaration)]


def test_a_bucket_is_mounted_by_words(world: World, bucket: Bucket) -> None:
    bucket.put("deep/a", b"in s3")
    tree, other = (world.tree(**s3_environ(bucket)) for _ in range(2))
    assert add_bucket(world, tree, bucket, "/b") == []
    assert add_bucket(world, tree, bucket, "/deep", f"s3://{bucket.name}/deep") == ["/b"]
    assert read(tree, "/b/deep/a") == b"in s3"
    world.clock.sleep(LOOK_SECONDS)
    assert read(other, "/deep/a") == b"in s3"


def test_a_prefix_with_nothing_below_it_is_mounted_for_writing(
    world: World, bucket: Bucket
) -> None:
    tree = world.tree(**s3_environ(bucket))
    add_bucket(world, tree, bucket, "/new", f"s3://{bucket.name}/nothing/yet")
    assert mounted(tree) == ["/new"]


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"secret_env": "WRONG"}, CredentialsRefused, ""),
        ({"key_env": "WRONG"}, CredentialsRefused, ""),
        ({"url": "s3://no-such-bucket"}, StoreMissing, "no-such-bucket"),
        ({"endpoint_url": "http://127.0.0.1:1"}, StoreUnavailable, "nothing listens at"),
        ({"key_env": "UNSET"}, ConfigError, "'UNSET' is not set"),
        ({"endpoint_ur": "x"}, ConfigError, "did you mean 'endpoint_url'"),
        ({"anon": "perhaps"}, ConfigError, "must be true or false, not 'perhaps'"),
        ({"max_connections": "0"}, ConfigError, "must be at least 1"),
        ({"secret": "hunter2"}, ConfigError, "a secret does not belong"),
    ],
)
def test_a_bucket_that_cannot_be_reached_is_told_and_not_mounted(
    changes: Mapping[str, str],
    kind: type[HeadraceError],
    sentence: str,
    world: World,
    bucket: Bucket,
) -> None:
    tree = world.tree(**s3_environ(bucket))
    with pytest.raises(kind) as caught:
        add_bucket(world, tree, bucket, "/b", **changes)
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert mounted(tree) == []


def test_unchecked_asks_no_store(world: World, bucket: Bucket) -> None:
    tree = world.tree(**s3_environ(bucket))
    options = {"endpoint_url": "http://127.0.0.1:1", "anon": "true", "max_attempts": "1"}
    declaration = world.declaration("/b", "s3://later", options=options)
    tree.add_mount(declaration, checked=False)
    with pytest.raises(StoreUnavailable):
        tree.stat(tree.resolve(path("/b/x")))


# Loops.


def test_what_lies_in_the_tree_itself_is_not_mounted(tmp_path: Path) -> None:
    info = tmp_path / "mountinfo"
    info.write_bytes(
        b"36 35 98:0 / / rw - ext4 /dev/root rw\n"
        b"99 36 0:50 / /mnt/my\\040tree rw,nosuid shared:1 - fuse.headrace headrace rw\n"
        b"broken\n"
    )
    assert loop("/mnt/my tree/data", (), info) == (
        "/mnt/my tree/data lies in /mnt/my tree, where the tree itself is mounted"
    )
    assert loop("/mnt/my", (), info) is None
    assert loop("/mnt", (), tmp_path / "none") is None
    assert loop("/srv/cached", ("/srv/cache",), info) is None
