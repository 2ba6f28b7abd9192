"""What the admin's rules decide of an object: the one place where placements are issued.

The effective placement is the join of the default and of every rule that matches, so the order of
rules cannot matter and adding a rule can only make it stricter. An object is judged by all names
by which it can be reached: a rule applies if any name matches, an exclusion holds only if all names
are excluded, and what could not be found out counts as matching. Pure: it reads nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headrace_cache.policy.audience import EVERYBODY, NOBODY
from headrace_cache.policy.explanation import RuleReason
from headrace_cache.policy.path_pattern import PathPatterns, as_folder, composed
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_namespace.mount_table import TAG
from headrace_namespace.path import fold
from headrace_namespace.resolution import Name

#: The strictest placement: what is given where nothing can be decided.
TOP = Placement(Persistence.DENY, MetadataKeeping.MEMORY_ONLY, Guarantee.G2, NOBODY)

#: The loosest: what a rule says of a property that it does not name.
BOTTOM = Placement(Persistence.ANY, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)

#: What holds where a policy file gives no default: memory, and sealed pages on the SSD.
BUILT_IN = Placement(Persistence.SEALED_SSD, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)

#: What explanations call the default; no rule may have this name.
DEFAULT_NAME = "default"

#: What explanations call a refusal that no rule asked for; no rule may have this name either.
UNDECIDABLE_NAME = "undecidable"


@dataclass(frozen=True, slots=True)
class _KnownName:
    """One name in the forms in which rules compare."""

    shown: str
    folded: str
    exact: str
    mount: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an object. `tags` holds `key=value` and `key=*` of each tag of each name,
    for tags say what the data is, whichever name it is asked by; None where one is unreadable."""

    names: tuple[_KnownName, ...]
    tags: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its conditions and what it demands.

    `mounts` are folded paths, `tags` folded words (`key=value`, or `key=*` for any value); a kind
    of condition that is empty is not asked for.
    """

    name: str
    placement: Placement
    paths: PathPatterns | None = None
    not_paths: PathPatterns | None = None
    mounts: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    #: The epoch of the earlier policy that it is kept from; None where the file has it.
    kept_from: int | None = field(default=None, compare=False)

    @property
    def demand(self) -> str:
        """A word for what it demands of what, whatever its name: equal rules have equal words."""
        paths = self.paths.texts if self.paths is not None else None
        not_paths = self.not_paths.texts if self.not_paths is not None else None
        whole = [paths, not_paths, sorted(self.mounts), sorted(self.tags), _words(self.placement)]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]

    def applies_to(self, known: _Known) -> bool:
        """Whether the rule holds for the object."""
        paths, mounts = self.paths, self.mounts
        for name in known.names:
            if (paths is None or paths.apply_to(name.folded)) and (
                not mounts or name.mount is None or name.mount in mounts
            ):
                break
        else:
            return False
        if self.tags and known.tags is not None and self.tags.isdisjoint(known.tags):
            return False
        excluded = self.not_paths
        return excluded is None or not all(excluded.exclude(name.exact) for name in known.names)

    def could_apply_in(self, folders: _Known) -> bool:
        """Whether it holds for any object that can lie in these folders, by all of them."""
        paths, mounts = self.paths, self.mounts
        for name in folders.names:
            if (paths is None or paths.could_apply_in(name.folded)) and (
                not mounts or name.mount is None or name.mount in mounts
            ):
                break
        else:
            return False
        if self.tags and folders.tags is not None and self.tags.isdisjoint(folders.tags):
            return False
        excluded = self.not_paths
        return excluded is None or not all(
            excluded.exclude_all_in(name.exact) for name in folders.names
        )

    def may_apply_below(self, known: _Known) -> bool:
        """Whether the rule could hold for something in the folder, whatever is excluded."""
        paths = self.paths
        return paths is None or any(
            paths.apply_to(name.folded) or paths.may_apply_below(name.folded)
            for name in known.names
        )

    def why(self, known: _Known) -> str:
        """By which conditions and which name a rule applies that does apply."""
        told: list[str] = []
        for position, name in enumerate(known.names):
            here = self._why_name(name)
            if here is not None:
                told.extend(here)
                if position and told:
                    told[-1] += f" through the other name {name.shown}"
                break
        if self.tags:
            shared = None if known.tags is None else sorted(self.tags & known.tags)
            told.append("the tags cannot be read" if shared is None else f"match.tag {shared[0]!r}")
        return " and ".join(told) + _kept_words(self.kept_from)

    def _why_name(self, name: _KnownName) -> list[str] | None:
        """The conditions on path and mount that this name fulfils; None where one does not."""
        told: list[str] = []
        if self.paths is not None:
            pattern = self.paths.which_applies_to(name.folded)
            if pattern is None:
                return None
            told.append(f"match.path {pattern.text!r}")
        if self.mounts:
            if name.mount is None:
                told.append("the mount is not known")
            elif name.mount in self.mounts:
                told.append(f"match.mount {name.mount!r}")
            else:
                return None
        return told


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one policy file. Immutable, and safe to ask from many threads."""

    default: Placement
    rules: tuple[Rule, ...] = ()
    epoch: int = 0
    default_why: str = "holds for every path"

    def keeping(self, older: Policy) -> Policy:
        """This policy, and of an older one what it demands beyond: neither weakens the other.

        Explanations tell what was kept.
        """
        kept = tuple(
            replace(rule, kept_from=older.epoch if rule.kept_from is None else rule.kept_from)
            for rule in older.rules
            if rule not in self.rules
        )
        default, why = self.default.join(older.default), self.default_why
        if default != self.default:
            why += _kept_words(older.epoch)
        epoch = max(self.epoch, older.epoch)
        return Policy(default, self.rules + kept, epoch, why)

    @property
    def demands(self) -> frozenset[str]:
        """A word for each thing that it demands, the default too."""
        return frozenset([f"default {_words(self.default)}", *(rule.demand for rule in self.rules)])

    def beyond(self, demands: frozenset[str]) -> Policy:
        """What it demands beyond these: its other rules, and its default where that is another."""
        new = f"default {_words(self.default)}" not in demands
        rules = tuple(rule for rule in self.rules if rule.demand not in demands)
        return replace(self, default=self.default if new else BOTTOM, rules=rules)

    @property
    def may_withhold(self) -> bool:
        """Whether it restricts so much as the looks of some object, not only its bytes."""
        return any(
            placement.denies
            or (
                placement.metadata is MetadataKeeping.MEMORY_ONLY
                and (
                    placement.guarantee is not Guarantee.UNATTESTED
                    or placement.audience != EVERYBODY
                )
            )
            for placement in (self.default, *(rule.placement for rule in self.rules))
        )

    def decide(self, names: Sequence[Name]) -> Placement:
        """The placement of the object that `names` lead to, the asked one first.

        Never raises: no names at all, or a name that is not in normal form, are denied.
        """
        known = _known(names)
        if isinstance(known, str):
            return TOP
        placement = self.default
        for rule in self.rules:
            if rule.applies_to(known):
                placement = placement.join(rule.placement)
        return placement

    def strictest_below(self, names: Sequence[Name]) -> Placement:
        """A placement at least as strict as that of anything in the folder with these names."""
        known = _known(names)
        if isinstance(known, str):
            return TOP
        placement = self.default
        for rule in self.rules:
            if rule.may_apply_below(known):
                placement = placement.join(rule.placement)
        return placement

    def loosest_below(self, names: Sequence[Name]) -> Placement:
        """A placement at most as strict as that of anything in the folder with these names."""
        known = _known(names)
        if isinstance(known, str):
            return BOTTOM
        placement = self.default
        for rule in self.rules:
            if rule.not_paths is None and rule.applies_to(known):
                placement = placement.join(rule.placement)
        return placement

    def explain(self, names: Sequence[Name]) -> tuple[Placement, tuple[RuleReason, ...]]:
        """What `decide` gives, and each rule that takes part: the default, then as in the file."""
        known = _known(names)
        if isinstance(known, str):
            return TOP, (RuleReason(UNDECIDABLE_NAME, known),)
        placement = self.default
        reasons = [RuleReason(DEFAULT_NAME, self.default_why)]
        for rule in self.rules:
            if rule.applies_to(known):
                placement = placement.join(rule.placement)
                reasons.append(RuleReason(rule.name, rule.why(known)))
        return placement, tuple(reasons)

    # What is known of some objects is only in which folders they lie. A judgement by these may be
    # stricter than one by the objects' names, and is never looser.

    def strictest(self, folders: Sequence[Name]) -> Placement:
        """A placement at least as strict as that of any object that lies in these folders, by all
        names that it has."""
        known = _known(folders)
        if isinstance(known, str):
            return TOP
        placement = self.default
        for rule in self.rules:
            if rule.could_apply_in(known):
                placement = placement.join(rule.placement)
        return placement

    def could_forbid_ssd(self, folders: Sequence[Name]) -> bool:
        """Whether any object that lies in these folders, by all names that it has, may be one that
        must not lie on the SSD."""
        return not self.strictest(folders).allows_ssd

    def forbidding(self, folders: Sequence[Name]) -> tuple[str, ...]:
        """Why `could_forbid_ssd`: the names of the rules, and of the default, by which it may."""
        known = _known(folders)
        if isinstance(known, str):
            return (UNDECIDABLE_NAME,)
        default = () if self.default.allows_ssd else (DEFAULT_NAME,)
        return default + tuple(
            rule.name
            for rule in self.rules
            if not rule.placement.allows_ssd and rule.could_apply_in(known)
        )

    @property
    def forbids_some_ssd(self) -> bool:
        """Whether there can be any object at all that must not lie on the SSD."""
        placements = (self.default, *(rule.placement for rule in self.rules))
        return not all(placement.allows_ssd for placement in placements)


