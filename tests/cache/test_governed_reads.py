"""Reads, looks and listings under a policy: what is refused, and where bytes may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.policy.placement import Persistence
from headrace_cache.policy.policy import BUILT_IN
from headrace_cache.policy.scope import Scope
from headrace_mounts.handles import HeadraceFile
from headrace_namespace.backends.protocol import Folder
from headrace_namespace.errors import PolicyDenied, VersionGone
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

RULES = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "attested"
match.path = ["/lake/secret/**"]
apply.persistence = "memory-only"
[[rule]]
name = "stream"
match.path = ["/lake/stream/**"]
apply.persistence = "no-cache"
apply.guarantee = "unattested"
[[rule]]
name = "closed"
match.path = ["/lake/closed/**"]
apply.persistence = "deny"
[[rule]]
name = "quiet"
match.path = ["/lake/quiet/**"]
apply.metadata = "memory-only"
[[rule]]
name = "hidden"
match.path = ["/lake/hidden/**"]
apply.metadata = "memory-only"
apply.guarantee = "G1"
[[rule]]
name = "keys"
match.path = ["/**/*.pem"]
apply.persistence = "deny"
[[rule]]
name = "tagged"
match.tag = ["pii=eu"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
"""


@pytest.fixture
def governed(lake: MemoryBackend) -> Iterator[Rig]:
    for folder in ("hr", "secret", "stream", "closed", "quiet", "open"):
        lake.set(f"{folder}/a", folder.encode() * PAGE)
    other = MemoryBackend("memory:lake")  # a second way to the same store
    other.set("hr/a", b"hr" * PAGE)
    rig = Rig(
        {"/lake": lake, "/alias": other}, policy=PolicySource(RULES, "policy.toml"), ssd=DictTier()
    )
    yield rig
    rig.service.close()


@pytest.mark.parametrize(
    ("folder", "memory", "ssd"),
    [("open", True, True), ("hr", True, False), ("quiet", True, False), ("stream", False, False)],
)
def test_bytes_are_only_where_their_placement_allows(
    governed: Rig, folder: str, memory: bool, ssd: bool
) -> None:
    assert whole(governed.service.open(path(f"/lake/{folder}/a"))) == folder.encode() * PAGE
    assert governed.ssd is not None
    assert (governed.memory.usage().used > 0) == memory
    assert bool(governed.ssd.pages) == ssd


def test_denied_and_unattested_paths_are_refused_before_the_store_is_asked(
    governed: Rig, lake: MemoryBackend
) -> None:
    for name in ("/lake/closed/a", "/lake/secret/a", "/lake/CLOSED/a"):
        with pytest.raises(PolicyDenied):
            governed.service.open(path(name))
    with pytest.raises(PolicyDenied):
        list(governed.service.list(path("/lake/closed")))
    with pytest.raises(PolicyDenied):
        governed.service.stat(path("/lake/closed/a"))
    assert not lake.asked


def test_an_alias_of_a_restricted_object_is_as_restricted(governed: Rig) -> None:
    assert whole(governed.service.open(path("/alias/hr/a"))) == b"hr" * PAGE
    assert governed.ssd is not None and not governed.ssd.pages
    why = governed.service.explain(path("/alias/hr/a"))
    assert why.persistence == "memory-only"
    assert "hr" in [rule.name for rule in why.rules]


