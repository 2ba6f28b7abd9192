"""Who comes in, and who does not: tokens, certificates, and neither."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.policy.audience import Principal
from headrace_cache.remote import http_client
from headrace_cache.wire import routes
from headrace_namespace.errors import AccessRefused, CredentialsRefused, StoreUnavailable
from tests.cache.node.conftest import path
from tests.cache.node.http.certificates import Authority
from tests.cache.node.http.conftest import TOKEN, HttpWorld

OTHER = "another-token-that-is-long-enough"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "TRY_AGAIN_SECONDS", (0.0, 0.0))


def token_files(world: HttpWorld) -> None:
    for name, token in (("etl", TOKEN), ("bi", OTHER)):
        file = world.root / f"{name}.token"
        file.write_text(token + "\n")
        file.chmod(0o600)


CLIENTS = """
[[node.client]]
name = "etl"
token_file = "etl.token"
groups = ["hr"]
[[node.client]]
name = "bi"
token_file = "bi.token"
user = "analyst"
"""


@pytest.fixture
def guarded(world: HttpWorld) -> HttpWorld:
    token_files(world)
    world.serve("tls = false\n", CLIENTS)
    world.put("a", 100)
    return world


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/tree/data/a"),
        ("HEAD", "/v1/tree/data/a"),
        ("PUT", "/v1/tree/data/new"),
        ("POST", routes.ASK),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("DELETE", "/v1/tree/data/a"),
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN],
)
def test_nobody_comes_in_without_a_token(
    guarded: HttpWorld, method: str, target: str, authorization: str | None
) -> None:
    guarded.node()
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = guarded.ask(method, target, headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Headrace-Release" in answer.headers
    assert sorted(file.name for file in guarded.data.iterdir()) == ["a"]


def test_a_token_is_not_logged(guarded: HttpWorld, caplog: pytest.LogCaptureFixture) -> None:
    guarded.node()
    with caplog.at_level(logging.DEBUG):
        guarded.ask("GET", "/v1/tree/data/a", {"Authorization": "Bearer secret-secret-secret"})
    assert "refused a client at 127.0.0.1" in caplog.text
    assert "secret-secret" not in caplog.text


def test_a_client_is_who_its_token_says(
    guarded: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Principal] = []
    seen_by = LocalService.seen_by

    def noted(self: LocalService, principal: Principal) -> LocalService:
        seen.append(principal)
        return seen_by(self, principal)

    monkeypatch.setattr(LocalService, "seen_by", noted)
    guarded.node()
    assert seen == [
        Principal(frozenset({"etl"}), frozenset({"hr"})),
        Principal(frozenset({"analyst"}), frozenset()),
    ]
    for token in (TOKEN, OTHER):
        service = guarded.remote({"tls": False, "token": token})
        assert len(service.open(path("a")).read_at(0, 100)) == 100
    with pytest.raises(CredentialsRefused, match="not known here"):
        guarded.remote({"tls": False, "token": "wrong-wrong-wrong-wrong"}).stat(path("a"))
    with pytest.raises(CredentialsRefused, match="give a token"):
        guarded.remote().stat(path("a"))


def test_an_object_kept_open_for_one_client_is_not_another_s(guarded: HttpWorld) -> None:
    node = guarded.node()
    assert node.door is not None
    objects = node.door._objects  # pyright: ignore[reportPrivateUsage]
    for token in (TOKEN, OTHER, TOKEN):
        guarded.ask("GET", "/v1/tree/data/a", {"Authorization": f"Bearer {token}"})
    assert len(objects) == 2


def over_tls(world: HttpWorld, authority: Authority, more: str = "", clients: str = "") -> None:
    certificate, key = authority.issue("node", "localhost")
    token_files(world)
    world.put("a", 3_000_000)
    world.serve(f'certificate = "{certificate}"\nkey = "{key}"\n{more}', clients or CLIENTS)
    world.node()


def given(authority: Authority, **more: object) -> Mapping[str, object]:
    return {"ca": str(authority.file), **more}


def test_over_tls(world: HttpWorld, authority: Authority) -> None:
    over_tls(world, authority)
    service = world.remote(given(authority, token=TOKEN))
    opened = service.open(path("a"))
    assert opened.read_at(0, 3_000_000) == (world.data / "a").read_bytes()
    writer = service.create(path("new"))
    writer.write(memoryview(bytes(3_000_000)))
    writer.commit()
    assert (world.data / "new").stat().st_size == 3_000_000
    context = ssl.create_default_context(cafile=authority.file)
    answer = world.ask("GET", "/v1/tree/data/a", {"Authorization": f"Bearer {TOKEN}"}, tls=context)
    assert answer.body == (world.data / "a").read_bytes()


def test_tls_that_cannot_be_trusted_is_said(
    world: HttpWorld, authority: Authority, impostor: Authority
) -> None:
    over_tls(world, authority)
    with pytest.raises(StoreUnavailable, match="is not trusted.*file as ca"):
        world.remote(given(impostor, token=TOKEN)).stat(path("a"))
    with pytest.raises(StoreUnavailable, match="is not trusted"):
        world.remote({"token": TOKEN}).stat(path("a"))
    with pytest.raises(StoreUnavailable, match="not reached with tls = false"):
        world.remote({"tls": False, "token": TOKEN}).stat(path("a"))


def test_a_certificate_of_another_name_is_said(world: HttpWorld, authority: Authority) -> None:
    certificate, key = authority.issue("elsewhere", "cache.example.org")
    token_files(world)
    world.serve(f'certificate = "{certificate}"\nkey = "{key}"\n', CLIENTS)
    world.node()
    with pytest.raises(StoreUnavailable, match=r"Hostname mismatch.*is it the node's address\?"):
        world.remote(given(authority, token=TOKEN)).stat(path("a"))


def test_tls_where_there_is_none_is_said(world: HttpWorld) -> None:
    world.node()
    with pytest.raises(StoreUnavailable, match="a node without TLS is reached with tls = false"):
        world.remote({}).stat(path("a"))


BY_CERTIFICATE = """
[[node.client]]
name = "etl"
certificate_name = "etl.example.org"
[[node.client]]
name = "bi"
token_file = "bi.token"
certificate_name = "bi"
"""


def test_clients_show_certificates(
    world: HttpWorld, authority: Authority, impostor: Authority
) -> None:
    over_tls(world, authority, f'client_ca = "{authority.file}"\n', BY_CERTIFICATE)
    etl, bi, stranger = (
        {"certificate": str(certificate), "key": str(key)}
        for certificate, key in (
            authority.issue("etl", "etl.example.org"),
            authority.issue("bi"),
            authority.issue("stranger"),
        )
    )

    def size(**more: object) -> int | None:
        return world.remote(given(authority, **more)).stat(path("a")).size

    assert size(**etl) == 3_000_000  # by the certificate alone
    assert size(**bi, token=OTHER) == 3_000_000  # by both
    with pytest.raises(CredentialsRefused, match="give a token"):
        size(**bi)
    with pytest.raises(CredentialsRefused, match="another certificate"):
        size(**etl, token=OTHER)
    with pytest.raises(CredentialsRefused, match="not known here"):
        size(**etl, token=TOKEN)
    with pytest.raises(CredentialsRefused):
        size(**stranger)
    with pytest.raises((AccessRefused, StoreUnavailable)):
        size(token=OTHER)  # none at all
    certificate, key = impostor.issue("etl", "etl.example.org")
    with pytest.raises((AccessRefused, StoreUnavailable)):
        size(certificate=str(certificate), key=str(key))


def test_where_certificates_alone_count_nobody_is_asked_for_a_token(
    world: HttpWorld, authority: Authority
) -> None:
    by_name = '[[node.client]]\nname = "etl"\ncertificate_name = "etl"\n'
    over_tls(world, authority, f'client_ca = "{authority.file}"\n', by_name)
    certificate, key = authority.issue("stranger")
    shown = {"certificate": str(certificate), "key": str(key)}
    with pytest.raises(CredentialsRefused, match="is of no client here") as caught:
        world.remote(given(authority, **shown)).stat(path("a"))
    assert "token" not in str(caught.value)
    with pytest.raises((AccessRefused, StoreUnavailable), match="certificate of its client"):
        world.remote(given(authority)).stat(path("a"))
