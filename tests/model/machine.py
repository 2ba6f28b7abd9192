"""The state machine's frame: the world, the model beside it, and how an error is judged.

The rules are in `reading.py`, `writing.py` and `mischief.py`; what holds after every step is in
`upkeep.py`. Each step ends with every thread at rest, so that a failing run can be shrunk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from headrace_cache.limits import PolicySource
from headrace_cache.service import OpenObject, OpenWriter
from headrace_cache.tiers.protocol import PageTier
from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    StoreAnswerWrong,
    StoreUnavailable,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metadata.ledger import Ledger
from headrace_namespace.path import NamespacePath
from tests.fakes.clock import ManualClock
from tests.model import scale
from tests.model.content import NAME_CANARY, content
from tests.model.contract import Contract
from tests.model.faulty_store import FaultyStore
from tests.model.policy_model import Decision, PolicyModel
from tests.model.truth import Truth
from tests.model.world import FIXED, FOLDERS, PASSING, STORES, LastingLedger, ModelRig, MountKind

Answer = TypeVar("Answer")

NAMES = tuple(f"{NAME_CANARY}-{number}" for number in range(3))
KEYS = tuple(f"{folder}/{name}".lstrip("/") for folder in FOLDERS for name in NAMES)
MOUNTS = (*FIXED, *PASSING)

keys = st.sampled_from(KEYS)
paths = st.sampled_from([f"{mount}/{key}" for mount in MOUNTS for key in KEYS])
folders = st.sampled_from(
    ("/", *(f"{mount}/{folder}".rstrip("/") for mount in MOUNTS for folder in FOLDERS))
)
sizes = st.sampled_from(scale.SIZES)
freshness = st.sampled_from((None, None, None, CHECK, Freshness(10.0), PINNED))
#: Which of what is open: taken modulo their number.
choices = st.integers(0, 7)

#: In memory where that can be: other programs that keep a disk busy would make a run endless.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

#: What an injected fault may come out as.
FAULTS = (StoreUnavailable, StoreAnswerWrong, AccessRefused, VersionGone, WriteConflict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: the mount's path and kind, the object."""

    mount: str
    kind: MountKind
    ref: ObjectRef


@dataclass(slots=True)
class Handle:
    """An open object, and by which names it may be judged."""

    opened: OpenObject
    path: str
    place: Place
    #: Which mounting it was opened through: a later one at the same path is another.
    mounting: int
    #: Those by which it was opened.
    names: tuple[str, ...]
    #: All that it has had at any time since.
    ever: set[str] = field(default_factory=set[str])

    @property
    def version(self) -> ObjectVersion:
        return self.opened.version


@dataclass(slots=True)
class Writing:
    """An object being written."""

    writer: OpenWriter
    path: str
    place: Place
    mounting: int
    #: Only while this is there (None: nothing); `anything` where it does not matter.
    expected: ObjectVersion | None
    anything: bool
    #: How many faults of the store had come true when it was begun.
    ever_fired: int
    data: bytes = b""


