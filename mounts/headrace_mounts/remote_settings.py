"""The parts of a configuration about nodes: where one listens for other hosts and whom it admits,
and how a client reaches one.

A job reads the same file as its node and may not be allowed to read the node's secrets: those are
read where they are needed, everything else is checked wherever the file is loaded.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from headrace_cache.access import (
    LEAST_TOKEN_CHARACTERS,
    HttpAccess,
    KnownClient,
    NodeAddress,
    token_digest,
)
from headrace_cache.policy.audience import Principal
from headrace_cache.policy.names import name_in, names_in
from headrace_namespace.config import Table, read_text
from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import ConfigError
from headrace_namespace.variables import home_folder

_NO_ADDRESS = "must be host:port, with a port up to 65535"
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):(?P<port>\d{1,5})")


class RemoteOptions(TypedDict, total=False):
    """How a node of another host is reached, as a program says it: the keys of a `[[remote]]`
    beside its address, and the token itself."""

    token: str
    token_file: str | Path
    token_env: str
    ca: str | Path
    certificate: str | Path
    key: str | Path
    tls: bool


#: The names of these.
REMOTE_OPTIONS = frozenset(RemoteOptions.__annotations__)


def host_and_port(text: str) -> tuple[str, int] | None:
    """The host and the port in `host:port`; None where it is none."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        return None
    return match["host"].strip("[]"), int(match["port"])


def file_named(table: Table, key: str, folder: Path, environ: Mapping[str, str]) -> Path:
    """A file's name in a value: `~/` is the home, a relative name is relative to `folder`."""
    text = table.text(key)
    if not text or "\0" in text:
        raise table.error(key, "must name a file or folder")
    if text.startswith("~/"):
        return home_folder(environ) / text[2:]
    return folder / text


def _optional_file(table: Table, key: str, folder: Path, environ: Mapping[str, str]) -> Path | None:
    return None if table.optional_text(key) is None else file_named(table, key, folder, environ)


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a token is: a file, an environment variable, or given as it is. `where` is for
    errors."""

    where: str
    file: Path | None = None
    variable: str | None = None
    given: str | None = None

    def read(self, environ: Mapping[str, str]) -> str:
        """The token. Raises ConfigError."""
        if self.file is not None:
            text, what = self._of_file(self.file), f"the token in {self.file}"
        elif self.variable is not None:
            if self.variable not in environ:
                raise ConfigError(f"{self.where}: the variable {self.variable} is not set")
            text, what = environ[self.variable], f"the variable {self.variable}"
        else:
            text, what = self.given or "", "the token"
        token = text.strip()
        if len(token) < LEAST_TOKEN_CHARACTERS:
            raise ConfigError(
                f"{self.where}: {what} has fewer than {LEAST_TOKEN_CHARACTERS} characters",
                hint="make one by: openssl rand -hex 32",
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(f"{self.where}: {what} has characters that no header can carry")
        return token

    def _of_file(self, file: Path) -> str:
        try:
            _refuse_public(file, self.where)
        except OSError as error:
            raise ConfigError(
                f"{self.where}: the token file {file} cannot be read: {error.strerror}"
            ) from None
        try:
            return read_text(file, "token file")
        except ConfigError as error:
            error.saying(f"{self.where}: {error.message}")
            raise


def _refuse_token(table: Table) -> None:
    """This file is for many to read: a node's clients of its own host have the same one."""
    if "token" in table:
        raise table.error(
            "token",
            "a token does not belong here, where others read it",
            'put it into a file of its own, with chmod 600, and write token_file = "…"; or '
            'token_env = "…" with the name of an environment variable',
        )


def _refuse_public(file: Path, where: str) -> None:
    """Raises ConfigError for a secret's file that everybody may use, and OSError."""
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{where}: {file} is a folder")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(
            f"{where}: everybody on this host can read or write {file}", hint=f"chmod 600 {file}"
        )


def _refuse_public_key(file: Path | None, where: str) -> None:
    """As `_refuse_public`; that a key cannot be read is said when it is."""
    if file is not None:
        with suppress(OSError):
            _refuse_public(file, where)


def _secret(table: Table, folder: Path, environ: Mapping[str, str]) -> Secret | None:
    file = _optional_file(table, "token_file", folder, environ)
    variable = table.optional_text("token_env")
    if file is not None and variable is not None:
        raise table.error("token_env", "token_file names the token already")
    if file is None and variable is None:
        return None
    return Secret(table.where("token_file" if file else "token_env"), file, variable)


@dataclass(frozen=True, slots=True)
class _Client:
    table: Table
    name: str
    secret: Secret | None
    certificate_name: str | None
    principal: Principal


@dataclass(frozen=True, slots=True)
class HttpDeclaration:
    """`[node.http]` and `[[node.client]]` as written, checked but for what lies in files."""

    host: str
    port: int
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    clients: tuple[_Client, ...]

    def access(self, environ: Mapping[str, str]) -> HttpAccess:
        """With the tokens, for the node itself. Raises ConfigError."""
        _refuse_public_key(self.key, "[node.http] key")
        known: list[KnownClient] = []
        for client in self.clients:
            token = None if client.secret is None else token_digest(client.secret.read(environ))
            same = next((each.name for each in known if token and each.token == token), None)
            if same is not None:
                raise client.table.error(None, f"{client.name} has the same token as {same}")
            known.append(KnownClient(client.name, token, client.certificate_name, client.principal))
        return HttpAccess(
            self.host, self.port, self.certificate, self.key, self.client_ca, tuple(known)
        )


