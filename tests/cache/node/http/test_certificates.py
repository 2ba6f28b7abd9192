"""What is said of certificates and keys that cannot be used, by the node and by its clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from headrace_cache.wire.certificates import client_context, require, show
from headrace_namespace.errors import ConfigError
from tests.cache.node.http.certificates import Authority


def locked(key: Path) -> Path:
    """The key again, behind a password."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    file = key.with_name("locked.key")
    file.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    return file


def test_what_is_wrong_is_said_in_words(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("a", "localhost")
    _, other = authority.issue("b", "localhost")
    garbage = authority.folder / "garbage"
    garbage.write_text("no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: show(context, certificate, other, whose="x"), "the key is that of another"),
        (lambda: show(context, garbage, key, whose="x"), "not in PEM form"),
        (lambda: show(context, certificate, garbage, whose="x"), "not in PEM form"),
        (lambda: show(context, certificate, locked(key), whose="x"), "locked by a password"),
        (lambda: show(context, authority.folder / "no", key, whose="x"), "certificate .*no of x"),
        (lambda: show(context, certificate, authority.folder / "no", whose="x"), "key .*no of x"),
        (lambda: client_context(garbage), "the ca .*garbage.* not in PEM form"),
        (lambda: client_context(authority.folder / "no"), "the ca .* No such file"),
        (lambda: require(context, garbage), "the client_ca .*garbage.* not in PEM form"),
    ]
    for work, word in wrong:
        with pytest.raises(ConfigError, match=word) as caught:
            work()
        assert "_ssl.c" not in str(caught.value) and "Errno" not in str(caught.value)
