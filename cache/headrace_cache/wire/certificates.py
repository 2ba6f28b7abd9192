"""Files of certificates and keys, as TLS takes them; what is wrong with one, in words.

The node and its clients of other hosts load them alike.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from headrace_namespace.errors import ConfigError


def show(context: ssl.SSLContext, certificate: Path, key: Path, *, whose: str) -> None:
    """Let the context show a certificate. Raises ConfigError."""

    def no_password() -> str:
        # OpenSSL would ask for it at the terminal, and wait.
        raise ConfigError(
            f"the key {key} of {whose} is locked by a password", hint="give it without one"
        )

    for name, file in (("certificate", certificate), ("key", key)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ConfigError(
                f"the {name} {file} of {whose} cannot be read: {error.strerror}"
            ) from None
    try:
        context.load_cert_chain(certificate, key, no_password)
    except OSError as error:  # ssl's own are of these
        raise ConfigError(
            f"the certificate {certificate} and key {key} of {whose} cannot be used: {_said(error)}"
        ) from None


def client_context(ca: Path | None) -> ssl.SSLContext:
    """For a client that trusts the authorities in `ca`, or the system's. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigError(f"the ca {ca} cannot be used: {_said(error)}") from None


def require(context: ssl.SSLContext, client_ca: Path) -> bytes:
    """Let a node want to see a certificate of one of these authorities; their file, as it was
    before it was loaded. Raises ConfigError."""
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        content = client_ca.read_bytes()
        context.load_verify_locations(client_ca)
        return content
    except OSError as error:
        raise ConfigError(f"the client_ca {client_ca} cannot be used: {_said(error)}") from None


def _said(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is that of another certificate"
    return "not in PEM form, as text that begins with -----BEGIN"
