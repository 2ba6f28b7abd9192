"""What a change of the policy, or of the mounts, does to what is held already.

Objects that are open or in memory are withdrawn wherever their placement could have become
stricter, and are judged anew by their names when they are read again. What the SSD holds is known
by its folders alone: where a folder could hold an object that must not lie there, all keys of that
folder's objects are destroyed. So more may go than had to, and never less.

Only what is new is judged: rules that the pages on the SSD were not sealed under, and names that
they did not have. Else a rule like `/**/*.pem` would empty the SSD at every change of another rule.

Nobody is told of a change, each process finds it within a second. One that has not yet may still
seal what the policy already forbids. So unless there is no other process, the SSD is purged once
more, by whichever process comes to it first when all must have seen the change; only then is it
written down that nothing is left to do.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence

from headrace_cache.extents.extent_store import ExtentStore, PurgeReport
from headrace_cache.policy.company import Company
from headrace_cache.policy.kept import Judged, Settled
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.policy import Policy
from headrace_cache.policy.purge_records import PurgeRecords
from headrace_cache.policy.scope import Scope
from headrace_cache.policy.watch import LOOK_SECONDS, PolicyWatch
from headrace_cache.service import Purge
from headrace_namespace.clock import Clock
from headrace_namespace.errors import HeadraceError, NotFound
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location, Name

_log = logging.getLogger(__name__)

#: When every process that lives has looked and has ended what it was handing to the SSD.
SETTLE_SECONDS = 3 * LOOK_SECONDS


class Purging:
    """Enforces the policy on what is held. `enforce` is called by one thread at a time."""

    def __init__(
        self,
        *,
        watch: PolicyWatch,
        namespace: Namespace,
        store: ExtentStore,
        records: PurgeRecords,
        company: Company,
        clock: Clock,
    ) -> None:
        self._watch = watch
        self._namespace = namespace
        self._store = store
        self._records = records
        self._company = company
        self._clock = clock
        #: The policy and mounts by which what is in memory was judged last, and what it demanded.
        self._live: tuple[Policy, Sequence[Mount]] | None = None
        self._live_demands = frozenset[str]()
        #: What this process sealed under since the SSD was settled last, at the least.
        self._own: Settled | None = None
        #: When to judge the SSD once more for the goal of now (by the monotonic clock), and what
        #: nothing is left to do for.
        self._judge_again = 0.0
        self._settled: Settled | None = None
        self._drops = 0
        self._failed = False
        self._goal = Settled(frozenset(), "")
        self._goal_of: tuple[Policy, Sequence[Mount]] | None = None

    def enforce(self) -> None:
        """See to it that nothing is held that the policy forbids; soon done where it did not
        change. What failed is tried again by the next call."""
        mounts = self._namespace.mounts
        policy = self._watch.now
        if self._live is None or self._live[0] is not policy or self._live[1] != mounts:
            self._withdraw(policy, mounts)
        # A file that broke denies everything, and purges no more than the policy before it does:
        # mending it brings all back.
        if self._store.has_ssd:
            self._purge(self._watch.good, mounts)

    def close(self) -> None:
        """Be gone, for the other processes."""
        self._company.close()

    def purges_of(self, scope: Scope) -> Sequence[Purge]:
        """The purges that concerned folders of this scope, the newest first."""
        return self._records.of(scope)

    def _withdraw(self, policy: Policy, mounts: Sequence[Mount]) -> None:
        """Let go of what is in memory, where its placement could be stricter now."""
        new = policy.beyond(self._live_demands)
        changed_mounts = self._live is not None and self._live[1] != mounts
        todays = _TodaysFolders(self._namespace)

        def affected(scope: Scope, placement: Placement) -> bool:
            stored, added = todays.of(scope)
            strictest = new.strictest(stored + added)
            if changed_mounts and added:
                strictest = policy.strictest(stored + added)
            return strictest.join(placement) != placement

        self._store.withdraw(affected)
        self._live, self._live_demands = (policy, mounts), policy.demands

    def _purge(self, policy: Policy, mounts: Sequence[Mount]) -> None:
        """Bring the SSD to where it holds nothing that the policy forbids, and know it."""
        if self._goal_of is None or self._goal_of[0] is not policy or self._goal_of[1] != mounts:
            self._goal, self._goal_of = Settled(policy.demands, _word_of(mounts)), (policy, mounts)
            self._judge_again = 0.0
        goal, drops = self._goal, self._watch.book.drops()
        if drops != self._drops:
            self._settled = None  # while this process stood still, others may have sealed more
        if goal == self._settled or self._clock.monotonic() < self._judge_again:
            return
        known = self._watch.book.settled() or Settled(frozenset(), "")
        demands, other_mounts = known.demands, known.mounts != goal.mounts
        if self._own is None:
            self._own = goal  # nothing was served yet
        demands &= self._own.demands
        other_mounts |= self._own.mounts != goal.mounts
        new = policy.beyond(demands)
        forbids = new.forbids_some_ssd or (other_mounts and policy.forbids_some_ssd)
        if forbids and not self._purge_in_turn(goal, policy, new, other_mounts):
            return
        self._watch.book.settle(self._watch.kept, goal)
        self._settled = self._own = goal
        self._drops = drops

    def _purge_in_turn(
        self, goal: Settled, policy: Policy, new: Policy, other_mounts: bool
    ) -> bool:
        """Purge for the first or for the second time, or not yet; whether nothing is left to do."""
        now, judged = self._clock.now(), self._watch.book.judged(goal)
        # This process sealed nothing under less, and some process purged for the same already.
        second = self._own == goal and judged is not None
        age = now - judged.at if judged is not None else 0.0
        if second and 0 <= age < SETTLE_SECONDS:
            self._judge_again = self._clock.monotonic() + SETTLE_SECONDS - age
            return False
        # Asked first: who starts later reads the policy of now.
        alone = self._company.is_alone()
        if not self._purge_once(policy, new, other_mounts):
            return False
        if second or alone:
            return True
        self._own = goal
        self._watch.book.judge(Judged(goal, now))
        self._judge_again = self._clock.monotonic() + SETTLE_SECONDS
        return False

    def _purge_once(self, policy: Policy, new: Policy, other_mounts: bool) -> bool:
        """Purge what `new` forbids, and what the policy forbids by names that were added; whether
        that could be done."""
        rules: set[str] = set()
        covers = _covers(policy, new, other_mounts, _TodaysFolders(self._namespace), rules)
        try:
            report = self._store.purge(covers)
        except OSError as error:
            if not self._failed:
                _log.error(
                    "the SSD holds what the policy forbids, and it cannot be destroyed (%s): the "
                    "SSD is not used until it could be; it is tried again every second",
                    error,
                )
            self._failed = True
            return False
        self._failed = False
        if report is not None:
            self._record(report, policy.epoch, rules)
        return True

    def _record(self, report: PurgeReport, epoch: int, rules: set[str]) -> None:
        _log.info(
            "purged objects from the SSD that the policy forbids there",
            extra={"objects": report.objects, "bytes": report.bytes, "epoch": epoch},
        )
        if not report.verified:
            _log.error("after a purge the SSD still held a key that was to be destroyed")
        purge = Purge(
            at=self._clock.now(),
            epoch=epoch,
            rules=sorted(rules),
            objects=report.objects,
            bytes=report.bytes,
            method=report.method,
            verified=report.verified,
        )
        self._records.add(purge, report.scopes)


class _TodaysFolders:
    """The folders of scopes by the mounts of now; each is looked up once."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._known: dict[Name | Location, tuple[Name, ...]] = {}
        self._roots = _mount_roots(namespace)

    def of(self, scope: Scope) -> tuple[tuple[Name, ...], tuple[Name, ...]]:
        """The scope's folders as they were, and those that its objects have beyond by now."""
        stored = tuple(scope.folders)
        added = {name for part in scope.parts for name in self._names(part)}
        return stored, tuple(added.difference(stored))

    def _names(self, part: Name | Location) -> tuple[Name, ...]:
        known = self._known.get(part)
        if known is None:
            if isinstance(part, Name):
                known = self._led_to(part.path)
            else:
                known = (*self._namespace.names_at(part), *self._roots.get(part, ()))
            self._known[part] = known
        return known

    def _led_to(self, folder: NamespacePath) -> tuple[Name, ...]:
        """The names of what a path leads to now: links on its way may lead there by others."""
        try:
            return self._namespace.resolve(folder).names
        except NotFound:
            return ()


def _mount_roots(namespace: Namespace) -> dict[Location, frozenset[Name]]:
    """By location: the folders of the names that mounts of a single object in it give to that."""
    roots: dict[Location, frozenset[Name]] = {}
    for mount in namespace.mounts:
        try:
            root = namespace.resolve(mount.path)
        except HeadraceError:
            continue  # it was unmounted just now, or cannot be used here
        scope = Scope.of(root.names, root.locations)
        for location in scope.locations:
            roots[location] = roots.get(location, frozenset()) | scope.folders
    return roots


def _covers(
    policy: Policy, new: Policy, other_mounts: bool, todays: _TodaysFolders, rules: set[str]
) -> Callable[[Scope], bool]:
    """Whether a scope is to be purged; the rules that say so are added to `rules`."""

    def covers(scope: Scope) -> bool:
        stored, added = todays.of(scope)
        why = new.forbidding(stored + added)
        if not why and other_mounts and added:
            why = policy.forbidding(stored + added)
        rules.update(why)
        return bool(why)

    return covers


def _word_of(mounts: Sequence[Mount]) -> str:
    """A hash over what of the mounts decides by which names an object is reached."""
    told = [[mount.path.text, mount.url, sorted(mount.tags)] for mount in mounts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
