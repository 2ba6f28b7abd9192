"""Who may come in by HTTP: tokens and certificates, compared in a time that tells nothing."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Sequence
from typing import cast

from headrace_cache.access import HttpAccess, KnownClient, token_digest
from headrace_cache.policy.audience import ANONYMOUS
from headrace_cache.wire.certificates import require, show
from headrace_namespace.errors import CredentialsRefused

#: Who is admitted where no client is named.
EVERYBODY = KnownClient("", None, None, ANONYMOUS)


class Outdated(Exception):
    """Who is known by a connection's certificate must show it anew: others judge it now."""


class DoorTls(ssl.SSLContext):
    """How the door shows itself, and by which authorities it judges what clients show."""

    #: Their file, as it was read; empty where clients show nothing.
    authorities: bytes = b""

    def trusts_as(self, other: DoorTls | None) -> bool:
        """Whether who was believed by the one would be by the other."""
        return other is self or (other is not None and other.authorities == self.authorities)


class Guard:
    """Tells who a request is from."""

    def __init__(self, clients: Sequence[KnownClient]) -> None:
        """No clients: everybody is admitted, and known as nobody."""
        self._clients = tuple(clients)
        self._tokens = tuple(each for each in self._clients if each.token is not None)

    @property
    def admits_everybody(self) -> bool:
        """Whether nobody has to show anything."""
        return not self._clients

    def identify(self, authorization: str | None, names: frozenset[str]) -> KnownClient:
        """The client that shows this header, and a certificate of these names. Raises
        CredentialsRefused."""
        if not self._clients:
            return EVERYBODY
        if authorization is None:
            for each in self._clients:
                if each.token is None and each.certificate_name in names:
                    return each
            if not self._tokens:
                raise CredentialsRefused("the certificate that was shown is of no client here")
            raise CredentialsRefused("no token was shown", hint="this node wants a bearer token")
        kind, _, token = authorization.partition(" ")
        shown = token_digest(token.strip())
        found: KnownClient | None = None
        for each in self._tokens:  # all of them, whichever it is
            if hmac.compare_digest(cast("bytes", each.token), shown):
                found = each
        if kind.lower() != "bearer" or found is None:
            raise CredentialsRefused("this token is not known here")
        if found.certificate_name is not None and found.certificate_name not in names:
            raise CredentialsRefused("the token belongs to another certificate")
        return found


def certificate_names(shown: object) -> frozenset[str]:
    """The names in a certificate, as `ssl` tells of it: DNS names, and the common name."""
    if not isinstance(shown, dict):
        return frozenset()
    told = cast("dict[str, tuple[object, ...]]", shown)
    alternatives = cast("tuple[tuple[str, str], ...]", told.get("subjectAltName", ()))
    names = {value for kind, value in alternatives if kind == "DNS"}
    for part in cast("tuple[tuple[tuple[str, str], ...], ...]", told.get("subject", ())):
        names.update(value for kind, value in part if kind == "commonName")
    return frozenset(names)


def server_tls(access: HttpAccess) -> DoorTls | None:
    """How the door shows itself, and whom it wants to see. Raises ConfigError."""
    if access.certificate is None or access.key is None:
        return None
    context = DoorTls(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    show(context, access.certificate, access.key, whose="the node")
    if access.client_ca is not None:
        context.authorities = require(context, access.client_ca)
    return context
