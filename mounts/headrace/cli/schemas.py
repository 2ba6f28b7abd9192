"""What `--json` prints, command by command, as JSON Schemas (draft 2020-12): scripts rely on it.

Keys may be added in later versions; none is taken away or given another meaning. The tables of
docs/commands.md and the tests of every command's real output are held to this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: A JSON Schema; a dict of dicts and lists, which no simpler type says.
Schema = dict[str, Any]


def _text(meaning: str, *, choices: tuple[str, ...] = (), null: bool = False) -> Schema:
    schema = _typed("string", meaning, null=null)
    if choices:
        schema["enum"] = [*choices, None] if null else list(choices)
    return schema


def _count(meaning: str, *, null: bool = False) -> Schema:
    return _typed("integer", meaning, null=null) | {"minimum": 0}


def _number(meaning: str, *, null: bool = False) -> Schema:
    return _typed("number", meaning, null=null)


def _flag(meaning: str, *, null: bool = False) -> Schema:
    return _typed("boolean", meaning, null=null)


def _typed(kind: str, meaning: str, *, null: bool) -> Schema:
    return {"type": [kind, "null"] if null else kind, "description": meaning}


def _list(meaning: str, items: Schema) -> Schema:
    return {"type": "array", "description": meaning, "items": items}


def _object(
    meaning: str,
    first: Mapping[str, Schema] | None = None,
    *,
    optional: tuple[str, ...] = (),
    null: bool = False,
    **more: Schema,
) -> Schema:
    keys = {**(first or {}), **more}
    return {
        "type": ["object", "null"] if null else "object",
        "description": meaning,
        "properties": keys,
        "required": [key for key in keys if key not in optional],
        "additionalProperties": False,
    }


def _map(meaning: str, values: Schema) -> Schema:
    return {"type": "object", "description": meaning, "additionalProperties": values}


_ENTRY: Mapping[str, Schema] = {
    "path": _text("the path in the tree"),
    "type": _text("what it is", choices=("file", "directory")),
    "size": _count("bytes; 0 for a folder, null where the policy withholds it", null=True),
    "mtime": _number("when it was changed, in seconds since the epoch", null=True),
    "version": _text("which bytes: the store's ETag, or what a file shows of a change", null=True),
    "strong": _flag("whether equal versions promise equal bytes", null=True),
    "mount": _text("the mount that it belongs to", null=True),
}
_FAILED = _list(
    "what could not be done, at most 10,000 of it",
    _object(
        "one failure",
        path=_text("where"),
        error=_text("its kind, as Python names it"),
        message=_text("the sentence, as on standard error"),
    ),
)
_RULES = _list(
    "the rules that apply, the default first",
    _object("one rule", name=_text("its name"), why=_text("by which condition and which name")),
)
_PERSISTENCE = _text(
    "where bytes may be kept",
    choices=("any", "sealed-ssd", "memory-only", "no-cache", "deny"),
)
_METADATA = _text("where names, sizes and versions may be kept", choices=("persist", "memory-only"))
_GUARANTEE = _text("what a host must prove", choices=("unattested", "G1", "G2"))
_READERS = _list("who may read it: everybody, or whom each of these lets", _text("a rule's list"))
_TIER = _object(
    "one tier; one that is off is missing",
    used=_count("bytes held"),
    limit=_count("bytes that it may hold"),
    objects=_count("objects of which it holds something"),
    waiting=_count("bytes that wait to be stored in it"),
)
_REQUESTS = _map(
    "requests to each mount's store",
    _map("by operation", _count("how often")),
)
_COUNTS: Mapping[str, Schema] = {
    "hits": _count("reads that found their bytes in memory"),
    "misses": _count("reads that did not"),
    "bytes_fetched": _count("bytes that came from the stores"),
    "bytes_served": _count("bytes given to readers"),
    "requests": _REQUESTS,
}


def _held(word: str) -> Schema:
    return _object(
        "one document",
        objects=_count(f"objects {word}"),
        bytes=_count("their bytes"),
        failed=_FAILED,
    )


def _work(word: str) -> Schema:
    return _object(
        "one document",
        objects=_count(f"objects {word}"),
        bytes=_count("their bytes"),
        seconds=_number("how long it took"),
        failed=_FAILED,
    )


_MOUNT: dict[str, Schema] = {
    "path": _text("where it stands in the tree"),
    "url": _text("the store; never with a credential"),
    "freshness": _text("how old an answer of the store may be"),
    "tags": _list("words that rules match", _text("key=value")),
    "read_only": _flag("whether writes are refused"),
    "ttl": _number("for how many seconds its bytes may be kept; null: no bound", null=True),
    "source": _text("the line of the configuration, or: run time"),
}

_OF_COMMANDS: Mapping[str, Schema] = {
    "ls": _object("one object or folder a line", _ENTRY),
    "stat": _object("one object or folder a line", _ENTRY),
    "tree": _object("one object or folder a line, each folder before what lies in it", _ENTRY),
    "du": _object(
        "one folder a line, after those below it",
        {**_ENTRY, "size": _count("bytes of all that lies in it")},
        objects=_count("how many objects lie in it"),
    ),
    "warm": _object(
        "one document",
        objects=_count("objects that are warm now"),
        bytes=_count("their bytes, or those of the chosen columns"),
        bytes_fetched=_count("bytes that came from the stores for it"),
        seconds=_number("how long it took"),
        skipped=_list(
            "what there was no use in warming",
            _object("one reason", reason=_text("why"), objects=_count("how many objects")),
        ),
        failed=_FAILED,
    ),
    "drop": _held("dropped"),
    "pin": _held("pinned"),
    "unpin": _held("that were pinned, and are no longer"),
    "why": _object(
        "one document",
        path=_text("the path in the tree"),
        version=_text("which bytes are there now"),
        rule=_RULES,
        placement=_object(
            "what the policy decides",
            persistence=_PERSISTENCE,
            metadata=_METADATA,
            guarantee=_GUARANTEE,
            readers=_READERS,
        ),
        extents=_list(
            "what is held of it, as unbroken runs",
            _object(
                "one run",
                offset=_count("where in the object it begins"),
                length=_count("its bytes"),
                tier=_text("where it lies", choices=("memory", "ssd")),
                fetched_at=_number("when the oldest of it was fetched (epoch)", null=True),
                source=_text("the store that it came from"),
            ),
        ),
        pinned=_flag("whether the SSD tier keeps it whatever else comes"),
        purges=_list(
            "purges that took bytes of its folder",
            _object(
                "one purge",
                at=_number("when (seconds since the epoch)"),
                epoch=_count("of which policy"),
                rules=_list("the rules that demanded it", _text("a name")),
                objects=_count("objects purged"),
                bytes=_count("bytes purged"),
                method=_text("how"),
                verified=_flag("whether a look afterwards found nothing left to open"),
            ),
        ),
    ),
    "status": _object(
        "one document",
        {
            "node": _object(
                "the node that answered; null: a cache of the command's own",
                address=_text("its socket on this host, or its URL"),
                process=_count("its process, as it knows itself; null: on another host", null=True),
                null=True,
            ),
            "tiers": _object("by tier", optional=("memory", "ssd"), memory=_TIER, ssd=_TIER),
            "since": _number("since when all processes are counted (epoch)", null=True),
            **_COUNTS,
        },
        hit_ratio=_number("hits of all reads, 0 to 1; null before the first", null=True),
        bytes_saved=_count("bytes served that needed no fetch"),
        process=_object("the same of the cache that answered alone, since it began", _COUNTS),
    ),
    "top": _object(
        "one look a line",
        {
            "tiers": _object("by tier", optional=("memory", "ssd"), memory=_TIER, ssd=_TIER),
            **_COUNTS,
        },
        release=_text("which headrace the node is"),
        process=_count("its process"),
        since=_number("since when it serves (epoch)"),
        seconds_up=_number("for how long"),
        resident_bytes=_count("bytes of the process in memory"),
        own_bytes=_count("those of them that are not the cache's"),
        connections=_count("connections of clients"),
        most_connections=_count("as many as there may be"),
        clients=_list(
            "processes that use it, the busiest first, at most 256",
            _object(
                "one client",
                number=_count("its session"),
                process=_count("its process"),
                user=_count("its user's number"),
                since=_number("since when (epoch)"),
                handles=_count("objects that it has open"),
                extents=_count("extents of memory that it was lent"),
                lent_bytes=_count("their bytes"),
                called_back=_count("those that it was asked to give back, and has not yet"),
                answered=_count("its requests that were answered"),
            ),
        ),
        clients_left_out=_count("further ones"),
        requests_under_way=_count("requests being answered"),
        requests_waiting=_count("requests that wait for their client's turn"),
        answered=_count("requests that were answered"),
        lent_bytes=_count("bytes of memory that clients have mapped"),
        lent_extents=_count("the extents that these are"),
        flights=_map("fetches from stores under way", _count("how many of this mount")),
        mounts_left_out=_count("mounts of which nothing is told, for want of room"),
        sealing_bytes=_count("bytes that wait to be sealed on the SSD"),
        edition=_count("grows when something was withdrawn"),
        policy=_object(
            "the policy in force",
            epoch=_count("its epoch"),
            broken=_flag("whether its file cannot be read, so that all is denied"),
            unpurged=_flag("whether the SSD holds what it forbids, and is not used"),
        ),
        hit_ratio=_number("hits of all reads, 0 to 1; null before the first", null=True),
        rates=_object(
            "since the look before, a second; null at the first, and of a node begun anew",
            hits=_number("reads that hit"),
            misses=_number("reads that did not"),
            hit_ratio=_number("hits of the reads between, 0 to 1; null without any", null=True),
            bytes_served=_number("bytes given to readers"),
            bytes_fetched=_number("bytes that came from the stores"),
            answered=_number("requests answered"),
        )
        | {"type": ["object", "null"]},
        troubles=_list("what should be seen to", _text("a sentence")),
    ),
    "put": _work("written"),
    "get": _work("written to local files"),
    "cp": _work("copied"),
    "mv": _work("moved"),
    "rm": _work("removed"),
    "mkdir": _object("one folder a line", path=_text("the folder that was made")),
    "mounts": _object("one mount a line", _MOUNT),
    "mount": _object(
        "one document",
        _MOUNT,
        same_objects=_list("mounts that may reach the same objects", _text("a path in the tree")),
    ),
    "unmount": _object("one document", _MOUNT),
    "policy check": _object(
        "one document",
        optional=("error",),
        file=_text("the file"),
        epoch=_count("its epoch; null where it is wrong", null=True),
        rules=_list("its rules", _text("a name")),
        ok=_flag("whether it is right"),
        error=_text("what is wrong"),
    ),
    "policy explain": _object(
        "one document",
        path=_text("the path in the tree"),
        persistence=_PERSISTENCE,
        metadata=_METADATA,
        guarantee=_GUARANTEE,
        readers=_READERS,
        served=_flag("whether this host serves it"),
        rules=_RULES,
    ),
}


def schema_of(command: str) -> Schema | None:
    """The schema of one document (or one line) that a command prints; None for another command."""
    found = _OF_COMMANDS.get(command)
    if found is None:
        return None
    return {"$schema": DIALECT, "title": f"headrace {command} --json", **found}


def documented() -> tuple[str, ...]:
    """The commands that have one."""
    return tuple(_OF_COMMANDS)
