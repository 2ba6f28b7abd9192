"""The routes as any HTTP client finds them: no part of headrace at the other end."""

from __future__ import annotations

import email.utils
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_cache.node.http.ranges import byte_range
from headrace_cache.wire import routes
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB
from tests.cache.node.http.conftest import HttpWorld


def test_an_object_is_served_with_its_facts(world: HttpWorld) -> None:
    data = world.put("some file", 5 * MIB + 3)
    world.node()
    answer = world.ask("GET", "/v1/tree/data/some%20file")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Headrace-Protocol"] == str(routes.HTTP_PROTOCOL)
    assert answer.headers["Headrace-Restricted"] == "false"
    told = email.utils.parsedate_to_datetime(answer.headers["Last-Modified"])
    assert int(told.timestamp()) == int((world.data / "some file").stat().st_mtime)
    head = world.ask("HEAD", "/v1/tree/data/some%20file")
    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "Content-Length", "Last-Modified"):
        assert head.headers[name] == answer.headers[name]


def test_an_empty_object(world: HttpWorld) -> None:
    world.put("empty", 0)
    world.node()
    assert world.ask("GET", "/v1/tree/data/empty").body == b""
    assert world.ask("GET", "/v1/tree/data/empty", {"Range": "bytes=0-"}).status == 416
    assert world.remote().open(NamespacePath("/data/empty")).read_at(0, 10) == b""


@pytest.mark.parametrize(
    "condition",
    [
        {"Content-Range": "bytes 2-3/10"},
        {"If-Match": "deadbeef"},
        {"If-Match": ""},
        {"If-None-Match": '"a"'},
        {"If-None-Match": '*, "a"'},
        {"If-None-Match": ""},
    ],
)
def test_a_condition_that_cannot_be_kept_writes_nothing(
    world: HttpWorld, condition: dict[str, str]
) -> None:
    data = world.put("a", 10)
    world.node()
    answer = world.ask("PUT", "/v1/tree/data/a", condition, b"other")
    assert answer.status == 400
    assert next(iter(condition)).encode() in answer.body
    assert (world.data / "a").read_bytes() == data


def test_conditions(world: HttpWorld) -> None:
    data = world.put("a", 100)
    world.node()
    target = "/v1/tree/data/a"
    etag = world.ask("GET", target).headers["ETag"]
    other = '"00000000000000000000000000000000"'
    assert world.ask("GET", target, {"If-None-Match": etag}).status == 304
    assert world.ask("GET", target, {"If-None-Match": f"{other}, W/{etag}"}).status == 304
    assert world.ask("GET", target, {"If-None-Match": "*"}).status == 304
    assert world.ask("GET", target, {"If-None-Match": other}).body == data
    assert world.ask("GET", target, {"If-Match": etag}).body == data
    assert world.ask("GET", target, {"If-Match": "*"}).body == data
    assert world.ask("GET", target, {"If-Match": f"{other}, {etag}"}).body == data
    assert world.ask("GET", target, {"If-Match": other}).status == 412
    assert world.ask("GET", target, {"If-Match": f"{other}, {other}x"}).status == 412
    ranged = {"Range": "bytes=0-9", "If-Range": other}
    assert world.ask("GET", target, ranged).status == 200
    assert world.ask("GET", target, ranged | {"If-Range": etag}).status == 206


