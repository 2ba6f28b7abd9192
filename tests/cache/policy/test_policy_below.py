"""What may be said of a folder's whole content, for moving it in one step: never too little."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.policy import BOTTOM, TOP, Policy
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name

WORDS = st.sampled_from(["any", "sealed-ssd", "memory-only", "no-cache", "deny"])
PATTERNS = st.lists(st.sampled_from(["a", "B", "*", "**", "a*", "?"]), min_size=1, max_size=3)
PATHS = st.lists(st.sampled_from(["a", "A", "b", "ab"]), max_size=3)
RULES = st.lists(st.tuples(PATTERNS, st.none() | PATTERNS, WORDS), max_size=4)


def policy_of(rules: list[tuple[list[str], list[str] | None, str]]) -> Policy:
    text = "version = 1\n"
    for index, (paths, not_paths, word) in enumerate(rules):
        text += f'[[rule]]\nname = "rule {index}"\nmatch.path = ["/{"/".join(paths)}"]\n'
        if not_paths is not None:
            text += f'match.not_path = ["/{"/".join(not_paths)}"]\n'
        text += f'apply.persistence = "{word}"\napply.guarantee = "unattested"\n'
    return parse_policy(text, "policy.toml")


def named(names: list[str]) -> tuple[Name, ...]:
    return (Name(NamespacePath("/" + "/".join(names)), NamespacePath("/"), frozenset()),)


def at_most(loose: Placement, strict: Placement) -> bool:
    return loose.join(strict) == strict


@given(RULES, PATHS, PATHS)
@example([(["a", "*"], None, "deny")], [], ["a", "b"])
@example([(["**", "b"], ["a", "b"], "deny")], ["a"], ["b"])
@example([(["a*"], None, "no-cache")], [], ["ab"])
def test_all_that_lies_in_a_folder_lies_between_its_bounds(
    rules: list[tuple[list[str], list[str] | None, str]], folder: list[str], below: list[str]
) -> None:
    policy = policy_of(rules)
    found = policy.decide(named([*folder, *below]))
    assert at_most(found, policy.strictest_below(named(folder)))
    assert at_most(policy.loosest_below(named(folder)), found)


def test_a_rule_elsewhere_says_nothing_of_a_folder() -> None:
    policy = policy_of([(["a", "b"], None, "deny"), (["b"], None, "no-cache")])
    assert policy.strictest_below(named(["ab"])) == policy.default
    assert policy.strictest_below(named(["a"])) != policy.default
    assert policy.loosest_below(named(["a"])) == policy.default
    assert policy.loosest_below(named(["a", "b", "c"])) != policy.default


def test_what_cannot_be_judged_is_never_held_to_be_safe() -> None:
    policy = policy_of([])
    assert (policy.strictest_below(()), policy.loosest_below(())) == (TOP, BOTTOM)
