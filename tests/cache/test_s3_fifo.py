from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.eviction.s3_fifo import S3Fifo


@dataclass(eq=False)
class Item:
    key: int
    bytes_held: int = 1
    uses: int = 0
    busy: bool = False


def chosen(rule: S3Fifo[Item]) -> Item:
    item = rule.choose()
    assert item is not None
    return item


def test_what_is_read_once_leaves_before_what_is_used_again() -> None:
    rule = S3Fifo[Item]()
    used = Item(0)
    rule.insert(used)
    used.uses = 1
    for key in range(1, 20):
        rule.insert(Item(key))
    assert [chosen(rule).key for _ in range(15)] == list(range(1, 16))


def test_a_scan_does_not_empty_the_main_queue() -> None:
    rule = S3Fifo[Item]()
    hot = {key: Item(key) for key in range(90)}
    for item in hot.values():
        rule.insert(item)
        item.uses = 1
    for key in range(100, 1100):
        rule.insert(Item(key))
        if key >= 110:  # full from here on: one leaves for each that comes
            hot.pop(chosen(rule).key, None)
    assert len(hot) > 85


def test_what_returns_soon_goes_to_main() -> None:
    rule = S3Fifo[Item]()
    rule.insert(Item(1))
    assert chosen(rule).key == 1
    rule.insert(Item(1))  # known: its ghost is there
    for key in range(2, 12):
        rule.insert(Item(key))
    assert chosen(rule).key == 2


def test_busy_items_stay() -> None:
    rule = S3Fifo[Item]()
    items = [Item(key, busy=True) for key in range(5)]
    for item in items:
        rule.insert(item)
    assert rule.choose() is None
    items[3].busy = False
    assert chosen(rule) is items[3]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(0, 5), st.booleans()),
        max_size=60,
    )
)
def test_every_item_leaves_exactly_once(drawn: list[tuple[int, int, int, bool]]) -> None:
    rule = S3Fifo[Item]()
    held: dict[int, Item] = {}
    for key, size, uses, busy in drawn:
        if key not in held:
            held[key] = Item(key, size, uses, busy)
            rule.insert(held[key])
        elif uses % 2:
            rule.remove(held.pop(key))
    left: list[int] = []
    while (item := rule.choose()) is not None:
        left.append(item.key)
    assert sorted(left) == sorted(key for key, item in held.items() if not item.busy)
