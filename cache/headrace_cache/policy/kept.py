"""The policy that outlives processes: what was in force last, kept in the ledger.

All processes that share a cache folder keep one policy, and the ledger's write transactions decide
in which order they change it: a higher epoch takes the place of what was, everything else can only
be added. So a file that became looser is as powerless after a restart as before it.

In the same book stands what the SSD has been purged of (`Settled`), because the two must change
together: where a higher epoch drops a demand, pages may be sealed that the demand forbade.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.policy import Policy
from headrace_namespace.errors import ConfigError
from headrace_namespace.metadata.ledger import Book, LedgerFault, MemoryLedger, Page

_log = logging.getLogger(__name__)

#: How often a policy can become stricter without its epoch being raised. Each time the text of the
#: file is kept beside the earlier ones, unless it says all that they say.
MOST_TEXTS = 32

#: A goal that nobody has settled for so long is nobody's any more.
MOST_JUDGED_SECONDS = 3600.0

#: The keys of the book. The values are JSON: {"epoch": number, "texts": [text, ...]}, and
#: {"demands": [word, ...], "mounts": word, "at": seconds since the epoch}.
_KEPT = b"kept"
_SETTLED = b"settled"
#: One for each goal: processes of other mounts, or with a stale file, have other goals.
_JUDGED = b"judged:"
#: How often a higher epoch dropped demands, as a decimal number.
_DROPS = b"drops"


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy as the texts of the files that make it together, and its epoch."""

    epoch: int
    texts: tuple[str, ...]

    def policy(self) -> Policy:
        """What the texts say together. Raises ConfigError where one cannot be understood."""
        first, *others = (self._parsed(text) for text in self.texts)
        for other in others:
            first = first.keeping(other)
        # Each text stood in a file of this epoch or of one before; kept they are of this one.
        rules = tuple(replace(rule, kept_from=self.epoch) for rule in first.rules)
        return replace(first, rules=rules, epoch=self.epoch)

    def _parsed(self, text: str) -> Policy:
        return parse_policy(text, f"policy of epoch {self.epoch}, kept from an earlier file")

    def with_text(self, text: str) -> KeptPolicy:
        """This, made stricter by one more text. Raises ConfigError where it holds too many."""
        if text in self.texts:
            return self
        texts = [*self.texts, text]
        policies = {each: self._parsed(each) for each in texts}
        for each in self.texts:
            others = [policies[other] for other in texts if other != each]
            if _say_all_of(policies[each], others):
                texts.remove(each)
        if len(texts) > MOST_TEXTS:
            raise ConfigError(
                f"the policy was changed {MOST_TEXTS} times without its epoch being raised",
                hint=f"raise the epoch of the policy file above {self.epoch}",
            )
        return KeptPolicy(self.epoch, tuple(texts))


