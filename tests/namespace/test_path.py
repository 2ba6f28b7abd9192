"""The normal form of paths: made once, literal, the same however often it is made."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace_namespace.errors import HeadraceError, InvalidPath, NameTooLong
from headrace_namespace.path import (
    MAX_PATH_BYTES,
    ROOT,
    NamespacePath,
    can_name,
    fold,
    other_spelling,
)


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        (".", "/"),
        ("a", "/a"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a//b", "/a/b"),
        ("//a///b//", "/a/b"),
        ("/a/./b/.", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/../../c", "/c"),
        ("/a/..", "/"),
        ("/...", "/..."),
        ("/.a/..b", "/.a/..b"),
        # URLs of the tree.
        ("headrace://", "/"),
        ("headrace:///", "/"),
        ("headrace:///a/b", "/a/b"),
        ("headrace:////a", "/a"),
        ("headrace:///a/../b/", "/b"),
        ("headrace:/a", "/headrace:/a"),
        ("/headrace:///a", "/headrace:/a"),
        # Literal: nothing is decoded.
        ("headrace:///a%20b?c#d", "/a%20b?c#d"),
        ("/a b", "/a b"),
        ("/ a ", "/ a "),
        ("/%2e%2e/x", "/%2e%2e/x"),
        ("/a?versionId=1#x@y", "/a?versionId=1#x@y"),
        ("/a\nb\tc\r", "/a\nb\tc\r"),
        ("/a\\b", "/a\\b"),
        ("/C:/x", "/C:/x"),
        ("/date=2026-01-01/*", "/date=2026-01-01/*"),
        ("/[a]{b}~$x", "/[a]{b}~$x"),
        ("/日本語/😀", "/日本語/😀"),
        ("/e\u0301", "/e\u0301"),
        ("/é", "/é"),
        ("/\u200b", "/\u200b"),
        ("/\udc80", "/\udc80"),  # a byte that is not UTF-8, as os.fsdecode gives it
    ],
)
def test_the_normal_form(text: str, normal: str) -> None:
    assert path(text).text == normal
    assert str(path(text)) == normal


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/..", InvalidPath),
        ("..", InvalidPath),
        ("/a/../..", InvalidPath),
        ("headrace:///..", InvalidPath),
        ("/a\0b", InvalidPath),
        ("/\ud800", InvalidPath),
        ("/\udfff", InvalidPath),
        ("headrace://node:7070/lake", InvalidPath),
        ("headrace://lake", InvalidPath),
        ("/" + "a" * MAX_PATH_BYTES, NameTooLong),
        ("/" + "é" * (MAX_PATH_BYTES // 2), NameTooLong),
    ],
)
def test_what_no_object_can_be_called(text: str, kind: type[HeadraceError]) -> None:
    with pytest.raises(kind) as caught:
        path(text)
    assert caught.value.path == text
    assert str(caught.value)


def test_the_longest_path() -> None:
    assert len(path("/" + "a" * (MAX_PATH_BYTES - 1)).text) == MAX_PATH_BYTES


def test_a_host_in_the_url_is_refused_with_the_url_that_was_meant() -> None:
    with pytest.raises(InvalidPath, match=r"headrace:///lake/a") as caught:
        path("headrace://lake/a")
    assert "'lake'" in caught.value.message
    with pytest.raises(
        InvalidPath, match=r"the node h:7070.*--node h:7070 /lake/a; .*node='h:7070'"
    ):
        path("headrace://h:7070/lake/a")


TEXTS = st.lists(
    st.sampled_from(["a", "b", ".", "..", "", "/", "//", "é", "e\u0301", "%2F", "headrace:", "\n"]),
    max_size=12,
).map("/".join)


@given(st.one_of(TEXTS, st.text(max_size=60)))
def test_the_normal_form_is_made_once(text: str) -> None:
    try:
        once = path(text)
    except HeadraceError:
        assume(False)
        return
    assert path(once.text) == once
    assert once.text.startswith("/")
    assert "//" not in once.text
    assert once.text == "/" or not once.text.endswith("/")
    assert all(can_name(name) for name in once.parts)
    assert "/" + "/".join(once.parts) == once.text


@given(TEXTS, TEXTS)
def test_parents_children_and_remainders_agree(one: str, other: str) -> None:
    try:
        folder, found = path(one), path(one + "/" + other)
    except HeadraceError:
        assume(False)
        return
    assert folder.is_under(folder) and folder.is_under(ROOT)
    if found.is_under(folder):
        assert folder.below(found.relative_to(folder)) == found
    if found != ROOT:
        assert found.parent.child(found.name) == found
        assert found.is_under(found.parent) and not found.parent.is_under(found)


def test_the_root() -> None:
    assert path("/") == ROOT
    assert ROOT.parts == () and ROOT.name == ""
    assert ROOT.parent == ROOT
    assert ROOT.child("a") == path("/a")
    assert ROOT.below("") == ROOT and ROOT.below("a/b") == path("/a/b")
    assert ROOT.relative_to(ROOT) == "" and path("/a/b").relative_to(ROOT) == "a/b"


def test_a_folder_is_not_a_prefix_of_text() -> None:
    assert path("/a/b").is_under(path("/a"))
    assert not path("/ab").is_under(path("/a"))
    assert not path("/a").is_under(path("/a/b"))
    assert path("/a/b/c").relative_to(path("/a")) == "b/c"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0"])
def test_names_that_cannot_stand_in_the_tree(name: str) -> None:
    assert not can_name(name)


@pytest.mark.parametrize("name", ["a", "...", ".a", " ", "\n", "a\\b", "%2F", "é", "\udc80"])
def test_names_that_can(name: str) -> None:
    assert can_name(name)
    assert ROOT.child(name).name == name
    assert path(ROOT.child(name).text) == ROOT.child(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/A", "/a"),
        ("/É", "/e\u0301"),
        ("/straße", "/STRASSE"),
        ("/\u212a", "/k"),  # the Kelvin sign
        ("/\u017f", "/S"),  # the long s
        ("/Σ", "/ς"),
        ("/\ufb01le", "/FILE"),  # the ligature fi
        ("/\u1fb3", "/ΑΙ"),  # alpha with iota below
        ("/\u1fb4", "/α\u0345\u0301"),  # its marks in the other order
        ("/\u1112\u1161", "/\ud558"),  # Hangul
    ],
)
def test_spellings_that_a_store_could_take_for_one_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert NamespacePath(one).folded == NamespacePath(other).folded


@pytest.mark.parametrize(
    ("one", "other"), [("/a", "/b"), ("/e", "/é"), ("/ab", "/a/b"), ("/а", "/a")]
)
def test_different_names_fold_differently(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_folding_is_made_once_and_knows_no_spelling(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert unicodedata.is_normalized("NFC", folded)
    assert fold(unicodedata.normalize("NFD", text)) == folded
    assert fold(unicodedata.normalize("NFC", text)) == folded
    assert folded.count("/") == text.count("/")


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("plain", None),
        ("é", "e\u0301"),
        ("e\u0301", "é"),
        ("日本", None),
        ("é e\u0301", "é é"),  # a mixed spelling is composed first
    ],
)
def test_the_other_spelling(text: str, other: str | None) -> None:
    assert other_spelling(text) == other
