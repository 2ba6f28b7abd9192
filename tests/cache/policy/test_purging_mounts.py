"""A change of the mounts may restrict what is held, as a change of the policy may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from headrace_cache.policy.watch import LOOK_SECONDS
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import Backend, Folder
from headrace_namespace.backends.wrapper import WrappedBackend
from headrace_namespace.errors import PolicyDenied
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.watched_cache import HR, OPEN, Start, opened, rule, write


class Rooted(WrappedBackend):
    """A mount of a single object."""

    def __init__(self, inner: Backend, key: str) -> None:
        super().__init__(inner)
        self._key = key

    def ref(self, key: str) -> ObjectRef:
        return self.inner.ref(self._key)

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        return (self.ref(key),)


class Below(WrappedBackend):
    """A mount of a folder of another."""

    def __init__(self, inner: Backend, folder: str) -> None:
        super().__init__(inner)
        self._folder = folder

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        return self.inner.stat(self._below(key))

    def ref(self, key: str) -> ObjectRef:
        return self.inner.ref(self._below(key))

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        return self.inner.trail(self._below(key))

    def _below(self, key: str) -> str:
        return f"{self._folder}/{key}".rstrip("/")


class Linked(WrappedBackend):
    """A store where a folder's name is a link that leads on by these names, one after the other."""

    def __init__(self, inner: Backend, links: Mapping[str, Sequence[str]]) -> None:
        super().__init__(inner)
        self._links = links

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        return self.inner.stat(self.ref(key).key)

    def ref(self, key: str) -> ObjectRef:
        return self.trail(key)[-1]

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        first, _, rest = key.partition("/")
        names = (first, *self._links.get(first, ()))
        return tuple(self.inner.ref(f"{name}/{rest}".rstrip("/")) for name in names)


def test_a_mount_by_which_an_object_is_restricted_purges_it(start: Start) -> None:
    (hr,) = opened(start(), "hr/a")
    rig = start(mounts=("/lake", "/tagged"), tags_of={"/tagged": ("pii=eu",)})
    assert rig.sealed(hr)
    write(
        rig.file,
        OPEN + '[[rule]]\nname = "eu"\nmatch.tag = ["pii=eu"]\napply.persistence = "deny"\n',
    )
    plain = start()
    plain.settle_down()
    assert plain.sealed(hr)  # without the mount it has no such tag
    assert not start(mounts=("/lake", "/tagged"), tags_of={"/tagged": ("pii=eu",)}).sealed(hr)


