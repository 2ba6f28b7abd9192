"""Reading a policy file: it is understood whole, or refused whole.

A file that is only half understood would leave data unprotected that its author believes protected.
So every unknown key, value and version is an error, and so is every key that other versions of the
model know and this one cannot enforce.
"""

from __future__ import annotations

from dataclasses import replace

from headrace_cache.policy.audience import EVERYBODY, Admitted, Audience
from headrace_cache.policy.names import names_in
from headrace_cache.policy.path_pattern import PathPattern, PathPatterns
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_cache.policy.policy import (
    BOTTOM,
    BUILT_IN,
    DEFAULT_NAME,
    UNDECIDABLE_NAME,
    Policy,
    Rule,
)
from headrace_namespace.config import Table, parse_toml
from headrace_namespace.errors import HeadraceError, InvalidPath
from headrace_namespace.mount_table import TAG
from headrace_namespace.path import NamespacePath, fold

VERSION = 1

#: Every open asks every rule at well below a microsecond each, so this keeps an open under one
#: millisecond; a file with more is better written with folders or tags.
MAX_RULES = 1000

#: Keys of the policy model that this version cannot enforce. To accept and ignore one would be a
#: leak that looks like protection.
_NOT_ENFORCED = (
    "signed_by",
    "egress",
    "audit",
    "audit_names",
    "statistics",
    "ttl",
    "max_cached_bytes",
    "min_group",
    "clients",
    "regions",
)

_PERSISTENCE = {value.word: value for value in Persistence}
_METADATA = {value.word: value for value in MetadataKeeping}
_GUARANTEE = {value.word: value for value in Guarantee}


def parse_policy(text: str, name: str) -> Policy:
    """The policy that a file's text says; `name` is the file's name for messages.

    Raises ConfigError, naming file, line, key and, for a misspelt one, the nearest right key.
    """
    top = parse_toml(text, name)
    _check_version(top)
    epoch = top.integer("epoch", 0)
    default, tables = top.table("default"), top.tables("rule")
    _finish(top)
    if "version" not in top:
        raise top.error(None, "'version' is missing", f"write version = {VERSION} at its top")
    if len(tables) > MAX_RULES:
        raise top.error("rule", f"{len(tables)} rules, and at most {MAX_RULES} can be held")
    given = _placement(default)
    _finish(default)
    if "default" in top and given is None:
        raise top.error("default", "says nothing", "give persistence, or leave [default] out")
    rules: dict[str, Rule] = {}
    for table in tables:
        rule = _rule(table)
        if rule.name in rules:
            raise table.error("name", f"two rules are named {rule.name!r}", "rename one")
        rules[rule.name] = rule
    if given is None:
        return Policy(BUILT_IN, tuple(rules.values()), epoch, f"{name} gives none: built in")
    return Policy(_default(default, given), tuple(rules.values()), epoch)


def _check_version(top: Table) -> None:
    # Before all else: a file of another version has keys that this one cannot judge.
    version = top.integer("version", VERSION)
    if version != VERSION:
        raise top.error(
            "version",
            f"is {version}, and this headrace reads version {VERSION} alone",
            "use a headrace that knows it, or write the file for this one",
        )


def _rule(table: Table) -> Rule:
    name = table.optional_text("name")
    match, apply = table.table("match"), table.table("apply")
    _finish(table)
    if name is None:
        raise table.error(None, "'name' is missing", "explanations need it")
    if not name.strip() or not name.isprintable():
        raise table.error("name", f"{name!r} cannot name a rule", "use printable text")
    if name in (DEFAULT_NAME, UNDECIDABLE_NAME):
        raise table.error("name", f"{name!r} is a word of headrace's own", "use another name")
    paths, not_paths = _patterns(match, "path"), _patterns(match, "not_path")
    mounts = frozenset(_mount(match, item) for item in _items(match, "mount"))
    tags = frozenset(_tag(match, item) for item in _items(match, "tag"))
    _finish(match)
    if paths is None and not mounts and not tags:
        raise table.error(
            "match", "names no path, mount or tag", 'for all paths write match.path = ["/**"]'
        )
    placement = _placement(apply)
    _finish(apply)
    if placement is None:
        raise table.error(
            "apply",
            "demands nothing",
            "give persistence, metadata, guarantee, users or groups, or drop the rule",
        )
    return Rule(name, placement, paths, not_paths, mounts, tags)


