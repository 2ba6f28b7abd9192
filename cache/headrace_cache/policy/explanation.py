"""Why the policy decides as it does, in words for people. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class RuleReason:
    """One policy rule that applies to a path, and by which name and pattern it does."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyExplanation:
    """What the policy decides of a path, as its words, and the rules that make it so."""

    path: NamespacePath
    persistence: str
    metadata: str
    guarantee: str
    #: Whom each rule that names some lets read; all must. Empty for everybody.
    readers: Sequence[str]
    #: Why it is not served to who asks; None where it is.
    refusal: str | None
    rules: Sequence[RuleReason]
