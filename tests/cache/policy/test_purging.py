"""A policy that becomes stricter takes hold at once: of open objects, of memory and of the SSD."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.limits import PolicySource
from headrace_cache.policy.scope import Scope
from headrace_cache.policy.watch import LOOK_SECONDS, Patrol, PolicyWatch
from headrace_cache.service import Purge
from headrace_cache.tiers.protocol import PurgeReport
from headrace_namespace.errors import PolicyDenied
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier
from tests.fakes.watched_cache import HR, OPEN, Start, opened, rule, write

# Open objects and memory.


def test_an_open_object_goes_on_under_its_stricter_placement(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    hr, free = opened(rig, "hr/a", "open/a")
    assert rig.sealed(hr) and rig.sealed(free) and not hr.restricted
    rig.rewrite(HR)
    reads = lake.asked["read"]
    assert whole(free) == b"open" * PAGE and lake.asked["read"] == reads  # still warm
    assert whole(hr) == b"hr" * PAGE and lake.asked["read"] > reads  # not from the SSD
    assert hr.restricted and not rig.sealed(hr) and rig.sealed(free)
    reads = lake.asked["read"]
    assert whole(hr) == b"hr" * PAGE and lake.asked["read"] == reads  # memory may hold it


def test_what_may_not_be_in_memory_any_more_is_taken_out_at_once(start: Start) -> None:
    rig = start()
    hr, pay, free = opened(rig, "hr/a", "pay/a", "open/a")
    used = rig.memory.usage().used
    rig.rewrite(OPEN + rule("/lake/hr/**", "no-cache") + rule("/lake/pay/**", "deny"))
    assert rig.memory.usage().used < used
    assert whole(hr) == b"hr" * PAGE
    for _ in range(2):
        with pytest.raises(PolicyDenied):
            pay.read_at(0, 1)
        with pytest.raises(PolicyDenied):
            pay.view(0, 1)
        with pytest.raises(PolicyDenied):
            pay.read_into(0, memoryview(bytearray(1)))
    assert whole(free) == b"open" * PAGE
    assert {page.version for page in rig.tier.pages} == {free.version.digest()}


def test_small_objects_leave_memory_with_the_arena_that_they_share(
    start: Start, lake: MemoryBackend
) -> None:
    lake.set("hr/small", b"hr")
    lake.set("open/small", b"open")
    rig = start()
    hr, free = (rig.service.open(path(f"/lake/{folder}/small")) for folder in ("hr", "open"))
    assert (whole(hr), whole(free)) == (b"hr", b"open")
    rig.rewrite(OPEN + rule("/lake/hr/**", "no-cache"))
    assert rig.memory.usage().used == 0
    assert (whole(hr), whole(free)) == (b"hr", b"open")


def test_a_guarantee_that_this_process_cannot_give_closes_open_objects(start: Start) -> None:
    rig = start()
    (hr,) = opened(rig, "hr/a")
    rig.rewrite(OPEN + rule("/lake/hr/**", guarantee="G1"))
    with pytest.raises(PolicyDenied, match="G1"):
        whole(hr)


def test_a_small_read_that_a_handle_holds_itself_is_judged_again(start: Start) -> None:
    rig = start()
    rig.rewrite(OPEN + rule("/lake/hr/**", "no-cache"))
    (hr,) = opened(rig, "hr/a")
    assert hr.read_at(0, 2) == hr.read_at(0, 2) == b"hr"
    rig.rewrite(OPEN + rule("/lake/hr/**", "deny"))
    with pytest.raises(PolicyDenied):
        hr.read_at(0, 2)


def test_a_view_that_somebody_holds_stays_his(start: Start) -> None:
    rig = start()
    (hr,) = opened(rig, "hr/a")
    view = hr.view(0, 2)
    rig.rewrite(OPEN + rule("/lake/hr/**", "deny"))
    assert bytes(view) == b"hr"
    with pytest.raises(PolicyDenied):
        hr.view(0, 2)


def test_a_broken_file_closes_open_objects_and_mending_it_brings_all_back(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    rig.rewrite(HR)
    hr, free = opened(rig, "hr/a", "open/a")
    pages = dict(rig.tier.pages)
    for content in ("version = 1\n[[rule", None):
        rig.rewrite(content)
        for handle in (hr, free):
            with pytest.raises(PolicyDenied):
                handle.read_at(0, 1)
    assert rig.tier.pages == pages  # nothing was purged
    rig.rewrite(HR)
    reads = lake.asked["read"]
    assert whole(free) == b"open" * PAGE and lake.asked["read"] == reads
    assert whole(hr) == b"hr" * PAGE


def test_an_epoch_that_loosens_lets_open_objects_be_sealed_again(start: Start) -> None:
    rig = start()
    rig.rewrite(HR)
    (hr,) = opened(rig, "hr/a")
    rig.rewrite(OPEN)
    hr.read_at(0, 1)
    assert hr.restricted
    rig.rewrite(OPEN.replace("epoch = 1", "epoch = 2"))
    (again,) = opened(rig, "hr/a")
    assert not again.restricted and rig.sealed(again)


# What is under way while the policy changes.


def test_what_arrives_after_the_change_is_neither_kept_nor_sealed(
    start: Start, lake: MemoryBackend
) -> None:
    rig = start()
    handle = rig.service.open(path("/lake/hr/a"))
    reading, go_on = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        reading.set()
        assert go_on.wait(10)

    lake.before_read = wait
    reader = threading.Thread(target=whole, args=(handle,))
    reader.start()
    assert reading.wait(10)
    rig.rewrite(HR)
    go_on.set()
    reader.join(10)
    assert not rig.tier.pages
    assert whole(handle) == b"hr" * PAGE
    assert not rig.tier.pages and handle.restricted


class SlowTier(DictTier):
    """Takes pages only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.taking, self.take = threading.Event(), threading.Event()
        self.purging = threading.Event()

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        self.taking.set()
        assert self.take.wait(10)
        super().store(pages, scope)

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        self.purging.set()
        return super().purge(covers)


