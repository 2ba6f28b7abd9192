"""Threads and processes, staggered, on one slow cold object, while it is evicted, dropped, put
under a stricter policy, denied, and replaced at its source: not one wrong read.

The store is a real one, behind a gate that holds its answers midway: the first half of the readers
come while the object is on its way, the others one by one as its bytes drip in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from tests.conftest import Bucket
from tests.effort import EFFORT
from tests.races.blocks import BLOCK_BYTES, body
from tests.races.crowd import Crowd, OtherProcess, Race, tell_all
from tests.races.gate import Gate, gated
from tests.races.ledger import Ledger
from tests.races.tables import table
from tests.races.tally import Tally

THREADS = 40
PROCESSES = 8
THREADS_EACH = 5
MIB = 1 << 20
BLOCKS = 3 * MIB // BLOCK_BYTES
ROWS = 60_000
#: Other objects, more than the memory tier holds.
OTHERS = 8
OTHER_BYTES = 2 * MIB
MEMORY_BYTES = 12 * MIB
BLOCKS_PATH, TABLE_PATH = "/race/blocks", "/race/table.parquet"


class Site:
    """One host: a bucket behind a gate, and processes that share a cache folder."""

    def __init__(self, root: Path, bucket: Bucket, gate: Gate) -> None:
        self.bucket, self.gate = bucket, gate
        self.policy_file = root / "policy.toml"
        self.epoch = 0
        self.set_policy(None)
        self._ledgers = {name: Ledger(root / name) for name in ("blocks", "table")}
        for number in range(OTHERS):
            bucket.put(f"others/{number}", os.urandom(OTHER_BYTES))
        options = {"key_env": "LAKE_KEY", "secret_env": "LAKE_SECRET"}
        slow = {**options, "endpoint_url": gate.endpoint}
        direct = {**options, "endpoint_url": bucket.endpoint}
        config: dict[str, Any] = {
            "mount": [
                {"path": "/race", "url": f"s3://{bucket.name}/race", "options": slow},
                {"path": "/others", "url": f"s3://{bucket.name}/others", "options": direct},
            ],
            "cache": {
                "folder": str(root / "cache"),
                "memory": MEMORY_BYTES,
                "ssd": "128MiB",
                "key_file": str(root / "keys" / "ssd.key"),
                "state_folder": str(root / "state"),
            },
            "policy": {"file": str(self.policy_file)},
        }
        self.version = -1
        self.replace()
        race = Race(config, BLOCKS_PATH, TABLE_PATH, str(root))
        arrow, blocks = (replace(race, ways_of_table=ways) for ways in (["arrow_table"], []))
        self.processes = [OtherProcess((blocks, arrow)[n % 2]) for n in range(PROCESSES)]
        self.crowd = Crowd(race)

    def set_policy(self, persistence: str | None) -> None:
        """Let the policy file say this of the object, with a higher epoch."""
        self.epoch += 1
        text = f"version = 1\nepoch = {self.epoch}\n"
        if persistence is not None:
            text += (
                '[[rule]]\nname = "race"\nmatch.path = ["/race/**"]\n'
                f'apply.persistence = "{persistence}"\napply.guarantee = "unattested"\n'
            )
        fresh = self.policy_file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.policy_file)

    def obey(self) -> Tally:
        """Return when the policy is in force everywhere."""
        self.crowd.obey(self.epoch)
        return tell_all(self.processes, "obey", self.epoch)

    def replace(self) -> None:
        """Put a new version in the object's place, and in the table's."""
        self.version += 1
        for name, key, data in (
            ("blocks", "race/blocks", body(self.version, BLOCKS)),
            ("table", "race/table.parquet", table(self.version, ROWS)),
        ):
            self._ledgers[name].begin(self.version)
            self.bucket.put(key, data)
            self._ledgers[name].acknowledge(self.version)

    def race(self, meanwhile: Callable[[], None], *, may_be_denied: bool = False) -> Tally:
        """All read at once a version that nobody has yet, while something happens to it."""
        self.replace()
        self.gate.hold()
        for process in self.processes:
            process.tell("start", THREADS_EACH, may_be_denied)
        self.crowd.start(THREADS // 2, may_be_denied)
        self.gate.await_held()
        for process in self.processes:
            process.answer()
        meanwhile()
        for _ in range(THREADS // 2):
            self.crowd.start(1, may_be_denied)
            self.gate.drip(64 << 10)
        self.gate.release()
        total = tell_all(self.processes, "join")
        total.add(self.crowd.join())
        return total

    # What happens meanwhile.

    def evict(self) -> None:
        """Fill memory with others."""
        for number in range(OTHERS):
            assert len(self.crowd.tree.cat_file(f"/others/{number}")) == OTHER_BYTES

    def drop(self) -> None:
        """Forget it here and on the shared SSD, while others read."""
        self.crowd.drop()
        for process in self.processes[: PROCESSES // 2]:
            process.tell("drop")
        for process in self.processes[: PROCESSES // 2]:
            process.answer()

    def replace_twice(self) -> None:
        """Put newer versions in its place."""
        self.replace()
        self.replace()

    def keep_in_memory(self) -> None:
        """From now on no byte of it may lie on the SSD."""
        self.set_policy("memory-only")
        self.obey()

    def deny(self) -> None:
        """From now on nobody may read it."""
        tell_all(self.processes, "keep_open")
        self.crowd.keep_open()
        self.set_policy("deny")

    def close(self) -> None:
        """End all."""
        for process in self.processes:
            process.end()
        disconnect_all()


@pytest.fixture
def site(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)
    disconnect_all()
    with gated(bucket.endpoint) as gate:
        site = Site(tmp_path, bucket, gate)
        yield site
        site.close()


def nothing() -> None:
    """Nothing happens meanwhile."""


@pytest.mark.timeout(540 + 60 * EFFORT)
def test_no_read_of_a_slow_cold_object_is_wrong(site: Site) -> None:
    total = Tally()
    for _ in range(EFFORT):
        for meanwhile in (nothing, site.evict, site.drop, site.replace_twice, site.keep_in_memory):
            total.add(site.race(meanwhile))
        site.set_policy(None)
        total.add(site.obey())
        total.add(site.race(site.deny, may_be_denied=True))
        total.add(site.obey())
        # It is in force: nobody reads anything of it any more, by whatever way.
        total.add(site.crowd.all_denied())
        total.add(tell_all(site.processes, "all_denied"))
        site.set_policy(None)
        total.add(site.obey())
        assert total.wrong == [], total
    assert total.right >= 5 * 40 * EFFORT
    print(f"{total.reads} reads: {total.right} right, {total.gone} gone, {total.denied} denied")
