"""What surrounds the node fails it: its disk is full, or somebody sets the clock."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.tiers.ssd.tier import QUIET_SECONDS
from tests.cache.node.conftest import MIB, World, path, whole
from tests.fakes.clock import ManualClock


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """A file system of 64 MiB with the node's folders; needs to mount one."""
    place = world.root / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    for folder in ("cache", "state"):
        (place / folder).mkdir(mode=0o700)
        (world.root / folder).symlink_to(place / folder)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all room that is left."""
    rest = place / "rest"
    with rest.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    return rest


def test_a_full_disk_costs_the_node_its_ssd_tier_while_it_is_full(
    world: World, small_disk: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.write_config(memory="16MiB")
    data = {f"o{number}": world.put(f"o{number}", MIB) for number in range(30)}
    world.node()
    client, names = world.client(), list(data)

    def read(names: list[str]) -> int:
        """All of these, and what the SSD tier holds then."""
        for name in names:
            assert whole(client.open(path(name))) == data[name]
        client.flush()
        clock.sleep(QUIET_SECONDS)  # a tier that failed is left in peace for a while
        return client.status().tiers["ssd"].used

    kept = read(names[:5])
    rest = fill(small_disk)
    with caplog.at_level(logging.WARNING):
        full = read(names[5:20])
        full = max(full, read(names[5:20]))  # past the memory tier, and again from the store
    assert full <= kept + 2 * MIB
    # Each is said once: what is not cached, and what is not counted.
    assert sorted(record.name for record in caplog.records) == [
        "headrace_cache.tiers.ssd.tier",
        "headrace_cache.totals",
    ]
    assert "No space left" in caplog.text
    caplog.clear()
    rest.unlink()
    assert read(names[20:]) >= full + 8 * MIB
    fetched = client.status().bytes_fetched
    read(names[20:])
    assert client.status().bytes_fetched == fetched
    client.flush()
    assert client.totals().bytes_fetched == fetched
    assert not caplog.records


YEAR = 365 * 86400.0


@pytest.mark.parametrize("jumps", [(YEAR, 0.0), (-YEAR, 0.0), (30.0, -30.0, 30.0, -30.0)])
@pytest.mark.parametrize("freshness", ["check", "1h", "pinned"])
def test_a_clock_that_is_set_costs_nothing(
    world: World, clock: ManualClock, jumps: tuple[float, ...], freshness: str
) -> None:
    world.write_config(freshness=freshness)
    data = {f"o{number}": world.put(f"o{number}", MIB) for number in range(10)}
    node = world.node()
    client = world.client()
    opened = [client.open(path(name)) for name in data]

    def read() -> dict[str, int]:
        """Everything, by who has it open and by who opens it; what the store was asked for it."""
        before = client.status().requests["/data"]
        for each, (name, expected) in zip(opened, data.items(), strict=True):
            assert whole(each) == whole(client.open(path(name))) == expected
        after = client.status().requests["/data"]
        return {what: count - before.get(what, 0) for what, count in after.items()}

    read()
    usual = read()
    for jump in jumps:
        clock.set_forward = jump
        asked = read()
        assert asked["read"] == 0 and asked["stat"] <= usual["stat"]
        assert node.server.clients == 1
    data["o3"] = world.put("o3", MIB)
    if freshness == "check":
        assert whole(client.open(path("o3"))) == data["o3"]


def test_what_may_be_kept_for_a_time_is_fetched_once_more_when_the_clock_is_set(
    world: World, clock: ManualClock
) -> None:
    world.write_config()
    world.file.write_text(world.file.read_text().replace("[cache]", 'ttl = "1h"\n[cache]'))
    data = {f"o{number}": world.put(f"o{number}", MIB) for number in range(10)}
    world.node()
    client = world.client()
    fetched: list[int] = []
    for jump in (0.0, 0.0, YEAR, YEAR, -YEAR, -YEAR):
        clock.set_forward = jump
        for name, expected in data.items():
            assert whole(client.open(path(name))) == expected
        client.flush()  # what is sealed after a jump counts as of then
        fetched.append(client.status().bytes_fetched // MIB)
    assert fetched[:4] == [10, 10, 20, 20]  # it is older than it may be, by the clock of now
    assert fetched[5] == fetched[4] <= 30