def test_pages_that_are_just_being_stored_do_not_outlive_the_purge(start: Start) -> None:
    tier = SlowTier()
    rig = start(ssd=tier)
    handle = rig.service.open(path("/lake/hr/a"))
    reader = threading.Thread(target=whole, args=(handle,))
    reader.start()
    assert tier.taking.wait(10)
    tier.purging.clear()
    looker = threading.Thread(target=rig.rewrite, args=(HR,))
    looker.start()
    assert not tier.purging.wait(0.3)  # it waits for what was handed over before
    tier.take.set()
    looker.join(10)
    reader.join(10)
    assert tier.purging.is_set() and not tier.pages


def test_an_object_judged_before_the_change_and_attached_after_it_is_judged_again(
    start: Start,
) -> None:
    rig = start()
    reader = rig.service.reader()
    pinned = reader.pin(path("/lake/hr/a"))
    rig.rewrite(HR)
    assert not reader.attach(pinned).ssd
    rig.rewrite(HR + rule("/lake/hr/**", "deny"))
    with pytest.raises(PolicyDenied):
        reader.attach(pinned)


# The SSD.


def test_a_purge_takes_the_folders_that_a_new_rule_concerns_and_no_others(start: Start) -> None:
    rig = start()
    hr, b, free = opened(rig, "hr/a", "hr/b", "open/a")
    rig.rewrite(OPEN + rule("/lake/hr/a"))
    assert not rig.sealed(hr) and not rig.sealed(b)  # names are not known to the tier
    assert rig.sealed(free)
    assert not b.restricted and whole(b) == b"hr" * PAGE and rig.sealed(b)
    rig.settle_down()
    assert not rig.sealed(hr)