def _placement(table: Table) -> Placement | None:
    """What a table demands, loosest where it is silent; None where it demands nothing."""
    persistence = _choice(table, "persistence", tuple(_PERSISTENCE))
    metadata = _choice(table, "metadata", tuple(_METADATA))
    guarantee = _choice(table, "guarantee", tuple(_GUARANTEE))
    audience = _audience(table)
    if (persistence, metadata, guarantee) == (None, None, None) and audience == EVERYBODY:
        return None
    kept = BOTTOM.persistence if persistence is None else _PERSISTENCE[persistence]
    if guarantee is not None:
        proven = _GUARANTEE[guarantee]
    elif kept in (Persistence.MEMORY_ONLY, Persistence.NO_CACHE):
        # A host that nobody checked may swap, dump and hibernate; to accept that must be written.
        proven = Guarantee.G1
    else:
        proven = BOTTOM.guarantee
    known = BOTTOM.metadata if metadata is None else _METADATA[metadata]
    return Placement(kept, known, proven, audience)


def _default(table: Table, given: Placement) -> Placement:
    """The default, built in where it is silent: naming the metadata does not free the bytes."""
    if "persistence" in table:
        return given
    return replace(given, persistence=BUILT_IN.persistence)


def _audience(table: Table) -> Audience:
    """Whom a table's `users` and `groups` let read; everybody where it has neither."""
    for key in ("users", "groups"):
        _items(table, key)
    users, groups = names_in(table, "users"), names_in(table, "groups")
    return Audience(frozenset([Admitted(users, groups)])) if users or groups else EVERYBODY


def _patterns(table: Table, key: str) -> PathPatterns | None:
    items = _items(table, key)
    try:
        return PathPatterns([PathPattern.parse(item) for item in items]) if items else None
    except InvalidPath as error:
        raise table.error(key, error.message, error.hint) from None


def _mount(table: Table, text: str) -> str:
    """A mount's path, folded; it names one mount, so it has no wildcards."""
    try:
        normal = NamespacePath.parse(text).text
    except HeadraceError as error:
        raise table.error("mount", error.message) from None
    if normal != text:
        raise table.error(
            "mount",
            f"{text!r} is not a path as mounts have it",
            "start with one slash, without '//', '.', '..' or a slash at the end",
        )
    if "*" in text or "?" in text:
        raise table.error("mount", f"{text!r} has a wildcard", "name each mount, or use match.path")
    return fold(text)


def _tag(table: Table, text: str) -> str:
    """A tag condition, folded: `key=value`, or `key=*` for any value."""
    whole = text.removesuffix("=*") + "=any" if text.endswith("=*") else text
    if not TAG.fullmatch(whole):
        raise table.error(
            "tag", f"{text!r} is not a tag", 'write "key=value", or "key=*" for any value'
        )
    return fold(text)


def _items(table: Table, key: str) -> tuple[str, ...]:
    items = table.texts(key)
    if key in table and not items:
        raise table.error(key, "is an empty list", "name something, or leave the key out")
    return items


def _choice(table: Table, key: str, allowed: tuple[str, ...]) -> str | None:
    return None if table.optional_text(key) is None else table.choice(key, allowed)


def _finish(table: Table) -> None:
    """Refuse what was not asked for: first what is known but not enforced, then the unknown."""
    for key in _NOT_ENFORCED:
        if key in table:
            raise table.error(
                key,
                "cannot be enforced by this version of headrace",
                "remove it only if the data may be used without it",
            )
    table.done()
