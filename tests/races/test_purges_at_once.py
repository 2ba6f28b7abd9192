"""Two processes purge one cache folder, as all that share it do when a policy gets stricter."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from headrace_cache.tiers.ssd.folder import OpenFolder, opening_lock
from headrace_namespace.clock import SystemClock
from tests.cache.tiers.ssd_pages import covers_hr, fill
from tests.cache.tiers.ssd_world import MIB, SsdWorld

PATIENCE = 30.0


class TellingClock(SystemClock):
    """Tells that somebody waits: for a lock, here."""

    def __init__(self) -> None:
        self.waited = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.waited.set()
        super().sleep(seconds)


def test_a_purge_that_follows_does_not_spoil_the_word_of_the_one_before(tmp_path: Path) -> None:
    clock = TellingClock()
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open(clock)
    fill(tier)
    folder: OpenFolder = vars(tier)["_folder"]
    forget = folder.space.take_out
    others: list[threading.Thread] = []

    def another_purges() -> None:
        # Its first step is under way, and its last is done only when it was waited for.
        with opening_lock(folder.path, SystemClock()):
            folder.key_file.write_next(os.urandom(32))
            begun.set()
            assert clock.waited.wait(PATIENCE)
            folder.key_file.wipe_next()

    begun = threading.Event()

    def take_out(*arguments: object) -> object:
        # The first purge has let go of its lock, and has yet to look at what it did.
        if not others:
            clock.waited.clear()
            others.append(threading.Thread(target=another_purges))
            others[0].start()
            assert begun.wait(PATIENCE)
        return forget(*arguments)  # type: ignore[arg-type]

    folder.space.take_out = take_out  # type: ignore[method-assign, assignment]
    try:
        report = tier.purge(covers_hr)
    finally:
        clock.waited.set()
        for other in others:
            other.join()
    assert others and report is not None and report.verified
    tier.close()
