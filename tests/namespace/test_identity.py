"""The identity of bytes: equal where the bytes are, different where anything is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_namespace.identity import DIGEST_BYTES, ObjectRef, ObjectVersion

VERSION = ObjectVersion(ObjectRef("s3://host/bucket", "a/b"), "tag", 10, True)


def test_the_digest_is_the_same_on_every_machine_and_release() -> None:
    # Written down, because a digest that changed would lose every warm cache without a word.
    assert VERSION.digest().hex() == "63de16ca2ab506520237997622bdf810"
    assert len(VERSION.digest()) == DIGEST_BYTES


@pytest.mark.parametrize(
    "other",
    [
        replace(VERSION, ref=ObjectRef("s3://host/other", "a/b")),
        replace(VERSION, ref=ObjectRef("s3://host/bucket", "a/c")),
        replace(VERSION, ref=ObjectRef("s3://host/bucketa", "/b")),
        replace(VERSION, tag="other"),
        replace(VERSION, size=11),
    ],
)
def test_what_makes_another_version(other: ObjectVersion) -> None:
    assert other != VERSION
    assert other.digest() != VERSION.digest()


def test_what_does_not() -> None:
    other = replace(VERSION, mtime=5.0, version_id="v1")
    assert other == VERSION and hash(other) == hash(VERSION)
    assert other.digest() == VERSION.digest()


PARTS = st.text(max_size=6)


@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS))
def test_parts_cannot_run_into_each_other(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    digests = [
        ObjectVersion(ObjectRef(store, key), tag, 1, True).digest()
        for store, key, tag in (one, other)
    ]
    assert (digests[0] == digests[1]) is (one == other)


def test_names_that_are_not_utf_8_have_an_identity() -> None:
    one = ObjectVersion(ObjectRef("file://", "/a\udc80"), "t", 1, False)
    other = ObjectVersion(ObjectRef("file://", "/a\udc81"), "t", 1, False)
    assert one.digest() != other.digest()


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        ObjectVersion(VERSION.ref, "t", -1, True)


@pytest.mark.parametrize(
    ("store", "key", "text"),
    [
        ("s3://host/bucket", "a/b", "s3://host/bucket/a/b"),
        ("file://", "/data/a", "file:/data/a"),
    ],
)
def test_its_text(store: str, key: str, text: str) -> None:
    assert str(ObjectRef(store, key)) == text
