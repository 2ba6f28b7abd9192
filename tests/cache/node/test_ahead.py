"""What is opened ahead: the followers of who goes through a listing, and nobody else's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.remote import ahead
from headrace_cache.remote.ahead import FIRST_AHEAD, Ahead
from headrace_cache.wire.messages import MOST_AHEAD
from headrace_namespace.path import NamespacePath

FOLDER = NamespacePath("/lake")


def path(number: int) -> NamespacePath:
    return FOLDER.child(f"{number:04}")


def listed(count: int) -> Ahead:
    made = Ahead()
    made.listed(FOLDER, [path(number).name for number in reversed(range(count))])
    return made


def test_a_walk_through_a_listing_is_a_handful_of_calls() -> None:
    made, opened, calls = listed(1000), set[str](), 0
    for number in range(1000):
        if path(number).text in opened:
            continue
        calls += 1
        opened.update(made.after(path(number)))
    assert calls <= 10 and len(opened) >= 1000 - calls


def test_nothing_is_opened_for_who_does_not_go_on() -> None:
    made = listed(1000)
    for number in (5, 500, 2, 999, 5, 7):
        assert made.after(path(number)) == []
    assert not Ahead().after(path(1))
    assert not made.after(NamespacePath("/lake/missing"))
    assert not made.after(NamespacePath("/other/0001"))


def test_several_readers_each_go_on_where_they_are() -> None:
    made = listed(1000)
    for start in (0, 300, 600):
        made.after(path(start))
    for start in (0, 300, 600):
        assert made.after(path(start + 1)) == [
            path(number).text for number in range(start + 2, start + 2 + FIRST_AHEAD)
        ]


def test_the_root_folder_has_names_too() -> None:
    made = Ahead()
    made.listed(NamespacePath("/"), ["a", "b", "c"])
    made.after(NamespacePath("/a"))
    assert made.after(NamespacePath("/b")) == ["/c"]


def test_listings_beyond_the_bound_are_forgotten_the_oldest_first() -> None:
    made = Ahead()
    half = [f"{number}" for number in range(ahead.MOST_NAMES // 2)]
    for folder in "abc":
        made.listed(NamespacePath(f"/{folder}"), list(half))
    assert list(made._folders) == ["/b", "/c"]  # pyright: ignore[reportPrivateUsage]
    made.listed(NamespacePath("/d"), [*half, *half, "more"])
    made.listed(NamespacePath("/b"), ["one"])
    assert list(made._folders) == ["/c"]  # pyright: ignore[reportPrivateUsage]
    assert made._held == len(half)  # pyright: ignore[reportPrivateUsage]


@given(st.lists(st.integers(0, 299), max_size=300))
def test_whatever_is_asked_what_is_given_follows_it(asked: list[int]) -> None:
    made = listed(300)
    for number in asked:
        given_ahead = list(made.after(path(number)))
        following = [path(each).text for each in range(number + 1, 300)]
        assert given_ahead == following[: len(given_ahead)]
        assert len(given_ahead) <= MOST_AHEAD