class LoggedFaults(logging.Handler):
    """Keeps what was logged with a traceback: a fault of headrace's own that it passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.faults.append(logging.Formatter().format(record))


class TreeMachine(RuleBasedStateMachine):
    """A service, and a dict that says what it must do."""

    #: Steps taken by all machines of this process.
    steps_of_all = 0

    def __init__(self) -> None:
        super().__init__()
        self.logged = LoggedFaults()
        logging.getLogger().addHandler(self.logged)
        self.root = Path(tempfile.mkdtemp(prefix="headrace-model-", dir=SCRATCH))
        self.clock = ManualClock()
        self.truth = Truth(self.clock)
        #: Whatever somebody meant an object to hold, as hashes.
        self.meant: set[bytes] = set()
        self.wrong_objects: list[str] = []
        self.stores = {
            name: FaultyStore(f"model:{name}", self._changed, scale.PART_BYTES) for name in STORES
        }
        self._of_space = {store.space: store for store in self.stores.values()}
        for store in self.stores.values():
            store.replace = lambda there, key: self.put_behind(there, key, 3000)
        self.numbers = 0
        self.mountings = 0
        self.mounted: dict[str, tuple[MountKind, int]] = {
            path: (kind, 0) for path, kind in FIXED.items()
        }
        self.policy = PolicyModel(self.root / "policy.toml")
        self.handles: list[Handle] = []
        self.writings: list[Writing] = []
        self.views: list[tuple[memoryview | bytes, bytes]] = []
        #: Versions that headrace has had in its hands.
        self.seen: dict[ObjectVersion, None] = {}
        self.memory_bytes = scale.MEMORY_BYTES
        self.ssd_bytes = self.most_ssd_bytes
        for number, key in enumerate(KEYS):
            for store in self.stores.values():
                self.put_behind(store, key, scale.SIZES[-1 - number])
        self.begin()

    # What the kinds of machine differ in.

    most_ssd_bytes: int
    least_ssd_bytes: int

    @abstractmethod
    def open_tier(self) -> PageTier:
        """The tier beyond memory, over what is left of the one before."""

    def open_ledger(self) -> Ledger:
        """What outlives the service."""
        if not hasattr(self, "_ledger"):
            self._ledger = LastingLedger()
        return self._ledger

    def disk_failed(self) -> bool:
        """Whether the tier's disk failed in this step."""
        return False

    def company_file(self) -> Path:
        """On which every service of this folder holds a lock."""
        return Path("/nowhere/in-use.lock")

    # Its life.

    def begin(self) -> None:
        """Open the service as a new process does."""
        self.tier = self.open_tier()
        self.contract = Contract(self.truth, self.clock)
        for store in self.stores.values():
            store.lies.clear()
        self.rig = ModelRig(
            {},
            clock=self.clock,
            memory_bytes=self.memory_bytes,
            policy=PolicySource(self.policy.text(), str(self.policy.file)),
            ledger=self.open_ledger(),
            company_file=self.company_file(),
            stores=self.stores,
            tier=self.tier,
        )
        self.service = self.rig.service

    def end(self) -> None:
        """Close the service, with all that it had open."""
        self.handles.clear()
        self.writings.clear()
        self.rig.idle()
        self.service.close()
        self.let_views_go()

    def let_views_go(self) -> None:
        """Give back the memory that views hold."""
        for view, _ in self.views:
            if isinstance(view, memoryview):
                view.release()
        self.views.clear()

    def teardown(self) -> None:
        try:
            self.end()
        finally:
            logging.getLogger().removeHandler(self.logged)
            shutil.rmtree(self.root)

    # Changes behind everybody's back.

    def put_behind(self, store: FaultyStore, key: str, size: int) -> None:
        """Another client puts a new version there."""
        store.set(key, self.new_content(size))

    def new_content(self, size: int) -> bytes:
        """Bytes that nobody had before."""
        self.numbers += 1
        return self.mean(content(self.numbers, size))

    def mean(self, data: bytes) -> bytes:
        """An object may hold these bytes from now on."""
        self.meant.add(hashlib.sha256(data).digest())
        return data

    def _changed(self, ref: ObjectRef, version: ObjectVersion | None, data: bytes) -> None:
        self.truth.changed(ref, version, data)
        if version is not None and hashlib.sha256(data).digest() not in self.meant:
            self.wrong_objects.append(f"{ref} became {len(data)} bytes that nobody wrote")

    # What the model knows.

    def place(self, path: str) -> Place | None:
        """Where a path leads now; None where no mount answers."""
        found = max(
            (mount for mount in self.mounted if (path + "/").startswith(mount + "/")),
            key=len,
            default=None,
        )
        if found is None:
            return None
        kind = self.mounted[found][0]
        store = self.stores[kind.store]
        return Place(found, kind, store.ref(path[len(found) + 1 :]))

    def names(self, path: str) -> tuple[str, ...]:
        """All names of what a path leads to, by the mounts of now."""
        place = self.place(path)
        if place is None:
            return (path,)
        return (path, *self.names_of(place.ref))

    def names_of(self, ref: ObjectRef) -> tuple[str, ...]:
        """All names of an object, by the mounts of now."""
        return tuple(
            f"{mount}/{ref.key}".rstrip("/")
            for mount, (kind, _) in self.mounted.items()
            if self.stores[kind.store].space == ref.store
        )

    def names_of_handle(self, handle: Handle) -> tuple[str, ...]:
        """All names of an open object, by the mounts of now: also where its own is gone."""
        return (*self.names(handle.path), *self.names_of(handle.place.ref))

    def decision(self, path: str) -> Decision:
        """What the policy in force says of a path."""
        return self.policy.decide(self.names(path))

    def mounting(self, place: Place) -> int:
        """Which mounting answers at the place's mount now; -1 if none."""
        return self.mounted[place.mount][1] if place.mount in self.mounted else -1

    def store_of(self, ref: ObjectRef) -> FaultyStore:
        return self._of_space[ref.store]

    def is_folder(self, ref: ObjectRef) -> bool:
        """Whether the store holds a folder there now."""
        below = ref.key + "/" if ref.key else ""
        made = vars(self.store_of(ref))["_folders"]
        return (
            not ref.key
            or ref.key in made
            or any(key.startswith(below) for key in (*self.truth.objects(ref.store), *made))
        )

    def mounts_below(self, path: str) -> Mapping[str, str | None]:
        """The names in a folder that mounts put there."""
        top = path.rstrip("/") + "/"
        below = [mount[len(top) :] for mount in self.mounted if mount.startswith(top)]
        return {name.split("/")[0]: None for name in below}

    # How answers are judged.

    def tried(self, work: Callable[[], Answer]) -> Answer | HeadraceError:
        """What headrace answers, or the error of its own that it raises; others end the run."""
        try:
            return work()
        except HeadraceError as error:
            return error

    def excuse(self, error: HeadraceError, *allowed: tuple[type[HeadraceError], bool]) -> None:
        """An error is right only if its reason is: each kind with whether it may be now."""
        for kind, holds in allowed:
            if isinstance(error, kind) and holds:
                return
        if isinstance(error, FAULTS) and self.fired():
            return
        raise AssertionError(f"{type(error).__name__} without a reason: {error}") from error

    def fired(self) -> Sequence[object]:
        """The faults of stores that came true in this step."""
        return [fault for store in self.stores.values() for fault in store.fired]

    def check_version(
        self, place: Place, version: ObjectVersion, asked: Freshness | None, *, opening: bool
    ) -> None:
        """What an open or a look gave is what the contract lets it give."""
        if version not in self.store_of(place.ref).lies:
            assert self.contract.may_give(
                version, place.ref, place.kind.freshness, asked, opening=opening
            ), f"{version.tag} of {place.ref} is beyond the contract: {self.truth.eras(place.ref)}"
        self.contract.looked(
            place.ref, version, pinned=place.kind.freshness == PINNED and asked in (None, PINNED)
        )

    def look(self) -> None:
        """A second passes, and the policy is looked at, as it is by itself every second."""
        self.clock.sleep(1.0)
        self.rig.watch.look()
        for handle in self.handles:
            handle.ever.update(self.names_of_handle(handle))


def path_of(text: str) -> NamespacePath:
    """A path of the tree."""
    return NamespacePath.parse(text)
