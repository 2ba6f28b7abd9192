"""What a stranger can do to the door: be turned away, and cost nobody else anything."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.node.http import bounds, crowd, door
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.remote import http_client
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_namespace.errors import StoreUnavailable
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB, path
from tests.cache.node.http.certificates import Authority
from tests.cache.node.http.conftest import HttpWorld

ASK = {"Content-Type": routes.MESSAGE_TYPE}


def everything(connected: socket.socket) -> bytes:
    """What the other end says until it hangs up."""
    said = b""
    while True:
        try:
            more = connected.recv(65536)
        except ConnectionResetError:
            return said
        if not more:
            return said
        said += more


def still_serves(world: HttpWorld) -> None:
    assert world.ask("GET", "/healthz").status == 200
    assert world.remote().stat(path("")).is_folder


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 100,
        b"\x92\x03\x01",
        b"\x91\x01",
        b"\xc1",
        os.urandom(2000),
        b"\x93\x01\x02\x03",
    ],
)
def test_garbage_is_nonsense(world: HttpWorld, body: bytes) -> None:
    world.node()
    answer = world.ask("POST", routes.ASK, ASK, body)
    assert answer.status == 400
    assert b"nonsense" in answer.body
    still_serves(world)


def test_a_local_session_s_messages_are_none_here(world: HttpWorld) -> None:
    world.node()
    for request in (m.Hello(1, "1", "x"), m.Close([]), m.GiveBack([1]), m.Bring(1, 0, 1)):
        assert world.ask("POST", routes.ASK, ASK, m.encode(request)).status == 400


def test_a_message_that_is_too_long(world: HttpWorld) -> None:
    world.node()
    told = world.ask("POST", routes.ASK, ASK, bytes(c.MOST_ASKED_BYTES + 1))
    assert told.status == 400
    still_serves(world)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/ask HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET\r\n\r\n",
    ],
)
def test_heads_that_are_none_are_refused(world: HttpWorld, head: bytes) -> None:
    world.node()
    connected = world.raw()
    try:
        connected.sendall(head)
        connected.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not even listen to the end
    said = everything(connected)
    assert said == b"" or b" 400 " in said.split(b"\r\n")[0], said[:200]
    still_serves(world)


def test_two_requests_cannot_hide_in_one(world: HttpWorld) -> None:
    """A body's length is what both its ends think it is."""
    world.put("a", 10)
    world.node()
    connected = world.raw()
    connected.sendall(
        b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /v1/tree/data/a HTTP/1.1\r\n"
        b"Host: localhost\r\nConnection: close\r\n\r\n"
    )
    said = everything(connected)
    assert b" 400 " in said.split(b"\r\n")[0]
    assert b"200 OK" not in said


