"""Opens that stood and have run out: many are renewed with one message, and nothing restricted."""

from __future__ import annotations

import os
import random

import pytest

from headrace_cache.remote.leases import FIRST_RENEWED
from headrace_cache.wire import messages as m
from headrace_namespace.errors import NotFound
from headrace_namespace.freshness import CHECK
from tests.cache.node.conftest import Job, World, path
from tests.fakes.clock import ManualClock


@pytest.mark.parametrize("order", ["as before", "reversed", "shuffled anew"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_second_pass_is_a_handful_of_messages(
    world: World, job: Job, order: str, listed: bool
) -> None:
    data = {f"set/{number:03}": world.put(f"set/{number:03}", 300) for number in range(300)}
    names = list(data)
    if listed:
        assert len(list(job.client.list(path("set")))) == len(names)
    job.messages(names)
    taken: list[int] = []
    for _ in range(4):
        if order == "shuffled anew":
            random.shuffle(names)
        elif order == "reversed":
            names.reverse()
        job.wait()
        taken.append(job.messages(names))
        assert {name: job.read(name) for name in names} == data
    assert taken[0] <= 30 and max(taken[1:]) <= 12


def test_opens_of_many_folders_are_renewed_too(world: World, job: Job) -> None:
    names = [f"month={number:02}/a" for number in range(60)]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    for _ in range(3):
        job.wait()
        assert job.messages(names) <= 4


def test_who_opens_few_of_many_has_few_renewed(world: World, job: Job) -> None:
    names = [f"{number:03}" for number in range(200)]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    for _ in range(5):
        job.wait()
        job.messages(["007"])
        assert job.standing() == 1 + FIRST_RENEWED


def test_what_one_thread_has_renewed_no_other_does(world: World, job: Job) -> None:
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    job.wait()
    leases = job.connection.leases
    first, second = leases.to_renew("/data/00"), leases.to_renew("/data/20")
    assert len(first) == len(second) == FIRST_RENEWED and not {*first} & {*second}
    leases.keep(first)
    assert leases.to_renew("/data/39") == first


@pytest.mark.parametrize(
    "rule", ['apply.persistence = "memory-only"\napply.guarantee = "unattested"', "apply.users = "]
)
def test_nothing_restricted_is_renewed(world: World, clock: ManualClock, rule: str) -> None:
    rule += f'["{os.geteuid()}"]' if rule.endswith("= ") else ""
    world.policy.write_text(
        f'version = 1\n[[rule]]\nname = "hr"\nmatch.path = ["/data/hr/**"]\n{rule}\n'
    )
    for name in ("a", "hr/a", "hr/b"):
        world.put(name, 100)
    job = Job(world, clock)
    job.messages(["a", "hr/a", "hr/b"])  # brought into memory
    for _ in range(3):
        assert job.messages(["hr/a", "hr/b"]) == 2
        job.wait()
    # The node does not go by what the client thinks that it may ask.
    plain, restricted = job.handle("a"), job.handle("hr/a")
    assert job.renewed("a", plain, restricted) == [1.0, 0.0]
    assert job.renewed("hr/b", plain, restricted) == [1.0, 0.0]


def test_handles_of_another_mount_and_of_nobody_are_passed_over(
    world: World, clock: ManualClock
) -> None:
    """A store that stalls holds up those alone who ask for it."""
    (world.root / "other").mkdir()
    (world.root / "other/a").write_bytes(b"other")
    text = world.file.read_text()
    world.file.write_text(f'[[mount]]\npath = "/data/other"\nurl = "other"\n{text}')
    world.put("a", 100)
    job = Job(world, clock)
    own, other = job.handle("a"), job.handle("other/a")
    assert job.renewed("a", own, other, 999_999, -1) == [1.0, 0.0, 0.0, 0.0]
    assert job.renewed("other/a", own, other) == [0.0, 1.0]
    many = job.renewed("a", *[own] * (2 * m.MOST_RENEWED))
    assert many == [1.0] * m.MOST_RENEWED


def test_who_asks_for_now_has_nothing_renewed(world: World, job: Job) -> None:
    for name in ("a", "b"):
        world.put(name, 100)
    job.messages(["a", "b"])
    job.wait()
    job.client.open(path("a"), CHECK).close()
    assert job.standing() == 0


def test_an_open_that_fails_costs_the_others_nothing(world: World, job: Job) -> None:
    names = [f"{number}" for number in range(8)]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    job.wait()
    (world.data / "0").unlink()
    with pytest.raises(NotFound):
        job.client.open(path("0"))
    assert job.messages(names[1:]) == 1


def test_what_was_read_is_counted_and_keeps_its_memory(world: World, job: Job) -> None:
    names = ["a", "b", "c"]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    handles = [job.handle(name) for name in names]
    (*_, session) = job.node.server.sessions()
    held = [session.opened(handle)._held for handle in handles]  # pyright: ignore
    before, uses = job.client.status(), sum(each.spans[0].extent.uses for each in held)
    for _ in range(5):
        job.wait()
        job.messages(names)
    after = job.client.status()
    assert after.bytes_served - before.bytes_served == 5 * 300
    assert after.hits - before.hits == 5 * 3
    assert sum(each.spans[0].extent.uses for each in held) >= uses + 5 * 3
