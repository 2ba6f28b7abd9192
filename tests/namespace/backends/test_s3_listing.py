"""Reading a page of ListObjectsV2, in every shape that XML may give it."""

from __future__ import annotations

import pytest

from headrace_namespace.backends.s3.listing import ListedObject, parse_listing
from headrace_namespace.errors import StoreAnswerWrong

OBJECT = (
    "<Contents><Key>a</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>"
)
LISTED = ListedObject("a", '"e"', 7, "2026-01-02T03:04:05.000Z")


def page(inside: str, attributes: str = "") -> bytes:
    return f"<ListBucketResult{attributes}>{inside}</ListBucketResult>".encode()


def test_a_page_gives_objects_prefixes_and_the_next_token() -> None:
    found = parse_listing(
        page(
            "<Prefix>p/</Prefix><IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>t</NextContinuationToken>{OBJECT}"
            "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
            "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"
        )
    )
    assert found.objects == [LISTED]
    assert found.prefixes == ["b/", "c/"] and found.next_token == "t"


@pytest.mark.parametrize(
    "body",
    [
        page(OBJECT, ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'),
        b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\n" + page(OBJECT),
        page(OBJECT.replace("><", ">\n  <")),
        page(OBJECT.replace("<", "<s3:").replace("<s3:/", "</s3:"), ' xmlns:s3="x"').replace(
            b"ListBucketResult", b"s3:ListBucketResult"
        ),
        page(OBJECT.replace("<Key>a<", "<Key><!-- b --><![CDATA[a]]><")),
        page(OBJECT.replace("&quot;e&quot;", '&#34;e"')),
        page(OBJECT.replace("</Key>", "</Key><Owner><ID>i</ID><Key>o</Key><Size>9</Size></Owner>")),
        page("<Contents-of-others><Key>x</Key><Size>1</Size></Contents-of-others>" + OBJECT),
    ],
    ids=["namespace", "prolog", "indented", "prefixed", "cdata", "reference", "nested", "unknown"],
)
def test_one_object_is_read_the_same_in_every_shape(body: bytes) -> None:
    assert parse_listing(body).objects == [LISTED]


def test_what_one_object_lacks_is_not_taken_from_the_one_before() -> None:
    with pytest.raises(StoreAnswerWrong, match="without key or size"):
        parse_listing(page(OBJECT + "<Contents><Key>b</Key></Contents>"))
    bare = parse_listing(page(OBJECT + "<Contents><Key>b</Key><Size>0</Size></Contents>"))
    assert bare.objects[1] == ListedObject("b", "", 0, "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_can_grow(encoding: str) -> None:
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "boom">{grown}]>' + page("<Name>&e9;</Name>").decode()
    with pytest.raises(StoreAnswerWrong, match="not S3's XML"):
        parse_listing(bomb.encode(encoding))
