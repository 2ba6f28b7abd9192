"""A node takes renewed tokens and certificates without an end, by SIGHUP."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cache.node.conftest import end, path
from tests.cache.node.http.certificates import Authority
from tests.cache.node.http.conftest import TOKEN, HttpWorld

NEW = "a-renewed-token-of-32-characters"
CLIENT = '[[node.client]]\nname = "etl"\ntoken_file = "etl.token"\n'
SHOWN = '[[node.client]]\nname = "etl"\ncertificate_name = "etl.example.org"\n'
TARGET = "/v1/tree/data/a"


class Running:
    """The command `headrace node`, whose log can be waited for."""

    def __init__(self, world: HttpWorld) -> None:
        (world.data / "a").write_bytes(b"bytes")
        options = ["--log-level", "info", "--log-format", "json", "--config", str(world.file)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", *options, "node"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        world.ends.callback(self._end)
        self.wait_for("the node is ready")

    def renew(self) -> str:
        """What the log says of it."""
        self.process.send_signal(signal.SIGHUP)
        return self.wait_for("tokens and certificates")

    def wait_for(self, word: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if word in (said := str(json.loads(line)["message"])):
                return said
        raise AssertionError(f"the node never said {word!r}")

    def rest(self) -> str:
        """All that it says until its end."""
        self.process.terminate()
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def _end(self) -> None:
        end(self.process)
        assert self.process.stderr is not None
        self.process.stderr.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name: tuple[str, int] = listener.getsockname()
        return name[1]


def write_token(world: HttpWorld, token: str) -> None:
    file = world.root / "etl.token"
    file.write_text(token + "\n")
    file.chmod(0o600)


def status(connection: http.client.HTTPConnection, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request("GET", TARGET, headers=headers)
    with closing(connection.getresponse()) as answer:
        answer.read()
        return answer.status


@pytest.fixture
def plain(world: HttpWorld) -> Running:
    """A node that wants a token."""
    write_token(world, TOKEN)
    world.port = free_port()
    world.serve("tls = false\n", CLIENT, world.port)
    return Running(world)


@pytest.fixture
def kept(world: HttpWorld, plain: Running) -> Iterator[http.client.HTTPConnection]:
    """A connection to it that stays open."""
    with closing(http.client.HTTPConnection("localhost", world.port, timeout=30)) as connection:
        yield connection


def test_an_open_connection_is_judged_by_the_new_token(
    world: HttpWorld, plain: Running, kept: http.client.HTTPConnection
) -> None:
    assert (status(kept, TOKEN), status(kept, NEW)) == (200, 401)
    connected = kept.sock
    write_token(world, NEW)
    assert status(kept, TOKEN) == 200  # not before it is told
    assert plain.renew() == "tokens and certificates were read anew"
    assert (status(kept, TOKEN), status(kept, NEW)) == (401, 200)
    assert kept.sock is connected


def spoil_by_none(file: Path) -> None:
    file.unlink()


def spoil_by_nothing(file: Path) -> None:
    file.write_text("")


def spoil_by_everybody(file: Path) -> None:
    file.chmod(0o644)


@pytest.mark.parametrize("spoil", [spoil_by_none, spoil_by_nothing, spoil_by_everybody])
def test_a_token_that_cannot_be_used_keeps_the_old_one(
    world: HttpWorld,
    plain: Running,
    kept: http.client.HTTPConnection,
    spoil: Callable[[Path], None],
) -> None:
    assert status(kept, TOKEN) == 200
    spoil(world.root / "etl.token")
    assert "before stay in force" in plain.renew()
    assert status(kept, TOKEN) == 200
    write_token(world, NEW)
    assert "anew" in plain.renew()
    assert (status(kept, TOKEN), status(kept, NEW)) == (401, 200)
    said = plain.rest()
    assert "stay in force" not in said  # once, and it was said already
    assert TOKEN not in said and NEW not in said


def over_tls(world: HttpWorld, by: Authority, more: str, client: str) -> Running:
    """A node that shows `node.pem`, issued by `by`."""
    install(world, by)
    write_token(world, TOKEN)
    world.port = free_port()
    door = f'certificate = "node.pem"\nkey = "node.key"\n{more}'
    world.serve(door, client, world.port)
    return Running(world)


def install(world: HttpWorld, by: Authority) -> None:
    """Put new files into the place of the old ones."""
    certificate, key = by.issue("node", "localhost")
    for issued, name in ((certificate, "node.pem"), (key, "node.key")):
        shutil.copy2(issued, world.root / f"{name}.new")
        os.replace(world.root / f"{name}.new", world.root / name)


def by_tls(
    world: HttpWorld, trusted: Authority, shown: tuple[Path, Path] | None = None
) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=trusted.file)
    if shown is not None:
        context.load_cert_chain(*shown)
    made = http.client.HTTPSConnection("localhost", world.port, timeout=30, context=context)
    world.ends.callback(made.close)
    return made


def test_a_renewed_certificate_is_shown(
    world: HttpWorld, authority: Authority, impostor: Authority
) -> None:
    running = over_tls(world, authority, "", CLIENT)
    kept = by_tls(world, authority)
    assert status(kept, TOKEN) == 200
    connected = kept.sock
    (world.root / "node.pem").write_text("no certificate")
    assert "before stay in force" in running.renew()
    assert status(by_tls(world, authority), TOKEN) == 200
    install(world, impostor)
    assert "anew" in running.renew()
    with pytest.raises(ssl.SSLCertVerificationError):
        status(by_tls(world, authority), TOKEN)
    assert status(by_tls(world, impostor), TOKEN) == 200
    assert status(kept, TOKEN) == 200  # it was agreed on before
    assert kept.sock is connected


def test_who_showed_what_is_no_longer_trusted_is_not_believed(
    world: HttpWorld, authority: Authority, impostor: Authority
) -> None:
    shutil.copy(authority.file, world.root / "clients.pem")
    running = over_tls(world, authority, 'client_ca = "clients.pem"\n', SHOWN)
    old, new = (by.issue("etl", "etl.example.org") for by in (authority, impostor))
    kept = by_tls(world, authority, old)
    assert status(kept) == 200
    assert "anew" in running.renew()  # with the same authorities
    assert status(kept) == 200
    shutil.copy(impostor.file, world.root / "clients.pem")
    assert "anew" in running.renew()
    assert status(kept) == 503
    assert kept.sock is None  # it was closed
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        status(by_tls(world, authority, old))
    assert status(by_tls(world, authority, new)) == 200


def test_headrace_s_clients_connect_anew_by_themselves(
    world: HttpWorld, authority: Authority, impostor: Authority
) -> None:
    shutil.copy(authority.file, world.root / "clients.pem")
    running = over_tls(world, authority, 'client_ca = "clients.pem"\n', SHOWN)
    certificate, key = authority.issue("etl", "etl.example.org")
    given = {"ca": str(authority.file), "certificate": str(certificate), "key": str(key)}
    opened = world.remote(given).open(path("a"))
    assert opened.read_at(0, 2) == b"by"
    both = authority.file.read_bytes() + impostor.file.read_bytes()
    (world.root / "clients.pem").write_bytes(both)
    assert "anew" in running.renew()
    assert opened.read_at(3, 5) == b"es"
