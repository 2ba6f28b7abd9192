"""What the node says of itself is so, fits one packet, and tells nobody of other users' clients."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from headrace_cache.node.daemon import status_line
from headrace_cache.node.session import GIVE_BACK_SECONDS, Session
from headrace_cache.node_facts import (
    MOST_TOLD_CLIENTS,
    MOST_TOLD_MOUNT_BYTES,
    NodeFacts,
    PolicyFacts,
    busiest,
    fitting,
)
from headrace_cache.remote.node_watch import NodeWatch
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import MOST_PACKET_BYTES
from headrace_mounts.connect import watch_node
from headrace_namespace.errors import ConfigError, StoreUnavailable
from tests.cache.node.conftest import MIB, World, end, path, whole
from tests.cache.node.made_facts import STATUS, client, facts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the node is Linux's")


@pytest.fixture
def watch(world: World) -> Iterator[NodeWatch]:
    with closing(watch_node(world.file)) as made:
        yield made


def own_row_beside(told: NodeFacts) -> list[int]:
    """The numbers of the clients that have something open or lent."""
    return [row.number for row in told.rows if row.handles or row.extents]


def test_it_says_what_it_is_and_has_done(world: World, watch: NodeWatch) -> None:
    data = world.put("a", 3 * MIB)
    world.node()
    before = watch.look()
    assert before.process == os.getpid() and before.clients == 1
    job = world.client()
    opened = job.open(path("a"))
    assert whole(opened) == data
    now = watch.look()
    assert now.clients == 2 and now.connections >= 3
    (row,) = (row for row in now.rows if row.handles)
    assert (row.process, row.user) == (os.getpid(), os.getuid())
    assert (row.handles, row.extents, row.called_back) == (1, 1, 0)
    assert row.lent_bytes == now.lent_bytes >= 3 * MIB and now.lent_extents == 1
    assert row.answered >= 2 and now.answered > before.answered
    assert now.seconds_up > before.seconds_up and now.since == before.since
    assert now.status.misses > before.status.misses
    assert now.status.bytes_fetched - before.status.bytes_fetched == 3 * MIB
    assert now.status.tiers["memory"].used >= 3 * MIB
    assert now.requests_under_way == 1  # this one
    assert now.resident_bytes > now.own_bytes > MIB
    assert now.policy == PolicyFacts(0, broken=False, unpurged=False)
    opened.close()
    job.close()
    later = watch.look()
    while later.clients > 1 or later.lent_bytes:
        later = watch.look()  # it sees the end of the connection, and then takes back what it had
    assert later.rows[0].handles == 0


def test_a_broken_policy_is_a_fact(world: World, watch: NodeWatch) -> None:
    world.policy.write_text("version = 1\nepoch = 3\n")
    world.node()
    assert watch.look().policy == PolicyFacts(3, broken=False, unpurged=False)
    edition = watch.look().edition
    world.policy.write_text("version = ")
    while not (told := watch.look()).policy.broken:
        pass  # the node looks within a second
    assert told.policy.epoch == 3 and "broken" in status_line(told)
    assert told.edition >= edition


def test_what_clients_claim_never_makes_a_counter_fall(world: World, watch: NodeWatch) -> None:
    world.put("a", 10)
    node = world.node()
    job = world.client()
    assert whole(job.open(path("a")))
    before = watch.look().status
    service = job._node()  # pyright: ignore[reportPrivateUsage]
    assert service is not None
    opened = service.open(b"/data/a", None, [])
    with pytest.raises(ConfigError, match="nonsense"):
        service.ask(m.Close([m.Closed(opened.asked.handle, -1000, -1_000_000)]), m.Done)
    after = watch.look().status
    assert after.hits >= before.hits and after.bytes_served >= before.bytes_served
    assert node.facts().status.hits >= before.hits


def test_a_node_that_ends_is_missed_and_found_again(world: World, watch: NodeWatch) -> None:
    with pytest.raises(StoreUnavailable, match="headrace node"):
        watch.look()
    node = world.node_process()
    first = watch.look()
    assert first.process == node.pid
    end(node)
    with pytest.raises(StoreUnavailable):
        watch.look()
    second = world.node_process()
    assert watch.look().process == second.pid
    world.write_config(memory="32MiB")
    with closing(watch_node(world.file)) as other, pytest.raises(ConfigError):
        other.look()


def test_ten_thousand_clients_and_mounts_fit_one_packet() -> None:
    rows = [client(2**40 + each, lent=each, answered=2**40 + each) for each in range(10_000)]
    told = busiest(rows)
    assert len(told) == MOST_TOLD_CLIENTS
    assert told[0].lent_bytes == 9_999 and told[-1].lent_bytes == 10_000 - MOST_TOLD_CLIENTS
    operations = ("list", "read", "stat", "write", "delete", "copy", "part", "rename")
    requests = {f"/{'ö' * 240}{each}": dict.fromkeys(operations, 2**40) for each in range(1_000)}
    flights = {mount: 1_000 for mount in list(requests)[500:]}
    many = facts(
        clients=10_000, rows=told, flights=flights, status=replace(STATUS, requests=requests)
    )
    packed = fitting(many)
    assert len(m.encode(m.ToldNode(packed))) < MOST_PACKET_BYTES
    assert packed.clients_left_out == 10_000 - MOST_TOLD_CLIENTS
    assert packed.mounts_left_out == 1_000 - len(packed.status.requests) > 0
    assert set(packed.flights) == set(packed.status.requests)  # the busy ones came first
    assert sum(2 * len(mount.encode()) for mount in packed.flights) < MOST_TOLD_MOUNT_BYTES


def test_a_mount_whose_name_is_no_utf_8_is_told() -> None:
    odd = facts(flights={"/\udcff": 1}, status=replace(STATUS, requests={"/\udcff": {"read": 1}}))
    told = m.answer_of(m.encode(m.ToldNode(fitting(odd))))
    assert isinstance(told, m.ToldNode) and told.facts.flights == {"/\\udcff": 1}


def test_what_fits_is_told_as_it_is() -> None:
    told = m.answer_of(m.encode(m.ToldNode(fitting(facts()))))
    assert isinstance(told, m.ToldNode) and told.facts == facts()


def test_another_user_is_told_of_his_own_clients_alone(world: World) -> None:
    node = world.node()
    job = world.client()
    assert job.mounts()
    assert len(node.facts().rows) == len(node.facts(os.getuid()).rows) == 1
    stranger = node.facts(os.getuid() + 4711)
    assert stranger.clients == 1 and stranger.rows == [] and stranger.answered


def test_who_gives_nothing_back_is_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put("a", MIB)
    node = world.node()
    job = world.client()
    opened = job.open(path("a"))
    view = opened.view(0, MIB)
    assert isinstance(view, memoryview)  # so that it cannot be given back
    (session,) = node.server.sessions()
    assert isinstance(session, Session)
    (number,) = session.extents
    session.call_back(number)
    assert node.facts().rows[0].called_back == 1 and not caplog.records
    note = session._note_call  # pyright: ignore[reportPrivateUsage]
    later = session._called_back[number] + GIVE_BACK_SECONDS  # pyright: ignore[reportPrivateUsage]
    note(number, later)
    note(number, later + 1)  # once is enough for now
    (said,) = caplog.records
    assert "does not give back" in said.message and vars(said)["extents"] == 1
    view.release()
    opened.close()
    session.call_back(number)
    while node.facts().rows[0].called_back:
        pass  # the client's thread gives it back


def test_the_line_for_systemd() -> None:
    assert status_line(facts()) == (
        "clients 2, 9.0 MiB lent; memory 50% of 64.0 MiB, ssd 1% of 128.0 MiB"
    )


def test_the_socket_of_the_watch_may_be_anywhere(tmp_path: Path) -> None:
    watch = NodeWatch(tmp_path / "none" / "node.sock", "1", "f", None)
    with pytest.raises(StoreUnavailable):
        watch.look()
