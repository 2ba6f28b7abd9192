"""What the S3 backend sends, and what it makes of answers that no real server would give."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from headrace_namespace.backends.protocol import BackendContext, Folder
from headrace_namespace.backends.s3.backend import S3Backend, open_s3
from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.clock import SystemClock
from headrace_namespace.config import table_from
from headrace_namespace.errors import (
    AccessRefused,
    CredentialsRefused,
    HeadraceError,
    NameTooLong,
    StoreAnswerWrong,
    StoreMissing,
    StoreTimeout,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.identity import ObjectVersion
from tests.conformance.backend_suite import read
from tests.fakes.scripted_http import Answer, Raw, ScriptedHttp, Step

OPTIONS = {"key_env": "KEY", "secret_env": "SECRET"}
ENVIRON = {"KEY": "AKID", "SECRET": "secret", "TOKEN": "the-token"}
OK = {"ETag": '"e1"', "Last-Modified": "Sat, 21 Nov 2026 08:56:34 GMT"}
HTML = b"<!DOCTYPE html><html><body>welcome</body></html>"

Opener = Callable[..., S3Backend]


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as running:
        yield running


@pytest.fixture
def opened(server: ScriptedHttp) -> Iterator[Opener]:
    backends: list[S3Backend] = []

    def open_with(**options: Any) -> S3Backend:
        table = table_from({"endpoint_url": server.endpoint, **OPTIONS, **options}, "test")
        context = BackendContext(SystemClock(), ENVIRON, "/")
        backends.append(open_s3("s3://bucket", table, context))
        return backends[-1]

    yield open_with
    for backend in backends:
        backend.close()


def version(backend: S3Backend, size: int = 10, tag: str = "e1") -> ObjectVersion:
    return ObjectVersion(backend.ref("key"), tag, size, strong=not tag.startswith("W/"))


def error_body(code: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code>{more}</Error>".encode()


def listing(inside: str) -> bytes:
    return f"<ListBucketResult>{inside}</ListBucketResult>".encode()


# What is sent.


def test_the_requests_are_signed_and_precise(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(206, {**OK, "Content-Range": "bytes 2-4/10"}, b"cde"))
    backend = opened()
    assert read(backend, version(backend), 2, 5) == b"cde"
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/bucket/key")
    assert request.headers["host"] == server.authority
    assert request.headers["range"] == "bytes=2-4"
    assert request.headers["if-match"] == '"e1"'
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "/us-east-1/s3/aws4_request" in request.headers["authorization"]
    assert "x-amz-security-token" not in request.headers


def test_no_name_of_an_object_is_logged_while_signing(
    server: ScriptedHttp, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.then(Answer(200, {**OK, "Content-Length": "3"}))
    opened().stat("payroll-of-ann")
    assert "payroll-of-ann" not in caplog.text
    others = AWSRequest(method="GET", url="http://h/their-object", headers={})
    S3SigV4Auth(Credentials("k", "s"), "s3", "r").add_auth(others)
    assert "their-object" in caplog.text


def test_the_virtual_style_puts_the_bucket_into_the_host(
    server: ScriptedHttp, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.then(Answer(200, {**OK, "Content-Length": "3"}))
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def resolve_here(host: str, *rest: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    port = server.authority.rpartition(":")[2]
    opened(endpoint_url=f"http://s3.example:{port}", addressing_style="virtual").stat("a b")
    (request,) = server.requests
    assert asked == ["bucket.s3.example"]
    assert (request.target, request.headers["host"]) == ("/a%20b", f"bucket.s3.example:{port}")


def test_a_session_token_is_sent_and_signed(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(200, {**OK, "Content-Length": "3"}))
    opened(token_env="TOKEN").stat("key")
    (request,) = server.requests
    assert request.headers["x-amz-security-token"] == "the-token"
    assert "x-amz-security-token" in request.headers["authorization"]


def test_an_anonymous_mount_signs_nothing(server: ScriptedHttp) -> None:
    server.then(Answer(200, {**OK, "Content-Length": "3"}))
    table = table_from({"endpoint_url": server.endpoint, "anon": True}, "test")
    backend = open_s3("s3://bucket", table, BackendContext(SystemClock(), {}, "/"))
    backend.stat("key")
    backend.close()
    assert not {"authorization", "x-amz-date"} & server.requests[0].headers.keys()


def test_the_version_id_is_asked_for(server: ScriptedHttp, opened: Opener) -> None:
    server.then(
        Answer(200, {**OK, "Content-Length": "3", "x-amz-version-id": "v/1+"}),
        Answer(200, OK, b"abc"),
    )
    backend = opened()
    found = backend.stat("key")
    assert isinstance(found, ObjectVersion)
    assert read(backend, found, 0, 3) == b"abc"
    assert server.requests[1].target == "/bucket/key?versionId=v%2F1%2B"
    assert "range" not in server.requests[1].headers  # the whole object


def test_the_version_id_null_is_none(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(200, {**OK, "Content-Length": "3", "x-amz-version-id": "null"}))
    found = opened().stat("key")
    assert isinstance(found, ObjectVersion) and found.version_id is None


# Which answers are trusted.


@pytest.mark.parametrize(
    "answer",
    [
        Answer(206, {**OK, "Content-Range": "bytes 2-4/10"}, b"cde"),
        Answer(200, {**OK, "Content-Range": "bytes 2-4/10"}, b"cde"),  # as rclone does
        Answer(
            206,
            {
                **OK,
                "Content-Range": "bytes 2-4/10",
                "Content-Length": "",
                "Transfer-Encoding": "chunked",
            },
            b"1\r\nc\r\n2\r\nde\r\n0\r\n\r\n",
        ),
    ],
)
def test_right_answers_are_taken(server: ScriptedHttp, opened: Opener, answer: Answer) -> None:
    server.then(answer, answer)
    backend = opened()
    for _ in range(2):
        assert read(backend, version(backend), 2, 5) == b"cde"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(200, OK, b"abcdefghij"), StoreAnswerWrong, "ignored the range"),
        (Answer(200, OK, b"cde"), StoreAnswerWrong, "ignored the range"),
        (Answer(206, OK, b"cde"), StoreAnswerWrong, "ignored the range"),
        (Answer(206, {**OK, "Content-Range": "bytes 0-2/10"}, b"abc"), StoreAnswerWrong, "0-2"),
        (Answer(206, {**OK, "Content-Range": "bytes 2-4/11"}, b"cde"), StoreAnswerWrong, "11"),
        (Answer(206, {**OK, "Content-Range": "bytes 2-4/*"}, b"cde"), StoreAnswerWrong, "answered"),
        (Answer(206, {**OK, "Content-Range": "bytes 2-4/10"}, b"cd"), StoreAnswerWrong, "2 bytes"),
        (
            Answer(206, {"Content-Range": "bytes 2-4/10"}, b"cde"),
            StoreAnswerWrong,
            "which version",
        ),
        (
            Answer(206, {"ETag": '"e2"', "Content-Range": "bytes 2-4/10"}, b"cde"),
            VersionGone,
            "replaced",
        ),
        (
            Answer(206, {"ETag": 'W/"e1"', "Content-Range": "bytes 2-4/10"}, b"cde"),
            VersionGone,
            "replaced",
        ),
        (
            Answer(
                206,
                {
                    **OK,
                    "Content-Range": "bytes 2-4/10",
                    "Content-Length": "",
                    "Transfer-Encoding": "chunked",
                },
                b"4\r\ncdef\r\n0\r\n\r\n",
            ),
            StoreAnswerWrong,
            "longer",
        ),
        (Answer(412, {}, error_body("PreconditionFailed")), VersionGone, "replaced"),
        (Answer(416, {}, error_body("InvalidRange")), VersionGone, "replaced"),
        (Answer(404, {}, error_body("NoSuchKey")), VersionGone, "deleted"),
        (Answer(404), VersionGone, "deleted"),
        (Answer(404, {"Content-Type": "text/html"}, HTML), StoreAnswerWrong, "HTML"),
        (Answer(200, {**OK, "Content-Type": "text/html"}, HTML), StoreAnswerWrong, "ignored"),
        (Raw(b"SSH-2.0-OpenSSH\r\n"), StoreAnswerWrong, "does not speak HTTP"),
    ],
)
def test_wrong_answers_are_refused(
    server: ScriptedHttp, opened: Opener, answer: Step, kind: type[HeadraceError], words: str
) -> None:
    server.then(answer)
    backend = opened()
    with pytest.raises(kind, match=words) as caught:
        read(backend, version(backend), 2, 5)
    assert not caught.value.retriable
    assert caught.value.store == backend.name
    assert len(server.requests) == 1


RANGE = {**OK, "Content-Range": "bytes 2-4/10", "Content-Length": "3"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(206, RANGE, b"cd", then="close"), StoreUnavailable),
        (Answer(206, RANGE, b"cd", then="reset"), StoreUnavailable),
        (Answer(206, RANGE, b"c", then="stall"), StoreTimeout),
        (Raw(b"", then="stall"), StoreTimeout),
        (Raw(b"", then="reset"), StoreUnavailable),
        (Raw(b"HTTP/1.1 206 OK\r\nContent-Le"), StoreAnswerWrong),
        (Answer(500, {}, error_body("InternalError")), StoreUnavailable),
        (Answer(503, {}, error_body("SlowDown")), SlowDown),
        (Answer(503, {"Content-Type": "text/html"}, HTML), SlowDown),
        (Answer(429), SlowDown),
        (Answer(504), StoreTimeout),
        (Answer(400, {}, error_body("RequestTimeout")), StoreTimeout),
    ],
)
def test_what_may_pass_is_retriable(
    server: ScriptedHttp, opened: Opener, answer: Step, kind: type[HeadraceError]
) -> None:
    server.then(answer, Answer(206, RANGE, b"cde"))
    backend = opened(read_timeout="200ms")
    with pytest.raises(kind) as caught:
        read(backend, version(backend), 2, 5)
    assert caught.value.retriable is (kind is not StoreAnswerWrong)
    assert read(backend, version(backend), 2, 5) == b"cde"


def test_a_wish_for_a_pause_is_passed_on(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(503, {"Retry-After": "7"}, error_body("SlowDown")))
    backend = opened()
    with pytest.raises(SlowDown) as caught:
        backend.list_page(backend.ref(""), None)
    assert caught.value.wait_seconds == 7


def test_a_weak_etag_is_compared_and_not_sent(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(206, {"ETag": 'W/"x"', "Content-Range": "bytes 2-4/10"}, b"cde"))
    backend = opened()
    assert read(backend, version(backend, tag='W/"x"'), 2, 5) == b"cde"
    assert "if-match" not in server.requests[0].headers


def test_without_etag_the_time_is_a_weak_version(server: ScriptedHttp, opened: Opener) -> None:
    modified = {"Last-Modified": OK["Last-Modified"]}
    later = {"Last-Modified": "Sat, 21 Nov 2026 08:56:35 GMT"}
    server.then(Answer(200, {**modified, "Content-Length": "3"}), Answer(200, modified, b"abc"))
    backend = opened()
    found = backend.stat("key")
    assert isinstance(found, ObjectVersion) and not found.strong
    assert read(backend, found, 0, 3) == b"abc"
    server.then(Answer(200, later, b"xyz"))
    with pytest.raises(VersionGone):
        read(backend, found, 0, 3)


# Connections.


def test_a_connection_closed_while_idle_is_replaced_at_once(
    server: ScriptedHttp, opened: Opener
) -> None:
    good = Answer(206, RANGE, b"cde")
    # The second request finds its connection closed after it was sent.
    server.then(good, Raw(b""), good)
    backend = opened()
    for _ in range(2):
        assert read(backend, version(backend), 2, 5) == b"cde"
    assert server.connections == 2


def test_a_fresh_connection_that_is_closed_is_an_error(
    server: ScriptedHttp, opened: Opener
) -> None:
    server.then(Raw(b""))
    backend = opened()
    with pytest.raises(StoreUnavailable):
        backend.stat("key")
    assert server.connections == 1


def test_an_error_answer_keeps_its_connection(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(412, {}, error_body("PreconditionFailed")), Answer(206, RANGE, b"cde"))
    backend = opened()
    with pytest.raises(VersionGone):
        read(backend, version(backend), 2, 5)
    assert read(backend, version(backend), 2, 5) == b"cde"
    assert server.connections == 1


# Errors without a body, regions, listings.


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "ExpiredToken", CredentialsRefused),
        (400, "ExpiredToken", CredentialsRefused),
        (400, "InvalidToken", CredentialsRefused),
        (403, "InvalidAccessKeyId", CredentialsRefused),
        (403, "AccessDenied", AccessRefused),
        (400, "KeyTooLongError", NameTooLong),
        (400, "SomethingNew", StoreAnswerWrong),
    ],
)
def test_a_refused_head_is_explained_by_a_get(
    server: ScriptedHttp, opened: Opener, status: int, code: str, kind: type[HeadraceError]
) -> None:
    server.then(Answer(status), Answer(status, {}, error_body(code)))
    with pytest.raises(kind):
        opened().stat("key")
    assert [request.method for request in server.requests] == ["HEAD", "GET"]


def test_a_busy_head_needs_no_explanation(server: ScriptedHttp, opened: Opener) -> None:
    server.then(Answer(503))
    with pytest.raises(SlowDown):
        opened().stat("key")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(400, {}, error_body("AuthorizationHeaderMalformed", "<Region>eu-x-1</Region>")),
        Answer(301, {"x-amz-bucket-region": "eu-x-1"}, error_body("PermanentRedirect")),
    ],
)
def test_another_region_is_tried_once_and_remembered(
    server: ScriptedHttp, opened: Opener, refusal: Answer
) -> None:
    good = Answer(206, RANGE, b"cde")
    server.then(refusal, good, good)
    backend = opened()
    for _ in range(2):
        assert read(backend, version(backend), 2, 5) == b"cde"
    regions = [r.headers["authorization"].split("/")[2] for r in server.requests]
    assert regions == ["us-east-1", "eu-x-1", "eu-x-1"]


def test_a_region_that_does_not_help_is_named(server: ScriptedHttp, opened: Opener) -> None:
    moved = {"x-amz-bucket-region": "eu-x-1"}
    server.then(*[Answer(301, moved, error_body("PermanentRedirect"))] * 2)
    backend = opened()
    with pytest.raises(AccessRefused, match="eu-x-1"):
        backend.list_page(backend.ref(""), None)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (HTML, "not S3's XML"),
        (b"<html></html>", "<html>"),
        (b"", "not XML"),
        (b"{}", "not XML"),
        (b"<ListBucketResult><Contents>", "not XML"),
        (listing("<IsTruncated>true</IsTruncated>"), "not where"),
        (listing("<Contents><Key>a</Key></Contents>"), "without key or size"),
    ],
)
def test_a_listing_that_is_none_is_refused(
    server: ScriptedHttp, opened: Opener, body: bytes, words: str
) -> None:
    server.then(Answer(200, {}, body))
    with pytest.raises(StoreAnswerWrong, match=words):
        opened().list_page(opened().ref(""), None)


@pytest.mark.parametrize("body", [b"", error_body("NoSuchKey")])
def test_a_listing_that_is_not_there_blames_the_endpoint(
    server: ScriptedHttp, opened: Opener, body: bytes
) -> None:
    server.then(Answer(404, {}, body))
    with pytest.raises(StoreMissing, match="'bucket' at http.*check endpoint_url"):
        opened().list_page(opened().ref(""), None)


def test_plus_means_space_only_where_the_listing_is_encoded(
    server: ScriptedHttp, opened: Opener
) -> None:
    item = "<Contents><Key>{}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>"
    encoded = "<EncodingType>url</EncodingType>" + item.format("a+b%2Bc%20d")
    server.then(Answer(200, {}, listing(encoded)), Answer(200, {}, listing(item.format("a+b%2Bc"))))
    backend = opened()
    assert [c.name for c in backend.list_page(backend.ref(""), None).children] == ["a b+c d"]
    assert [c.name for c in backend.list_page(backend.ref(""), None).children] == ["a+b%2Bc"]
    assert server.requests[0].target == (
        "/bucket?delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&prefix="
    )


def test_an_empty_page_that_goes_on_is_not_the_end(server: ScriptedHttp, opened: Opener) -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/1</NextContinuationToken>"
    found = "<CommonPrefixes><Prefix>folder/b/</Prefix></CommonPrefixes>"
    server.then(Answer(200, {}, listing(more)), Answer(200, {}, listing(found)))
    backend = opened()
    page = backend.list_page(backend.ref("folder"), None)
    assert page.children == () and page.next_token is not None
    assert [c.name for c in backend.list_page(backend.ref("folder"), page.next_token).children] == [
        "b"
    ]
    assert "continuation-token=t%2F1" in server.requests[1].target


def test_a_folder_is_found_by_what_lies_below(server: ScriptedHttp, opened: Opener) -> None:
    inside = "<CommonPrefixes><Prefix>folder/b/</Prefix></CommonPrefixes>"
    server.then(Answer(404), Answer(200, {}, listing(inside)))
    assert opened().stat("folder") == Folder()
    assert "prefix=folder%2F" in server.requests[1].target


def test_a_forked_child_leaves_its_parents_connections_alone(
    server: ScriptedHttp, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Answer(206, RANGE, b"cde")
    server.then(good, good, good)
    backend = opened()
    assert read(backend, version(backend), 2, 5) == b"cde"
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    for _ in range(2):
        assert read(backend, version(backend), 2, 5) == b"cde"
        assert server.connections == 2  # from its first request on