#: Without a policy file everything may be kept in memory and sealed on the SSD.
UNRESTRICTED = Policy(BUILT_IN, default_why="there is no policy file")

#: For a caller that must go on without a readable policy file: nothing may be read.
DENY_ALL = Policy(TOP, default_why="the policy file cannot be read")


def _words(placement: Placement) -> str:
    words = [placement.persistence.word, placement.metadata.word, placement.guarantee.word]
    if placement.audience != EVERYBODY:
        lists = sorted([sorted(one.users), sorted(one.groups)] for one in placement.audience.lists)
        words.append(json.dumps(lists))
    return " ".join(words)


def _kept_words(epoch: int | None) -> str:
    if epoch is None:
        return ""
    return f"; kept from an earlier policy of epoch {epoch}: raise the epoch to drop it"


def _known(names: Sequence[Name]) -> _Known | str:
    """The names in the forms in which rules compare; a sentence where nothing can be decided."""
    if not names:
        return "the object has no name to judge it by"
    known: list[_KnownName] = []
    for name in names:
        text = name.path.text
        if not _is_normal(text):
            return f"the path {text!r} is not in normal form"
        mount = name.mount
        known.append(
            _KnownName(
                text,
                as_folder(fold(text)),
                as_folder(composed(text)),
                None if mount is None else fold(mount.text),
            )
        )
    return _Known(tuple(known), _tag_words(name.tags for name in names))


def _is_normal(text: str) -> bool:
    if text == "/":
        return True
    if not text.startswith("/") or text.endswith("/") or "//" in text or "\0" in text:
        return False
    return "/." not in text or not any(part in (".", "..") for part in text.split("/"))


def _tag_words(tags_of_names: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    words: set[str] = set()
    for tags in tags_of_names:
        if tags is None:
            return None
        for tag in tags:
            # A tag that no rule could name must not slip past the rules: it counts as unreadable.
            if not TAG.fullmatch(tag):
                return None
            word = fold(tag)
            words.add(word)
            words.add(word.split("=", 1)[0] + "=*")
    return frozenset(words)
