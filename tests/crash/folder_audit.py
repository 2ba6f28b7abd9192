"""What must hold of a cache folder that nobody uses."""

from __future__ import annotations

import os

from headrace_cache.extents.page import PAGE_BYTES
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_cache.tiers.ssd.tables import Tables
from headrace_namespace.metadata.lmdb_env import acquire, release
from tests.crash.site import Site

#: All that may lie in the cache folder beside segments, in the key folder and in the state folder.
INDEX_FILES = {"data.mdb", "lock.mdb", "check.lock", "data.sum"}
STATE_FILES = INDEX_FILES | {"in-use.lock"}


def faults(site: Site) -> list[str]:
    """What is wrong; nothing where files and records agree and nothing is left over."""
    limits = limits_of(site.ssd_bytes, PAGE_BYTES)
    environment = acquire(site.cache / "index", limits.index_bytes)
    try:
        tables = Tables(environment)
        with environment.read() as txn:
            records = dict(tables.all_segments(txn))
            totals = tables.totals(txn)
            queue = list(tables.queue(txn))
    finally:
        release(environment)
    found: list[str] = []
    files = {int(path.name[4:20], 16): path.stat() for path in site.segments()}
    if files.keys() != records.keys():
        found.append(f"files {sorted(files)} but records {sorted(records)}")
    if sorted(queue) != sorted(records):
        found.append(f"queue {sorted(queue)} but records {sorted(records)}")
    opened = [number for number, record in records.items() if record.open]
    if opened:
        found.append(f"segments {opened} are still reserved in full")
    if totals.reserved != sum(record.reserved for record in records.values()):
        found.append("the sum of what is reserved is wrong")
    if totals.written != sum(record.tail for record in records.values()):
        found.append("the sum of what is written is wrong")
    for number, record in records.items():
        if number in files and files[number].st_blocks * 512 > record.reserved:
            found.append(f"segment {number} takes more than is reserved for it")
    if site.bytes_on_disk() > site.ssd_bytes:
        found.append(f"{site.bytes_on_disk()} bytes on the disk")
    strange = set(os.listdir(site.cache)) - {"index", "pages", "opening.lock", "users.lock"}
    strange |= set(os.listdir(site.cache / "index")) - INDEX_FILES
    strange |= set(os.listdir(site.key_file.parent)) - {site.key_file.name}
    strange |= set(os.listdir(site.state)) - STATE_FILES
    if strange:
        found.append(f"left over: {sorted(strange)}")
    return found
