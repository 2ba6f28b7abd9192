"""What every backend must do, as tests to inherit.

Derive a class whose name begins with `Test`, give it a fixture `store` that makes a `Store`, and
inherit the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from threading import Thread

import pytest

from headrace_namespace.backends.protocol import Backend, Folder, Listed
from headrace_namespace.errors import InvalidPath, NotFolder, NotFound, StoreMissing, VersionGone
from headrace_namespace.identity import ObjectVersion

#: Names that any way of quoting could lose.
HARD_NAMES = [
    "with space",
    " leading and trailing ",
    "plus+sign",
    "per%20cent",
    "per%cent",
    "hash#query?at@",
    "amp&equals=semi;comma,",
    "quote'double\"",
    "new\nline",
    "back\\slash",
    "tilde~star*(round)[square]{curly}",
    "<xml>&amp;",
    "colon:dollar$bang!pipe|",
    "composed \u00e9",
    "decomposed e\u0301",
    "emoji \N{WATER WAVE}\N{FAMILY}",
    "\u6c34",
    "control \x01\x1f\x7f",
    "carriage\rreturn",
    "tab\there",
    "...",
    ".hidden",
    "-",
]


class Store(ABC):
    """A backend over an empty place, and the means to change that place behind its back."""

    backend: Backend
    #: Whether a version is known by a promise of the store's.
    strong: bool
    #: Whether the root exists by itself, not only by what lies below it (a prefix of a bucket):
    #: then its loss shows whatever is asked.
    root_is_real = True

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Make or replace an object."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an object."""

    @abstractmethod
    def make_folder(self, key: str) -> None:
        """Make an empty folder."""

    @abstractmethod
    def remove_root(self) -> None:
        """Remove the empty place itself."""


def stat_object(backend: Backend, key: str) -> ObjectVersion:
    found = backend.stat(key)
    assert isinstance(found, ObjectVersion), (key, found)
    return found


def read(backend: Backend, version: ObjectVersion, start: int, stop: int) -> bytes:
    target = bytearray(stop - start)
    backend.read_into(version, start, memoryview(target))
    return bytes(target)


def list_all(backend: Backend, key: str = "") -> list[Listed]:
    children: list[Listed] = []
    token: str | None = None
    while True:
        page = backend.list_page(backend.ref(key), token)
        children += page.children
        token = page.next_token
        if token is None:
            return children