def test_a_rule_for_names_empties_the_ssd_once_and_not_at_every_later_change(
    start: Start,
) -> None:
    rig = start()
    opened(rig, "open/a")
    rig.rewrite(HR + rule("/**/*.pem", "deny"))
    assert not rig.tier.pages
    rig.settle_down()
    (free,) = opened(rig, "open/a")
    rig.rewrite(HR + rule("/**/*.pem", "deny") + rule("/lake/pay/**"))
    rig.settle_down()
    assert rig.sealed(free)
    assert rig.sealed(opened(start(), "open/a")[0])  # nor by a process that starts


def test_a_policy_that_changed_while_no_process_ran_is_enforced_before_anything_is_served(
    start: Start,
) -> None:
    rig = start()
    hr, free = opened(rig, "hr/a", "open/a")
    rig.service.close()
    write(rig.file, HR)
    later = start()
    assert not later.sealed(hr) and later.sealed(free)


def test_an_unchanged_start_judges_nothing(start: Start) -> None:
    rig = start()
    rig.rewrite(HR)
    opened(rig, "open/a")
    rig.settle_down()

    class Counting(DictTier):
        def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
            raise AssertionError("nothing changed")

    start(ssd=Counting())
    write(rig.file, HR + rule("/lake/pay/**"))
    with pytest.raises(AssertionError):
        start(ssd=Counting())


def test_a_purge_is_repeated_when_all_others_must_have_seen_the_change(start: Start) -> None:
    """A process that had not looked yet may have sealed meanwhile, and may be gone since."""
    slow, fast = start(), start()
    fast.rewrite(HR)
    (late,) = opened(slow, "hr/a")  # it did not look: its clock stands still
    assert fast.sealed(late)
    fast.settle_down()
    assert not fast.sealed(late)


def test_short_lived_processes_do_not_purge_each_others_pages_again_and_again(
    start: Start,
) -> None:
    write(start().file, HR + rule("/**/*.pem", "deny"))
    start()
    (free,) = opened(start(), "open/a")
    assert start().sealed(free)
    later = start()
    later.settle_down()  # once more, for whoever had not seen the change
    assert not later.sealed(free)
    (free,) = opened(start(), "open/a")
    again = start()
    again.settle_down()
    assert again.sealed(free)


def test_a_process_that_stood_still_over_two_epochs_purges(start: Start) -> None:
    write(start().file, HR)
    still = start()
    still.settle_down()
    write(still.file, OPEN.replace("epoch = 1", "epoch = 2"))
    loose = start()
    (hr,) = opened(loose, "hr/a")
    assert loose.sealed(hr)
    write(still.file, HR.replace("epoch = 1", "epoch = 3"))
    still.clock.sleep(LOOK_SECONDS)
    still.watch.look()
    assert not still.sealed(hr)