@pytest.mark.parametrize("begun", [b"", b"GET /v1/tr", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_slow_head_is_given_up(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(bounds, "IDLE_SECONDS", 0.2)
    world.node()
    connected = world.raw()
    connected.sendall(begun)
    assert everything(connected) == b""


def test_a_slow_body_is_given_up(world: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_cache.node.http.exchange.STALLED_SECONDS", 0.2)
    world.node()
    connected = world.raw()
    connected.sendall(
        b"PUT /v1/tree/data/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
    )
    assert everything(connected) == b""
    assert os.listdir(world.data) == []


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 3000000\r\n\r\n" + bytes(2_500_000),
        b"Transfer-Encoding: chunked\r\n\r\n" + b"200000\r\n" + bytes(0x200000) + b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"200000\r\n" + bytes(100),
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_body_that_ends_early_is_no_object(world: HttpWorld, sent: bytes) -> None:
    node = world.node()
    assert node.door is not None
    connected = world.raw()
    connected.sendall(b"PUT /v1/tree/data/new HTTP/1.1\r\nHost: localhost\r\n" + sent)
    connected.shutdown(socket.SHUT_WR)
    said = everything(connected)
    assert b" 20" not in said.split(b"\r\n")[0]
    node.door.close()  # by then all that was under way has ended
    assert os.listdir(world.data) == []


def test_a_reader_that_takes_nothing_is_given_up(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_cache.node.http.exchange.STALLED_SECONDS", 0.3)
    world.put("a", 32 * MIB)
    node = world.node()
    assert node.door is not None
    begun = threading.Event()
    hang_up = door._cut_short  # pyright: ignore[reportPrivateUsage]

    def noted(*given: object) -> object:
        begun.set()
        return hang_up(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(door, "_cut_short", noted)
    connected = world.raw()
    connected.sendall(b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert begun.wait(30)
    assert len(everything(connected)) < 32 * MIB
    assert node.door._crowd.size == 0  # pyright: ignore[reportPrivateUsage]


def test_answers_that_nobody_takes_do_not_gather(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelined: thousands of requests, and not one answer taken."""
    monkeypatch.setattr(bounds, "STALLED_SECONDS", 0.3)
    world.put("a", 60_000)
    world.node()
    connected = world.raw()
    padding = b"X: " + b"x" * 4000 + b"\r\n"
    request = b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\n" + padding + b"\r\n"
    with pytest.raises(ConnectionError):  # 20 MB, more than lies between two ends
        connected.sendall(request * 5000)
    still_serves(world)


def test_one_connection_too_many_is_told_so(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_CONNECTIONS", 3)
    world.node()
    kept = [world.raw() for _ in range(3)]
    for each in kept:
        each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in each.recv(65536)
    said = everything(world.raw())
    assert said.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in said
    kept[0].close()
    kept[1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in everything(kept[1])


def test_a_connection_counts_before_its_handshake(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    monkeypatch.setattr(bounds, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(bounds, "HANDSHAKE_SECONDS", 1.0)
    certificate, key = authority.issue("node", "localhost")
    world.serve(f'certificate = "{certificate}"\nkey = "{key}"\nauthentication = false\n')
    world.node()
    silent = [world.raw() for _ in range(3)]
    assert everything(world.raw()) == b""
    for each in silent:  # their time is over
        assert everything(each) == b""
    assert (
        world.ask("GET", "/healthz", tls=ssl.create_default_context(cafile=authority.file)).status
        == 200
    )


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cr3t\x01\r\n\r\n",
        b"s3cr3t\r\n\r\n",
        b"GET /s3cr3t HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/tree/data/s3cr3t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
        b"\r\n\r\ns3cr3t\r\n",
    ],
)
def test_what_is_no_http_is_neither_logged_nor_echoed(
    world: HttpWorld, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    caplog.set_level("DEBUG")
    node = world.node()
    for _ in range(5):
        connected = world.raw()
        connected.sendall(said)
        connected.shutdown(socket.SHUT_WR)
        assert b"s3cr3t" not in everything(connected)
    assert node.door is not None
    node.door.close()
    assert "s3cr3t" not in caplog.text
    assert "Traceback" not in caplog.text
    assert caplog.text.count("no HTTP") <= 1


def test_a_fault_is_logged_without_what_was_asked_for(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    world.node()

    def fail(self: LocalService, asked: NamespacePath) -> PolicyExplanation:
        raise KeyError("s3cr3t")

    monkeypatch.setattr(LocalService, "explain", fail)
    with pytest.raises(StoreUnavailable, match="the node failed"):
        world.remote().explain(path("a"))
    assert "KeyError at " in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.fixture
def stalled(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Semaphore, Callable[[], None]]:
    """A node at which `explain` waits; how many do, and what lets them go on."""
    monkeypatch.setattr(http_client, "TRY_AGAIN_SECONDS", (0.0,))
    world.node()
    begun, go_on = threading.Semaphore(0), threading.Event()
    world.ends.callback(go_on.set)
    explain = LocalService.explain

    def stall(self: LocalService, asked: NamespacePath) -> PolicyExplanation:
        begun.release()
        assert go_on.wait(60)
        return explain(self, asked)

    monkeypatch.setattr(LocalService, "explain", stall)
    return begun, go_on.set


def test_more_requests_than_there_is_room_for_are_refused(
    world: HttpWorld,
    stalled: tuple[threading.Semaphore, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowd, "MOST_REQUESTS", 3)
    begun, go_on = stalled
    service = world.remote()
    askers = [threading.Thread(target=service.explain, args=(path(""),)) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in askers:
        assert begun.acquire(timeout=30)
    answer = world.ask("GET", "/v1/tree/data/a")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    with pytest.raises(StoreUnavailable, match="as many requests as it takes"):
        world.remote().stat(path(""))
    assert world.ask("GET", "/readyz").status == 200
    go_on()
    for asker in askers:
        asker.join(30)
    assert world.ask("GET", "/v1/tree/data/a").status == 404


def test_what_is_under_way_is_answered_at_the_end(
    world: HttpWorld, stalled: tuple[threading.Semaphore, Callable[[], None]]
) -> None:
    begun, go_on = stalled
    service = world.remote()
    answered: list[PolicyExplanation] = []
    asker = threading.Thread(target=lambda: answered.append(service.explain(path(""))))
    asker.start()
    assert begun.acquire(timeout=30)
    kept = world.raw()
    kept.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in kept.recv(65536)
    assert world.running is not None and world.running.door is not None
    ending = threading.Thread(target=world.running.door.close)
    ending.start()
    try:
        assert everything(kept) == b""  # idle ones are closed
        with pytest.raises(ConnectionRefusedError):
            world.raw()
        assert not answered
    finally:
        go_on()
        asker.join(30)
        ending.join(30)
    assert answered[0].persistence == "sealed-ssd"


def test_a_long_silence_is_bridged(
    world: HttpWorld,
    stalled: tuple[threading.Semaphore, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node says that it is at it, so that a client may give up one that says nothing."""
    monkeypatch.setattr(routes, "BEAT_SECONDS", 0.05)
    _, go_on = stalled
    connected = world.raw()
    body = c.encode(m.Explain(b"/data"))
    connected.sendall(
        b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nHeadrace-Protocol: 1\r\nContent-Type: "
        + routes.MESSAGE_TYPE.encode()
        + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    said = b""
    while said.count(b"100 Continue") < 3:
        said += connected.recv(65536)
    go_on()
    assert b"200 OK" in everything(connected)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:7070", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:7070", 200),
        ("127.evil.example", 401),
        ("127.0.0.1.evil.example:7070", 401),
        ("localhost.evil.example", 401),
        ("10.0.0.1", 401),
        ("", 401),
    ],
)
def test_a_name_that_only_looks_local_is_not(world: HttpWorld, host: str, status: int) -> None:
    """Without authentication a page in a browser could have its own name lead to the node."""
    world.put("a", 1)
    world.node()
    assert world.ask("GET", "/v1/tree/data/a", {"Host": host}).status == status