def test_a_mount_that_is_made_while_an_object_is_open_counts_for_it(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(
        OPEN + '[[rule]]\nname = "eu"\nmatch.tag = ["pii=eu"]\napply.persistence = "deny"\n'
    )
    rig.settle_down()
    (hr,) = opened(rig, "hr/a")
    assert rig.sealed(hr)
    more = Rig({"/lake": lake, "/tagged": lake}, tags_of={"/tagged": ("pii=eu",)})
    rig.take_mounts_of(more)
    assert not rig.sealed(hr) and rig.memory.usage().objects == 0
    with pytest.raises(PolicyDenied):
        hr.read_at(0, 1)
    more.service.close()


def test_a_mount_that_is_made_while_the_file_is_broken_purges_what_it_restricts(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(OPEN + rule("/alias/hr/**"))
    rig.settle_down()
    hr, free = opened(rig, "hr/a", "open/a")
    assert rig.sealed(hr)
    rig.rewrite("version = 1\n[[rule")
    more = Rig({"/lake": lake, "/alias": lake})
    rig.take_mounts_of(more)
    assert not rig.sealed(hr) and rig.sealed(free)
    more.service.close()


def test_a_folder_that_another_mount_hides_is_purged_by_its_other_names(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(OPEN + rule("/alias/hr/**"))
    rig.settle_down()
    hr, free = opened(rig, "hr/a", "open/a")
    over = MemoryBackend("memory:over")
    more = Rig({"/lake": lake, "/lake/hr": over, "/alias": lake})
    rig.take_mounts_of(more)
    assert not rig.sealed(hr) and rig.sealed(free)
    more.service.close()


def test_processes_of_other_mounts_do_not_purge_each_others_pages_without_end(
    start: Start,
) -> None:
    """Each has a goal of its own, and each comes to its end."""
    one, other = start(), start(mounts=("/lake", "/also"))
    one.rewrite(HR + rule("/**/*.pem", "deny"))
    for _ in range(2):
        for rig in (one, other):
            rig.clock.sleep(LOOK_SECONDS)
            rig.watch.look()
            rig.settle_down()
    (free,) = opened(one, "open/a")
    for rig in (one, other, one, other):
        rig.settle_down()
    assert one.sealed(free)


@pytest.mark.parametrize("mounted", ["/elsewhere", "/elsewhere/hr/a"])
def test_what_was_sealed_by_a_name_that_is_gone_is_purged_by_those_it_has_now(
    start: Start, lake: MemoryBackend, mounted: str
) -> None:
    """Its mount was undone, and its store mounted where a rule restricts it: as a whole, or the
    object alone."""
    rig = start()
    rig.rewrite(OPEN + rule("/elsewhere/hr/**"))
    rig.settle_down()
    hr, free = opened(rig, "hr/a", "open/a")
    backend = lake if mounted == "/elsewhere" else Rooted(lake, "hr/a")
    more = Rig({mounted: backend})
    rig.take_mounts_of(more)
    assert not rig.sealed(hr) and rig.sealed(free)
    more.service.close()


def test_what_was_sealed_is_purged_by_the_links_in_a_mounts_own_url(
    start: Start, lake: MemoryBackend
) -> None:
    """`/x` is mounted at a link, which has a name under a restricted folder of `/lake`."""
    rig = start()
    rig.rewrite(OPEN + rule("/more/secret/**"))
    rig.settle_down()
    hr, free = opened(rig, "hr/a", "open/a")
    steps = {"secret": ["hr"]}
    more = Rig({"/more": Linked(lake, steps), "/x": Below(Linked(lake, steps), "secret")})
    rig.take_mounts_of(more)
    assert not rig.sealed(hr) and rig.sealed(free)
    more.service.close()


def test_why_tells_of_a_purge_by_any_name_of_what_lies_there(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(OPEN + rule("/elsewhere/hr/**"))
    rig.settle_down()
    opened(rig, "hr/a")
    more = Rig({"/elsewhere": lake})
    rig.take_mounts_of(more)
    (purge,) = rig.service.why(path("/elsewhere/hr/a")).purges
    assert purge.rules == ["memory-only /elsewhere/hr/**"] and purge.objects == 1
    assert rig.service.why(path("/elsewhere/open/a")).purges == []
    more.service.close()


def test_an_open_object_whose_mount_is_gone_obeys_the_names_that_it_has_now(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(OPEN + rule("/elsewhere/hr/**", "deny"))
    rig.settle_down()
    hr, free = opened(rig, "hr/a", "open/a")
    more = Rig({"/elsewhere": lake})
    rig.take_mounts_of(more)
    with pytest.raises(PolicyDenied):
        hr.read_at(0, 1)
    assert free.read_at(0, 4) == b"open"
    more.service.close()


def test_a_folder_whose_path_leads_on_by_a_restricted_name_is_purged(
    start: Start, lake: MemoryBackend
) -> None:
    """The link in its path was switched, to the same folder by another link. A look at the links
    comes with the next change of the mounts, or of the policy."""
    rig = start()
    rig.rewrite(OPEN + rule("/lake/secret/**"))
    rig.settle_down()
    rig.take_mounts_of(Rig({"/lake": Linked(lake, {"link": ["hr"]})}))
    other = MemoryBackend("memory:other")
    handle, free = rig.service.open(path("/lake/link/a")), opened(rig, "open/a")[0]
    assert whole(handle) and rig.sealed(handle)
    rig.take_mounts_of(Rig({"/lake": Linked(lake, {"link": ["secret", "hr"]}), "/a": other}))
    assert not rig.sealed(handle) and rig.sealed(free)


class Counted(WrappedBackend):
    """A store of folders; counts who asks where they are, for each of which a disk is asked."""

    asked = 0

    def ref(self, key: str) -> ObjectRef:
        Counted.asked += 1
        return self.inner.ref(key)

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        Counted.asked += 1
        return self.inner.trail(key)


def test_a_look_at_the_policy_asks_for_each_mount_a_few_times_and_not_once_for_each_other(
    start: Start, tmp_path: Path
) -> None:
    folders: dict[str, Backend] = {}
    for number in range(50):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        folders[f"/m{number}"] = Counted(LocalBackend(str(folder), ManualClock()))
    rig, others = start(), Rig(folders)
    Counted.asked = 0
    rig.take_mounts_of(others)
    assert 50 <= Counted.asked <= 50 * 6
    others.service.close()
