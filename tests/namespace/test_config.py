"""Strict reading: what nobody asked for is refused, and every message says where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace_namespace.config import Table, parse_toml, table_from
from headrace_namespace.errors import ConfigError

DOCUMENT = """\
# a comment
title = "x"
count = 3
ratio = 1.5
yes = true

[cache]
memory = "2GiB"
ttl = "30s"
list = ["a", "b"]
inline = {one = 1, two.three = 2}

[[mount]]
path = "/a"
options.endpoint = "http://x"

[[mount]]
path = "/b"
[mount.options]
"quoted key" = 1

  [[mount.part]]
  index = 0
"""


def document() -> Table:
    return parse_toml(DOCUMENT, "h.toml")


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        ask()
    return str(caught.value)


def test_values_are_handed_out_as_what_they_are() -> None:
    top = document()
    assert top.text("title") == "x"
    assert top.optional_text("title") == "x"
    assert top.integer("count") == 3
    assert top.boolean("yes", default=False) is True
    cache = top.table("cache")
    assert cache.size("memory", 0) == 2 * 2**30
    assert cache.seconds("ttl", 0) == 30.0
    assert cache.texts("list") == ("a", "b")
    assert cache.table("inline").integer("one") == 1
    assert cache.table("inline").table("two").integer("three") == 2
    first, second = top.tables("mount")
    assert (first.text("path"), second.text("path")) == ("/a", "/b")
    assert first.table("options").text("endpoint") == "http://x"
    assert second.tables("part")[0].integer("index") == 0
    assert "title" in top and "absent" not in top


def test_absent_values_are_their_defaults() -> None:
    empty = parse_toml("", "h.toml")
    assert empty.text("a", "d") == "d" and empty.text("a", "") == ""
    assert empty.optional_text("a") is None
    assert empty.integer("a", 7) == 7
    assert empty.boolean("a", default=True) is True
    assert empty.texts("a") == () and empty.texts("a", ["x"]) == ("x",)
    assert empty.choice("a", ["x", "y"], "y") == "y"
    assert empty.size("a", 5) == 5 and empty.seconds("a", 0.5) == 0.5
    assert empty.tables("a") == []
    empty.table("a").done()
    empty.done()


WRONG_VALUES: list[tuple[Callable[[Table], object], str]] = [
    (lambda t: t.text("absent"), "h.toml: 'absent' is missing"),
    (lambda t: t.integer("absent"), "h.toml: 'absent' is missing"),
    (lambda t: t.choice("absent", ["a"]), "h.toml: 'absent' is missing"),
    (lambda t: t.text("count"), "h.toml, line 3: count: must be a text, not 3"),
    (lambda t: t.optional_text("yes"), "h.toml, line 5: yes: must be a text, not True"),
    (lambda t: t.integer("title"), "h.toml, line 2: title: must be a whole number, not 'x'"),
    (lambda t: t.integer("ratio"), "line 4: ratio: must be a whole number, not 1.5"),
    (lambda t: t.integer("yes"), "line 5: yes: must be a whole number, not True"),
    (lambda t: t.integer("count", least=4), "line 3: count: must be at least 4, not 3"),
    (lambda t: t.boolean("count", default=True), "line 3: count: must be true or false, not 3"),
    (lambda t: t.texts("title"), "line 2: title: must be a list of texts, not 'x'"),
    (lambda t: t.table("title"), "line 2: title: must be a table"),
    (lambda t: t.table("mount"), "line 13: mount: must be a table"),
    (lambda t: t.tables("cache"), "line 7: cache: must be written as [[cache]] tables"),
    (lambda t: t.size("yes", 0), "line 5: yes: must be a quantity, not True"),
    (lambda t: t.size("title", 0), "line 2: title: 'x' is not a number"),
    (lambda t: t.seconds("title", 0), 'write it like "30s" or "10m"'),
    (lambda t: t.choice("title", ["y", "z"]), "line 2: title: 'x' is not one of y, z"),
    (
        lambda t: t.table("cache").text("memori"),
        "h.toml, line 7: cache: 'memori' is missing",
    ),
    (
        lambda t: t.table("cache").table("inline").text("one"),
        "h.toml, line 11: cache.inline.one: must be a text, not 1",
    ),
    (
        lambda t: t.table("cache").table("inline").table("two").text("three"),
        "h.toml, line 11: cache.inline.two.three: must be a text, not 2",
    ),
    (lambda t: t.tables("mount")[1].integer("path"), 'line 18: mount["/b"].path: must be a whole'),
    (
        lambda t: t.tables("mount")[0].table("options").integer("endpoint"),
        'h.toml, line 15: mount["/a"].options.endpoint: must be a whole number',
    ),
    (
        lambda t: t.tables("mount")[1].table("options").text("quoted key"),
        'h.toml, line 20: mount["/b"].options.quoted key: must be a text',
    ),
    (
        lambda t: t.tables("mount")[1].tables("part")[0].text("index"),
        'h.toml, line 23: mount["/b"].part[0].index: must be a text',
    ),
]


@pytest.mark.parametrize(("ask", "message"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_file_line_and_key(
    ask: Callable[[Table], object], message: str
) -> None:
    assert message in refusal(lambda: ask(document()))


@pytest.mark.parametrize(
    ("asked", "text", "message"),
    [
        (["memory"], "memori = 1", "memori: is not a known key (did you mean 'memory'?)"),
        (["G1"], "g1 = 1", "g1: is not a known key (did you mean 'G1'?)"),
        (["memory", "ssd"], "zzz = 1", "zzz: is not a known key (known here: memory, ssd)"),
        ([], "zzz = 1", "zzz: is not a known key (known here: nothing)"),
        (["rule"], "\n[[rules]]\n", "h.toml, line 2: rules: is not a known key"),
        (["cache"], "\n\n[cahce]\n", "h.toml, line 3: cahce: is not a known key"),
        (["a"], "a = 1\nb.c = 2", "h.toml, line 2: b: is not a known key"),
    ],
)
def test_what_was_not_asked_for_is_refused(asked: list[str], text: str, message: str) -> None:
    table = parse_toml(text, "h.toml")
    for key in asked:
        if key not in table:
            table.optional_text(key)
        else:
            table.integer(key)
    assert message in refusal(table.done)


def test_a_choice_names_the_nearest_word() -> None:
    table = parse_toml('keep = "memory_only"', "h.toml")
    said = refusal(lambda: table.choice("keep", ["any", "memory-only"]))
    assert said.endswith("(did you mean 'memory-only'?)")


def test_done_is_content_when_all_was_asked_for() -> None:
    table = parse_toml("a = 1\n[b]\nc = 2", "h.toml")
    table.integer("a")
    inner = table.table("b")
    table.done()
    assert "b.c: is not a known key" in refusal(inner.done)
    inner.integer("c")
    inner.done()


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a = ",
        "a = 1\na = 2",
        "[a]\n[a]",
        "a = 01",
        'a = "\\q"',
        "a = '\0'",
        "\ufeffa = 1",
        "a = " + "9" * 5000,
        "a = " + "[" * 100_000,
    ],
)
def test_what_is_not_toml_is_a_config_error(text: str) -> None:
    assert "h.toml is not valid TOML" in refusal(lambda: parse_toml(text, "h.toml"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\r\n\r\nkey = 1\r\n", 3),
        ('x = "a\u2028b\u0085c"\nkey = 1\n', 2),
        ('x = [\n"key=1",\n]\nkey = 1\n', 4),
        ("'key' = 1", 1),
        ('# key = 1\n"key"=1', 2),
    ],
)
def test_lines_are_counted_as_toml_counts_them(text: str, line: int) -> None:
    assert f"h.toml, line {line}: key: " in refusal(lambda: parse_toml(text, "h.toml").text("key"))


def test_a_dict_is_read_as_strictly_but_has_no_lines() -> None:
    data: dict[str, Any] = {
        "a": 1,
        "t": {"k": "v"},
        "list": ("x", "y"),
        "mount": [{"path": "/a"}, {"path": 3}],
        "n": None,
    }
    table = table_from(data, "the config argument")
    assert table.texts("list") == ("x", "y")
    assert table.tables("mount")[0].text("path") == "/a"
    assert refusal(lambda: table.tables("mount")[1].text("path")) == (
        "the config argument: mount[1].path: must be a text, not 3"
    )
    assert refusal(lambda: table.text("n")) == "the config argument: n: must be a text, not None"
    assert "is not a known key" in refusal(table.done)


@pytest.mark.parametrize("value", [["a", 1], "ab", {"a": "b"}, [None], [["a"]], 3])
def test_a_list_of_texts_holds_texts_alone(value: object) -> None:
    assert "must be a list of texts" in refusal(lambda: table_from({"k": value}, "c").texts("k"))


@pytest.mark.parametrize("value", [["a"], [{}, 1], "ab", {"a": {}}, 3])
def test_an_array_of_tables_holds_tables_alone(value: object) -> None:
    assert "[[k]]" in refusal(lambda: table_from({"k": value}, "c").tables("k"))


@pytest.mark.parametrize("value", [-1, "-1", "x", True, [], float("nan"), float("inf"), "9" * 400])
def test_a_wrong_quantity_is_a_config_error(value: object) -> None:
    table = table_from({"k": value}, "c")
    assert "c: k: " in refusal(lambda: table.size("k", 0))
    assert "c: k: " in refusal(lambda: table.seconds("k", 0))


def test_an_error_of_the_reader_s_own_names_the_place() -> None:
    cache = document().table("cache")
    error = cache.error("memory", "is more than this machine has", "write less")
    assert str(error) == (
        "h.toml, line 8: cache.memory: is more than this machine has (write less)"
    )
    assert error.hint == "write less"
    assert str(cache.error(None, "is odd")) == "h.toml, line 7: cache: is odd"
    assert str(document().error(None, "is odd")) == "h.toml: is odd"
