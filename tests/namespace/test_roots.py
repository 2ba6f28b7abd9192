from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.identity import ObjectRef
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location
from headrace_namespace.roots import ROOTS_SECONDS, Roots, below_root
from tests.fakes.clock import ManualClock
from tests.fakes.memory_backend import MemoryBackend


class Rooted(MemoryBackend):
    """A store whose mount begins at a folder of it; counts who asks where that is."""

    def __init__(self, space: str, root: str) -> None:
        super().__init__(space)
        self.root = root
        self.asked = Counter[str]()

    def ref(self, key: str) -> ObjectRef:
        self.asked[key] += 1
        return ObjectRef(self.space, f"{self.root}{key}")


def mounted(number: int) -> Mount:
    return Mount(NamespacePath(f"/m{number}"), "memory:")


keys = st.lists(st.sampled_from(["", "a", "b", "ab"]), max_size=5).map("/".join)
rooms = st.sampled_from(["lake", "pond"])


@given(roots=st.lists(st.tuples(rooms, keys), max_size=6), space=rooms, key=keys)
def test_reaching_finds_what_a_look_at_each_mount_would(
    roots: list[tuple[str, str]], space: str, key: str
) -> None:
    backends = {mounted(n): Rooted(*each) for n, each in enumerate(roots)}
    expected: list[tuple[Mount, str]] = []
    for mount, backend in backends.items():
        below = below_root(key, backend.root) if backend.space == space else None
        if below is not None:
            expected.append((mount, below))
    assert Roots(backends, ManualClock()).reaching(Location(space, key)) == expected


def test_however_many_ask_each_mount_is_looked_at_once_in_a_second(tmp_path: Path) -> None:
    looked = Counter[str]()

    class Looked(LocalBackend):
        def ref(self, key: str) -> ObjectRef:
            looked[self.name] += 1
            return super().ref(key)

    clock = ManualClock()
    backends = {mounted(n): Looked(str(tmp_path / str(n)), clock) for n in range(20)}
    roots = Roots(backends, clock)
    for seconds in range(1, 4):
        for number in range(20):
            there = Location(backends[mounted(0)].space, str(tmp_path / str(number) / "x"))
            assert roots.reaching(there) == [(mounted(number), "x")]
            assert roots.of(mounted(number)).key == str(tmp_path / str(number))
        assert set(looked.values()) == {seconds}
        clock.sleep(ROOTS_SECONDS)


def test_a_remote_mount_is_looked_at_once_for_ever() -> None:
    clock, backend = ManualClock(), Rooted("lake", "in/it")
    roots = Roots({mounted(0): backend}, clock)
    for _ in range(3):
        assert roots.reaching(Location("lake", "in/it/x")) == [(mounted(0), "x")]
        clock.sleep(10 * ROOTS_SECONDS)
    assert backend.asked == {"": 1}


def test_a_mount_whose_link_was_switched_leads_elsewhere_a_second_later(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("old")
    clock = ManualClock()
    backend = LocalBackend(str(link), clock)
    roots = Roots({mounted(0): backend}, clock)
    new = Location(backend.space, str(tmp_path / "new" / "x"))
    assert roots.reaching(new) == []
    link.unlink()
    link.symlink_to("new")
    clock.sleep(ROOTS_SECONDS)
    assert roots.reaching(new) == [(mounted(0), "x")]
