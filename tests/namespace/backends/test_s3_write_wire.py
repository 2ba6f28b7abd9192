"""What S3's write half sends, and what it makes of what no real server can be made to do."""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace_namespace.backends.protocol import BackendContext, There
from headrace_namespace.backends.s3 import client
from headrace_namespace.backends.s3.backend import S3Backend, open_s3
from headrace_namespace.backends.s3.client import Body
from headrace_namespace.clock import SystemClock
from headrace_namespace.config import table_from
from headrace_namespace.errors import (
    AccessRefused,
    AlreadyExists,
    HeadraceError,
    ReadOnly,
    StoreAnswerWrong,
    StoreFull,
    StoreUnavailable,
    WriteConflict,
)
from headrace_namespace.identity import ObjectVersion
from tests.conformance.writable_store import patient, put
from tests.fakes.scripted_http import Answer, Raw, ScriptedHttp, Step

OPTIONS = {"key_env": "KEY", "secret_env": "SECRET"}
ENVIRON = {"KEY": "AKID", "SECRET": "secret"}
LOST = Raw(b"", then="close")

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
        backends.append(open_s3("s3://bucket", table, BackendContext(SystemClock(), ENVIRON, "/")))
        return backends[-1]

    yield open_with
    for backend in backends:
        backend.close()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def shown(data: bytes = b"", tag: str | None = None, size: int | None = None) -> Answer:
    """A HEAD's answer."""
    return Answer(
        200,
        {
            "ETag": f'"{tag or md5(data)}"',
            "Content-Length": str(len(data) if size is None else size),
            "Last-Modified": "Sat, 21 Nov 2026 08:56:34 GMT",
        },
    )


def made(data: bytes) -> Answer:
    return Answer(200, {"ETag": f'"{md5(data)}"'})


def refused(status: int, code: str) -> Answer:
    return Answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


def xml(name: str, **fields: str) -> bytes:
    return f"<{name}>{''.join(f'<{k}>{v}</{k}>' for k, v in fields.items())}</{name}>".encode()


def sent(server: ScriptedHttp) -> list[str]:
    return [f"{request.method} {request.target}" for request in server.requests]


# What is sent.


def test_a_body_goes_with_its_sums(server: ScriptedHttp, opened: Opener) -> None:
    server.then(made(b"bytes"))
    put(opened(), "key", b"bytes")
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("PUT", "/bucket/key", b"bytes")
    digest = hashlib.md5(b"bytes", usedforsecurity=False).digest()
    assert request.headers["content-md5"] == base64.b64encode(digest).decode()
    # Without TLS the signature itself holds for the body.
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(b"bytes").hexdigest()
    signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert signed == "content-md5;host;x-amz-content-sha256;x-amz-date"


def test_under_tls_the_sum_alone_is_signed() -> None:
    body = Body.of(b"bytes")
    for scheme, expected in (
        ("https", "UNSIGNED-PAYLOAD"),
        ("http", hashlib.sha256(b"bytes").hexdigest()),
    ):
        hashed = client._payload_hash(scheme, body)  # pyright: ignore[reportPrivateUsage]
        assert hashed == expected


def test_the_headers_of_a_copy_are_signed(server: ScriptedHttp, opened: Opener) -> None:
    backend = opened()
    source = ObjectVersion(backend.ref("a +%\u00e9"), "e1", 3, True, version_id="v/1")
    server.then(Answer(200, {}, xml("CopyObjectResult", ETag="&quot;e1&quot;")))
    copied = backend.copy(source, backend.ref("to"), There.ANYTHING)
    assert (copied.tag, copied.size) == ("e1", 3)
    (request,) = server.requests
    name = "/bucket/a%20%2B%25%C3%A9?versionId=v%2F1"
    assert request.headers["x-amz-copy-source"] == name
    assert request.headers["x-amz-copy-source-if-match"] == '"e1"'
    assert "x-amz-copy-source;x-amz-copy-source-if-match" in request.headers["authorization"]


def test_a_large_body_is_sent_in_pieces(server: ScriptedHttp, opened: Opener) -> None:
    data = bytes(range(256)) * (12 << 10)
    server.then(made(data))
    assert put(opened(), "key", data).tag == md5(data)
    assert server.requests[0].body == data


def test_a_deletion_escapes_its_keys(server: ScriptedHttp, opened: Opener) -> None:
    server.then(
        Answer(
            200,
            {},
            b"<DeleteResult><Error><Key>a&lt;b</Key><Code>AccessDenied</Code></Error>"
            b"</DeleteResult>",
        ),
        Answer(204),
    )
    wrong = opened().delete(["a<b", "c\r&", "bell\x07"])
    assert list(wrong) == ["a<b"] and isinstance(wrong["a<b"], AccessRefused)
    assert "s3:DeleteObject" in str(wrong["a<b"])
    assert sent(server) == ["POST /bucket?delete=", "DELETE /bucket/bell%07"]
    assert b"<Key>a&lt;b</Key></Object><Object><Key>c&#13;&amp;</Key>" in server.requests[0].body