def test_a_process_that_is_alone_purges_once(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "in-use.lock"
    first = start(company_file=file)
    first.service.close()
    write(first.file, HR + rule("/**/*.pem", "deny"))
    rig = start(company_file=file)
    (free,) = opened(rig, "open/a")
    rig.settle_down()
    assert rig.sealed(free)
    start(company_file=file)  # now there are two
    rig.rewrite(HR + rule("/**/*.pem", "deny") + rule("/**/*.key", "deny"))
    assert not rig.sealed(free)
    (free,) = opened(rig, "open/a")
    rig.settle_down()
    assert not rig.sealed(free)


def test_a_process_purges_for_itself_what_it_sealed_too_late(start: Start) -> None:
    slow, fast = start(), start()
    fast.rewrite(HR)
    fast.settle_down()
    (late,) = opened(slow, "hr/a")  # stopped for long, and sealing still by what it knew
    assert slow.sealed(late)
    slow.clock.sleep(LOOK_SECONDS)
    slow.watch.look()
    assert not slow.sealed(late)


def test_what_the_last_good_policy_forbids_is_purged_also_while_the_file_is_broken(
    start: Start,
) -> None:
    tier = RefusingTier()
    rig = start(ssd=tier)
    hr, free = opened(rig, "hr/a", "open/a")
    rig.rewrite(HR)
    assert rig.sealed(hr)  # it could not be purged
    rig.rewrite("version = 1\n[[rule")
    tier.mended = True
    rig.clock.sleep(LOOK_SECONDS)
    rig.watch.look()
    assert not rig.sealed(hr) and rig.sealed(free)


class RefusingTier(DictTier):
    """Cannot purge until it is mended."""

    mended = False

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        if not self.mended:
            raise OSError("the disk does not answer")
        return super().purge(covers)


def test_an_ssd_that_cannot_be_purged_is_not_used_until_it_could_be(
    start: Start, lake: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    tier = RefusingTier()
    rig = start(ssd=tier)
    hr, free = opened(rig, "hr/a", "open/a")
    with caplog.at_level(logging.ERROR):
        rig.rewrite(HR)
        rig.rewrite(HR)
    assert caplog.text.count("cannot be destroyed") == 1
    (other,) = opened(rig, "open/b")
    assert not rig.sealed(other)
    rig.memory.close()  # all leaves memory
    reads = lake.asked["read"]
    assert whole(free) == b"open" * PAGE and lake.asked["read"] > reads
    assert rig.sealed(hr) and rig.sealed(free)
    tier.mended = True
    rig.clock.sleep(LOOK_SECONDS)
    rig.watch.look()
    assert not rig.sealed(hr) and rig.sealed(free)
    assert [purge.objects for purge in purges(rig, "hr/a")] == [1]


# The records.


def purges(rig: Rig, name: str) -> Sequence[Purge]:
    return rig.service.why(path(f"/lake/{name}")).purges


def test_why_tells_of_the_purges_of_a_paths_folder(start: Start) -> None:
    rig = start()
    opened(rig, "hr/a", "hr/b", "open/a")
    rig.rewrite(HR)
    (purge,) = purges(rig, "hr/a")
    assert purge.rules == ["memory-only /lake/hr/**"]
    assert (purge.epoch, purge.objects, purge.verified) == (1, 2, True)
    assert purge.bytes == 4 * PAGE and purge.method == "dropped from a dict"
    assert purge.at == rig.clock.now()
    assert purges(rig, "open/a") == []
    rig.settle_down()
    assert len(purges(rig, "hr/b")) == 1
    assert purges(start(), "hr/a") == [purge]  # over restarts


def test_a_record_names_no_folder(start: Start, tmp_path: Path) -> None:
    rig = start()
    opened(rig, "hr/a")
    rig.rewrite(HR)
    with rig.ledger.book("purges").read() as page:
        values = b"".join(value for _, value in page.items())
    assert b"verified" in values and b'/lake/hr"' not in values


# The patrol.


def test_the_patrol_looks_without_being_asked_and_ends_with_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_cache.policy.watch.LOOK_SECONDS", 0.01)
    file = tmp_path / "policy.toml"
    file.write_text(OPEN)
    watch = PolicyWatch(PolicySource(OPEN, str(file)), ManualClock())
    looked = threading.Semaphore(0)

    def follow() -> None:
        looked.release()
        raise ValueError("whatever goes wrong, it looks again")

    watch.follow(follow)
    patrol = Patrol(watch)
    logging.getLogger("headrace_cache.policy.watch").disabled = True
    try:
        patrol.start()
        assert looked.acquire(timeout=10) and looked.acquire(timeout=10)
        patrol.close()
        while looked.acquire(blocking=False):
            pass
        assert not looked.acquire(timeout=0.1)
    finally:
        logging.getLogger("headrace_cache.policy.watch").disabled = False


def test_a_process_without_a_policy_patrols_for_one_that_another_brings(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def begin(*given: object) -> None:
        begun.append(given)

    monkeypatch.setattr("headrace_cache.policy.watch.start_new_thread", begin)
    Patrol(PolicyWatch(None, ManualClock())).start()
    assert len(begun) == 1
