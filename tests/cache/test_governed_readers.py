"""Rules that name readers: for whom the gate opens, on every way to the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.opening import open_service
from headrace_cache.policy.audience import ANONYMOUS, Principal
from headrace_cache.principals import own_principal
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import PolicyDenied
from headrace_namespace.path import NamespacePath

POLICY = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**", "/lake/top/hr/**"]
apply.groups = ["hr"]
[[rule]]
name = "quiet"
match.path = ["/lake/quiet/**"]
apply.groups = ["hr"]
apply.metadata = "memory-only"
"""
ANN = Principal(frozenset(["ann"]), frozenset(["hr", "staff"]))
BOB = Principal(frozenset(["bob"]), frozenset(["staff"]))


def path(name: str) -> NamespacePath:
    return NamespacePath.parse(f"/lake/{name}")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LocalService]:
    for folder in ("hr", "quiet", "open", "top/hr"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "a").write_bytes(folder.encode() * 100)
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "headrace.toml").write_text(
        '[[mount]]\npath = "/lake"\nurl = "data"\n[policy]\nfile = "policy.toml"\n'
        '[cache]\nfolder = "cache"\nkey_file = "key"\nstate_folder = "state"\nmemory = "16MiB"\n'
    )
    loaded = load_settings(tmp_path / "headrace.toml")
    made = open_service(loaded.mounts, loaded.cache, loaded.policy, loaded.context)
    assert isinstance(made, LocalService)
    with closing(made):
        yield made


def content(service: LocalService, name: str) -> bytes:
    opened = service.open(path(name))
    try:
        return opened.read_at(0, opened.version.size)
    finally:
        opened.close()


@pytest.mark.parametrize("who", [BOB, ANONYMOUS, own_principal()])
def test_bytes_are_for_those_whom_the_rule_names(service: LocalService, who: Principal) -> None:
    ann, other = service.seen_by(ANN), service.seen_by(who)
    assert content(ann, "hr/a") == b"hr" * 100  # warm from here on, for whom it is
    for _ in range(2):
        with pytest.raises(PolicyDenied, match=r"/lake/hr/a is for groups hr, and not for"):
            other.open(path("hr/a"))
        assert content(ann, "hr/a") == b"hr" * 100
    assert content(other, "open/a") == b"open" * 100


def test_nothing_else_leads_to_the_bytes(service: LocalService) -> None:
    ann, bob = service.seen_by(ANN), service.seen_by(BOB)
    assert content(ann, "hr/a")
    for attempt in (
        lambda: bob.create(path("hr/a")),
        lambda: bob.append(path("hr/a")),
        lambda: bob.copy(path("hr/a"), path("open/b")),
        lambda: bob.rename(path("hr/a"), path("open/b")),
        lambda: bob.drop(path("hr/a")),
        lambda: bob.pin(path("hr/a")),
        lambda: bob.why(path("hr/a")),
    ):
        with pytest.raises(PolicyDenied):
            attempt()
    assert isinstance(bob.delete([path("hr/a")])[path("hr/a")], PolicyDenied)
    assert bob.rename(path("top"), path("open/top")) is False  # one by one then, each judged
    with pytest.raises(PolicyDenied, match="looser"):
        ann.copy(path("hr/a"), path("open/b"))
    assert content(ann, "hr/a") == b"hr" * 100


def test_looks_are_for_all_unless_metadata_is_restricted_too(service: LocalService) -> None:
    ann, bob = service.seen_by(ANN), service.seen_by(BOB)
    assert bob.stat(path("hr/a")).size == 200
    with pytest.raises(PolicyDenied):
        bob.stat(path("quiet/a"))
    with pytest.raises(PolicyDenied):
        list(bob.list(path("quiet")))
    assert [entry.size for entry in ann.list(path("quiet"))] == [500]


def test_who_writes_what_is_his_to_read(service: LocalService) -> None:
    ann, bob = service.seen_by(ANN), service.seen_by(BOB)
    with memoryview(b"new") as data:
        writer = ann.create(path("hr/new"))
        writer.write(data)
        writer.commit()
    assert content(ann, "hr/new") == b"new"
    with pytest.raises(PolicyDenied):
        bob.open(path("hr/new"))


def test_an_explanation_says_for_whom(service: LocalService) -> None:
    said = service.seen_by(BOB).explain(path("hr/a"))
    assert said.readers == ("groups hr",) and "not for user bob" in str(said.refusal)
    assert service.seen_by(ANN).explain(path("hr/a")).refusal is None
    assert service.seen_by(BOB).explain(path("open/a")).readers == ()


def test_a_view_for_somebody_ends_nothing_of_the_service(service: LocalService) -> None:
    service.seen_by(BOB).close()
    assert content(service, "open/a") == b"open" * 100
