"""The table of messages between a client and the node of its host, as MessagePack arrays.

A request and its answer take one packet each (`channel.py`); `Failed` may stand in for any answer.
What may hold no UTF-8 (a path, an object's key) goes as bytes, by `surrogateescape`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from headrace_cache.policy.explanation import RuleReason
from headrace_cache.service import HeldExtent, Purge, Status, Totals
from headrace_namespace.errors import StoreAnswerWrong

#: Another number: the two ends do not understand each other, and say so.
PROTOCOL = 1


class _Message(msgspec.Struct, array_like=True):
    """One row of the table."""


# Values.


class ToldVersion(_Message):
    """An `ObjectVersion`."""

    store: bytes
    key: bytes
    tag: str
    size: int
    strong: bool
    mtime: float | None
    version_id: str | None


class ToldEntry(_Message):
    """An `Entry`."""

    path: bytes
    mount: bytes | None
    version: ToldVersion | None
    withheld: bool
    link: bool


class ToldMount(_Message):
    """A `Mount`."""

    path: bytes
    url: str
    max_age: float
    tags: list[str]
    read_only: bool
    ttl_seconds: float | None
    mounting: str
    source: str


class ToldLoan(_Message):
    """Memory lent: bytes `start` to `stop` of the object lie in the extent of this number from
    `start + shift` on, all of them where it is `complete`, else those asked for. `new`: its
    descriptor comes with the message, in the order of these."""

    number: int
    start: int
    stop: int
    shift: int
    complete: bool
    new: bool


# Requests. The first of a connection is one of these two.


class Hello(_Message, tag=1):
    """Begin a session, which lasts as long as this connection: -> Welcome. `fingerprint` is that of
    the configuration, so that nobody is served by another's mounts and rules."""

    protocol: int
    release: str
    fingerprint: str


class Join(_Message, tag=2):
    """Another connection of a session: -> Done."""

    session: int


class Stat(_Message, tag=3):
    """-> Found."""

    path: bytes
    max_age: float | None


class List(_Message, tag=4):
    """The first part of a listing: -> Listed."""

    path: bytes


class ListMore(_Message, tag=5):
    """Its next part, and an end where `stop`: -> Listed."""

    listing: int
    stop: bool


class Closed(_Message):
    """A handle that was let go of, and what its reader read by himself: reads that hit, and
    bytes."""

    handle: int
    hits: int
    served: int


class Open(_Message, tag=6):
    """Open an object, and let go of others, which costs no message of its own: -> Opened."""

    path: bytes
    max_age: float | None
    closed: list[Closed]


class Bring(_Message, tag=7):
    """Bring a range into memory and lend it: -> Brought."""

    handle: int
    start: int
    stop: int


class ReadPast(_Message, tag=8):
    """The bytes of a range that memory cannot hold, at most `MOST_PAST_BYTES`: -> Bytes."""

    handle: int
    start: int
    stop: int


class Warm(_Message, tag=9):
    """-> Number, the bytes fetched."""

    handle: int
    start: int
    stop: int


class Close(_Message, tag=10):
    """Let go of handles: -> Done."""

    closed: list[Closed]


class Explain(_Message, tag=11):
    """-> Explained."""

    path: bytes


class Drop(_Message, tag=12):
    """-> Number."""

    path: bytes


class Pin(_Message, tag=13):
    """-> Number."""

    path: bytes


class Unpin(_Message, tag=14):
    """-> Number."""

    path: bytes


class AskWhy(_Message, tag=15):
    """-> ToldWhy."""

    path: bytes


class AskMounts(_Message, tag=16):
    """-> Mounts."""


class AskStatus(_Message, tag=17):
    """-> ToldStatus."""


class AskTotals(_Message, tag=18):
    """-> ToldTotals."""


class Flush(_Message, tag=19):
    """-> Done."""


class Changed(_Message, tag=20):
    """This client has just changed what is at these paths, and below: -> Done."""

    paths: list[bytes]


class GiveBack(_Message, tag=21):
    """Extents that this session let go of: -> Done."""

    extents: list[int]


# Answers.


class Failed(_Message, tag=30):
    """A `HeadraceError` (`kind` is its class), or another error's sentence."""

    kind: str
    message: bytes
    path: bytes | None
    store: bytes | None
    hint: bytes | None


class Welcome(_Message, tag=31):
    """A session; with the descriptor of the bulletin (`bulletin.py`)."""

    session: int


class Done(_Message, tag=32):
    """It is done."""


class Number(_Message, tag=33):
    """So many."""

    value: int


class Bytes(_Message, tag=34):
    """These."""

    data: bytes


class Found(_Message, tag=35):
    """One entry."""

    entry: ToldEntry


class Listed(_Message, tag=36):
    """A part of a listing; `listing` is what to ask for more by, None at the end."""

    listing: int | None
    entries: list[ToldEntry]


class Opened(_Message, tag=37):
    """A handle, and what memory holds of the object's beginning. `edition` is the bulletin's, from
    before the policy was asked."""

    handle: int
    path: bytes
    version: ToldVersion
    restricted: bool
    edition: int
    loans: list[ToldLoan]


class Brought(_Message, tag=38):
    """What was lent, from the range's start on; less where memory has no room."""

    edition: int
    restricted: bool
    loans: list[ToldLoan]


class Explained(_Message, tag=39):
    """A `PolicyExplanation`."""

    path: bytes
    persistence: str
    metadata: str
    guarantee: str
    rules: list[RuleReason]


class ToldWhy(_Message, tag=40):
    """A `Why`."""

    version: ToldVersion
    explanation: Explained
    extents: list[HeldExtent]
    pinned: bool
    purges: list[Purge]


class Mounts(_Message, tag=41):
    """The mount table."""

    mounts: list[ToldMount]


class ToldStatus(_Message, tag=42):
    """A `Status`."""

    status: Status


class ToldTotals(_Message, tag=43):
    """A `Totals`."""

    totals: Totals


# What the node says without being asked, on a session's first connection.


class CallBack(_Message, tag=50):
    """Give these extents back: their room is needed."""

    numbers: list[int]


Request: TypeAlias = (
    Hello
    | Join
    | Stat
    | List
    | ListMore
    | Open
    | Bring
    | ReadPast
    | Warm
    | Close
    | Explain
    | Drop
    | Pin
    | Unpin
    | AskWhy
    | AskMounts
    | AskStatus
    | AskTotals
    | Flush
    | Changed
    | GiveBack
)
Answer: TypeAlias = (
    Failed
    | Welcome
    | Done
    | Number
    | Bytes
    | Found
    | Listed
    | Opened
    | Brought
    | Explained
    | ToldWhy
    | Mounts
    | ToldStatus
    | ToldTotals
    | CallBack
)

#: Bytes of one `ReadPast`, and of a `Listed`'s entries: with what is around them, one packet.
MOST_PAST_BYTES = 64 << 10
MOST_LISTED_BYTES = 64 << 10

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """The message's bytes."""
    return _encoder.encode(message)


def request_of(data: bytes | memoryview) -> Request:
    """A client's request. Raises ValueError for what is none."""
    return _requests.decode(data)


def answer_of(data: bytes | memoryview) -> Answer:
    """A node's answer. Raises StoreAnswerWrong for what is none."""
    try:
        return _answers.decode(data)
    except ValueError as error:  # msgspec's own errors are of these
        raise StoreAnswerWrong(f"the node answers what this release cannot read: {error}") from None
