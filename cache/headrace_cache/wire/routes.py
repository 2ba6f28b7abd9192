"""The table of HTTP routes between a node and its clients of other hosts; both ends read it.

`POST /v1/ask` takes one message and answers one (`changes.py`); a listing is answered by many, each
with its length before it. `/v1/tree/<path>` is an object's bytes for any HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

import headrace_namespace.errors as e
from headrace_cache.wire.values import raw, text_of
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

#: Another number: the two ends do not understand each other, and say so.
HTTP_PROTOCOL = 1

ASK = "/v1/ask"
TREE = "/v1/tree"
HEALTH = "/healthz"
READY = "/readyz"
METRICS = "/metrics"

#: Every answer carries the first two, and a headrace client's requests.
PROTOCOL_HEADER = "Headrace-Protocol"
RELEASE_HEADER = "Headrace-Release"
#: Of an object: whether policy keeps its bytes from every disk.
RESTRICTED_HEADER = "Headrace-Restricted"
#: Of a PUT: "true" to add to what is there, and the tag that the object there must have.
APPEND_HEADER = "Headrace-Append"
TAG_HEADER = "Headrace-If-Version"
#: What a message is sent as. Who accepts it gets errors as messages too, others as one line.
MESSAGE_TYPE = "application/vnd.headrace+msgpack"

#: While an answer takes long, how often the node says that it is at it (100 Continue, which every
#: HTTP/1.1 client passes over), so that a client can give up one that is dead.
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Row:
    kind: type[e.HeadraceError]
    status: int


#: The first row whose class an error is of. A class below comes before the one above it.
STATUSES = (
    _Row(e.InvalidPath, 400),
    _Row(e.NameTooLong, 400),
    _Row(e.ConfigError, 400),
    _Row(e.CredentialsRefused, 502),  # the node's own, at the store
    _Row(e.ClockSkewed, 502),
    _Row(e.PolicyDenied, 403),
    _Row(e.AccessRefused, 403),
    _Row(e.ReadOnly, 403),
    _Row(e.NotFound, 404),
    _Row(e.VersionGone, 412),
    _Row(e.WriteConflict, 412),
    _Row(e.AlreadyExists, 412),
    _Row(e.IsFolder, 409),
    _Row(e.NotFolder, 409),
    _Row(e.FolderNotEmpty, 409),
    _Row(e.TooManyOpen, 503),
    _Row(e.StoreFull, 507),
    _Row(e.StoreTimeout, 504),
    _Row(e.StoreAnswerWrong, 502),
    _Row(e.StoreUnavailable, 502),
)


def status_of(error: e.HeadraceError) -> int:
    """The status that tells an HTTP client of an error."""
    return next((row.status for row in STATUSES if isinstance(error, row.kind)), 500)


def target_of(path: NamespacePath) -> str:
    """The target of a path's object: each byte that a URL cannot hold percent-encoded."""
    return TREE + quote_from_bytes(raw(path.text), safe="/-._~")


def path_in(target: str) -> NamespacePath:
    """The path in a target below `TREE`. Raises InvalidPath where it is none, or is not written in
    its normal form: a tree has no `..`, and what goes by HTTP shall not look as if it had."""
    written = target.removeprefix(TREE)
    # Header bytes beyond ASCII reach us as surrogates or Latin-1; an encoded path has none.
    text = text_of(unquote_to_bytes(written)) if written.isascii() else "\0"
    path = NamespacePath.parse("/" + text.removeprefix("/"))
    if text.rstrip("/") != path.text.rstrip("/"):
        raise e.InvalidPath(
            "a path is written in its normal form here: no '.', '..' or '//' in it",
            path=path.text,
        )
    return path


def etag_of(version: ObjectVersion) -> str:
    """The version's ETag, without its quotes."""
    return version.digest().hex()


def other_protocol(node: str, node_speaks: int, client: str, client_speaks: str) -> e.ConfigError:
    """Two ends of different protocols: who must be upgraded."""
    older = "client"
    if client_speaks.isdecimal() and int(client_speaks) > node_speaks:
        older = "node"
    return e.ConfigError(
        f"the node is headrace {node} (protocol {node_speaks}) and the client is {client} "
        f"(protocol {client_speaks})",
        hint=f"upgrade the {older}",
    )
