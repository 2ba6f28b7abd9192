"""Rules that read: open, read, view, list, stat, and what the cache is asked to hold."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from headrace_cache.service import Why
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    HeadraceError,
    IsFolder,
    NotFound,
    PolicyDenied,
    StoreFull,
    StoreTimeout,
    VersionGone,
)
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.model import scale
from tests.model.machine import (
    NAMES,
    Handle,
    Place,
    TreeMachine,
    choices,
    folders,
    freshness,
    path_of,
    paths,
)

MOST_HANDLES = 8
MOST_VIEWS = 3
#: Parts of an object, as shares of its size, moved a little over the borders of pages.
shares = st.sampled_from((0.0, 0.0, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0, 2.0))
shifts = st.sampled_from((-scale.PAGE, -1, 0, 0, 1, scale.PAGE))
methods = st.sampled_from(("read_at", "read_at", "read_into", "view", "warm"))
#: How to read, from which share of the object to which, and how far off that.
ranges = st.tuples(methods, shares, shares, shifts)
Range = tuple[str, float, float, int]


class Reading(TreeMachine):
    """What readers do."""

    # Opening.

    @rule(path=paths, asked=freshness, some=st.lists(ranges, max_size=4))
    def open(self, path: str, asked: Freshness | None, some: list[Range]) -> None:
        """An open gives a version that the contract allows, and nothing that policy denies."""
        handle = self.opened(path, asked)
        if handle is not None:
            for one in some:
                self.read_share(handle, one)

    @rule(folder=folders, asked=freshness, method=methods)
    def scan(self, folder: str, asked: Freshness | None, method: str) -> None:
        """All of a folder is listed and read, as a job reads a data set."""
        self.list(folder)
        for name in NAMES:
            handle = self.opened(f"{folder}/{name}".replace("//", "/"), asked)
            if handle is not None:
                self.read_range(handle, method, 0, handle.version.size)

    def opened(self, path: str, asked: Freshness | None) -> Handle | None:
        """Open it, and judge that; None where it was rightly refused."""
        place, decision = self.place(path), self.decision(path)
        found = self.tried(lambda: self.service.open(path_of(path), asked))
        if isinstance(found, HeadraceError):
            self.judge_refusal(found, path, place)
            return None
        assert place is not None and not decision.denies, f"{path} is denied, and was opened"
        self.check_version(place, found.version, asked, opening=True)
        assert found.restricted == (not decision.allows_ssd), path
        names = self.names(path)
        handle = Handle(found, path, place, self.mounting(place), names, set(names))
        self.seen[found.version] = None
        self.handles.append(handle)
        if len(self.handles) > MOST_HANDLES:
            self.handles.pop(0).opened.close()
        return handle

    def judge_refusal(self, error: HeadraceError, path: str, place: Place | None) -> None:
        """What an open may raise."""
        if place is None:
            self.judge_refusal_beside_mounts(error, path)
            return
        there = self.truth.now(place.ref) is not None
        self.excuse(
            error,
            (PolicyDenied, self.decision(path).denies),
            (NotFound, not there),
            (IsFolder, self.is_folder(place.ref) or bool(self.mounts_below(path))),
        )

    def judge_refusal_beside_mounts(self, error: HeadraceError, path: str) -> None:
        """What may be said of a path that no store lies at."""
        leads_to_mounts = path == "/" or bool(self.mounts_below(path))
        self.excuse(
            error,
            (PolicyDenied, leads_to_mounts and self.decision(path).denies),
            (NotFound, not leads_to_mounts),
        )

    # Reading what is open.

    @precondition(lambda self: self.handles)
    @rule(some=st.lists(st.tuples(choices, ranges), min_size=1, max_size=8))
    def read(self, some: list[tuple[int, Range]]) -> None:
        """Any ranges, in any way: the bytes of the version pinned at open, or one right error."""
        for which, one in some:
            self.read_share(self.handles[which % len(self.handles)], one)

    def read_share(self, handle: Handle, one: Range) -> None:
        """Read a range that is given in shares of the size."""
        method, start, stop, shift = one
        size = handle.version.size
        begin = max(0, math.floor(start * size) + shift)
        self.read_range(handle, method, begin, max(begin, math.floor(stop * size) - shift))

    def read_range(self, handle: Handle, method: str, start: int, stop: int) -> None:
        """Read it, and judge that."""
        found = self.tried(lambda: read_by(handle, method, start, stop))
        self.judge_read(handle, found, start, stop, warming=method == "warm")

    def judge_read(
        self,
        handle: Handle,
        found: memoryview | bytes | int | HeadraceError,
        start: int,
        stop: int,
        *,
        warming: bool = False,
    ) -> None:
        """Whether these bytes, or this error, may be what a read of a handle gives."""
        version = handle.version
        lie = version not in self.truth.bytes_of
        if isinstance(found, HeadraceError):
            gone = self.mounting(handle.place) != handle.mounting
            self.excuse(
                found,
                (PolicyDenied, self.may_be_refused(handle)),
                (VersionGone, lie or self.truth.now(version.ref) != version),
                (NotFound, gone),
                (StoreTimeout, gone),
                (StoreFull, warming),
            )
            return
        if isinstance(found, int) or not len(found) and min(stop, handle.version.size) <= start:
            return  # nothing was given: it was warmed, or the range is empty
        assert not self.must_be_refused(handle), f"{handle.path} is denied, and was read"
        self.judge_bytes(handle, found, start, stop)

    def may_be_refused(self, handle: Handle) -> bool:
        """Whether the policy denies it by any name that it ever had while it was open."""
        return self.policy.decide(handle.ever.union(self.names_of_handle(handle))).denies

    def must_be_refused(self, handle: Handle) -> bool:
        """Whether the policy denies it by a name of now, or one by which it was opened."""
        return self.policy.decide((*handle.names, *self.names_of_handle(handle))).denies

    def judge_bytes(self, handle: Handle, found: memoryview | bytes, start: int, stop: int) -> None:
        """Whether these are the bytes of the version pinned at open."""
        version = handle.version
        lie = version not in self.truth.bytes_of
        stop = min(stop, version.size)
        expected = b"" if lie else self.truth.bytes_of[version][start:stop]
        if bytes(found) != expected:
            raise AssertionError(
                f"{version.tag} of {handle.path} from {start} to {stop}: {len(found)} bytes, "
                f"first wrong at {first_difference(bytes(found), expected)}"
            )
        if isinstance(found, memoryview) and len(found):
            self.views.append((found, expected))
            if len(self.views) > MOST_VIEWS:
                view, _ = self.views.pop(0)
                if isinstance(view, memoryview):
                    view.release()

    @precondition(lambda self: self.handles)
    @rule(which=choices)
    def close(self, which: int) -> None:
        """A handle is closed; it gives nothing any more."""
        handle = self.handles.pop(which % len(self.handles))
        handle.opened.close()
        try:
            handle.opened.read_at(0, 1)
        except ValueError:
            return
        raise AssertionError("a closed object was read")

    @precondition(lambda self: self.views)
    @rule()
    def drop_views(self) -> None:
        """Readers let go of the memory that they looked into."""
        self.let_views_go()

    # Looking.

    @rule(path=st.one_of(paths, folders), asked=freshness)
    def stat(self, path: str, asked: Freshness | None) -> None:
        """A look shows what is there, as fresh as the contract says."""
        place = self.place(path)
        found = self.tried(lambda: self.service.stat(path_of(path), asked))
        if isinstance(found, HeadraceError):
            self.judge_refusal(found, path, place)
            return
        assert not self.decision(path).denies, f"{path} is denied, and was looked at"
        if place is None:
            assert found.is_folder and (self.mounts_below(path) or path == "/")
        elif found.version is not None:
            self.check_version(place, found.version, asked, opening=False)
        elif self.is_folder(place.ref):
            self.contract.saw_folder(place.ref)
        else:
            stale = asked is None and self.contract.may_be_folder(place.ref)
            assert stale or self.mounts_below(path), f"{path} is no folder"

    @rule(path=st.one_of(folders, folders, paths))
    def list(self, path: str) -> None:
        """A listing is what the dict says, with the mounts over it."""
        place, decision = self.place(path), self.decision(path)
        found = self.tried(lambda: list_of(self.service.list(path_of(path))))
        if isinstance(found, HeadraceError):
            if place is None:
                self.judge_refusal_beside_mounts(found, path)
                return
            is_there = self.is_folder(place.ref) or self.truth.now(place.ref) is not None
            self.excuse(
                found,
                (PolicyDenied, decision.denies),
                (NotFound, not is_there and not self.mounts_below(path)),
            )
            return
        assert not decision.denies, f"{path} is denied, and was listed"
        shown = {entry.path.text: entry for entry in found}
        assert len(shown) == len(found), f"{path} lists a name twice"
        if place is not None and path in shown:  # an object lists as itself, as a look shows it
            version = shown[path].version
            assert len(shown) == 1 and version is not None
            self.check_version(place, version, None, opening=False)
            return
        expected = self.expected_listing(path, place)
        if any(fault for fault in self.fired()):
            return  # the first parts may be from before
        assert shown.keys() == expected.keys(), (path, sorted(shown), sorted(expected))
        for name, version in expected.items():
            self.judge_entry(shown[name], version)
        if place is not None and self.truth.now(place.ref) is None and self.is_folder(place.ref):
            children = {name.rpartition("/")[2]: version for name, version in expected.items()}
            self.contract.listed(
                place.ref, {name: v for name, v in children.items() if v is not None}
            )

    def judge_entry(self, entry: Entry, version: ObjectVersion | None) -> None:
        """One line of a listing: what is denied shows with its name alone."""
        withheld = version is not None and self.decision(entry.path.text).denies
        assert entry.withheld == withheld, entry
        assert entry.version == (None if withheld else version), (entry, version)

    def expected_listing(self, path: str, place: Place | None) -> dict[str, ObjectVersion | None]:
        """Path -> version, None for folders."""
        found: dict[str, ObjectVersion | None] = {}
        top = path.rstrip("/")
        if place is not None:
            for name, child in self.children(place.ref).items():
                found[f"{top}/{name}"] = child
        for name in self.mounts_below(path):
            found[f"{top}/{name}"] = None
        return found

    def children(self, ref: ObjectRef) -> dict[str, ObjectVersion | None]:
        """What a store's folder holds."""
        prefix = ref.key + "/" if ref.key else ""
        found: dict[str, ObjectVersion | None] = {}
        made: set[str] = vars(self.store_of(ref))["_folders"]
        for key in made:
            if key.startswith(prefix):
                found[key[len(prefix) :].split("/")[0]] = None
        for key, version in self.truth.objects(ref.store).items():
            if key.startswith(prefix):
                name, slash, _ = key[len(prefix) :].partition("/")
                found[name] = None if slash else version
        return found

    # Holding.

    @rule(path=paths)
    def drop(self, path: str) -> None:
        """What is dropped is held nowhere."""
        place = self.place(path)
        found = self.tried(lambda: self.service.drop(path_of(path)))
        if isinstance(found, HeadraceError):
            self.judge_refusal(found, path, place)
            return
        assert place is not None
        version = self.truth.now(place.ref)
        sure = version is not None and place.kind.freshness.max_age_seconds == 0
        if sure and not self.contract.any_listing(place.ref) and not self.disk_failed():
            assert version is not None
            self.rig.idle()
            assert not self.tier.inspect(version.digest()), f"{path} was dropped, and is sealed"

    @rule(path=paths)
    def pin(self, path: str) -> None:
        """What is pinned lies on the SSD whole; what may not lie there is refused."""
        place, decision = self.place(path), self.decision(path)
        found = self.tried(lambda: self.service.pin(path_of(path)))
        if not isinstance(found, HeadraceError):
            assert decision.allows_ssd, f"{path} may not lie on the SSD, and was pinned there"
            return
        if place is None:
            assert isinstance(found, NotFound)
            return
        ref = place.ref
        self.excuse(
            found,
            (PolicyDenied, not decision.allows_ssd),
            (StoreFull, True),
            (NotFound, self.truth.now(ref) is None),
            (IsFolder, self.is_folder(ref) or bool(self.mounts_below(path))),
            # A version that an age, a pinned mount or a listing let it take.
            (VersionGone, self.may_be_stale(place)),
        )

    def may_be_stale(self, place: Place) -> bool:
        """Whether an open of now may give a version that is no longer there."""
        return (
            place.kind.freshness.max_age_seconds > 0
            or self.contract.any_listing(place.ref)
            or bool(self.store_of(place.ref).lies)
        )

    @rule(path=paths)
    def unpin(self, path: str) -> None:
        """Nothing but a refusal can go wrong."""
        place = self.place(path)
        found = self.tried(lambda: self.service.unpin(path_of(path)))
        if isinstance(found, HeadraceError):
            self.judge_refusal(found, path, place)

    @rule(path=paths)
    def why(self, path: str) -> None:
        """What is held is told by version, decision and age."""
        place, decision = self.place(path), self.decision(path)
        found = self.tried(lambda: self.service.why(path_of(path)))
        if isinstance(found, HeadraceError):
            self.judge_refusal(found, path, place)
            return
        assert place is not None and not decision.denies
        self.check_version(place, found.version, None, opening=True)
        self.judge_why(found, place, decision.allows_ssd)

    def judge_why(self, found: Why, place: Place, allows_ssd: bool) -> None:
        """No byte lies where it may not, nor for longer than it may."""
        for extent in found.extents:
            assert allows_ssd or extent.tier == "memory", f"{place.ref} is restricted, and sealed"
            ttl, at = place.kind.ttl_seconds, extent.fetched_at
            if ttl is not None and at is not None and not self.disk_failed():
                # The SSD counts whole seconds.
                assert at >= self.clock.now() - ttl - 1.0, f"{place.ref} is held for too long"


def read_by(handle: Handle, method: str, start: int, stop: int) -> memoryview | bytes | int:
    """A range, read in one of the ways."""
    opened = handle.opened
    if method == "read_at":
        return opened.read_at(start, stop)
    if method == "view":
        return opened.view(start, stop)
    if method == "warm":
        return opened.warm(start, stop)
    target = bytearray(stop - start)
    with memoryview(target) as view:
        count = opened.read_into(start, view)
    return bytes(target[:count])


def list_of(entries: Iterable[Entry]) -> list[Entry]:
    """All of a listing."""
    return list(entries)


def first_difference(found: bytes, expected: bytes) -> int:
    """Where two runs of bytes part."""
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return place
    return min(len(found), len(expected))