def expected(header: str, data: bytes) -> tuple[int, bytes]:
    """What RFC 9110 says of one range, in as few words as Python has."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        part = data[-int(last) :] if int(last) else b""
    elif not last:
        part = data[int(first) :]
    elif int(last) < int(first):
        return 200, data
    else:
        part = data[int(first) : int(last) + 1]
    return (206, part) if part else (416, b"")


def test_ranges_are_those_of_a_plain_slice(world: HttpWorld) -> None:
    data = world.put("a", 300_000)
    world.node()
    places = st.one_of(st.integers(0, 300_100), st.sampled_from([0, 1, 65_535, 65_536, 299_999]))

    @settings(max_examples=150, deadline=None)
    @given(st.none() | places, st.none() | places)
    def check(first: int | None, last: int | None) -> None:
        if first is None and last is None:
            return
        header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        answer = world.ask("GET", "/v1/tree/data/a", {"Range": header})
        status, body = expected(header, data)
        assert answer.status == status
        if status != 416:
            assert answer.body == body
        else:
            assert answer.headers["Content-Range"] == "bytes */300000"

    check()


@pytest.mark.parametrize(
    "header",
    ["bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=1-0", "x" * 5000],
)
def test_a_range_that_is_none_is_not_heeded(header: str) -> None:
    found = byte_range(header, 100)
    assert found is not None
    assert (found.start, found.stop, found.partial) == (0, 100, False)


@pytest.mark.parametrize(
    ("target", "status", "word"),
    [
        ("/v1/tree/data/none", 404, "does not exist"),
        ("/v1/tree/data", 409, "is a folder"),
        ("/v1/tree/", 409, "is a folder"),
        ("/v1/tree", 409, "is a folder"),
        ("/v1/tree/other/x", 404, ""),
        ("/v1/treedata/a", 404, "no such route"),
        ("/", 404, "no such route"),
        ("/v1/tree/data/../../etc/passwd", 400, "above the root"),
        ("/v1/tree/data/%2e%2e/%2e%2e/etc/passwd", 400, ""),
        ("/v1/tree/data/%2e%2e/data/a", 400, "normal form"),
        ("/v1/tree/data//a", 400, "normal form"),
        ("/v1/tree/data/./a", 400, "normal form"),
        ("/v1/tree/data/a%00b", 400, "NUL"),
        ("/v1/tree/data/" + "a" * 5000, 400, "at most"),
        ("/v1/tree/headrace://x/data/a", 400, "normal form"),
        ("/v1/tree/data/%ff%fe", 404, ""),
        ("/v1/tree/data/%zz", 404, ""),
        ("http://elsewhere/v1/tree/data/a", 401, "localhost"),
    ],
)
def test_refusals_are_one_line(world: HttpWorld, target: str, status: int, word: str) -> None:
    world.put("a", 10)
    world.node()
    answer = world.ask("GET", target)
    assert answer.status == status, answer
    assert word in answer.body.decode()
    assert answer.body.count(b"\n") == 1


def test_other_methods_and_types(world: HttpWorld) -> None:
    world.put("a", 10)
    world.node()
    assert world.ask("DELETE", "/v1/tree/data/a").headers["Allow"] == "GET, HEAD, PUT"
    assert world.ask("GET", routes.ASK).headers["Allow"] == "POST"
    # As a web page could send it, without asking first.
    sent = {"Content-Type": "text/plain"}
    assert world.ask("POST", routes.ASK, sent, b"\x92\x03\x01").status == 400
    encoded = {"Content-Encoding": "gzip"}
    assert world.ask("PUT", "/v1/tree/data/a", encoded, b"x").status == 415


def test_an_object_is_put(world: HttpWorld) -> None:
    world.node()
    data, target = os.urandom(3 * MIB), "/v1/tree/data/new"
    made = world.ask("PUT", target, {"If-None-Match": "*"}, data)
    assert made.status == 204
    assert (world.data / "new").read_bytes() == data
    assert world.ask("GET", target).headers["ETag"] == made.headers["ETag"]
    assert world.ask("PUT", target, {"If-None-Match": "*"}, b"x").status == 412
    assert world.ask("PUT", target, {"If-Match": '"0"'}, b"x").status == 412
    assert world.ask("PUT", target, {"If-Match": made.headers["ETag"]}, b"x").status == 204
    assert world.ask("PUT", target, {"Headrace-Append": "true"}, b"yz").status == 204
    assert world.ask("PUT", target, {"Expect": "100-continue"}, b"").status == 204
    assert (world.data / "new").read_bytes() == b""
    assert world.ask("PUT", "/v1/tree/nowhere/x", {}, b"x").status == 404


def test_health_has_no_facts(world: HttpWorld) -> None:
    world.serve("tls = false\n", '[[node.client]]\nname = "a"\ntoken_file = "token"\n')
    token = world.root / "token"
    token.write_text("x" * 20)
    token.chmod(0o600)
    world.node()
    for target in ("/healthz", "/readyz"):
        assert world.ask("GET", target).body == b"ok\n"


def test_a_page_of_another_site_is_refused_without_authentication(world: HttpWorld) -> None:
    world.put("a", 10)
    world.node()
    answer = world.ask("GET", "/v1/tree/data/a", {"Host": f"evil.example:{world.port}"})
    assert answer.status == 401
    assert b"localhost" in answer.body
