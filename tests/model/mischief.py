"""Rules that change the world under headrace: other clients, faults, policy, mounts, time."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from headrace_namespace.errors import HeadraceError
from tests.model import scale
from tests.model.faulty_store import BODIES, ERRORS, READS, STATS, WRITES, Fault
from tests.model.machine import MOUNTS, TreeMachine, keys, path_of, sizes
from tests.model.policy_model import DENY, MEMORY_ONLY, NO_CACHE, SEALED, Decision, PolicyText
from tests.model.world import PASSING, STORES, declared

stores = st.sampled_from(STORES)
faults = st.one_of(
    st.builds(Fault, st.sampled_from((*READS, *WRITES)), st.sampled_from(tuple(ERRORS))),
    st.builds(Fault, st.just("read"), st.sampled_from((*BODIES, *ERRORS))),
    st.builds(Fault, st.just("stat"), st.sampled_from(STATS)),
    st.builds(Fault, st.sampled_from([f"{one}, its answer lost" for one in WRITES]), st.just("")),
)
decisions = st.builds(
    Decision, st.sampled_from((SEALED, MEMORY_ONLY, MEMORY_ONLY, NO_CACHE, DENY)), st.booleans()
)
policy_folders = st.sampled_from((*MOUNTS, "/lake/a", "/alias/a", "/alias/b", "/pin/a", "/extra/a"))
policies = st.builds(
    PolicyText,
    st.sampled_from((0, SEALED, SEALED, MEMORY_ONLY)),
    st.lists(st.tuples(policy_folders, decisions), max_size=3).map(tuple),
)
#: A file of nonsense, a key that nobody knows, no file.
broken = st.sampled_from(("version = ", "version = 1\nepok = 3\n", "", None))


class Mischief(TreeMachine):
    """What others do, and what goes wrong."""

    # Other clients of the stores.

    @rule(store=stores, key=keys, size=sizes)
    def put(self, store: str, key: str, size: int) -> None:
        self.put_behind(self.stores[store], key, size)

    @rule(
        store=stores, key=keys, to=keys, what=st.sampled_from(("append", "remove", "copy", "move"))
    )
    def other_client(self, store: str, key: str, to: str, what: str) -> None:
        there = self.stores[store]
        if key not in there.keys:
            return
        data = there.data(key)
        if what == "append":
            there.set(key, self.mean(data + self.new_content(1000)))
        if what in ("remove", "move"):
            there.remove(key)
        if what in ("copy", "move"):
            there.set(to, data)

    # Faults.

    @rule(store=stores, some=st.lists(faults, min_size=1, max_size=3))
    def arm(self, store: str, some: list[Fault]) -> None:
        """The next requests go wrong; an odd one, or so many that trying again does not help."""
        self.stores[store].armed += some

    @rule()
    def calm(self) -> None:
        for store in self.stores.values():
            store.calm()

    # Time.

    @rule(seconds=st.sampled_from((0.5, 1.0, 2.5, 4.0, 10.0, 21.0, 61.0)))
    def pass_time(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.look()

    @rule(seconds=st.sampled_from((-100_000.0, -30.0, 30.0, 100_000.0)))
    def set_clock(self, seconds: float) -> None:
        self.clock.set_forward += seconds
        self.look()

    # Policy.

    @rule(text=policies, step=st.sampled_from((0, 1, 1, 1, -1)))
    def change_policy(self, text: PolicyText, step: int) -> None:
        self.policy.change(text, step)
        self.look()

    @rule(content=broken)
    def break_policy(self, content: str | None) -> None:
        self.policy.break_it(content)
        self.look()

    @precondition(lambda self: self.policy.broken)
    @rule()
    def mend_policy(self) -> None:
        self.policy.mend()
        self.look()

    # Mounts.

    @rule(path=st.sampled_from(tuple(PASSING)))
    def mount(self, path: str) -> None:
        kind = PASSING[path]
        found = self.tried(
            lambda: self.service.add_mount(declared(path, kind), over=True, checked=False)
        )
        if isinstance(found, HeadraceError):
            assert path in self.mounted or self.fired(), found
            return
        assert path not in self.mounted
        self.mountings += 1
        self.mounted[path] = (kind, self.mountings)
        self.look()

    @precondition(lambda self: any(path in self.mounted for path in PASSING))
    @rule(path=st.sampled_from(tuple(PASSING)))
    def unmount(self, path: str) -> None:
        if path in self.mounted:
            self.service.remove_mount(path_of(path))
            del self.mounted[path]
            self.look()

    # Death.

    @rule(
        low_memory=st.booleans(),
        low_ssd=st.booleans(),
        damaged=st.one_of(st.none(), st.integers(0, 1 << 20)),
    )
    def restart(self, low_memory: bool, low_ssd: bool, damaged: int | None) -> None:
        """The process ends in order, and another begins over the same folder."""
        self.end()
        self.memory_bytes = scale.LOW_MEMORY_BYTES if low_memory else scale.MEMORY_BYTES
        self.ssd_bytes = self.least_ssd_bytes if low_ssd else self.most_ssd_bytes
        if damaged is not None:
            self.damage(damaged)
        if self.policy.broken:
            self.policy.mend()  # with a broken one it refuses to begin
        self.begin()

    def damage(self, place: int) -> None:
        """Something in the cache folder is no longer what was written."""
