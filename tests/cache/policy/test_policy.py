"""What the policy promises: strict joins, no way around by order, alias, case or spelling."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_cache.policy.policy import BUILT_IN, DENY_ALL, TOP, UNRESTRICTED, Policy
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name


def name_of(path: str, mount: str | None = "/lake", tags: Sequence[str] | None = ()) -> Name:
    return Name(
        NamespacePath(path),
        None if mount is None else NamespacePath(mount),
        None if tags is None else frozenset(tags),
    )


def policy_of(*rules: str, default: str = "") -> Policy:
    text = "version = 1\n"
    text += f"[default]\n{default}\n" if default else ""
    for index, rule in enumerate(rules):
        text += f'[[rule]]\nname = "rule {index}"\n{rule}\n'
    return parse_policy(text, "policy.toml")


def at_most(loose: Placement, strict: Placement) -> bool:
    return loose.join(strict) == strict


HR = 'match.path = ["/lake/hr/**"]\napply.persistence = "deny"'


# Tables: what a rule holds for.


@pytest.mark.parametrize(
    ("rule", "names", "applies"),
    [
        (HR, [name_of("/lake/hr")], True),
        (HR, [name_of("/lake/hr/a")], True),
        (HR, [name_of("/LAKE/Hr/A")], True),
        (HR, [name_of("/lake/hrx")], False),
        (HR, [name_of("/lake")], False),
        (HR, [name_of("/raw/x", "/raw"), name_of("/lake/hr/x")], True),
        # Kinds must all hold, items of a kind any.
        (HR + '\nmatch.mount = ["/lake"]', [name_of("/lake/hr/a")], True),
        (HR + '\nmatch.mount = ["/other", "/lake"]', [name_of("/lake/hr/a")], True),
        (HR + '\nmatch.mount = ["/LAKE"]', [name_of("/lake/hr/a")], True),
        (HR + '\nmatch.mount = ["/other"]', [name_of("/lake/hr/a")], False),
        (HR + '\nmatch.mount = ["/lake"]', [name_of("/lake/hr/a", "/lake/hr")], False),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["pii=eu"])], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["PII=EU"])], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["pii=us"])], False),
        (HR + '\nmatch.tag = ["pii=*"]', [name_of("/lake/hr/a", tags=["pii=us"])], True),
        (HR + '\nmatch.tag = ["pii=*"]', [name_of("/lake/hr/a", tags=["pi=us"])], False),
        (HR + '\nmatch.tag = ["pii=*"]', [name_of("/lake/hr/a")], False),
        # Path and mount belong to one name, tags to the object whatever its name.
        (
            HR + '\nmatch.mount = ["/raw"]',
            [name_of("/lake/hr/a"), name_of("/raw/a", "/raw")],
            False,
        ),
        (
            HR + '\nmatch.tag = ["pii=eu"]',
            [name_of("/lake/hr/a"), name_of("/raw/a", "/raw", ["pii=eu"])],
            True,
        ),
        # What could not be found out counts as matching.
        (HR + '\nmatch.mount = ["/other"]', [name_of("/lake/hr/a", None)], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=None)], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["no tag"])], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["pii"])], True),
        (HR + '\nmatch.tag = ["pii=eu"]', [name_of("/lake/hr/a", tags=["x=*"])], True),
        (HR + '\nmatch.mount = ["/other"]', [name_of("/lake/x", None)], False),
        # An exclusion holds only if all names are excluded, in exactly its case.
        (HR + '\nmatch.not_path = ["/lake/hr/R"]', [name_of("/lake/hr/R")], False),
        (HR + '\nmatch.not_path = ["/lake/hr/R"]', [name_of("/lake/hr/r")], True),
        (HR + '\nmatch.not_path = ["/lake/hr/R"]', [name_of("/lake/hr/R/x")], True),
        (
            HR + '\nmatch.not_path = ["/lake/hr/R"]',
            [name_of("/lake/hr/R"), name_of("/raw/R", "/raw")],
            True,
        ),
        (
            HR + '\nmatch.not_path = ["/lake/hr/R", "/raw/R"]',
            [name_of("/lake/hr/R"), name_of("/raw/R", "/raw")],
            False,
        ),
    ],
)
def test_what_a_rule_holds_for(rule: str, names: list[Name], applies: bool) -> None:
    assert policy_of(rule).decide(names) == (
        Placement(Persistence.DENY, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)
        if applies
        else BUILT_IN
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        [name_of("/lake/../etc")],
        [name_of("/..")],
        [name_of("/lake/./x")],
        [name_of("/lake//x")],
        [name_of("/lake/")],
        [name_of("lake")],
        [name_of("")],
        [name_of("/a\0b")],
        [name_of("/lake/ok"), name_of("/lake/..")],
    ],
)
@pytest.mark.parametrize("policy", [UNRESTRICTED, DENY_ALL, policy_of(HR)])
def test_what_cannot_be_judged_is_denied(policy: Policy, names: list[Name]) -> None:
    assert policy.decide(names) == TOP
    placement, reasons = policy.explain(names)
    assert placement == TOP
    assert [reason.name for reason in reasons] == ["undecidable"]


@pytest.mark.parametrize(
    "path", ["/", "/.hidden", "/a/..b", "/a/...", "/a/b.", "/%2e%2e", "/\udc80"]
)
def test_names_that_only_look_odd_are_judged(path: str) -> None:
    assert UNRESTRICTED.decide([name_of(path)]) == BUILT_IN


def test_without_a_file_memory_and_sealed_pages_are_allowed() -> None:
    placement = UNRESTRICTED.decide([name_of("/lake/a")])
    assert placement.allows_memory and placement.allows_ssd and not placement.denies


def test_without_a_readable_file_nothing_is_allowed() -> None:
    assert DENY_ALL.decide([name_of("/lake/a")]) == TOP


def test_the_default_takes_part_everywhere() -> None:
    policy = policy_of(
        'match.path = ["/lake/**"]\napply.persistence = "any"',
        default='persistence = "no-cache"\nguarantee = "unattested"',
    )
    assert policy.decide([name_of("/lake/a")]).persistence is Persistence.NO_CACHE


@pytest.mark.parametrize(
    ("apply", "guarantee"),
    [
        ('persistence = "memory-only"', Guarantee.G1),
        ('persistence = "no-cache"', Guarantee.G1),
        ('persistence = "memory-only"\nguarantee = "unattested"', Guarantee.UNATTESTED),
        ('persistence = "memory-only"\nguarantee = "G2"', Guarantee.G2),
        ('persistence = "sealed-ssd"', Guarantee.UNATTESTED),
        ('persistence = "any"', Guarantee.UNATTESTED),
        ('persistence = "deny"', Guarantee.UNATTESTED),
        ('metadata = "memory-only"', Guarantee.UNATTESTED),
    ],
)
def test_what_must_stay_in_memory_demands_a_guarantee_unless_waived(
    apply: str, guarantee: Guarantee
) -> None:
    in_rule = 'match.path = ["/**"]\n' + "\n".join(f"apply.{line}" for line in apply.split("\n"))
    assert policy_of(in_rule).decide([name_of("/lake/a")]).guarantee is guarantee
    assert policy_of(default=apply).decide([name_of("/lake/a")]).guarantee is guarantee


def test_one_rule_cannot_waive_what_another_demands() -> None:
    policy = policy_of(
        'match.path = ["/lake/**"]\napply.persistence = "memory-only"',
        'match.path = ["/lake/hr/**"]\napply.persistence = "any"\napply.guarantee = "unattested"',
    )
    assert policy.decide([name_of("/lake/hr/a")]).guarantee is Guarantee.G1


def test_explanations_name_pattern_mount_tag_and_the_other_name() -> None:
    policy = policy_of(
        HR,
        'match.path = ["/x/**", "/lake/*/A"]\nmatch.mount = ["/lake"]\nmatch.tag = ["pii=*"]\n'
        'apply.metadata = "memory-only"',
        'match.mount = ["/never"]\napply.persistence = "deny"',
    )
    names = [name_of("/raw/a", "/raw", ["pii=eu"]), name_of("/lake/hr/a")]
    placement, reasons = policy.explain(names)
    assert placement == policy.decide(names)
    assert [(reason.name, reason.why) for reason in reasons] == [
        ("default", "policy.toml gives none: built in"),
        ("rule 0", "match.path '/lake/hr/**' through the other name /lake/hr/a"),
        (
            "rule 1",
            "match.path '/lake/*/A' and match.mount '/lake' through the other name /lake/hr/a"
            " and match.tag 'pii=*'",
        ),
    ]


def test_explanations_say_what_could_not_be_found_out() -> None:
    policy = policy_of(
        'match.mount = ["/finance"]\napply.persistence = "deny"',
        'match.tag = ["pii=eu"]\napply.persistence = "deny"',
    )
    _, reasons = policy.explain([name_of("/lake/a", None, None)])
    assert [reason.why for reason in reasons[1:]] == [
        "the mount is not known",
        "the tags cannot be read",
    ]


# Properties: the lattice, and no way around.

PLACEMENTS = st.builds(
    Placement,
    st.sampled_from(Persistence),
    st.sampled_from(MetadataKeeping),
    st.sampled_from(Guarantee),
)

WORDS = st.sampled_from(["hr", "HR", "pay", "é", "e\u0301", "straße", "STRASSE", "a", "\u212a"])
PATHS = st.lists(WORDS, max_size=3).map(lambda names: "/" + "/".join(names))
PATTERNS = st.lists(
    st.one_of(WORDS, st.sampled_from(["*", "**", "h*", "?", "*y"])), min_size=1, max_size=3
).map(lambda names: "/" + "/".join(names))
MOUNTS = st.sampled_from(["/", "/hr", "/Hr", "/pay"])
TAGS = st.sampled_from(["pii=eu", "pii=us", "PII=EU", "kind=raw"])


def one_or_more(items: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(items, min_size=1, max_size=2)


CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "path": one_or_more(PATTERNS),
        "mount": one_or_more(MOUNTS),
        "tag": one_or_more(st.one_of(TAGS, st.just("pii=*"))),
        "not_path": one_or_more(PATTERNS),
    },
).filter(lambda match: bool(match.keys() - {"not_path"}))
DEMANDS = st.fixed_dictionaries(
    {"persistence": st.sampled_from([value.word for value in Persistence])},
    optional={
        "metadata": st.sampled_from([value.word for value in MetadataKeeping]),
        "guarantee": st.sampled_from([value.word for value in Guarantee]),
    },
)
RULES = st.tuples(CONDITIONS, DEMANDS).map(lambda rule: rule_text(rule[0], rule[1]))
RULES_APPLYING_ONLY = st.tuples(CONDITIONS, DEMANDS).map(
    lambda rule: rule_text({k: v for k, v in rule[0].items() if k != "not_path"}, rule[1])
)
NAMES = st.builds(
    name_of,
    PATHS,
    st.one_of(st.none(), MOUNTS),
    st.one_of(st.none(), st.lists(TAGS, max_size=2)),
)


def rule_text(match: Mapping[str, object], apply: Mapping[str, object]) -> str:
    lines = [
        f"match.{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in match.items()
    ]
    lines += [f"apply.{key} = {json.dumps(value)}" for key, value in apply.items()]
    return "\n".join(lines)


@given(PLACEMENTS, PLACEMENTS, PLACEMENTS)
def test_placements_are_a_lattice(a: Placement, b: Placement, c: Placement) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a
    assert at_most(a, a.join(b))
    assert not at_most(a, b) or at_most(a.join(c), b.join(c))
    assert a.join(TOP) == TOP


@given(st.lists(RULES, max_size=4), st.lists(NAMES, min_size=1, max_size=3), st.randoms())
def test_the_order_of_rules_does_not_matter(
    rules: list[str], names: list[Name], random: Random
) -> None:
    shuffled = list(rules)
    random.shuffle(shuffled)
    assert policy_of(*rules).decide(names) == policy_of(*shuffled).decide(names)


@given(st.lists(RULES, max_size=3), RULES, st.lists(NAMES, min_size=1, max_size=3))
def test_adding_a_rule_never_weakens(rules: list[str], added: str, names: list[Name]) -> None:
    assert at_most(policy_of(*rules).decide(names), policy_of(*rules, added).decide(names))


@given(st.lists(RULES, max_size=3), st.lists(NAMES, min_size=1, max_size=3), NAMES)
def test_adding_an_alias_never_weakens(rules: list[str], names: list[Name], alias: Name) -> None:
    policy = policy_of(*rules)
    assert at_most(policy.decide(names), policy.decide([*names, alias]))
    assert policy.decide([*names, alias]) == policy.decide([alias, *names])


@given(st.lists(RULES, max_size=3), NAMES)
def test_not_knowing_mount_or_tags_never_weakens(rules: list[str], name: Name) -> None:
    policy = policy_of(*rules)
    known = policy.decide([name])
    assert at_most(known, policy.decide([Name(name.path, None, name.tags)]))
    assert at_most(known, policy.decide([Name(name.path, name.mount, None)]))


@given(st.lists(RULES_APPLYING_ONLY, max_size=3), NAMES)
def test_no_case_and_no_spelling_of_a_path_weakens(rules: list[str], name: Name) -> None:
    policy = policy_of(*rules)
    decided = policy.decide([name])
    text = name.path.text
    for spelled in (
        text.upper(),
        text.lower(),
        text.swapcase(),
        unicodedata.normalize("NFC", text),
        unicodedata.normalize("NFD", text),
        unicodedata.normalize("NFD", text.upper()),
    ):
        assert policy.decide([Name(NamespacePath(spelled), name.mount, name.tags)]) == decided


@given(st.lists(RULES, max_size=3), NAMES)
def test_no_unicode_spelling_changes_what_is_excluded(rules: list[str], name: Name) -> None:
    policy = policy_of(*rules)
    for form in ("NFC", "NFD"):
        path = NamespacePath(unicodedata.normalize(form, name.path.text))
        assert policy.decide([Name(path, name.mount, name.tags)]) == policy.decide([name])


@given(st.lists(RULES_APPLYING_ONLY, max_size=3), NAMES, WORDS)
def test_a_rule_for_a_folder_holds_for_what_is_in_it(
    rules: list[str], name: Name, child: str
) -> None:
    policy = policy_of(*rules)
    below = Name(name.path.child(child), name.mount, name.tags)
    assert at_most(policy.decide([name]), policy.decide([below]))


@given(st.lists(RULES, max_size=4), st.lists(NAMES, max_size=3))
def test_an_explanation_says_what_is_decided(rules: list[str], names: list[Name]) -> None:
    policy = policy_of(*rules)
    placement, reasons = policy.explain(names)
    assert placement == policy.decide(names)
    assert all(reason.why for reason in reasons)
    if names:
        by_name = {rule.name: rule.placement for rule in policy.rules}
        joined = policy.default
        for reason in reasons[1:]:
            joined = joined.join(by_name[reason.name])
        assert joined == placement


# Judged by folders alone: never looser than by the names.

CHILDREN = st.sampled_from(["hr", "HR", "pay", "é", "straße", "a", "x.pem", "\u212a"])


@given(
    st.lists(RULES, max_size=4),
    st.lists(st.tuples(NAMES, CHILDREN), min_size=1, max_size=3),
    st.sampled_from(["", 'persistence = "memory-only"', 'metadata = "memory-only"']),
)
@example(['match.path = ["/*"]\nmatch.not_path = ["/*"]\napply.persistence = "deny"'], [], "")
@example(
    ['match.path = ["/**"]\nmatch.not_path = ["/hr/*"]\napply.persistence = "deny"'],
    [(name_of("/hr"), "a"), (name_of("/"), "hr")],
    "",
)
def test_no_object_is_placed_more_strictly_than_its_folders(
    rules: list[str], places: list[tuple[Name, str]], default: str
) -> None:
    policy = policy_of(*rules, default=default)
    folders = [folder for folder, _ in places]
    children = [Name(f.path.child(child), f.mount, f.tags) for f, child in places]
    decided = policy.decide(children)
    assert at_most(decided, policy.strictest(folders))
    assert decided.allows_ssd or policy.could_forbid_ssd(folders)
    assert policy.could_forbid_ssd(folders) == bool(policy.forbidding(folders))
    assert not policy.could_forbid_ssd(folders) or policy.forbids_some_ssd
    # Of objects that obeyed some of the rules before, only the others need to be asked.
    known = policy_of(*rules[:1]).demands
    if policy_of(*rules[:1]).decide(children).allows_ssd and not decided.allows_ssd:
        assert policy.beyond(known).could_forbid_ssd(folders)


@pytest.mark.parametrize(
    ("match", "folder", "could"),
    [
        ('match.path = ["/lake/hr/**"]', "/lake/hr", True),
        ('match.path = ["/lake/hr/**"]', "/lake", True),  # an object named hr
        ('match.path = ["/lake/hr/x/**"]', "/lake", False),
        ('match.path = ["/lake/**/*.pem"]', "/lake/open", True),
        ('match.path = ["/lake/*.pem"]', "/lake/open", False),
        ('match.path = ["/lake/*.pem"]', "/lake", True),
        ('match.path = ["/lake/hr/a"]', "/LAKE/HR", True),
        ('match.path = ["/lake/hr/a"]', "/lake/open", False),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/open/**"]', "/lake/open", False),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/open/**"]', "/lake/open/x", False),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/open/*"]', "/lake/open", False),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/open/*"]', "/lake/open/x", True),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/open/*.md"]', "/lake/open", True),
        ('match.path = ["/lake/**"]\nmatch.not_path = ["/lake/OPEN/**"]', "/lake/open", True),
        ('match.tag = ["pii=eu"]', "/lake/open", False),
        ('match.mount = ["/lake"]', "/lake/open", True),
        ('match.mount = ["/other"]', "/lake/open", False),
    ],
)
def test_whether_a_folder_could_hold_what_may_not_lie_on_the_ssd(
    match: str, folder: str, could: bool
) -> None:
    policy = policy_of(match + '\napply.persistence = "deny"')
    assert policy.could_forbid_ssd([name_of(folder)]) is could
    assert policy.forbidding([name_of(folder)]) == (("rule 0",) if could else ())


def test_a_folder_that_cannot_be_judged_could_hold_anything() -> None:
    assert UNRESTRICTED.could_forbid_ssd([]) and UNRESTRICTED.could_forbid_ssd([name_of("/a/../b")])
    assert not UNRESTRICTED.could_forbid_ssd([name_of("/a")])


@given(st.lists(RULES, max_size=3), st.lists(RULES, max_size=3), st.lists(NAMES, min_size=1))
def test_what_is_kept_beside_a_policy_never_weakens_it(
    rules: list[str], older: list[str], names: list[Name]
) -> None:
    new, old = policy_of(*rules), policy_of(*older)
    kept = new.keeping(old)
    assert kept.decide(names) == new.decide(names).join(old.decide(names))
    assert kept.demands >= new.demands
    assert kept.keeping(old) == kept
