"""The table of messages between a client and the node of its host, as MessagePack arrays.

A request and its answer take one packet each (`channel.py`); `Failed` may stand in for any answer.
What may hold no UTF-8 (a path, an object's key) goes as bytes, by `surrogateescape`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from headrace_cache.node_facts import NodeFacts
from headrace_cache.policy.explanation import RuleReason
from headrace_cache.service import HeldExtent, Purge, Status, Totals
from headrace_cache.wire.told import Message, ToldEntry, ToldLoan, ToldMount, ToldOpen, ToldVersion
from headrace_namespace.errors import StoreAnswerWrong

#: Another number: the two ends do not understand each other, and say so.
PROTOCOL = 1


# Requests. The first of a connection is one of these two.


class Hello(Message, tag=1):
    """Begin a session, which lasts as long as this connection: -> Welcome. `fingerprint` is that of
    the configuration, so that nobody is served by another's mounts and rules."""

    protocol: int
    release: str
    fingerprint: str


class Join(Message, tag=2):
    """Another connection of a session: -> Done."""

    session: int


class Stat(Message, tag=3):
    """-> Found."""

    path: bytes
    max_age: float | None


class List(Message, tag=4):
    """The first part of a listing: -> Listed."""

    path: bytes


class ListMore(Message, tag=5):
    """Its next part, and an end where `stop`: -> Listed."""

    listing: int
    stop: bool


#: What one reader can have read: nobody counts for all by what he says.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class Closed(Message):
    """What a handle's reader read by himself (reads that hit, and bytes) since this was told last;
    and whether he keeps the handle, or has let go of it."""

    handle: int
    hits: Count
    served: Count
    kept: bool = False


class Open(Message, tag=6):
    """Open an object, and let go of others, which costs no message of its own: -> Opened. `ahead`
    are objects that are likely to be opened next; those of `closed` that are kept were open before,
    and it is asked for how long they may be opened again."""

    path: bytes
    max_age: float | None
    closed: list[Closed]
    ahead: list[bytes]


class Bring(Message, tag=7):
    """Bring a range into memory and lend it: -> Brought."""

    handle: int
    start: int
    stop: int


class ReadPast(Message, tag=8):
    """The bytes of a range that memory cannot hold, at most `MOST_PAST_BYTES`: -> Bytes."""

    handle: int
    start: int
    stop: int


class Warm(Message, tag=9):
    """-> Number, the bytes fetched."""

    handle: int
    start: int
    stop: int


class Close(Message, tag=10):
    """Let go of handles: -> Done."""

    closed: list[Closed]


class Explain(Message, tag=11):
    """-> Explained."""

    path: bytes


class Drop(Message, tag=12):
    """-> Number."""

    path: bytes


class Pin(Message, tag=13):
    """-> Number."""

    path: bytes


class Unpin(Message, tag=14):
    """-> Number."""

    path: bytes


class AskWhy(Message, tag=15):
    """-> ToldWhy."""

    path: bytes


class AskMounts(Message, tag=16):
    """-> Mounts."""


class AskStatus(Message, tag=17):
    """-> ToldStatus."""


class AskTotals(Message, tag=18):
    """-> ToldTotals."""


class Flush(Message, tag=19):
    """-> Done."""


class Changed(Message, tag=20):
    """This client has just changed what is at these paths, and below: -> Done."""

    paths: list[bytes]


class GiveBack(Message, tag=21):
    """Extents that this session let go of: -> Done."""

    extents: list[int]


class AskNode(Message, tag=22):
    """What the node is and does; of other users' clients it is not told: -> ToldNode."""


# Answers.


class Failed(Message, tag=30):
    """A `HeadraceError` (`kind` is its class), or another error's sentence."""

    kind: str
    message: bytes
    path: bytes | None
    store: bytes | None
    hint: bytes | None


class Welcome(Message, tag=31):
    """A session; with the descriptor of the bulletin (`bulletin.py`)."""

    session: int


class Done(Message, tag=32):
    """It is done."""


class Number(Message, tag=33):
    """So many."""

    value: int


class Bytes(Message, tag=34):
    """These."""

    data: bytes


class Found(Message, tag=35):
    """One entry."""

    entry: ToldEntry


class Listed(Message, tag=36):
    """A part of a listing; `listing` is what to ask for more by, None at the end."""

    listing: int | None
    entries: list[ToldEntry]


class Opened(Message, tag=37):
    """What was asked for, and those of `ahead` that no remote store had to be asked for, each to be
    opened by its standing. `edition` and `changes` are the bulletin's, from before. `renewed` is
    for how many seconds each handle that was kept may be opened by again as it was told, in their
    order; 0: not without asking."""

    edition: int
    changes: int
    asked: ToldOpen
    ahead: list[ToldOpen]
    renewed: list[float] = []


class Brought(Message, tag=38):
    """What was lent, from the range's start on; less where memory has no room."""

    edition: int
    restricted: bool
    loans: list[ToldLoan]


class Explained(Message, tag=39):
    """A `PolicyExplanation`."""

    path: bytes
    persistence: str
    metadata: str
    guarantee: str
    readers: list[str]
    refusal: str | None
    rules: list[RuleReason]


class ToldWhy(Message, tag=40):
    """A `Why`."""

    version: ToldVersion
    explanation: Explained
    extents: list[HeldExtent]
    pinned: bool
    purges: list[Purge]


class Mounts(Message, tag=41):
    """The mount table."""

    mounts: list[ToldMount]


class ToldStatus(Message, tag=42):
    """A `Status`, and the process of the node whose it is, as it knows itself; None of one that
    another host asks."""

    status: Status
    process: int | None = None


class ToldTotals(Message, tag=43):
    """A `Totals`."""

    totals: Totals


class ToldNode(Message, tag=44):
    """A `NodeFacts`, as much of it as one packet takes."""

    facts: NodeFacts


# What the node says without being asked, on a session's first connection.


class CallBack(Message, tag=50):
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
    | AskNode
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
    | ToldNode
    | CallBack
)

#: Bytes of one `ReadPast` at most, and where many ask at once.
MOST_PAST_BYTES = 4 << 20
LEAST_PAST_BYTES = 64 << 10
#: Bytes of a `Listed`'s entries: with what is around them, one packet.
MOST_LISTED_BYTES = 64 << 10
#: Objects of one `Open` beside the one that is asked for.
MOST_AHEAD = 192
#: Handles of one `Open` that are to stand on: a millisecond or two of the node.
MOST_RENEWED = 192

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