@dataclass(frozen=True, slots=True)
class Settled:
    """Under what all pages lie that the SSD holds: demands of the policy, and the mounts (a hash)
    by which the pages were judged."""

    demands: frozenset[str]
    mounts: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What the SSD was purged for, and when (seconds since the epoch), while processes that had
    not seen it yet could still seal what it forbids."""

    goal: Settled
    at: float


def joined(one: KeptPolicy | None, other: KeptPolicy | None) -> KeptPolicy | None:
    """The one of the higher epoch; where they are equal, both. Raises ConfigError as `with_text`"""
    if one is None or other is None:
        return one or other
    if one.epoch != other.epoch:
        return one if one.epoch > other.epoch else other
    for text in other.texts:
        one = one.with_text(text)
    return one


def changed_by(kept: KeptPolicy | None, text: str, epoch: int) -> KeptPolicy:
    """What is to be kept once a file with this text and epoch was seen. Raises ConfigError."""
    if kept is None or epoch > kept.epoch:
        return KeptPolicy(epoch, (text,))
    if epoch < kept.epoch:
        return kept  # a stale file binds those who read it, and nobody else
    return kept.with_text(text)


class PolicyBook:
    """The kept policy of all processes. Where the ledger fails, that of this process alone."""

    def __init__(self, book: Book | None = None) -> None:
        self._book = MemoryLedger().book("policy") if book is None else book
        #: The strictest that this process has seen, should the ledger lose it.
        self._seen: KeptPolicy | None = None
        self._said = False

    @property
    def seen(self) -> KeptPolicy | None:
        """What is kept, as this process last saw it."""
        return self._seen

    def move_to(self, book: Book) -> None:
        """Use another book from now on: in a forked child, which must open its own."""
        self._book = book

    def generation(self) -> int:
        """Counts the changes; 0 where the ledger fails."""
        try:
            return self._book.generation()
        except LedgerFault as error:
            self._fault(error)
            return 0

    def now(self) -> KeptPolicy | None:
        """What is kept; None where there was no policy yet. Raises ConfigError where it cannot be
        understood."""
        try:
            with self._book.read() as page:
                kept = _kept_of(page)
        except LedgerFault as error:
            self._fault(error)
            return self._seen
        self._seen = joined(kept, self._seen)
        return self._seen

    def keep(self, text: str, epoch: int) -> KeptPolicy:
        """Keep what a file says, together with what is kept; that. Raises ConfigError."""
        kept = changed_by(self._readable(epoch), text, epoch)
        self._seen = kept
        try:
            with self._book.read() as page:
                if _raw(page) == kept:
                    return kept
            with self._book.write() as page:
                # Another process may have been faster.
                before = _kept_of(page, below=epoch)
                kept = changed_by(joined(before, kept), text, epoch)
                if before is None or kept.epoch > before.epoch:
                    _drop_demands(page, kept)
                if kept != before:
                    page.put(_KEPT, _packed(kept))
        except LedgerFault as error:
            self._fault(error)
        self._seen = kept
        return kept

    def settled(self) -> Settled | None:
        """Under what the pages on the SSD lie, as far as it is known."""
        try:
            with self._book.read() as page:
                return _settled_of(page)
        except LedgerFault as error:
            self._fault(error)
            return None

    def judged(self, goal: Settled) -> Judged | None:
        """When the SSD was last purged for this goal by any process; None once it is settled."""
        try:
            with self._book.read() as page:
                return _judged_of(page, _judged_key(goal))
        except LedgerFault as error:
            self._fault(error)
            return None

    def judge(self, judged: Judged) -> None:
        """Let the others know that the SSD was purged for it."""
        try:
            with self._book.write() as page:
                _forget_judged(page, before=judged.at - MOST_JUDGED_SECONDS)
                page.put(_judged_key(judged.goal), _packed_settled(judged.goal, judged.at))
        except LedgerFault as error:
            self._fault(error)

    def settle(self, kept: KeptPolicy | None, settled: Settled) -> None:
        """Remember what the SSD was purged of, unless another policy is kept by now."""
        if kept is None:
            return
        try:
            with self._book.read() as page:
                if _settled_of(page) == settled:
                    return
            with self._book.write() as page:
                if _raw(page) == kept:
                    # What only this process demands, because its file is stale, others may seal.
                    demands = settled.demands & kept.policy().demands
                    page.put(_SETTLED, _packed_settled(replace(settled, demands=demands)))
                    page.delete(_judged_key(settled))
        except LedgerFault as error:
            self._fault(error)

    def drops(self) -> int:
        """How often a higher epoch dropped demands: pages may have been sealed since that they
        forbade, whatever was settled before."""
        try:
            with self._book.read() as page:
                return int(page.get(_DROPS) or b"0")
        except LedgerFault as error:
            self._fault(error)
            return 0

    def _readable(self, epoch: int) -> KeptPolicy | None:
        """What is kept. What cannot be understood is nothing to a file of a higher epoch."""
        try:
            with self._book.read() as page:
                return joined(_kept_of(page, below=epoch), self._seen)
        except LedgerFault as error:
            self._fault(error)
            return self._seen

    def _fault(self, error: LedgerFault) -> None:
        if not self._said:
            self._said = True
            _log.warning("the policy in force is not kept over restarts: %s", error)


def _raw(page: Page) -> KeptPolicy | None:
    """What the book holds; None where nothing, or nothing that can be read."""
    raw = page.get(_KEPT)
    if raw is None:
        return None
    try:
        return _unpacked(raw)
    except (ValueError, KeyError, TypeError):
        return None


def _kept_of(page: Page, below: int | None = None) -> KeptPolicy | None:
    """What the book holds; if it is of an epoch below `below`, it need not be understood.

    Raises ConfigError where it cannot be: a later headrace may have written it.
    """
    raw = page.get(_KEPT)
    if raw is None:
        return None
    try:
        kept = _unpacked(raw)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            "the policy that was kept from an earlier file cannot be read",
            hint="use the headrace that kept it",
        ) from None
    if below is None or kept.epoch >= below:
        kept.policy()
    return kept


def _unpacked(raw: bytes) -> KeptPolicy:
    value = json.loads(raw)
    kept = KeptPolicy(int(value["epoch"]), tuple(str(text) for text in value["texts"]))
    if not kept.texts:
        raise ValueError("no text")
    return kept


def _packed(kept: KeptPolicy) -> bytes:
    return json.dumps({"epoch": kept.epoch, "texts": list(kept.texts)}).encode()


def _settled_of(page: Page) -> Settled | None:
    judged = _judged_of(page, _SETTLED)
    return None if judged is None else judged.goal


def _judged_key(goal: Settled) -> bytes:
    return _JUDGED + sha256(_packed_settled(goal)).hexdigest()[:32].encode()


def _forget_judged(page: Page, before: float = math.inf) -> None:
    """Forget the goals that were judged before a time: they are judged again."""
    for key, _ in list(page.items()):
        if key.startswith(_JUDGED):
            judged = _judged_of(page, key)
            if judged is None or judged.at < before:
                page.delete(key)


def _judged_of(page: Page, key: bytes) -> Judged | None:
    raw = page.get(key)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
        goal = Settled(frozenset(map(str, value["demands"])), str(value["mounts"]))
        return Judged(goal, float(value["at"]))
    except (ValueError, KeyError, TypeError):
        return None  # judged by nothing, then: everything is judged again


def _packed_settled(settled: Settled, at: float = 0.0) -> bytes:
    value = {"demands": sorted(settled.demands), "mounts": settled.mounts, "at": at}
    return json.dumps(value).encode()


def _drop_demands(page: Page, kept: KeptPolicy) -> None:
    """From here on, pages are sealed that only the new policy allows."""
    _forget_judged(page)
    page.put(_DROPS, str(int(page.get(_DROPS) or b"0") + 1).encode())
    settled = _settled_of(page)
    if settled is not None:
        demands = settled.demands & kept.policy().demands
        page.put(_SETTLED, _packed_settled(replace(settled, demands=demands)))


def _say_all_of(policy: Policy, others: Sequence[Policy]) -> bool:
    """Whether the others together demand whatever `policy` does."""
    default = others[0].default
    rules = set(others[0].rules)
    for other in others[1:]:
        default = default.join(other.default)
        rules.update(other.rules)
    return default.join(policy.default) == default and rules.issuperset(policy.rules)
