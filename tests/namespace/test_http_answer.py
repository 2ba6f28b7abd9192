"""What is made faster than `http.client` tells the same as `http.client`, whatever comes."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace_namespace.http_answer import HttpAnswer
from headrace_namespace.http_request import JOINED_BYTES, Request

LENGTH = b"Content-Length: 5\r\n"

names = st.sampled_from(
    [b"ETag", b"etag", b"Content-Length", b"Connection", b"Transfer-Encoding", b"X", b"", b"A B"]
)
values = st.sampled_from(
    [b"5", b"0", b"-1", b"05", b"+5", b"5, 5", b"x", b"", b" 5 ", b"\t5\t", b"close", b"chunked"]
    + [
        b"keep-alive",
        b"a:b",
        b"caf\xc3\xa9",
        b"a\x00b",
        b"a\x1fb",
        b"a\r\n folded",
        b"a\rb",
        b"a\nb",
    ]
)
lines = st.tuples(names, st.sampled_from([b":", b": ", b""]), values).map(b"".join)
statuses = st.sampled_from(
    [b"HTTP/1.1 206 Partial Content", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK"]
    + [
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 304 Not",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 2xx OK",
        b"HTTP/2 200 OK",
    ]
    + [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 412 Gone", b"200", b""]
)


def head_of(status: bytes, found: list[bytes]) -> bytes:
    return b"\r\n".join([status, *found, b"", b""])


heads = st.builds(head_of, statuses, st.lists(lines, max_size=6))


def told(kind: type[http.client.HTTPResponse], sent: bytes, method: str) -> object:
    """All that a class tells of an answer, or the kind of its error."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with closing(kind(ours, method=method)) as answer:
            try:
                answer.begin()
                facts = (
                    answer.status,
                    answer.reason,
                    answer.version,
                    answer.headers.items(),
                    [answer.headers.get(name) for name in ("etag", "ETAG", "content-length", "X")],
                    [name in answer.headers for name in ("etag", "X")],
                    answer.length,
                    answer.chunked,
                    answer.will_close,
                )
                return facts, answer.read(), answer.isclosed()
            except (http.client.HTTPException, OSError, ValueError) as error:
                return type(error)


@given(heads, st.sampled_from([b"", b"12345", b"12345678"]), st.sampled_from(["GET", "HEAD"]))
@example(b"HTTP/1.1 206 x\r\n" + LENGTH + b"\r\n", b"12345", "GET")
@example(b"HTTP/1.1 206 x\r\n" + LENGTH + LENGTH + b"\r\n", b"12345", "GET")
@example(b"HTTP/1.1 206 x\r\n" + LENGTH + b"Content-Length: 3\r\n\r\n", b"12345", "GET")
@example(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\n12345\r\n0\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 x\r\n" + LENGTH + b"X: " + b"y" * 9000 + b"\r\n\r\n", b"12345", "GET")
@example(b"HTTP/1.1 200 x\r\n" + LENGTH + b"X: y\r\n" * 101 + b"\r\n", b"12345", "GET")
def test_it_tells_what_the_standard_library_does(head: bytes, body: bytes, method: str) -> None:
    sent = head + body
    assert told(HttpAnswer, sent, method) == told(http.client.HTTPResponse, sent, method)


def test_a_head_that_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was peeked at is not lost."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(b"HTTP/1.1 206 Partial")
        begin = http.client.HTTPResponse.begin

        def rest(answer: http.client.HTTPResponse) -> None:
            theirs.sendall(b" Content\r\n" + LENGTH + b"\r\n12345")
            begin(answer)

        monkeypatch.setattr(http.client.HTTPResponse, "begin", rest)
        with closing(HttpAnswer(ours, method="GET")) as answer:
            answer.begin()
            assert (answer.status, answer.reason, answer.read()) == (
                206,
                "Partial Content",
                b"12345",
            )


def test_answers_follow_each_other_on_one_connection() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        for number in range(3):
            theirs.sendall(b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n%d2345" % number)
            with closing(HttpAnswer(ours, method="GET")) as answer:
                answer.begin()
                assert answer.read(5) == b"%d2345" % number
                assert answer.isclosed()


@pytest.mark.parametrize("size", [0, 5, JOINED_BYTES, JOINED_BYTES + 1])
def test_a_request_is_sent_whole(size: int) -> None:
    body = bytes(size)
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs), theirs.makefile("rb") as said:
        headers = {"Host": "h", "X": "caf\xe9"}
        Request("PUT", "/a%20b?c", headers, memoryview(body), repeatable=True).send(ours)
        head = b"PUT /a%20b?c HTTP/1.1\r\nHost: h\r\nX: caf\xe9\r\n\r\n"
        assert said.read(len(head)) == head
        assert said.read(size) == body


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("/a b", "x"),
        ("/a\r\nX: y", "x"),
        ("/\xe9", "x"),
        ("/a", "x\r\nY: z"),
        ("/a", "x\ny"),
        ("/a", "\x00"),
    ],
)
def test_a_request_cannot_be_made_to_say_more(target: str, value: str) -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        with pytest.raises(ValueError, match="end its line"):
            Request("GET", target, {"X": value}, None, repeatable=True).send(ours)
        ours.shutdown(socket.SHUT_WR)
        assert theirs.recv(1) == b""