class BackendSuite:
    """The tests."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("give this suite a store")

    def test_stat_tells_object_folder_and_nothing_apart(self, store: Store) -> None:
        store.put("folder/object", b"12345")
        version = stat_object(store.backend, "folder/object")
        assert version.size == 5
        assert version.strong is store.strong
        assert version.ref == store.backend.ref("folder/object")
        assert version.mtime is not None
        assert store.backend.stat("folder") == Folder()
        assert store.backend.stat("") == Folder()
        for nothing in ("nothing", "folder/nothing", "folder/object/below", "fold", "folder/obj"):
            assert store.backend.stat(nothing) is None, nothing

    def test_an_unchanged_object_keeps_its_version(self, store: Store) -> None:
        store.put("object", b"same")
        first, second = (stat_object(store.backend, "object") for _ in range(2))
        assert first == second
        assert first.digest() == second.digest()

    def test_a_cheap_look_never_shows_a_version_that_is_no_more(self, store: Store) -> None:
        store.put("folder/object", b"one")
        first = stat_object(store.backend, "folder/object")
        # A store whose looks are not cheap may always say no.
        assert store.backend.shows("folder/object", first) is store.backend.stat_is_cheap
        for other in ("folder", "", "nothing", "folder/object/below"):
            assert not store.backend.shows(other, first), other
        store.put("folder/object", b"two")
        assert not store.backend.shows("folder/object", first)
        store.delete("folder/object")
        assert not store.backend.shows("folder/object", first)

    def test_a_replaced_object_has_another_version(self, store: Store) -> None:
        store.put("object", b"one")
        first = stat_object(store.backend, "object")
        store.put("object", b"two")
        assert stat_object(store.backend, "object") != first

    def test_ranges_are_the_bytes_asked_for(self, store: Store) -> None:
        data = bytes(range(256)) * 300
        store.put("object", data)
        version = stat_object(store.backend, "object")
        size = len(data)
        for start, stop in [(0, 1), (0, size), (1, size), (0, size - 1), (size - 1, size), (7, 7)]:
            assert read(store.backend, version, start, stop) == data[start:stop]
        assert read(store.backend, version, 1000, 70_000) == data[1000:70_000]

    def test_a_range_lands_in_its_target_and_nowhere_else(self, store: Store) -> None:
        store.put("object", b"abcdefgh")
        version = stat_object(store.backend, "object")
        memory = bytearray(b"." * 8)
        store.backend.read_into(version, 2, memoryview(memory)[3:6])
        assert memory == b"...cde.."

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.put("empty", b"")
        version = stat_object(store.backend, "empty")
        assert version.size == 0
        assert read(store.backend, version, 0, 0) == b""
        assert [child.version for child in list_all(store.backend)] == [version]

    def test_many_threads_read_at_once(self, store: Store) -> None:
        data = bytes(range(256)) * 1024
        store.put("object", data)
        version = stat_object(store.backend, "object")
        wrong: list[object] = []

        def run(number: int) -> None:
            for step in range(10):
                start = (number * 7919 + step * 104_729) % (len(data) - 5000)
                try:
                    if read(store.backend, version, start, start + 5000) != data[start:][:5000]:
                        wrong.append((number, step))
                except Exception as error:
                    wrong.append(error)

        threads = [Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    @pytest.mark.parametrize("name", HARD_NAMES)
    def test_a_hard_name_round_trips(self, store: Store, name: str) -> None:
        store.put(f"in {name}/{name}", name.encode())
        version = stat_object(store.backend, f"in {name}/{name}")
        assert read(store.backend, version, 0, version.size) == name.encode()
        assert [child.name for child in list_all(store.backend)] == [f"in {name}"]
        assert list_all(store.backend, f"in {name}") == [Listed(name, version)]

    def test_two_unicode_spellings_are_two_objects(self, store: Store) -> None:
        store.put("\u00e9", b"composed")
        store.put("e\u0301", b"decomposed")
        for name, data in (("\u00e9", b"composed"), ("e\u0301", b"decomposed")):
            version = stat_object(store.backend, name)
            assert read(store.backend, version, 0, version.size) == data
        assert len(list_all(store.backend)) == 2

    def test_a_lone_surrogate_is_no_name(self, store: Store) -> None:
        with pytest.raises(InvalidPath):
            store.backend.stat("\ud800")

    def test_a_listing_shows_the_versions_that_stat_shows(self, store: Store) -> None:
        store.put("a", b"1")
        store.put("b", b"22")
        store.put("folder/c", b"333")
        # A listing may be too fresh to trust; a stat waits until it is not.
        expected = {name: stat_object(store.backend, name) for name in ("a", "b")}
        children = {child.name: child for child in list_all(store.backend)}
        assert children.keys() == {"a", "b", "folder"}
        assert children["folder"].version is None
        for name, version in expected.items():
            assert children[name].version == version
            assert children[name].settled
            assert read(store.backend, version, 0, version.size) in (b"1", b"22")

    def test_a_listed_version_can_be_read(self, store: Store) -> None:
        store.put("object", b"bytes")
        (child,) = list_all(store.backend)
        assert child.version is not None
        assert read(store.backend, child.version, 0, 5) == b"bytes"

    def test_a_made_folder_is_a_folder_and_empty(self, store: Store) -> None:
        store.put("object", b"")
        store.make_folder("folder")
        assert store.backend.stat("folder") == Folder()
        assert list_all(store.backend, "folder") == []
        kinds = {child.name: child.version is None for child in list_all(store.backend)}
        assert kinds == {"folder": True, "object": False}

    def test_listing_nothing_or_an_object_says_so(self, store: Store) -> None:
        store.put("folder/object", b"")
        with pytest.raises(NotFound) as nothing:
            store.backend.list_page(store.backend.ref("nothing"), None)
        assert not isinstance(nothing.value, StoreMissing)
        with pytest.raises(NotFolder):
            store.backend.list_page(store.backend.ref("folder/object"), None)

    def test_every_child_is_listed_once_over_all_pages(self, store: Store) -> None:
        # Names around "n0500" sort between an object and the folder below it.
        names = {f"n{number:04}" for number in range(2100)} | {"n0500-x", "n0500!"}
        for name in names:
            store.put(name, b"")
        store.put("deep/er/object", b"")
        first = store.backend.list_page(store.backend.ref(""), None)
        assert first.next_token is not None and len(first.children) <= 5000
        found = Counter(child.name for child in list_all(store.backend))
        assert found == Counter([*names, "deep"])
        # A page can be asked for again, and after another listing was begun.
        again = store.backend.list_page(store.backend.ref(""), first.next_token)
        assert not {c.name for c in first.children} & {c.name for c in again.children}

    def test_a_replaced_object_is_gone_for_its_old_version(self, store: Store) -> None:
        store.put("object", b"old bytes")
        version = stat_object(store.backend, "object")
        store.put("object", b"new bytes")
        for start, stop in ((0, 9), (2, 5)):
            with pytest.raises(VersionGone):
                read(store.backend, version, start, stop)

    def test_a_deleted_object_is_gone(self, store: Store) -> None:
        store.put("object", b"bytes")
        version = stat_object(store.backend, "object")
        store.delete("object")
        for start, stop in ((0, 5), (2, 4)):
            with pytest.raises(VersionGone):
                read(store.backend, version, start, stop)
        assert store.backend.stat("object") is None

    def test_a_missing_root_is_told_from_a_missing_object(self, store: Store) -> None:
        store.remove_root()
        if store.root_is_real:
            with pytest.raises(StoreMissing):
                store.backend.stat("object")
        with pytest.raises(StoreMissing):
            store.backend.stat("")
        with pytest.raises(StoreMissing):
            store.backend.list_page(store.backend.ref(""), None)

    def test_identity_needs_no_request(self, store: Store) -> None:
        key = "a/b c"
        assert store.backend.ref(key).key.endswith("a/b c")
        assert store.backend.space
