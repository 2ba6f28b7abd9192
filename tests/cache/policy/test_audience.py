"""Who may read: a lattice like the rest of a placement, and what policy files say of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.policy.audience import (
    ANONYMOUS,
    EVERYBODY,
    NOBODY,
    Admitted,
    Audience,
    Principal,
)
from headrace_cache.policy.parsing import parse_policy
from headrace_cache.policy.policy import TOP
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name

names = st.frozensets(st.sampled_from("abc"), max_size=3)
principals = st.builds(Principal, names, names)
lists = st.builds(Admitted, names, names)
audiences = st.builds(Audience, st.frozensets(lists, max_size=3)).map(EVERYBODY.join)


@given(audiences, audiences, audiences, principals)
def test_a_join_admits_those_whom_both_admit(
    one: Audience, other: Audience, third: Audience, who: Principal
) -> None:
    joined = one.join(other)
    assert joined.admits(who) == (one.admits(who) and other.admits(who))
    assert joined == other.join(one)
    assert joined.join(third) == one.join(other.join(third))
    assert joined.join(one) == joined and one.join(one) == one
    assert one.join(EVERYBODY) == one


@given(principals)
def test_everybody_and_nobody(who: Principal) -> None:
    assert EVERYBODY.admits(who) and not NOBODY.admits(who)
    assert not TOP.audience.admits(who)


@given(audiences)
def test_who_shows_nothing_is_admitted_where_everybody_is(audience: Audience) -> None:
    assert audience.admits(ANONYMOUS) == (audience == EVERYBODY)


def test_a_list_within_another_says_the_same_alone() -> None:
    wide, narrow = Admitted(frozenset("a"), frozenset("gh")), Admitted(frozenset(), frozenset("g"))
    joined = Audience(frozenset([wide])).join(Audience(frozenset([narrow])))
    assert joined == Audience(frozenset([narrow]))
    assert joined.words == ("groups g",)


def placed(text: str, path: str = "/lake/hr/a") -> Audience:
    asked = NamespacePath.parse(path)
    name = Name(asked, NamespacePath("/lake"), frozenset())
    return parse_policy(f"version = 1\n{text}", "p").decide([name]).audience


HR = '[[rule]]\nname = "hr"\nmatch.path = ["/lake/hr/**"]\napply.groups = ["hr", "risk"]\n'
BOSS = '[[rule]]\nname = "boss"\nmatch.path = ["/lake/**"]\napply.users = ["ann"]\n'
EITHER = HR + 'apply.users = ["ann"]\n'


def who(user: str, *groups: str) -> Principal:
    return Principal(frozenset([user]), frozenset(groups))


def test_a_rule_admits_its_users_and_the_members_of_its_groups() -> None:
    assert placed(HR).admits(who("bob", "risk")) and not placed(HR).admits(who("bob", "staff"))
    assert placed(EITHER).admits(who("ann")) and placed(EITHER).admits(who("bob", "hr"))
    assert placed(HR, "/lake/b") == EVERYBODY


@pytest.mark.parametrize("text", [HR + BOSS, BOSS + HR])
def test_every_rule_must_admit_in_whatever_order(text: str) -> None:
    assert placed(text).admits(who("ann", "hr"))
    assert not placed(text).admits(who("ann")) and not placed(text).admits(who("bob", "hr"))


def test_the_default_may_name_readers_and_keeps_the_bytes_where_they_were() -> None:
    text = 'version = 1\n[default]\ngroups = ["staff"]\n'
    placement = parse_policy(text, "p").default
    assert placement.persistence.word == "sealed-ssd" and placement.audience != EVERYBODY
    assert placement.words == "sealed-ssd for groups staff"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("apply.users = []", "empty list"),
        ('apply.users = "ann"', "list of texts"),
        ('apply.groups = [""]', "no name"),
        ('apply.groups = ["h*"]', "no name"),
        ('apply.users = [" ann"]', "no name"),
        ('apply.user = ["ann"]', "did you mean"),
    ],
)
def test_a_list_that_says_nothing_is_refused(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        placed(f'[[rule]]\nname = "r"\nmatch.path = ["/**"]\n{line}\n')


def test_readers_are_part_of_what_a_policy_demands() -> None:
    hr, both = parse_policy("version = 1\n" + HR, "p"), parse_policy("version = 1\n" + EITHER, "p")
    assert hr.demands != both.demands
    kept = both.keeping(hr)
    assert kept.decide(
        [Name(NamespacePath("/lake/hr/a"), NamespacePath("/lake"), frozenset())]
    ).audience == placed(HR)
