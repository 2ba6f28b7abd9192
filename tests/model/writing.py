"""Rules that write through headrace: whole or not at all, on their condition, as policy allows."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from headrace_cache.service import OpenWriter
from headrace_namespace.errors import (
    AlreadyExists,
    FolderNotEmpty,
    HeadraceError,
    IsFolder,
    NotFound,
    PolicyDenied,
    ReadOnly,
    StoreTimeout,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.identity import ObjectVersion
from tests.model import scale
from tests.model.machine import FAULTS, Place, Writing, choices, path_of, paths, sizes
from tests.model.reading import Reading

MOST_WRITINGS = 3
conditions = st.sampled_from(("any", "any", "exclusive", "if_version"))


class WritingRules(Reading):
    """What writers do."""

    @rule(path=paths, size=sizes, condition=conditions, chunk=st.sampled_from((1000, 1 << 20)))
    def write(self, path: str, size: int, condition: str, chunk: int) -> None:
        """An object is written at once; it is there whole, or what was there stays."""
        data = self.new_content(size)
        writing = self.begun(path, condition)
        if writing is not None and self.write_on(writing, data, chunk):
            self.committed(writing)
            self.read_back(path)

    def read_back(self, path: str) -> None:
        """Whoever has written reads what he wrote."""
        handle = self.opened(path, None)
        if handle is not None:
            self.read_range(handle, "read_at", 0, handle.version.size)

    @rule(path=paths, size=sizes)
    def append(self, path: str, size: int) -> None:
        """An object grows at its end."""
        data = self.new_content(size)
        writing = self.begun(path, "append")
        if writing is not None and self.write_on(writing, data, 1 << 20):
            self.committed(writing)

    @precondition(lambda self: len(self.writings) < MOST_WRITINGS)
    @rule(path=paths, size=sizes, condition=st.sampled_from(("any", "exclusive", "append")))
    def begin_writing(self, path: str, size: int, condition: str) -> None:
        """An object is begun, and left unfinished while other things happen."""
        data = self.new_content(size)
        writing = self.begun(path, condition)
        if writing is not None and self.write_on(writing, data, 3000):
            self.writings.append(writing)

    @precondition(lambda self: self.writings)
    @rule(which=choices, size=sizes)
    def go_on_writing(self, which: int, size: int) -> None:
        """More of an unfinished object."""
        writing = self.writings.pop(which % len(self.writings))
        if self.write_on(writing, self.new_content(size), 1 << 20):
            self.writings.append(writing)

    @precondition(lambda self: self.writings)
    @rule(which=choices, give_up=st.booleans())
    def end_writing(self, which: int, give_up: bool) -> None:
        """An unfinished object takes its place, or is given up."""
        writing = self.writings.pop(which % len(self.writings))
        if give_up:
            before = self.truth.changes
            writing.writer.abort()
            assert self.truth.changes == before, "what was given up was written"
        else:
            self.committed(writing)

    def begun(self, path: str, condition: str) -> Writing | None:
        """Open it for writing, and judge that; None where it was rightly refused."""
        place, decision = self.place(path), self.decision(path)
        there = None if place is None else self.truth.now(place.ref)
        faults_before = 0 if place is None else self.store_of(place.ref).ever_fired
        found = self.tried(lambda: self.writer_of(path, condition, there))
        if not isinstance(found, HeadraceError):
            assert place is not None and not decision.denies, f"{path} is denied, and was opened"
            anything = condition == "any" or (condition == "if_version" and there is None)
            base = b"" if condition != "append" or there is None else self.truth.bytes_of[there]
            expected = None if condition == "exclusive" else there
            return Writing(
                found,
                path,
                place,
                self.mounting(place),
                expected,
                anything,
                faults_before,
                self.mean(base),
            )
        if place is None:
            assert isinstance(found, NotFound | ReadOnly), found
            return None
        lies = bool(self.store_of(place.ref).lies)
        self.excuse(
            found,
            (PolicyDenied, decision.denies),
            (IsFolder, self.is_folder(place.ref) or bool(self.mounts_below(path))),
            (AlreadyExists, condition == "exclusive" and there is not None),
            (VersionGone, lies),
        )
        return None

    def writer_of(self, path: str, condition: str, there: ObjectVersion | None) -> OpenWriter:
        if condition == "append":
            return self.service.append(path_of(path))
        tag = there.tag if condition == "if_version" and there is not None else None
        return self.service.create(
            path_of(path), exclusive=condition == "exclusive", if_version=tag
        )

    def write_on(self, writing: Writing, data: bytes, chunk: int) -> bool:
        """Write these bytes; False where an error, rightly, has ended it."""
        before = self.truth.changes

        def write() -> None:
            for start in range(0, len(data), chunk):
                writing.writer.write(memoryview(data)[start : start + chunk])

        found = self.tried(write)
        assert self.truth.changes == before, "what was not committed was written"
        if isinstance(found, HeadraceError):
            # What it goes on from may have been replaced since.
            self.excuse_writing(found, writing, conflict=not self.holds(writing))
            return False
        writing.data = self.mean(writing.data + data)
        return True

    def holds(self, writing: Writing) -> bool:
        """Whether there is what it was begun over."""
        return writing.anything or self.truth.now(writing.place.ref) == writing.expected

    def committed(self, writing: Writing) -> None:
        """Commit it, and judge that."""
        ref = writing.place.ref
        before = self.truth.now(ref)
        holds = self.holds(writing)
        found = self.tried(writing.writer.commit)
        if isinstance(found, HeadraceError):
            self.excuse_writing(found, writing, conflict=not holds)
            writing.writer.abort()
            return
        # Nothing was appended, perhaps to what the store lied about: nothing was asked of it then.
        if found == writing.expected or found in self.store_of(ref).lies:
            assert self.truth.now(ref) == before
            return
        assert holds, f"{writing.path} was replaced, and it did not matter"
        assert self.truth.now(ref) == found, f"{writing.path} is another than was told"
        assert self.truth.bytes_of[found] == writing.data, f"{writing.path} holds other bytes"
        self.seen[found] = None
        self.contract.wrote(ref)

    def excuse_writing(
        self, error: HeadraceError, writing: Writing, *, conflict: bool = False
    ) -> None:
        gone = self.mounting(writing.place) != writing.mounting
        store = self.store_of(writing.place.ref)
        if isinstance(error, FAULTS) and store.ever_fired > writing.ever_fired:
            return
        self.excuse(
            error,
            (NotFound, gone),
            (StoreTimeout, gone),
            (AlreadyExists, conflict or bool(store.fired)),
            (WriteConflict, conflict or bool(store.lies)),
            (VersionGone, conflict or bool(store.lies)),
        )

    # Of one object to another.

    @rule(source=paths, to=paths, exclusive=st.booleans())
    def copy(self, source: str, to: str, exclusive: bool) -> None:
        """A copy is a version of the source that an open may give, and never looser placed."""
        old, new = self.place(source), self.place(to)
        was = None if new is None else self.truth.now(new.ref)
        before = self.truth.changes
        found = self.tried(
            lambda: self.service.copy(path_of(source), path_of(to), exclusive=exclusive)
        )
        if isinstance(found, HeadraceError):
            self.excuse_moving(found, source, to, old, new, taken=exclusive and was is not None)
            return
        assert old is not None and new is not None
        self.judge_strictness(source, to)
        if self.truth.changes == before:
            assert old.ref == new.ref, f"{source} was not copied"
            return
        assert self.truth.now(new.ref) == found
        given = [
            era.version
            for era in self.truth.eras(old.ref)
            if self.truth.bytes_of[era.version] == self.truth.bytes_of[found]
        ]
        assert given, f"{to} is no copy of {source}"
        fresh = old.kind.freshness
        assert any(
            self.contract.may_give(one, old.ref, fresh, None, opening=False) for one in given
        ), f"{source} was copied as it was long ago"
        self.seen[found] = None
        self.contract.wrote(new.ref)

    @rule(source=paths, to=paths)
    def rename(self, source: str, to: str) -> None:
        """What is renamed is gone there and here as it was, and never looser placed."""
        old, new = self.place(source), self.place(to)
        was = None if old is None else self.truth.now(old.ref)
        before = self.truth.changes
        found = self.tried(lambda: self.service.rename(path_of(source), path_of(to)))
        if isinstance(found, HeadraceError):
            same = old is not None and new is not None and old.ref == new.ref
            self.excuse_moving(found, source, to, old, new, taken=same)
            return
        assert old is not None and new is not None
        if not found:
            assert old.ref.store != new.ref.store
            assert self.truth.changes == before or self.fired()
            return
        self.judge_strictness(source, to)
        now = self.truth.now(new.ref)
        assert was is not None and now is not None and self.truth.now(old.ref) is None
        if not self.fired():
            assert self.truth.bytes_of[now] == self.truth.bytes_of[was]
        self.contract.took_away(old.ref)
        self.contract.wrote(new.ref)

    def judge_strictness(self, source: str, target: str) -> None:
        """Bytes keep their placement wherever they go."""
        old, new = self.decision(source), self.decision(target)
        assert not old.denies and not new.denies, f"{source} or {target} is denied"
        if set(self.names(source)) != set(self.names(target)):
            assert old.join(new) == new, f"{target} is looser than {source}"

    def excuse_moving(
        self,
        error: HeadraceError,
        source: str,
        target: str,
        old: Place | None,
        new: Place | None,
        *,
        taken: bool,
    ) -> None:
        if old is None or new is None:
            assert isinstance(error, NotFound | ReadOnly | PolicyDenied | IsFolder) or self.fired()
            return
        one, other = self.decision(source), self.decision(target)
        stale = self.may_be_stale(old)
        self.excuse(
            error,
            (PolicyDenied, one.denies or other.denies or one.join(other) != other),
            (NotFound, self.truth.now(old.ref) is None),
            (IsFolder, self.is_folder(old.ref) or self.is_folder(new.ref)),
            (AlreadyExists, taken),
            (ReadOnly, bool(self.mounts_below(source)) or source in self.mounted),
            (VersionGone, stale),
        )

    # Away.

    @rule(chosen=st.lists(paths, min_size=1, max_size=4))
    def delete(self, chosen: list[str]) -> None:
        """What is deleted is gone; what policy denies stays."""
        wrong = self.tried(lambda: self.service.delete([path_of(path) for path in chosen]))
        if isinstance(wrong, HeadraceError):
            self.excuse(wrong)
            return
        for path in chosen:
            place, error = self.place(path), wrong.get(path_of(path))
            if error is None:
                assert place is not None and not self.decision(path).denies, path
                assert self.truth.now(place.ref) is None, f"{path} was deleted, and is there"
                self.contract.took_away(place.ref)
            elif place is not None:
                self.excuse(
                    error,
                    (PolicyDenied, self.decision(path).denies),
                    (IsFolder, self.is_folder(place.ref)),
                )

    @rule(path=paths.map(lambda path: path.rpartition("/")[0] + "/folder"), away=st.booleans())
    def folder(self, path: str, away: bool) -> None:
        """Folders are made and removed."""
        place = self.place(path)
        was = place is not None and self.is_folder(place.ref)

        def change() -> None:
            if away:
                self.service.remove_folder(path_of(path))
            else:
                self.service.make_folder(path_of(path))

        found = self.tried(change)
        if place is None:
            assert isinstance(found, NotFound | ReadOnly), found
        elif isinstance(found, HeadraceError):
            self.excuse(
                found,
                (PolicyDenied, self.decision(path).denies),
                (NotFound, away and not was),
                (AlreadyExists, was and not away),
                (FolderNotEmpty, away),
            )
        else:
            assert self.is_folder(place.ref) != away
            self.contract.took_away(place.ref)


#: A part of an upload, so that sizes beyond it are met.
assert max(scale.SIZES) > 2 * scale.PART_BYTES