def test_a_listing_shows_only_the_name_of_what_may_not_be_looked_at(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.set("open/secret.pem", b"-----BEGIN")
    shown = {entry.path.name: entry for entry in governed.service.list(path("/lake/open"))}
    assert set(shown) == {"a", "secret.pem"}
    assert shown["a"].version is not None
    facts = shown["secret.pem"].facts()
    assert facts["type"] == "file" and facts["size"] is None and facts["version"] is None
    with pytest.raises(PolicyDenied):
        governed.service.stat(path("/lake/open/secret.pem"))


def test_looks_are_refused_where_metadata_demands_an_attested_host(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.set("hidden/a", b"x")
    for look in (governed.service.stat, governed.service.open):
        with pytest.raises(PolicyDenied, match="G1"):
            look(path("/lake/hidden/a"))
    with pytest.raises(PolicyDenied):
        list(governed.service.list(path("/lake/hidden")))


def test_a_folder_of_the_other_spelling_is_governed_before_it_is_listed(
    governed: Rig, lake: MemoryBackend
) -> None:
    lake.set("closed/cafe\u0301/a", b"x")
    for spelling in ("caf\u00e9", "cafe\u0301"):
        with pytest.raises(PolicyDenied):
            list(governed.service.list(path(f"/lake/closed/{spelling}")))


def test_the_tags_of_every_mount_of_an_object_count() -> None:
    lake, other = MemoryBackend("memory:lake"), MemoryBackend("memory:lake")
    lake.set("a", b"x" * PAGE)
    rig = Rig(
        {"/lake": lake, "/tagged": other},
        policy=PolicySource(RULES, "policy.toml"),
        ssd=DictTier(),
        tags_of={"/tagged": ("pii=eu",)},
    )
    whole(rig.service.open(path("/lake/a")))
    assert rig.ssd is not None and not rig.ssd.pages
    assert rig.service.explain(path("/lake/a")).persistence == "memory-only"
    rig.service.close()


def test_a_mount_of_a_single_object_is_a_name_of_it() -> None:
    lake = MemoryBackend("memory:lake")
    lake.set("hr/a", b"x" * PAGE)

    class One(MemoryBackend):
        """A mount whose root is one object of the same store."""

        def ref(self, key: str) -> ObjectRef:
            return ObjectRef("memory:lake", "hr/a")

        def stat(self, key: str) -> ObjectVersion | Folder | None:
            return lake.stat("hr/a")

        def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
            lake.read_into(version, start, target)

    rules = RULES.replace("/lake/hr/**", "/single")
    rig = Rig(
        {"/lake": lake, "/single": One("memory:lake")},
        policy=PolicySource(rules, "policy.toml"),
        ssd=DictTier(),
    )
    whole(rig.service.open(path("/lake/hr/a")))
    assert rig.ssd is not None and not rig.ssd.pages
    rig.service.close()


def test_old_sealed_pages_are_neither_served_nor_kept_once_memory_only(
    lake: MemoryBackend,
) -> None:
    lake.set("hr/a", b"x" * PAGE)
    tier = DictTier()
    loose = Rig({"/lake": lake}, ssd=tier)
    whole(loose.service.open(path("/lake/hr/a")))
    loose.service.close()
    assert tier.pages
    strict = Rig({"/lake": lake}, ssd=tier, policy=PolicySource(RULES, "policy.toml"))
    opened = strict.service.open(path("/lake/hr/a"))
    assert not tier.pages
    reads = lake.asked["read"]
    assert whole(opened) == b"x" * PAGE and lake.asked["read"] == reads + 1
    assert not tier.pages
    strict.service.close()


def test_one_store_holds_an_object_apart_for_each_placement(lake: MemoryBackend) -> None:
    lake.set("hr/a", b"x" * PAGE)
    rig = Rig({"/lake": lake}, ssd=DictTier())
    version = rig.service.open(path("/lake/hr/a")).version
    scope = Scope.of(rig.namespace.resolve(path("/lake/hr/a")).names)
    memory_only = replace(BUILT_IN, persistence=Persistence.MEMORY_ONLY)
    loose, _ = rig.store.attach(version, BUILT_IN, scope)
    strict, _ = rig.store.attach(version, memory_only, scope)
    assert loose.ssd and not strict.ssd and loose is not strict
    assert rig.store.attach(version, BUILT_IN, scope) == (loose, False)
    rig.service.close()


def test_an_object_that_is_not_the_one_judged_is_never_opened(lake: MemoryBackend) -> None:
    """A link that is switched between the judgement and the look: the store finds another ref."""
    lake.set("open/a", b"open")
    lake.set("hr/a", b"hr")

    class Switching(MemoryBackend):
        def stat(self, key: str) -> ObjectVersion | Folder | None:
            return lake.stat("hr/a")

    rig = Rig({"/lake": Switching("memory:lake")})
    with pytest.raises(VersionGone, match="link"):
        rig.service.open(path("/lake/open/a"))
    rig.service.close()


def test_reading_uncached_lines_asks_for_blocks_and_keeps_nothing(
    governed: Rig, lake: MemoryBackend
) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    lake.set("stream/lines", lines)
    with HeadraceFile(governed.service.open(path("/lake/stream/lines"))) as file:
        assert list(file) == lines.splitlines(keepends=True)
    assert lake.asked["read"] <= 2
    assert governed.memory.usage().used == 0


def test_what_is_sealed_is_remembered_by_the_folders_of_all_its_names() -> None:
    lake, other = MemoryBackend("memory:lake"), MemoryBackend("memory:lake")
    lake.set("hr/a", b"x" * PAGE)
    tier = DictTier()
    rig = Rig({"/lake": lake, "/alias": other}, ssd=tier)
    whole(rig.service.open(path("/lake/hr/a")))
    (scope,) = tier.scopes.values()
    assert {name.path.text for name in scope.folders} == {"/lake/hr", "/alias/hr"}
    rig.service.close()
