"""What the node of a host is and does, in numbers: for `headrace top`, Prometheus and supervisors.

No path is among them but those of mounts, which the configuration says; no key, no name of a user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headrace_cache.service import Status

#: Clients told of in one answer, those that were lent most; how many more there are is told too.
MOST_TOLD_CLIENTS = 256
#: Bytes of the mounts' paths and counts in one answer; with the clients they make one packet.
MOST_TOLD_MOUNT_BYTES = 48 << 10
#: What a mount's or an operation's row takes of a packet beside its text.
_ROW_BYTES = 16


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """One session: its number, its process and user as the kernel says, since when (seconds since
    the epoch), what it has open, what it was lent, how much of that it was asked to give back and
    has not yet, and the requests answered to it."""

    number: int
    process: int
    user: int
    since: float
    handles: int
    extents: int
    lent_bytes: int
    called_back: int
    answered: int


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """The policy in force: its epoch, and whether its file cannot be read now, so that everything
    is denied; whether the SSD still holds what it forbids, and is not used therefore."""

    epoch: int
    broken: bool
    unpurged: bool


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node is and does now.

    `since` is in seconds since the epoch, `seconds_up` by a clock that never goes back.
    `resident_bytes` are all of the process in memory; `own_bytes` those that are not the cache's:
    Python, its tables, what is under way. `clients` are the sessions of now, `rows` those of them
    that are told of, and `requests_waiting` the requests that stand in line for another of the same
    client. `flights` are fetches under way, by mount; `mounts_left_out` says of how many mounts
    neither these nor the requests are told. `edition` grows whenever something was withdrawn.
    """

    release: str
    process: int
    since: float
    seconds_up: float
    resident_bytes: int
    own_bytes: int
    connections: int
    most_connections: int
    clients: int
    rows: Sequence[ClientFacts]
    requests_under_way: int
    requests_waiting: int
    answered: int
    lent_bytes: int
    lent_extents: int
    flights: Mapping[str, int]
    mounts_left_out: int
    sealing_bytes: int
    edition: int
    policy: PolicyFacts
    status: Status

    @property
    def clients_left_out(self) -> int:
        """Sessions that are not among `rows`."""
        return self.clients - len(self.rows)


def busiest(rows: Iterable[ClientFacts]) -> list[ClientFacts]:
    """The clients that were lent most, then those that asked most; at most `MOST_TOLD_CLIENTS`."""
    ordered = sorted(rows, key=lambda row: (-row.lent_bytes, -row.answered, row.number))
    return ordered[:MOST_TOLD_CLIENTS]


def fitting(facts: NodeFacts) -> NodeFacts:
    """The same in one packet: of the mounts those with fetches under way, then those whose stores
    were asked most, as far as `MOST_TOLD_MOUNT_BYTES` go; their paths as text that is UTF-8."""
    requests = facts.status.requests
    order = sorted(
        requests.keys() | facts.flights.keys(),
        key=lambda path: (-facts.flights.get(path, 0), -sum(requests.get(path, {}).values()), path),
    )
    room, kept = MOST_TOLD_MOUNT_BYTES, list[str]()
    for path in order:
        room -= _ROW_BYTES + 2 * len(shown_path(path).encode())
        room -= sum(_ROW_BYTES + len(operation) for operation in requests.get(path, {}))
        if room < 0:
            break
        kept.append(path)
    return replace(
        facts,
        flights={shown_path(path): facts.flights[path] for path in kept if path in facts.flights},
        mounts_left_out=len(order) - len(kept),
        status=replace(
            facts.status,
            requests={shown_path(path): requests[path] for path in kept if path in requests},
        ),
    )


def shown_path(path: str) -> str:
    """A mount's path; bytes in it that are no UTF-8 as `\\udcff`."""
    return path.encode("utf-8", "backslashreplace").decode()