def test_a_store_without_deletion_of_many_is_asked_one_by_one(
    server: ScriptedHttp, opened: Opener
) -> None:
    server.then(refused(501, "NotImplemented"), Answer(204), refused(404, "NoSuchKey"))
    assert opened().delete(["a", "b"]) == {}
    assert sent(server)[1:] == ["DELETE /bucket/a", "DELETE /bucket/b"]


def test_a_store_that_knows_no_conditions_is_looked_at_instead(
    server: ScriptedHttp, opened: Opener
) -> None:
    no = refused(501, "NotImplemented")
    server.then(Answer(404), no, Answer(404), made(b"1"))
    put(opened(), "key", b"1", There.NOTHING)
    assert [request.method for request in server.requests] == ["HEAD", "PUT", "HEAD", "PUT"]
    assert "if-none-match" not in server.requests[-1].headers
    server.then(Answer(404), no, Answer(404), no)
    with pytest.raises(StoreAnswerWrong, match="501"):  # and no conflict
        put(opened(), "key", b"1", There.NOTHING)


def test_aws_keeps_its_conditions(server: ScriptedHttp, opened: Opener) -> None:
    """No look before each write: AWS says what it found."""
    backend = opened()
    backend._writer.conditions._trusted = True  # pyright: ignore[reportPrivateUsage]
    old = ObjectVersion(backend.ref("key"), "e1", 3, True)
    server.then(made(b"1"), refused(412, "PreconditionFailed"), shown(b"other"))
    put(backend, "key", b"1", old)
    with pytest.raises(WriteConflict) as caught:
        put(backend, "key", b"2", old)
    assert caught.value.found is not None and caught.value.found.size == 5
    assert [request.method for request in server.requests] == ["PUT", "PUT", "HEAD"]
    assert server.requests[0].headers["if-match"] == '"e1"'
    server.then(refused(404, "NoSuchKey"), Answer(404))
    with pytest.raises(WriteConflict):
        put(backend, "key", b"3", old)


# Lost answers.


def test_a_lost_answer_to_a_conditional_put_is_no_conflict(
    server: ScriptedHttp, opened: Opener
) -> None:
    """The first was made: the second finds it there, and knows its bytes."""
    read = Answer(200, {"ETag": f'"{md5(b"ours")}"'}, b"ours")
    server.then(Answer(404), LOST)
    backend = patient(opened())
    server.then(shown(b"ours"), read)
    assert put(backend, "key", b"ours", There.NOTHING).tag == md5(b"ours")
    assert server.requests[-1].method == "GET"


@pytest.mark.parametrize("theirs", [b"them", b"another length"])
def test_after_a_lost_answer_another_s_object_is_a_conflict(
    server: ScriptedHttp, opened: Opener, theirs: bytes
) -> None:
    read = Answer(200, {"ETag": f'"{md5(theirs)}"'}, theirs)
    server.then(shown(b"old"), LOST, shown(theirs), read)
    inner = opened()
    old = ObjectVersion(inner.ref("key"), md5(b"old"), 3, True)
    with pytest.raises(WriteConflict):
        put(patient(inner), "key", b"ours", old)


def test_a_conflict_without_a_lost_answer_is_one_whatever_the_bytes(
    server: ScriptedHttp, opened: Opener
) -> None:
    """Two that make the same lock file must not both believe to have made it."""
    server.then(refused(503, "SlowDown"), shown(b"lock"))
    with pytest.raises(AlreadyExists):
        put(patient(opened()), "key", b"lock", There.NOTHING)


def test_an_answered_failure_is_no_lost_answer(server: ScriptedHttp, opened: Opener) -> None:
    """Ceph answers so to the loser of a race, whose winner may have written the same bytes."""
    server.then(Answer(404), refused(500, "InternalError"), shown(b"lock"))
    with pytest.raises(AlreadyExists):
        put(patient(opened()), "key", b"lock", There.NOTHING)


def test_a_conditional_put_is_not_repeated_by_the_connections(
    server: ScriptedHttp, opened: Opener
) -> None:
    backend = opened()
    server.then(shown(b"old"), LOST)  # leaves an idle connection, which then closes
    old = ObjectVersion(backend.ref("key"), md5(b"old"), 3, True)
    with pytest.raises(StoreUnavailable):
        put(backend, "key", b"ours", old)
    assert [request.method for request in server.requests] == ["HEAD", "PUT"]
    server.then(shown(b"old"), LOST, made(b"any"))  # one without a condition is
    backend.stat("key")
    put(backend, "key", b"any")


STARTED = Answer(200, {}, xml("InitiateMultipartUploadResult", UploadId="u1"))
COMPLETED = xml("CompleteMultipartUploadResult", ETag="")


def upload_tag(*parts: bytes) -> str:
    raw = b"".join(bytes.fromhex(md5(part)) for part in parts)
    return f"{md5(raw)}-{len(parts)}"