def read_http(node: Table, folder: Path, environ: Mapping[str, str]) -> HttpDeclaration | None:
    """`[node.http]` and `[[node.client]]`; None where other hosts are not served. Raises
    ConfigError."""
    client_tables = node.tables("client")
    table = node.table("http")
    if "http" not in node:
        if client_tables:
            raise node.error("client", "clients of other hosts come by HTTP", "write a [node.http]")
        return None
    listen = host_and_port(table.text("listen"))
    if listen is None:
        raise table.error("listen", _NO_ADDRESS, 'write it like "0.0.0.0:7070"')
    certificate, key, client_ca = (
        _optional_file(table, name, folder, environ) for name in ("certificate", "key", "client_ca")
    )
    tls, authenticated = table.boolean("tls", True), table.boolean("authentication", True)
    table.done()  # a misspelt key is told of before the one that is therefore missing
    local = is_loopback(listen[0])
    if not tls:
        if not local:
            raise table.error("tls", f"only a loopback address may go without, not {listen[0]}")
        if certificate or key or client_ca:
            raise table.error("tls", "false, and yet a certificate, key or client_ca is named")
    elif certificate is None or key is None:
        missing = "certificate" if certificate is None else "key"
        hint = "on a loopback address tls = false does without" if local else None
        raise table.error(None, f"{missing!r} is missing", hint)
    if not authenticated and not local:
        raise table.error(
            "authentication", f"only a loopback address may go without, not {listen[0]}"
        )
    if not authenticated and client_tables:
        raise table.error("authentication", "false, and yet there are [[node.client]] tables")
    if authenticated and not client_tables:
        hint = "on a loopback address authentication = false does without" if local else None
        raise table.error(None, "nobody could come in: there is no [[node.client]]", hint)
    clients = _clients(client_tables, folder, environ, shows_certificates=client_ca is not None)
    return HttpDeclaration(*listen, certificate, key, client_ca, clients)


def _clients(
    tables: Sequence[Table], folder: Path, environ: Mapping[str, str], *, shows_certificates: bool
) -> tuple[_Client, ...]:
    clients: dict[str, _Client] = {}
    for table in tables:
        name = table.text("name")
        if not name or name in clients:
            raise table.error("name", f"{name!r} names another client too" if name else "is empty")
        certificate_name = table.optional_text("certificate_name")
        if certificate_name is not None and not shows_certificates:
            raise table.error("certificate_name", "clients show none where there is no client_ca")
        _refuse_token(table)
        secret = _secret(table, folder, environ)
        if secret is None and certificate_name is None:
            hint = "write token_file, token_env or certificate_name"
            raise table.error(None, "it shows nothing by which it could be known", hint)
        users = frozenset({name_in(table, "user", name)})
        principal = Principal(users, names_in(table, "groups"))
        table.done()
        clients[name] = _Client(table, name, secret, certificate_name, principal)
    return tuple(clients.values())


@dataclass(frozen=True, slots=True)
class Remote:
    """What is known of how to reach a node: a `[[remote]]`, or what a caller gave himself."""

    secret: Secret | None
    ca: Path | None
    certificate: Path | None
    key: Path | None
    tls: bool | None

    def over(self, other: Remote) -> Remote:
        """This, and what it does not say by the other."""
        if self.tls is False:  # what is for TLS is not for this
            return Remote(self.secret or other.secret, None, None, None, False)
        return Remote(
            self.secret or other.secret,
            self.ca or other.ca,
            self.certificate or other.certificate,
            self.key or other.key,
            other.tls if self.tls is None else self.tls,
        )

    def address(self, host: str, port: int, environ: Mapping[str, str]) -> NodeAddress:
        """How to reach the node there. Raises ConfigError."""
        tls = self.tls is not False
        if not tls and not is_loopback(host):
            raise ConfigError(f"a node at {host} is not reached without TLS: only one on loopback")
        if not tls and (self.ca or self.certificate or self.key):
            raise ConfigError("tls is false, and yet a ca, certificate or key is named")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a client's certificate and key are given together")
        _refuse_public_key(self.key, "the client's key")
        return NodeAddress(
            Endpoint("https" if tls else "http", host, port),
            None if self.secret is None else self.secret.read(environ),
            self.ca,
            self.certificate,
            self.key,
        )


def read_remote(table: Table, folder: Path, environ: Mapping[str, str]) -> Remote:
    """The keys of a node that a client reaches. Raises ConfigError."""
    token = table.optional_text("token") if "token" in table else None
    secret = _secret(table, folder, environ)
    if token is not None:
        if secret is not None:
            raise table.error("token", "token_file or token_env names the token already")
        secret = Secret(table.where("token"), given=token)
    ca, certificate, key = (
        _optional_file(table, name, folder, environ) for name in ("ca", "certificate", "key")
    )
    tls = table.boolean("tls", True) if "tls" in table else None
    table.done()
    return Remote(secret, ca, certificate, key, tls)


def read_remotes(
    root: Table, folder: Path, environ: Mapping[str, str]
) -> dict[tuple[str, int], Remote]:
    """The `[[remote]]` tables, by address. Raises ConfigError."""
    remotes: dict[tuple[str, int], Remote] = {}
    for table in root.tables("remote"):
        address = host_and_port(table.text("address"))
        if address is None:
            raise table.error("address", _NO_ADDRESS, 'write it like "cache.local:7070"')
        if address in remotes:
            raise table.error("address", "there is another [[remote]] of this address")
        _refuse_token(table)
        remotes[address] = read_remote(table, folder, environ)
    return remotes


def is_loopback(host: str) -> bool:
    """Whether nobody outside of this host can be at that address."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
