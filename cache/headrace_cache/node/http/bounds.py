"""What the HTTP door is bounded by. Whoever talks to it may be slow, dead or hostile."""

from __future__ import annotations

#: Connections at once, those whose TLS is only being agreed on too; one more is told so, where it
#: can be, and closed. One by TLS costs 0.3 MiB: 150 MiB at the worst.
MOST_CONNECTIONS = 512
#: How long no connection is taken when the process has no descriptor left.
ACCEPT_AGAIN_SECONDS = 1.0
#: Requests under way at once, those that wait for a thread too; one more is refused (503).
MOST_REQUESTS = 512
#: Of one client: the others are left as many.
MOST_REQUESTS_OF_A_CLIENT = 256
#: Threads for what asks a store, a disk or a lock.
MOST_THREADS = 32
#: Of one client: what waits for a stalled store leaves threads to the others.
MOST_THREADS_OF_A_CLIENT = 16
#: For one mount, whoever asks: a stalled store leaves threads to those who ask for others.
MOST_THREADS_OF_A_MOUNT = 16
#: Requests for `/metrics` at once; they have a thread of their own, which no store holds up.
MOST_SCRAPES = 4
#: Objects that one client writes at once, of those that take more than one part; a quarter of what
#: the node writes at once (`MOST_WRITERS` of `writing/writer.py`).
MOST_WRITERS_OF_A_CLIENT = 16
#: Objects kept open for the next range of their readers, 1.5 KB each.
MOST_OPEN = 4096
#: How long one is kept that nobody reads.
OPEN_SECONDS = 300.0
#: How often that is looked at, and who of those whose connection was closed takes its last bytes.
LOOK_SECONDS = 30.0
#: A request line: the longest path, all of it percent-encoded, and what is around it.
MOST_LINE_BYTES = 16 << 10
#: One header of a request, and how many.
MOST_FIELD_BYTES = 8 << 10
MOST_HEADERS = 64
#: How long a connection may go without a request's whole head, its first or the next.
IDLE_SECONDS = 30.0
#: How long a TLS handshake may take.
HANDSHAKE_SECONDS = 10.0
#: How long a client may take to take one slice of an answer, or to send the next part of a body.
STALLED_SECONDS = 60.0
#: Bytes given to a connection at once, and taken from one: what a slow client holds of ours. Larger
#: ones were no faster; all requests together hold 128 MiB at the worst.
SLICE_BYTES = 256 << 10
#: What a sender must have sent when `STALLED_SECONDS` are over, unless his body ends.
LEAST_PART_BYTES = 64 << 10
#: How long the end waits for answers under way.
DRAIN_SECONDS = 10.0
#: A refusal of a stranger is logged at most so often.
REFUSAL_LOG_SECONDS = 1.0