@pytest.mark.parametrize("then", [refused(404, "NoSuchUpload"), Answer(200, {}, COMPLETED)])
def test_a_lost_answer_to_a_commit_is_found_out(
    server: ScriptedHttp, opened: Opener, then: Answer
) -> None:
    server.then(STARTED, made(b"part"), LOST, then, shown(tag=upload_tag(b"part"), size=4))
    backend = patient(opened())
    upload = backend.begin_upload(backend.ref("key"), There.ANYTHING)
    upload.put_part(0, memoryview(b"part"))
    assert upload.commit(1).tag == upload_tag(b"part")
    upload.abort()
    assert not any(request.method == "DELETE" for request in server.requests)


def test_a_lost_answer_to_a_conditional_commit_is_no_conflict(
    server: ScriptedHttp, opened: Opener
) -> None:
    ours = shown(tag=upload_tag(b"part"), size=4)
    server.then(STARTED, made(b"part"), Answer(404), LOST, ours)
    backend = patient(opened())
    upload = backend.begin_upload(backend.ref("key"), There.NOTHING)
    upload.put_part(0, memoryview(b"part"))
    assert upload.commit(1).tag == upload_tag(b"part")


def test_where_sums_are_no_md5_nobody_claims_to_know(server: ScriptedHttp, opened: Opener) -> None:
    """As with keys of the store's own (SSE-KMS): the object's ETag cannot be foretold."""
    part = Answer(200, {"ETag": '"00"'})
    server.then(STARTED, part, shown(b"old"), LOST, shown(tag="99-1", size=4))
    inner = opened()
    old = ObjectVersion(inner.ref("key"), md5(b"old"), 3, True)
    upload = patient(inner).begin_upload(inner.ref("key"), old)
    upload.put_part(0, memoryview(b"part"))
    with pytest.raises(StoreUnavailable, match="ours or another's") as caught:
        upload.commit(1)
    assert not caught.value.retriable


# Errors that come late, and abort.


def test_an_error_after_200_is_one(server: ScriptedHttp, opened: Opener) -> None:
    late = xml("Error", Code="InternalError", Message="after all")
    server.then(STARTED, made(b"part"), Answer(200, {}, b"\n \n" + late), Answer(200, {}, late))
    backend = opened()
    upload = backend.begin_upload(backend.ref("key"), There.ANYTHING)
    upload.put_part(0, memoryview(b"part"))
    with pytest.raises(StoreUnavailable, match="after all"):
        upload.commit(1)
    source = ObjectVersion(backend.ref("a"), "e1", 3, True, version_id="v")
    with pytest.raises(StoreUnavailable, match="after all"):
        backend.copy(source, backend.ref("b"), There.ANYTHING)


def test_an_abort_is_tried_again_and_never_raises(
    server: ScriptedHttp, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    server.then(STARTED, made(b"part"), refused(500, "InternalError"), LOST, Answer(204))
    backend = opened()
    upload = backend.begin_upload(backend.ref("key"), There.ANYTHING)
    upload.put_part(0, memoryview(b"part"))
    upload.abort()
    assert sent(server)[-1] == "DELETE /bucket/key?uploadId=u1" and not caplog.records
    server.then(STARTED, made(b"part"), *[refused(500, "InternalError")] * 9)
    upload = backend.begin_upload(backend.ref("payroll-of-ann"), There.ANYTHING)
    upload.put_part(0, memoryview(b"part"))
    with caplog.at_level(logging.WARNING):
        upload.abort()
    assert "lifecycle" in caplog.text and "payroll-of-ann" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refused(403, "AccessDenied"), AccessRefused, "s3:PutObject"),
        (refused(403, "QuotaExceeded"), StoreFull, "quota"),
        (refused(400, "EntityTooLarge"), StoreFull, "larger"),
        (Answer(413), StoreFull, "larger"),
        (Answer(507), StoreFull, "room"),
        (refused(405, "MethodNotAllowed"), ReadOnly, "lets nobody write"),
        (refused(400, "BadDigest"), StoreUnavailable, "not what was sent"),
        (refused(404, "NoSuchUpload"), StoreAnswerWrong, "given up the upload"),
    ],
)
def test_refusals_are_said(
    server: ScriptedHttp, opened: Opener, answer: Step, kind: type[HeadraceError], words: str
) -> None:
    server.then(answer)
    backend = opened()
    with pytest.raises(kind, match=words) as caught:
        put(backend, "key", b"1")
    assert caught.value.store == backend.name
    assert caught.value.retriable is (kind is StoreUnavailable)


def test_what_arrived_damaged_is_sent_again(server: ScriptedHttp, opened: Opener) -> None:
    server.then(refused(400, "BadDigest"), made(b"1"))
    assert put(patient(opened()), "key", b"1").tag == md5(b"1")


def test_a_refusal_before_the_body_was_read_is_understood(opened: Opener) -> None:
    """The store answers after the headers and hangs up: its reason is told, not a broken pipe."""
    answer = Answer(403, {"Connection": "close"}, xml("Error", Code="AccessDenied"))

    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(4096)
            connection.sendall(answer.encoded(with_body=True))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=refuse, args=(listening,))
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(AccessRefused, match="s3:PutObject"):
            put(opened(endpoint_url=f"http://127.0.0.1:{port}"), "key", bytes(32 << 20))
        thread.join()
