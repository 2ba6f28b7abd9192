"""What stood and was renewed is opened again only where the node would open the very same."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from headrace_cache.wire import messages as m
from headrace_cache.wire.values import raw
from headrace_mounts.settings import declare_mount
from headrace_namespace.errors import NotFound, PolicyDenied
from tests.cache.node.conftest import A_WHILE, Job, World, on_s3, path
from tests.conftest import Bucket
from tests.fakes.clock import ManualClock


def test_a_file_that_changed_meanwhile_is_seen(world: World, job: Job) -> None:
    names = ["a", "b", "c"]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    job.wait()
    before = world.put("b", 200)
    job.read("a")  # renews the others
    assert job.read("b") == before
    job.wait()
    job.read("a")
    after = world.put("b", 300)
    assert job.read("b") == after
    job.wait()
    job.read("a")
    (world.data / "b").unlink()
    with pytest.raises(NotFound):
        job.client.open(path("b"))
    (world.data / "c").unlink()
    (world.data / "c").symlink_to("a")
    assert job.read("c") == job.read("a")


def test_a_link_that_was_switched_meanwhile_is_seen(world: World, job: Job) -> None:
    for name in ("one/a", "one/b", "two/a", "two/b"):
        world.put(name, 100)
    (world.data / "link").symlink_to("one")
    for target in ("two", "one", "two"):
        job.messages(["link/a", "link/b"])
        job.wait()
        (world.data / "new").symlink_to(target)
        os.replace(world.data / "new", world.data / "link")
        for name in ("a", "b"):
            assert job.read(f"link/{name}") == (world.data / target / name).read_bytes()


def test_a_renewal_lasts_no_longer_than_the_look_at_the_links(world: World, job: Job) -> None:
    """The node looked at the links for another client: what is left of that second is told."""
    for name in ("link/a", "link/b"):
        world.put(name, 100)
    first, second = job.handle("link/a"), job.handle("link/b")
    job.wait()
    assert job.renewed("link/a", first, second) == [1.0, 1.0]
    job.wait(0.75)
    assert job.renewed("link/a", first, second) == pytest.approx([0.25, 0.25])


def test_a_stricter_policy_is_seen(world: World, job: Job) -> None:
    names = ["a", "b", "c"]
    for name in names:
        world.put(name, 100)
    job.messages(names)
    job.wait()
    world.policy.write_text(
        'version = 1\n[[rule]]\nname = "no"\nmatch.path = ["/data/b"]\napply.persistence = "deny"\n'
    )
    job.read("a")
    with pytest.raises(PolicyDenied):
        job.client.open(path("b"))
    job.read("c")


def test_a_mount_over_it_is_seen(world: World, job: Job) -> None:
    names = ["a", "sub/a", "sub/b"]
    for name in names:
        world.put(name, 100)
    other = world.root / "elsewhere"
    other.mkdir()
    for name in "ab":
        (other / name).write_bytes(b"another")
    job.messages(names)
    job.wait()
    world.client().add_mount(declare_mount({"path": "/data/sub", "url": str(other)}), over=True)
    job.read("a")  # of the mount that is hidden there now
    for name in ("sub/a", "sub/b"):
        assert job.read(name) == b"another"


def test_what_became_restricted_is_not_renewed(world: World, job: Job) -> None:
    for name in ("a", "b"):
        world.put(name, 100)
    first, second = job.handle("a"), job.handle("b")
    world.policy.write_text(
        'version = 1\n[[rule]]\nname = "hr"\nmatch.path = ["/data/b"]\n'
        'apply.persistence = "memory-only"\napply.guarantee = "unattested"\n'
    )
    job.wait()
    job.handle("a")  # under the policy of now
    assert job.renewed("a", first, second, job.handle("a")) == [0.0, 0.0, 1.0]


def test_an_age_is_not_stretched(
    world: World,
    clock: ManualClock,
    bucket: Bucket,
    s3_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_s3(world, bucket, monkeypatch, freshness="30s")
    names = ["a", "b", "c"]
    for name in names:
        s3_client.put_object(Bucket=bucket.name, Key=name, Body=f"{name} one".encode())
    job = Job(world, clock)
    job.messages(names)
    for name in ("b", "c"):
        s3_client.put_object(Bucket=bucket.name, Key=name, Body=f"{name} two".encode())
    for _ in range(7):  # 28 seconds, in which others write: each time all is to be asked for again
        job.wait(4.0)
        job.connection.ask(m.Changed([raw("/data/z")]), m.Done)
        assert job.messages(names) == 1
        assert job.read("b") == b"b one"
    job.wait(4.0)
    assert [job.read(name) for name in names] == [b"a one", b"b two", b"c two"]


def test_what_others_wrote_is_seen(
    world: World,
    clock: ManualClock,
    bucket: Bucket,
    s3_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_s3(world, bucket, monkeypatch, freshness="1h")
    for name in ("a", "b"):
        s3_client.put_object(Bucket=bucket.name, Key=name, Body=name.encode())
    job, other = Job(world, clock), world.client()
    for number in range(3):
        job.messages(["a", "b"])
        data = bytes([number]) * 500
        writer = other.create(path("b"))
        with memoryview(data) as view:
            writer.write(view)
        writer.commit()
        assert job.read("a") == b"a"
        assert job.read("b") == data


def test_whatever_happens_what_is_read_is_what_is_there(world: World, job: Job) -> None:
    """Random changes, and between them reads by what stands, by what was renewed, and by calls."""
    seed = time.time_ns()
    chance, names = random.Random(seed), [f"{number}" for number in range(6)]
    for folder in ("one", "two"):
        for name in names:
            world.put(f"{folder}/{name}", chance.randrange(1, 2000))
    (world.data / "link").symlink_to("one")
    for step in range(300):
        folder, name = chance.choice(["one", "two"]), chance.choice(names)
        match chance.randrange(4):
            case 0:
                world.put(f"{folder}/{name}", chance.randrange(1, 2000))
            case 1:
                (world.data / "new").symlink_to(folder)
                os.replace(world.data / "new", world.data / "link")
                job.wait()  # a link may be missed for a second
            case 2:
                job.wait(chance.choice([0.3, A_WHILE]))
            case _:
                job.connection.ask(m.Changed([raw("/data/z")]), m.Done)
        for asked in chance.sample([f"{each}/{name}" for each in ("one", "two", "link")], 2):
            assert job.read(asked) == (world.data / asked).read_bytes(), (seed, step, asked)
