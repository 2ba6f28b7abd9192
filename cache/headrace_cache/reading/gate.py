"""The one gate to the policy: who reads, writes, lists or copies asks here, with all names at once.

The policy in force may change between any two questions: what was judged says by which policy, and
is judged anew before more is given.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass, replace

from headrace_cache.policy.audience import EVERYBODY, Principal
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Placement
from headrace_cache.policy.policy import Policy
from headrace_cache.policy.scope import Scope
from headrace_cache.policy.watch import PolicyWatch
from headrace_cache.reading.pinned import Pinned
from headrace_namespace.errors import NotFound, PolicyDenied
from headrace_namespace.namespace import Namespace
from headrace_namespace.path import NamespacePath, other_spelling
from headrace_namespace.resolution import Name, Resolved


@dataclass(frozen=True, slots=True)
class Governed:
    """A path with where it leads, what the policy says of it, and which policy that was."""

    resolved: Resolved
    placement: Placement
    policy: Policy

    @property
    def path(self) -> NamespacePath:
        """The path that was asked for."""
        return self.resolved.path


class PolicyGate:
    """Judges paths and versions by the policy of now. Safe to use from many threads."""

    def __init__(
        self,
        namespace: Namespace,
        watch: PolicyWatch,
        guarantee: Guarantee,
        principal: Principal,
    ) -> None:
        """`guarantee`: what this process can give at most. `principal`: for whom it judges."""
        self._namespace = namespace
        self._watch = watch
        self._guarantee = guarantee
        self._principal = principal

    def seen_by(self, principal: Principal) -> PolicyGate:
        """The gate that judges for somebody else."""
        return PolicyGate(self._namespace, self._watch, self._guarantee, principal)

    def admits(self, pinned: Pinned) -> bool:
        """Whether what another may have opened is for this principal too."""
        audience = pinned.placement.audience
        return audience is EVERYBODY or audience.admits(self._principal)

    def policy(self) -> Policy:
        """The policy in force; a look at the file may be due."""
        return self._watch.current()

    def govern(self, path: NamespacePath) -> Governed:
        """Where `path` leads, and its placement of now. Raises NotFound (no mount)."""
        resolved, policy = self._namespace.resolve(path), self._watch.current()
        return Governed(resolved, policy.decide(resolved.names), policy)

    def judged(self, pinned: Pinned, *, anew: bool = False) -> Pinned:
        """`pinned` under the policy in force now: itself where that is the one that judged it.

        Its names of now count too, beside those of then. Raises PolicyDenied.
        """
        policy = self._watch.now
        if policy is pinned.policy and not anew:
            return pinned
        now = [name for location in pinned.locations for name in self._namespace.names_at(location)]
        locations = pinned.locations
        with suppress(NotFound):  # it was unmounted; an open object goes on while its bytes last
            resolved = self._namespace.resolve(pinned.path)
            now += resolved.names
            locations = tuple(dict.fromkeys((*locations, *resolved.locations)))
        names = tuple(dict.fromkeys((*pinned.names, *now)))
        placement = policy.decide(names)
        refusal = self._refusal_of(pinned.path, placement, reading=True)
        if refusal is not None:
            raise refusal
        return replace(pinned, placement=placement, names=names, locations=locations, policy=policy)

    def is_judged(self, pinned: Pinned) -> bool:
        """Whether the policy that judged it is the one in force; a look at the file may be due."""
        return self._watch.current() is pinned.policy

    def stands(self, pinned: Pinned) -> bool:
        """As `is_judged`, by the last look at the file: never waits for one."""
        return self._watch.now is pinned.policy

    def names_of(self, path: NamespacePath) -> tuple[Name, ...]:
        """All names of what may be at `path`, in both its Unicode spellings. Raises NotFound."""
        return tuple(name for resolved in self._spelt(path) for name in resolved.names)

    def scope_of(self, path: NamespacePath) -> Scope:
        """The folders of what may be at `path`. Raises NotFound."""
        first, *others = (Scope.of(each.names, each.locations) for each in self._spelt(path))
        return functools.reduce(Scope.joined, others, first)

    def _spelt(self, path: NamespacePath) -> list[Resolved]:
        """Where `path` leads, and its other Unicode spelling: the store may have it by that."""
        other = other_spelling(path.text)
        spelt = (path,) if other is None else (path, NamespacePath(other))
        return [self._namespace.resolve(each) for each in spelt]

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and by which rules."""
        names = self.names_of(path)
        placement, reasons = self._watch.current().explain(names)
        refusal = self._refusal_of(path, placement, reading=True)
        return PolicyExplanation(
            path,
            placement.persistence.word,
            placement.metadata.word,
            placement.guarantee.word,
            placement.audience.words,
            None if refusal is None else refusal.message,
            reasons,
        )

    def govern_for_writing(self, path: NamespacePath) -> Governed:
        """Where `path` leads, and its placement of now. Raises PolicyDenied, NotFound (no
        mount)."""
        governed = self.govern(path)
        self.require(governed, reading=True)
        return governed

    def require_as_strict(self, source: Pinned | Governed, target: Governed) -> None:
        """Bytes keep their placement wherever they are copied or moved. Raises PolicyDenied."""
        old, new = source.placement, target.placement
        if old.join(new) != new:
            path = target.resolved.path
            raise PolicyDenied(
                f"{path} would make what lies at {source.path} looser: from {old.words} to "
                f"{new.words}",
                path=path.text,
                hint=f"give {path.parent} the rule of the source too",
            )

    def require_name_as_strict(self, source: Governed, target: Governed) -> None:
        """A folder's name that must stay in memory is made nowhere else. Raises PolicyDenied."""
        if source.placement.metadata > target.placement.metadata:
            raise PolicyDenied(
                f"{target.path} would make the name of {source.path} looser: it is kept in memory "
                "alone",
                path=target.path.text,
                hint=f"give {target.path.parent} the rule of the source too",
            )

    def folder_as_strict(self, source: Governed, target: Governed) -> bool:
        """Whether whatever may lie in a folder would be held as strictly by its new name."""
        policy = self._watch.current()
        strictest = policy.strictest_below(source.resolved.names)
        if not strictest.audience.admits(self._principal):
            return False
        loosest = policy.loosest_below(target.resolved.names)
        return strictest.join(loosest) == loosest

    def require(self, governed: Governed, *, reading: bool) -> None:
        """Raises PolicyDenied where the policy refuses a read, or a mere look."""
        refusal = self.refusal(governed, reading=reading)
        if refusal is not None:
            raise refusal

    def refusal(self, governed: Governed, *, reading: bool) -> PolicyDenied | None:
        """Why the policy refuses a read, or a mere look; None where it does not.

        It denies the object, or demands a guarantee that this process cannot give, or the object
        is for others.
        """
        return self._refusal_of(governed.path, governed.placement, reading=reading)

    def _refusal_of(
        self, asked: NamespacePath, placement: Placement, *, reading: bool
    ) -> PolicyDenied | None:
        path = asked.text
        if placement.denies:
            return PolicyDenied(f"the policy denies {path}", path=path)
        restricted = reading or placement.metadata is MetadataKeeping.MEMORY_ONLY
        if restricted and placement.guarantee > self._guarantee:
            return PolicyDenied(
                f"{path} demands a host that is attested to {placement.guarantee.word}, and "
                f"this process is {self._guarantee.word}",
                path=path,
                hint='to allow it here, its rule must say guarantee = "unattested"',
            )
        if restricted and not placement.audience.admits(self._principal):
            return PolicyDenied(
                f"{path} is for {' and '.join(placement.audience.words)}, and not for "
                f"{self._principal.word}",
                path=path,
                hint="ask who writes the policy to name you in its rule",
            )
        return None
