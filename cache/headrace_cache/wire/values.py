"""The values of the tree, to and from their rows of the table."""

from __future__ import annotations

from dataclasses import replace

import headrace_namespace.errors
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.service import AnsweringNode, Status, Why
from headrace_cache.wire.messages import Explained, Failed, ToldStatus, ToldWhy
from headrace_cache.wire.told import ToldEntry, ToldMount, ToldStanding, ToldVersion
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath
from headrace_namespace.standing import Standing


def raw(text: str) -> bytes:
    """A text that may hold bytes of a file's name that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """The text again."""
    return data.decode("utf-8", "surrogateescape")


def told_path(path: NamespacePath) -> bytes:
    """A path."""
    return raw(path.text)


def path_of(data: bytes) -> NamespacePath:
    """The path again, in normal form whoever sent it. Raises InvalidPath."""
    return NamespacePath.parse(text_of(data))


def told_age(freshness: Freshness | None) -> float | None:
    """A freshness, as the age that it allows."""
    return None if freshness is None else freshness.max_age_seconds


def freshness_of(max_age: float | None) -> Freshness | None:
    """The freshness again. Raises ValueError."""
    return None if max_age is None else Freshness.parse(max_age)


def told_version(version: ObjectVersion) -> ToldVersion:
    """A version."""
    ref = version.ref
    return ToldVersion(
        raw(ref.store),
        raw(ref.key),
        version.tag,
        version.size,
        version.strong,
        version.mtime,
        version.version_id,
    )


def version_of(told: ToldVersion) -> ObjectVersion:
    """The version again."""
    return ObjectVersion(
        ObjectRef(text_of(told.store), text_of(told.key)),
        told.tag,
        told.size,
        told.strong,
        told.mtime,
        told.version_id,
    )


def told_entry(entry: Entry) -> ToldEntry:
    """An entry."""
    return ToldEntry(
        told_path(entry.path),
        None if entry.mount is None else told_path(entry.mount),
        None if entry.version is None else told_version(entry.version),
        entry.withheld,
        entry.link,
    )


def entry_of(told: ToldEntry) -> Entry:
    """The entry again."""
    return Entry(
        NamespacePath(text_of(told.path)),
        None if told.mount is None else NamespacePath(text_of(told.mount)),
        None if told.version is None else version_of(told.version),
        told.withheld,
        told.link,
    )


def told_standing(standing: Standing | None) -> ToldStanding | None:
    """For how long an open stands."""
    if standing is None:
        return None
    file = None if standing.file is None else raw(standing.file)
    return ToldStanding(standing.seconds, file, standing.once)


def standing_of(told: ToldStanding | None) -> Standing | None:
    """For how long an open stands, again."""
    if told is None:
        return None
    file = None if told.file is None else text_of(told.file)
    return Standing(told.seconds, file, told.once)


def told_mount(mount: Mount) -> ToldMount:
    """A mount."""
    return ToldMount(
        told_path(mount.path),
        mount.url,
        mount.freshness.max_age_seconds,
        list(mount.tags),
        mount.read_only,
        mount.ttl_seconds,
        mount.mounting,
        mount.source,
    )


def mount_of(told: ToldMount) -> Mount:
    """The mount again."""
    return Mount(
        NamespacePath(text_of(told.path)),
        told.url,
        Freshness(told.max_age),
        tuple(told.tags),
        told.read_only,
        told.ttl_seconds,
        told.mounting,
        told.source,
    )


def told_explanation(explanation: PolicyExplanation) -> Explained:
    """What the policy decides."""
    return Explained(
        told_path(explanation.path),
        explanation.persistence,
        explanation.metadata,
        explanation.guarantee,
        list(explanation.readers),
        explanation.refusal,
        list(explanation.rules),
    )


def explanation_of(told: Explained) -> PolicyExplanation:
    """What the policy decides, again."""
    path = NamespacePath(text_of(told.path))
    return PolicyExplanation(
        path,
        told.persistence,
        told.metadata,
        told.guarantee,
        tuple(told.readers),
        told.refusal,
        tuple(told.rules),
    )


def told_why(why: Why) -> ToldWhy:
    """Why a path's bytes are where they are."""
    return ToldWhy(
        told_version(why.version),
        told_explanation(why.explanation),
        list(why.extents),
        why.pinned,
        list(why.purges),
    )


def why_of(told: ToldWhy) -> Why:
    """Why a path's bytes are where they are, again."""
    return Why(
        version_of(told.version),
        explanation_of(told.explanation),
        tuple(told.extents),
        told.pinned,
        tuple(told.purges),
    )


def status_of(told: ToldStatus, address: str) -> Status:
    """A node's status again, with where it was asked."""
    return replace(told.status, node=AnsweringNode(address, told.process))


def told_error(error: BaseException) -> Failed:
    """An error; of one that is not headrace's own no more than what it says."""
    if not isinstance(error, HeadraceError):
        return Failed("", raw(f"{type(error).__name__}: {error}"), None, None, None)
    path, store, hint = (
        None if text is None else raw(text) for text in (error.path, error.store, error.hint)
    )
    return Failed(type(error).__name__, raw(error.message), path, store, hint)


def error_of(told: Failed) -> HeadraceError:
    """The error again; a `StoreUnavailable` where it is none that this release knows."""
    kind = getattr(headrace_namespace.errors, told.kind, None) if told.kind else None
    path, store, hint = (
        None if text is None else text_of(text) for text in (told.path, told.store, told.hint)
    )
    if not (isinstance(kind, type) and issubclass(kind, HeadraceError)):
        said = f"the node failed: {text_of(told.message)}"
        return headrace_namespace.errors.StoreUnavailable(said, path=path, store=store)
    return kind(text_of(told.message), path=path, store=store, hint=hint)
