"""What every backend that can be written must do, as tests to inherit; see `backend_suite.py`."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from headrace_namespace.backends.protocol import (
    LEAST_BASE_BYTES,
    MOST_DELETED,
    Backend,
    Folder,
    There,
)
from headrace_namespace.errors import (
    AlreadyExists,
    FolderNotEmpty,
    IsFolder,
    NotFolder,
    NotFound,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.identity import ObjectVersion
from tests.conformance.backend_suite import HARD_NAMES, list_all, read, stat_object
from tests.conformance.writable_store import WritableStore, content, patient, put, race, send


class BackendWriteSuite:
    """The tests."""

    @pytest.fixture
    def store(self) -> WritableStore:
        raise NotImplementedError("give this suite a store")

    @pytest.fixture
    def backend(self, store: WritableStore) -> Backend:
        return store.backend

    # Small objects.

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
    def test_what_is_put_is_there(self, backend: Backend, data: bytes) -> None:
        made = put(backend, "folder/deep/object", data)
        assert made == stat_object(backend, "folder/deep/object")
        assert made.ref == backend.ref("folder/deep/object") and made.size == len(data)
        assert content(backend, "folder/deep/object") == data
        assert backend.stat("folder/deep") == Folder()

    def test_a_put_replaces(self, backend: Backend) -> None:
        first = put(backend, "object", b"first and longer")
        second = put(backend, "object", b"second")
        assert first != second == stat_object(backend, "object")
        assert content(backend, "object") == b"second"

    def test_the_version_of_a_put_is_trustworthy_at_once(
        self, store: WritableStore, backend: Backend
    ) -> None:
        """A later write of the same size shows another version, however soon it comes."""
        for number in range(20):
            made = put(backend, "object", b"ours")
            store.put("object", b"%04d" % number)
            assert stat_object(backend, "object") != made

    def test_what_is_to_be_new_replaces_nothing(self, store: WritableStore) -> None:
        backend = store.backend
        made = put(backend, "object", b"new", There.NOTHING)
        assert made == stat_object(backend, "object")
        with pytest.raises(AlreadyExists) as caught:
            put(backend, "object", b"other", There.NOTHING)
        assert content(backend, "object") == b"new"
        assert caught.value.found == made
        assert store.unfinished() == []

    def test_only_the_expected_version_is_replaced(self, store: WritableStore) -> None:
        backend = store.backend
        first = put(backend, "object", b"first")
        second = put(backend, "object", b"second", first)
        with pytest.raises(WriteConflict) as caught:
            put(backend, "object", b"third", first)
        assert content(backend, "object") == b"second"
        assert caught.value.found == second
        third = put(backend, "object", b"third", stat_object(backend, "object"))
        assert second != third == stat_object(backend, "object")
        store.delete("object")
        with pytest.raises(WriteConflict):
            put(backend, "object", b"fourth", third)
        assert backend.stat("object") is None
        assert store.unfinished() == []

    def test_of_racing_writers_of_one_version_one_wins(self, store: WritableStore) -> None:
        if not store.atomic:
            pytest.skip("this store offers no atomic condition, and its backend says so")
        backend = patient(store.backend)
        version = put(backend, "object", b"begin")
        for round_ in range(5):
            texts = [b"%d by %d" % (round_, number) for number in range(4)]
            results = race([partial(put, backend, "object", text, version) for text in texts])
            made = [result for result in results if isinstance(result, ObjectVersion)]
            lost = [result for result in results if isinstance(result, WriteConflict)]
            assert (len(made), len(lost)) == (1, 3), results
            assert content(backend, "object") == texts[results.index(made[0])]
            version = made[0]

    def test_of_racing_makers_one_wins(self, store: WritableStore) -> None:
        if not store.atomic:
            pytest.skip("this store offers no atomic condition, and its backend says so")
        backend = patient(store.backend)
        for round_ in range(5):
            key, texts = f"folder{round_}/object", [b"by %d" % number for number in range(4)]
            results = race([partial(put, backend, key, text, There.NOTHING) for text in texts])
            made = [result for result in results if isinstance(result, ObjectVersion)]
            lost = [result for result in results if isinstance(result, AlreadyExists)]
            assert (len(made), len(lost)) == (1, 3), results
            assert content(backend, key) == texts[results.index(made[0])]

    def test_readers_see_the_old_object_or_the_new_whole(self, backend: Backend) -> None:
        size = 200_000
        put(backend, "object", b"\0" * size)
        ended = threading.Event()
        wrong: list[object] = []

        def look() -> None:
            while not ended.is_set():
                try:
                    seen = content(backend, "object")
                except VersionGone:
                    continue
                except Exception as error:
                    wrong.append(error)
                    return
                if len(seen) != size or seen.count(seen[0]) != size:
                    wrong.append(seen[:10])

        readers = [threading.Thread(target=look) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(1, 30):
            put(backend, "object", bytes([number]) * size)
        ended.set()
        for reader in readers:
            reader.join()
        assert not wrong

    @pytest.mark.parametrize("name", HARD_NAMES)
    def test_a_hard_name_can_be_written(self, store: WritableStore, name: str) -> None:
        backend, key = store.backend, f"in {name}/{name}"
        made = put(backend, key, name.encode(), There.NOTHING)
        assert made == stat_object(backend, key)
        assert [child.name for child in list_all(backend, f"in {name}")] == [name]
        copied = backend.copy(made, backend.ref(f"{key}, copied"), There.NOTHING)
        assert read(backend, copied, 0, copied.size) == name.encode()
        upload = backend.begin_upload(backend.ref(f"{key}, sent"), There.NOTHING)
        assert upload.commit(send(upload, b"sent")) == stat_object(backend, f"{key}, sent")
        assert backend.delete([key, f"{key}, copied", f"{key}, sent"]) == {}
        for gone in (key, f"{key}, copied", f"{key}, sent"):
            assert backend.stat(gone) is None
        backend.make_folder(f"{key}, folder")
        assert backend.stat(f"{key}, folder") == Folder()
        backend.remove_folder(f"{key}, folder")
        assert backend.stat(f"{key}, folder") is None
        assert store.unfinished() == []

    def test_a_folder_is_not_overwritten(self, store: WritableStore) -> None:
        if store.folders_are_objects:
            pytest.skip("a bucket can hold an object and a folder of one name")
        store.put("folder/object", b"1")
        for expected in There:
            with pytest.raises(IsFolder):
                put(store.backend, "folder", b"2", expected)
        assert store.backend.stat("folder") == Folder()
        assert store.unfinished() == []

    # Uploads.

    def test_parts_come_in_any_order_and_at_once(self, store: WritableStore) -> None:
        backend = store.backend
        upload = backend.begin_upload(backend.ref("folder/large"), There.ANYTHING)
        sizes = [upload.part_bytes(0), upload.part_bytes(1), 1000]
        parts = [os.urandom(size) for size in sizes]
        if upload.parallel_parts == 1:
            for index, part in enumerate(parts):
                upload.put_part(index, memoryview(part))
        else:
            with ThreadPoolExecutor(upload.parallel_parts) as pool:
                sent = [
                    pool.submit(upload.put_part, index, memoryview(parts[index]))
                    for index in (2, 1, 0)
                ]
            for each in sent:
                each.result()
        assert backend.stat("folder/large") is None  # nobody sees it before
        made = upload.commit(3)
        assert made == stat_object(backend, "folder/large")
        assert content(backend, "folder/large") == b"".join(parts)
        assert store.unfinished() == []

    def test_a_part_put_again_takes_the_place_of_the_first(self, backend: Backend) -> None:
        upload = backend.begin_upload(backend.ref("object"), There.ANYTHING)
        upload.put_part(0, memoryview(b"first, and longer"))
        upload.put_part(0, memoryview(b"second"))
        upload.commit(1)
        assert content(backend, "object") == b"second"

    def test_an_upload_of_nothing_is_an_empty_object(self, store: WritableStore) -> None:
        upload = store.backend.begin_upload(store.backend.ref("empty"), There.NOTHING)
        assert upload.commit(0) == stat_object(store.backend, "empty")
        assert content(store.backend, "empty") == b""
        assert store.unfinished() == []

    def test_an_aborted_upload_leaves_nothing(self, store: WritableStore) -> None:
        backend = store.backend
        old = put(backend, "object", b"old")
        for parts in (0, 1):
            upload = backend.begin_upload(backend.ref("object"), There.ANYTHING)
            if parts:
                upload.put_part(0, memoryview(b"new"))
            upload.abort()
            upload.abort()
        assert stat_object(backend, "object") == old
        assert store.unfinished() == []
        assert [child.name for child in list_all(backend)] == ["object"]

    def test_an_upload_keeps_its_condition(self, store: WritableStore) -> None:
        backend = store.backend
        old = put(backend, "object", b"old")
        for expected, kind in ((There.NOTHING, AlreadyExists), (old, WriteConflict)):
            upload = backend.begin_upload(backend.ref("object"), expected)
            parts = send(upload, b"sent")
            newer = put(backend, "object", b"newer")
            with pytest.raises(kind):
                upload.commit(parts)
            upload.abort()  # does nothing any more
            assert stat_object(backend, "object") == newer
            assert store.unfinished() == []
        upload = backend.begin_upload(backend.ref("object"), stat_object(backend, "object"))
        assert upload.commit(send(upload, b"sent")) == stat_object(backend, "object")
        assert content(backend, "object") == b"sent"

    def test_of_racing_uploads_one_wins(self, store: WritableStore) -> None:
        if not store.atomic_uploads:
            pytest.skip("this store offers no atomic condition, and its backend says so")
        backend = patient(store.backend)
        version = put(backend, "object", b"begin")
        uploads = [backend.begin_upload(backend.ref("object"), version) for _ in range(3)]
        for number, upload in enumerate(uploads):
            assert send(upload, b"by %d" % number) == 1
        results = race([partial(upload.commit, 1) for upload in uploads])
        made = [result for result in results if isinstance(result, ObjectVersion)]
        assert len(made) == 1
        assert sum(isinstance(result, WriteConflict) for result in results) == 2
        assert content(backend, "object") == b"by %d" % results.index(made[0])
        assert store.unfinished() == []

    def test_an_upload_begins_with_a_base(self, store: WritableStore) -> None:
        backend = store.backend
        data = os.urandom(LEAST_BASE_BYTES + 5)
        base = put(backend, "object", data)
        upload = backend.begin_upload(backend.ref("object"), base, base)
        made = upload.commit(send(upload, b"appended"))
        assert made == stat_object(backend, "object") and made.size == len(data) + 8
        assert content(backend, "object") == data + b"appended"
        upload = backend.begin_upload(backend.ref("copy"), There.NOTHING, made)
        assert upload.commit(0).size == made.size
        assert content(backend, "copy") == data + b"appended"
        assert store.unfinished() == []

    def test_a_base_that_was_replaced_is_gone(self, store: WritableStore) -> None:
        backend = store.backend
        base = put(backend, "object", bytes(LEAST_BASE_BYTES))
        replaced = put(backend, "object", b"\1" * LEAST_BASE_BYTES)
        with pytest.raises(VersionGone):
            backend.begin_upload(backend.ref("new"), There.ANYTHING, base)
        assert stat_object(backend, "object") == replaced
        assert backend.delete(["object"]) == {}
        with pytest.raises(VersionGone):
            backend.begin_upload(backend.ref("new"), There.ANYTHING, replaced)
        assert backend.stat("new") is None
        assert store.unfinished() == []

    # Copy, rename, delete.

    def test_a_copy_has_the_bytes(self, store: WritableStore) -> None:
        backend = store.backend
        source = put(backend, "source", b"bytes")
        made = backend.copy(source, backend.ref("folder/copy"), There.ANYTHING)
        assert made == stat_object(backend, "folder/copy")
        assert content(backend, "folder/copy") == b"bytes"
        assert stat_object(backend, "source") == source
        assert store.unfinished() == []

    def test_an_empty_object_is_copied(self, backend: Backend) -> None:
        source = put(backend, "source", b"")
        backend.copy(source, backend.ref("copy"), There.NOTHING)
        assert content(backend, "copy") == b""

    def test_a_copy_keeps_its_condition(self, store: WritableStore) -> None:
        backend = store.backend
        source, there = put(backend, "source", b"source"), put(backend, "there", b"there")
        with pytest.raises(AlreadyExists):
            backend.copy(source, backend.ref("there"), There.NOTHING)
        newer = put(backend, "there", b"newer")
        with pytest.raises(WriteConflict):
            backend.copy(source, backend.ref("there"), there)
        assert content(backend, "there") == b"newer"
        backend.copy(source, backend.ref("there"), newer)
        assert content(backend, "there") == b"source"
        assert store.unfinished() == []

    def test_a_source_that_was_replaced_is_gone(self, store: WritableStore) -> None:
        backend = store.backend
        source = put(backend, "source", b"old bytes")
        put(backend, "source", b"new bytes")
        with pytest.raises(VersionGone):
            backend.copy(source, backend.ref("copy"), There.ANYTHING)
        store.delete("source")
        with pytest.raises(VersionGone):
            backend.copy(source, backend.ref("copy"), There.ANYTHING)
        assert backend.stat("copy") is None
        assert store.unfinished() == []

    def test_a_copy_onto_itself_changes_nothing(self, backend: Backend) -> None:
        source = put(backend, "object", b"bytes")
        made = backend.copy(source, backend.ref("object"), source)
        assert made == stat_object(backend, "object")
        assert content(backend, "object") == b"bytes"

    def test_files_and_folders_are_renamed(self, store: WritableStore) -> None:
        backend = store.backend
        store.put("a/b/object", b"1")
        store.put("file", b"2")
        if not store.renames:
            assert backend.rename("file", backend.ref("other")) is False
            assert content(backend, "file") == b"2" and backend.stat("other") is None
            return
        assert backend.rename("file", backend.ref("new/folder/file"))
        assert content(backend, "new/folder/file") == b"2" and backend.stat("file") is None
        assert backend.rename("a", backend.ref("c"))
        assert content(backend, "c/b/object") == b"1" and backend.stat("a") is None
        store.put("file", b"3")
        assert backend.rename("file", backend.ref("c/b/object"))  # takes its place
        assert content(backend, "c/b/object") == b"3"

    def test_a_rename_that_cannot_be_says_why(self, store: WritableStore) -> None:
        if not store.renames:
            pytest.skip("nothing is renamed in one step here")
        backend = store.backend
        store.put("file", b"1")
        store.put("folder/object", b"2")
        store.put("other/object", b"3")
        for key, to, kind in (
            ("nothing", "new", NotFound),
            ("file", "folder", IsFolder),
            ("folder", "file", NotFolder),
            ("folder", "other", FolderNotEmpty),
        ):
            with pytest.raises(kind):
                backend.rename(key, backend.ref(to))
        for key, data in (("file", b"1"), ("folder/object", b"2"), ("other/object", b"3")):
            assert content(backend, key) == data

    def test_many_are_deleted_at_once(self, store: WritableStore) -> None:
        backend = store.backend
        keys = [f"folder/{number:04} <&>\"'" for number in range(MOST_DELETED)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(partial(store.put, data=b""), keys[:-1]))
        store.put("folder/other", b"")
        assert backend.delete(keys) == {}  # the last of them was never there
        assert [child.name for child in list_all(backend, "folder")] == ["other"]
        assert backend.delete([]) == {}

    def test_deleting_a_folder_deletes_nothing(self, store: WritableStore) -> None:
        store.put("folder/object", b"1")
        store.put("object", b"2")
        wrong = store.backend.delete(["folder", "object"])
        assert all(isinstance(error, IsFolder) for error in wrong.values())
        assert set(wrong) <= {"folder"}
        assert content(store.backend, "folder/object") == b"1"
        assert store.backend.stat("object") is None

    # Folders.

    def test_a_folder_is_made_and_removed(self, store: WritableStore) -> None:
        backend = store.backend
        backend.make_folder("a/b/c")
        for key in ("a", "a/b", "a/b/c"):
            assert backend.stat(key) == Folder(), key
        assert list_all(backend, "a/b/c") == []
        backend.remove_folder("a/b/c")
        assert backend.stat("a/b/c") is None
        put(backend, "x/object", b"")
        with pytest.raises(FolderNotEmpty):
            backend.remove_folder("x")
        assert backend.stat("x/object") is not None

    def test_a_folder_is_not_made_twice(self, store: WritableStore) -> None:
        backend = store.backend
        backend.make_folder("made")
        store.put("filled/object", b"")
        store.put("object", b"1")
        for key in ("made", "filled", "object"):
            with pytest.raises(AlreadyExists):
                backend.make_folder(key)
        assert content(backend, "object") == b"1"

    def test_removing_what_is_no_empty_folder_says_why(self, store: WritableStore) -> None:
        backend = store.backend
        store.put("folder/object", b"1")
        store.make_folder("nested/empty")
        for key, kind in (
            ("nothing", NotFound),
            ("folder/nothing", NotFound),
            ("folder/object/below", NotFound),
            ("folder/object", NotFolder),
            ("folder", FolderNotEmpty),
            ("nested", FolderNotEmpty),
        ):
            with pytest.raises(kind):
                backend.remove_folder(key)
        assert content(backend, "folder/object") == b"1"
        assert backend.stat("nested/empty") == Folder()
