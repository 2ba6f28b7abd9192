"""Patterns: what they cover, told by a table and by a slow model beside the thing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace_cache.policy.path_pattern import PathPattern, PathPatterns, as_folder, composed
from headrace_namespace.errors import InvalidPath
from headrace_namespace.path import fold

APPLYING = [
    ("/lake/hr", "/lake/hr", True),
    ("/lake/hr", "/lake/hr/a", True),
    ("/lake/hr", "/lake/hrx", False),
    ("/lake/hr", "/lake", False),
    ("/lake/hr/**", "/lake/hr", True),
    ("/lake/hr/**", "/lake/hr/a/b", True),
    ("/lake/hr/**", "/lake/hr.txt", False),
    ("/lake/*", "/lake", False),
    ("/lake/*", "/lake/a", True),
    ("/lake/*", "/lake/a/b", True),
    ("/lake/*.csv", "/lake/a.csv", True),
    ("/lake/*.csv", "/lake/.csv", True),
    ("/lake/*.csv", "/lake/a.csv/part-0", True),
    ("/lake/*.csv", "/lake/a.csvx", False),
    ("/lake/*.csv", "/lake/a/b.csv", False),
    ("/lake/**/*.csv", "/lake/b.csv", True),
    ("/lake/**/*.csv", "/lake/a/b/c.csv", True),
    ("/lake/**/hr/*.csv", "/lake/hr/x/hr/c.csv", True),
    ("/**/secret", "/secret", True),
    ("/**/secret", "/a/b/secret/c", True),
    ("/**/secret", "/a/b/secrets", False),
    ("/a/**/**/b", "/a/b", True),
    ("/a/?", "/a/b", True),
    ("/a/?", "/a/bc", False),
    ("/a/??-*", "/a/12-x", True),
    ("/a*b*c", "/a-b-b-c", True),
    ("/a*b*c", "/a-c-b", False),
    ("/a*a", "/a", False),
    ("/a*a", "/aa", True),
    ("/", "/", True),
    ("/", "/a", True),
    ("/**", "/", True),
    ("/*", "/", False),
    ("/a[1]", "/a[1]", True),
    ("/a[1]", "/a1", False),
    ("/{a,b}", "/a", False),
    ("/a.b", "/axb", False),
    ("/a+(b|c)", "/a+(b|c)", True),
    ("/A/Ünï", "/a/u\u0308NI\u0308", True),
    ("/straße", "/STRASSE/x", True),
    ("/x/new\nline*", "/x/new\nline\nmore", True),
    ("/x/a*z", "/x/a\nz", True),
    ("/x/?", "/x/\n", True),
]

EXCLUDING = [
    ("/hr/README.md", "/hr/README.md", True),
    ("/hr/README.md", "/hr/readme.md", False),
    ("/hr/README.md", "/hr/README.md/x", False),
    ("/hr/é", "/hr/e\u0301", True),
    ("/hr/é", "/hr/É", False),
    ("/hr/**", "/hr", True),
    ("/hr/**", "/hr/a/b", True),
    ("/hr/**", "/hrx", False),
    ("/hr/*.md", "/hr/a.md", True),
    ("/hr/*.md", "/hr/a.md/b", False),
    ("/hr/**/*.md", "/hr/a/b.md", True),
    ("/hr/**/*.md", "/hr/a.md/b", False),
    ("/hr/**/x/*.md", "/hr/x/x/b.md", True),
    ("/", "/", True),
    ("/", "/a", False),
    ("/**", "/a", True),
    ("/hr/a", "/hr/a\n", False),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), APPLYING)
def test_applying(pattern: str, path: str, expected: bool) -> None:
    assert PathPattern.parse(pattern).applies_to(as_folder(fold(path))) is expected
    assert PathPatterns([PathPattern.parse(pattern)]).apply_to(as_folder(fold(path))) is expected


@pytest.mark.parametrize(("pattern", "path", "expected"), EXCLUDING)
def test_excluding(pattern: str, path: str, expected: bool) -> None:
    assert PathPattern.parse(pattern).excludes(as_folder(composed(path))) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lake",
        "lake/**",
        "**",
        "//",
        "/a//b",
        "/a/",
        "/a/**/",
        "/a/../b",
        "/..",
        "/.",
        "/a/./b",
        "/a**b",
        "/a/**b",
        "/a/b**",
        "/a/***",
        "/a\0b",
        "/a\\*",
        "/a\\?b",
        "/a\\[b]",
        "/*\u0301",
        "/a/?\u0301",
        "/" + "a" * 4096,
    ],
)
def test_a_pattern_that_could_mean_something_else_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidPath) as caught:
        PathPattern.parse(text)
    assert caught.value.hint
    assert repr(text) in caught.value.message


def names_match(pattern: list[str], path: list[str], below: bool) -> bool:
    if not pattern:
        return below or not path
    if pattern[0] == "**":
        return names_match(pattern[1:], path, below) or (
            bool(path) and names_match(pattern, path[1:], below)
        )
    return (
        bool(path)
        and characters_match(pattern[0], path[0])
        and names_match(pattern[1:], path[1:], below)
    )


def characters_match(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return characters_match(pattern[1:], name) or (
            bool(name) and characters_match(pattern, name[1:])
        )
    return bool(name) and pattern[0] in ("?", name[0]) and characters_match(pattern[1:], name[1:])


PATTERN_NAMES = st.lists(
    st.one_of(st.just("**"), st.text("abB*?", min_size=1, max_size=5)), max_size=5
).filter(lambda names: not any("**" in name and name != "**" for name in names))
PATH_NAMES = st.lists(st.text("abB", min_size=1, max_size=5), max_size=6)


@given(PATTERN_NAMES, PATH_NAMES)
@example(["**", "a", "**", "a"], ["a", "b", "a"])
@example(["**", "a*b"], ["ab", "a", "ab"])
def test_patterns_match_as_the_model_does(pattern: list[str], path: list[str]) -> None:
    text, path_text = "/" + "/".join(pattern), "/" + "/".join(path)
    parsed = PathPattern.parse(text)
    folded_pattern, folded_path = [n.lower() for n in pattern], [n.lower() for n in path]
    applies = names_match(folded_pattern, folded_path, below=True)
    assert parsed.applies_to(as_folder(fold(path_text))) is applies
    together = PathPatterns([PathPattern.parse("/zzz"), parsed, PathPattern.parse("/z*z")])
    assert together.apply_to(as_folder(fold(path_text))) is applies
    assert (together.which_applies_to(as_folder(fold(path_text))) is parsed) is applies
    excludes = names_match(pattern, path, below=False)
    assert parsed.excludes(as_folder(composed(path_text))) is excludes
    assert together.exclude(as_folder(composed(path_text))) is excludes


@given(st.lists(st.text("aßSé\u0301K\u212a", min_size=1, max_size=4), min_size=1, max_size=3))
def test_every_spelling_of_a_path_is_covered_by_the_pattern_that_spells_it(
    names: list[str],
) -> None:
    path = "/" + "/".join(names)
    pattern = PathPattern.parse(path)
    for spelling in (
        path,
        path.upper(),
        path.lower(),
        path.swapcase(),
        unicodedata.normalize("NFD", path),
        unicodedata.normalize("NFC", path.upper()),
    ):
        assert pattern.applies_to(as_folder(fold(spelling)))
        assert pattern.applies_to(as_folder(fold(spelling + "/below")))


def test_a_path_made_to_be_slow_is_matched_in_few_steps() -> None:
    # With backtracking this would need 4000^8 steps and never end; the test's time-out would tell.
    pattern = PathPattern.parse("/**/*a*a*a*a*a*a*a*b/**/*a*a*a*a*c")
    for path in ("/" + "a" * 4000, "/a" * 2000, "/" + "a" * 2000 + "b" + "/aaaa" * 400):
        assert not pattern.applies_to(as_folder(path))
        assert not pattern.excludes(as_folder(path))


@given(PATTERN_NAMES, PATH_NAMES, st.text("abB", min_size=1, max_size=5))
@example(["a", "*"], ["a"], "b")
@example(["*"], [], "b")
@example(["**", "*"], [], "b")
@example(["**", "a", "**"], ["b"], "a")
@example(["a", "*", "**"], ["a"], "b")
@example(["?", "**", "**"], [], "B")
def test_a_folder_is_judged_as_strictly_as_its_children(
    pattern: list[str], folder: list[str], child: str
) -> None:
    parsed = PathPattern.parse("/" + "/".join(pattern))
    above, below = "/" + "/".join(folder), "/" + "/".join([*folder, child])
    if parsed.applies_to(as_folder(fold(below))):
        assert parsed.could_apply_in(as_folder(fold(above)))
    if parsed.excludes_all_in(as_folder(composed(above))):
        assert parsed.excludes(as_folder(composed(below)))
        if above == "/":
            assert parsed.excludes("/")  # the root may be an object itself


def test_patterns_that_are_written_alike_are_equal() -> None:
    one, same, other = (
        PathPatterns([PathPattern.parse(text)]) for text in ("/a/**", "/a/**", "/a/*")
    )
    assert one == same and hash(one) == hash(same) and one != other and one != "/a/**"
