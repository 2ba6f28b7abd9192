"""The policy that outlives processes: stricter holds, looser waits for a higher epoch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.policy.kept import (
    MOST_TEXTS,
    Judged,
    KeptPolicy,
    PolicyBook,
    Settled,
    changed_by,
    joined,
)
from headrace_cache.policy.placement import Persistence
from headrace_cache.policy.policy import DENY_ALL, Policy
from headrace_cache.policy.watch import LOOK_SECONDS, PolicyWatch
from headrace_namespace.errors import ConfigError
from headrace_namespace.metadata.ledger import Book, Ledger, LedgerFault, MemoryLedger, Page
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name
from tests.fakes.clock import ManualClock


def text(persistence: str, epoch: int = 1, folder: str = "hr", name: str = "rule") -> str:
    return (
        f'version = 1\nepoch = {epoch}\n[[rule]]\nname = "{name}"\n'
        f'match.path = ["/lake/{folder}/**"]\n'
        f'apply.persistence = "{persistence}"\napply.guarantee = "unattested"\n'
    )


def name_in(folder: str) -> Name:
    return Name(NamespacePath(f"/lake/{folder}/a"), NamespacePath("/lake"), frozenset())


def decided(policy: Policy, folder: str = "hr") -> Persistence:
    return policy.decide([name_in(folder)]).persistence


class Site:
    """One host: a policy file, a ledger, and processes that come and go."""

    def __init__(self, folder: Path, first: str | None) -> None:
        self.file = folder / "policy.toml"
        self.clock = ManualClock()
        self.ledger: Ledger = MemoryLedger()
        if first is not None:
            self.file.write_text(first)

    def write(self, content: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(content)
        os.replace(fresh, self.file)

    def process(self, *, file: Path | None = None, configured: bool = True) -> PolicyWatch:
        """A process that starts now."""
        named = file or self.file
        source = PolicySource(named.read_text(), str(named)) if configured else None
        watch = PolicyWatch(source, self.clock)
        watch.begin(self.ledger.book("policy"), lambda work: work())
        return watch

    def look(self, watch: PolicyWatch) -> Policy:
        self.clock.sleep(LOOK_SECONDS)
        return watch.current()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, text("memory-only", epoch=5))


# Over restarts.


def test_a_file_that_got_looser_while_no_process_ran_needs_a_higher_epoch(site: Site) -> None:
    assert decided(site.process().now) is Persistence.MEMORY_ONLY
    site.write(text("sealed-ssd", epoch=5))
    assert decided(site.process().now) is Persistence.MEMORY_ONLY
    site.write(text("sealed-ssd", epoch=4))
    assert decided(site.process().now) is Persistence.MEMORY_ONLY
    site.write(text("no-cache", epoch=5))
    assert decided(site.process().now) is Persistence.NO_CACHE
    site.write(text("sealed-ssd", epoch=6))
    assert decided(site.process().now) is Persistence.SEALED_SSD
    site.write(text("sealed-ssd", epoch=6, name="other"))
    assert decided(site.process().now) is Persistence.SEALED_SSD


def test_the_first_policy_ever_is_taken_as_it_is(tmp_path: Path) -> None:
    site = Site(tmp_path, text("any", epoch=0))
    assert decided(site.process(configured=False).now) is Persistence.SEALED_SSD
    policy = site.process().now
    assert [rule.kept_from for rule in policy.rules] == [None]
    assert policy.epoch == 0


def test_a_kept_rule_says_how_to_drop_it(site: Site) -> None:
    site.process()
    site.write(text("deny", epoch=5, folder="pay", name="new"))
    _, reasons = site.process().now.explain([name_in("hr")])
    assert [reason.name for reason in reasons] == ["default", "rule"]
    assert reasons[1].why == (
        "match.path '/lake/hr/**'; kept from an earlier policy of epoch 5: raise the epoch to "
        "drop it"
    )
    _, reasons = site.process().now.explain([name_in("pay")])
    assert reasons[1].why == "match.path '/lake/pay/**'"


def test_a_kept_default_says_so_too(site: Site) -> None:
    site.write("version = 1\nepoch = 5\n[default]\npersistence = 'deny'\n")
    site.process()
    site.write("version = 1\nepoch = 5\n")
    _, reasons = site.process().now.explain([name_in("hr")])
    assert "kept from an earlier policy of epoch 5" in reasons[0].why


def test_without_a_policy_file_the_kept_policy_holds_and_says_how_to_lift_it(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.process()
    watch = site.process(configured=False)
    assert decided(watch.now) is Persistence.MEMORY_ONLY
    assert "policy file with a higher epoch" in caplog.text and "epoch 5" in caplog.text
    site.write(text("any", epoch=6))
    site.process()
    assert decided(site.look(watch)) is Persistence.SEALED_SSD  # its default's


def test_an_edit_that_changes_nothing_keeps_nothing_beside_it(site: Site) -> None:
    site.process()
    for number in range(MOST_TEXTS + 5):
        site.write(text("memory-only", epoch=5) + f"# edit {number}\n")
        site.process()
    policy = site.process().now
    assert policy.rules[0].kept_from is None and len(policy.rules) == 1
    kept = site.process().kept
    assert kept is not None and len(kept.texts) == 1


def test_too_many_changes_without_a_higher_epoch_deny_and_say_what_to_do(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    watch = site.process()
    for number in range(MOST_TEXTS - 1):
        site.write(text("deny", epoch=5, folder=f"f{number}"))
        site.look(watch)
    assert watch.now is not DENY_ALL
    site.write(text("deny", epoch=5, folder="one-more"))
    with caplog.at_level(logging.ERROR):
        assert site.look(watch) is DENY_ALL
    assert "raise the epoch of the policy file above 5" in caplog.text
    site.write(text("deny", epoch=6, folder="one-more"))
    assert decided(site.look(watch), "one-more") is Persistence.DENY
    assert decided(watch.now) is Persistence.SEALED_SSD


# Several processes at once.


def test_what_one_process_records_all_others_obey_at_their_next_look(
    site: Site, tmp_path: Path
) -> None:
    other_file = tmp_path / "other.toml"
    other_file.write_text(text("deny", epoch=5, folder="pay"))
    bare, mine, other = (
        site.process(configured=False),
        site.process(),
        site.process(file=other_file),
    )
    for watch in (bare, mine, other):
        assert decided(site.look(watch)) is Persistence.MEMORY_ONLY
        assert decided(watch.now, "pay") is Persistence.DENY


def test_a_stale_file_joins_the_newer_policy_and_never_undoes_it(
    site: Site, tmp_path: Path
) -> None:
    stale, fresh = site.process(), tmp_path / "fresh.toml"
    fresh.write_text(text("deny", epoch=6, folder="pay"))
    newer = site.process(file=fresh)
    policy = site.look(stale)
    assert decided(policy, "pay") is Persistence.DENY
    assert decided(policy) is Persistence.MEMORY_ONLY  # its own file still says so
    assert policy.epoch == 6
    # It did not bring back for all others what the newer policy dropped.
    assert decided(site.look(newer)) is Persistence.SEALED_SSD


def test_of_two_that_change_it_at_once_neither_is_lost(site: Site) -> None:
    book = site.ledger.book("policy")
    one, two = PolicyBook(book), PolicyBook(book)
    one.keep(text("deny", 1, "a"), 1)
    two.keep(text("deny", 1, "b"), 1)
    one.keep(text("deny", 1, "c"), 1)
    kept = two.now()
    assert kept is not None
    for folder in "abc":
        assert decided(kept.policy(), folder) is Persistence.DENY


def test_a_ledger_that_was_deleted_gets_the_policy_back(site: Site) -> None:
    watch = site.process()
    site.ledger = MemoryLedger()
    watch.begin(site.ledger.book("policy"), lambda work: work())
    assert decided(watch.now) is Persistence.MEMORY_ONLY
    site.write(text("any", epoch=5))
    assert decided(site.process().now) is Persistence.MEMORY_ONLY


# What cannot be read.


def test_a_kept_policy_that_cannot_be_understood_denies_until_the_epoch_is_raised(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.process()
    later = json.dumps({"epoch": 7, "texts": ["version = 2\n"]}).encode()
    with site.ledger.book("policy").write() as page:
        page.put(b"kept", later)
    for configured in (True, False):
        assert decided(site.process(configured=configured).now) is Persistence.DENY
    assert "nothing is served" in caplog.text
    site.write(text("memory-only", epoch=8))
    assert decided(site.process().now) is Persistence.MEMORY_ONLY
    with site.ledger.book("policy").write() as page:
        page.put(b"kept", b"noise")
    assert decided(site.process().now) is Persistence.DENY


class FailingBook:
    """A book of a ledger on a broken disk."""

    def generation(self) -> int:
        raise LedgerFault("the disk is gone")

    @contextmanager
    def read(self) -> Generator[Page]:
        raise LedgerFault("the disk is gone")
        yield

    write = read


def test_where_the_ledger_fails_the_policy_holds_in_this_process(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    watch = PolicyWatch(PolicySource(site.file.read_text(), str(site.file)), site.clock)
    failing: Book = FailingBook()
    watch.begin(failing, lambda work: work())
    site.write(text("any", epoch=5))
    assert decided(site.look(watch)) is Persistence.MEMORY_ONLY
    site.write(text("any", epoch=6))
    assert decided(site.look(watch)) is Persistence.SEALED_SSD
    assert caplog.text.count("not kept over restarts") == 1


# What the SSD was purged of, beside it.


def test_a_demand_that_a_higher_epoch_drops_is_no_longer_settled(site: Site) -> None:
    watch = site.process()
    demands = watch.now.demands
    watch.book.settle(watch.kept, Settled(demands, "mounts"))
    assert watch.book.settled() == Settled(demands, "mounts")
    site.write(text("any", epoch=6))
    loose = site.process()
    settled = loose.book.settled()
    assert settled is not None and settled.demands == demands & loose.now.demands != demands
    # One that has not seen it yet cannot settle it again.
    watch.book.settle(watch.kept, Settled(demands, "mounts"))
    assert loose.book.settled() == settled


def test_what_was_purged_for_an_older_policy_says_nothing_of_a_newer_one(site: Site) -> None:
    watch = site.process()
    judged = Judged(Settled(watch.now.demands, "mounts"), 17.0)
    watch.book.judge(judged)
    assert site.process().book.judged(judged.goal) == judged
    site.write(text("any", epoch=6))
    assert site.process().book.judged(judged.goal) is None


def test_a_stale_file_binds_those_who_read_it_alone(site: Site, tmp_path: Path) -> None:
    stale = tmp_path / "stale.toml"
    stale.write_text(text("deny", epoch=1, folder="free", name="old"))
    site.write(text("any", epoch=7))
    assert decided(site.process().now, "free") is Persistence.SEALED_SSD
    assert decided(site.process(file=stale).now, "free") is Persistence.DENY
    assert decided(site.process().now, "free") is Persistence.SEALED_SSD


def test_kept_policies_join_as_epochs_say() -> None:
    old, new = KeptPolicy(1, (text("deny"),)), KeptPolicy(2, (text("any", 2),))
    assert joined(old, new) == joined(new, old) == new
    assert joined(None, old) == old and joined(None, None) is None
    both = joined(old, KeptPolicy(1, (text("any", folder="b"),)))
    assert both is not None and len(both.texts) == 2
    assert changed_by(both, text("any", 2), 2) == new
    with pytest.raises(ConfigError):
        KeptPolicy(1, ("version = 9",)).policy()
