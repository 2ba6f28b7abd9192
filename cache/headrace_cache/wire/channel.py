"""Packets over a Unix socket: whole messages, with descriptors beside them, from a known user.

A `SOCK_SEQPACKET` socket keeps one message from the next, so that no length is sent and no part of
a message is ever waited for.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_namespace.errors import StoreAnswerWrong

#: A packet's bytes; the kernel's usual bound (net.core.wmem_default) is some 200 KiB.
MOST_PACKET_BYTES = 128 << 10
#: Descriptors beside one packet; the kernel's bound is 253 (SCM_MAX_FD).
MOST_DESCRIPTORS = 64

_CREDENTIALS = struct.Struct("iII")
#: Groups of a process, as many as Python lets one ask for at once; who has more counts as having
#: his first alone.
MOST_GROUPS = 256
#: socket(7); Python has no name for it.
_SO_PEERGROUPS = 59


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end's process, user and groups, by their numbers, as it connected."""

    process: int
    user: int
    groups: frozenset[int]


class Ended(ConnectionError):
    """The other end is gone."""


class Channel:
    """One end of a connection. One thread may send while another receives."""

    __slots__ = ("socket",)

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def send(self, packet: bytes, descriptors: Sequence[int] = ()) -> None:
        """One packet. Raises Ended, and BlockingIOError where it does not wait and had to."""
        beside: list[tuple[int, int, bytes]] = []
        if descriptors:
            beside.append(
                (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())
            )
        try:
            self.socket.sendmsg([packet], beside, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Ended(f"the other end is gone: {error}") from error

    def receive(self, room: bytearray) -> tuple[memoryview, list[int]]:
        """The next packet, a view of `room` (`MOST_PACKET_BYTES` of the caller's memory), and the
        descriptors beside it, which are the caller's to close. Raises Ended, BlockingIOError,
        TimeoutError, and StoreAnswerWrong for a packet that is too long."""
        try:
            space = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
            length, beside, flags, _ = self.socket.recvmsg_into(
                [room], space, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, TimeoutError):
            raise
        except OSError as error:
            raise Ended(f"the other end is gone: {error}") from error
        descriptors = array.array("i")
        for level, kind, data in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(descriptors)
            raise StoreAnswerWrong("a packet over the node's socket is longer than any may be")
        if not length:
            close_all(descriptors)
            raise Ended("the other end has closed the connection")
        return memoryview(room)[:length], list(descriptors)

    def peer(self) -> Peer:
        """Who made the connection (or, for a client, who listens), as the kernel says. Raises
        OSError."""
        said = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, user, group = _CREDENTIALS.unpack(said)
        try:
            raw = self.socket.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, MOST_GROUPS * 4)
        except OSError:  # he has more
            raw = b""
        return Peer(process, user, frozenset((group, *array.array("I", raw))))

    def close(self) -> None:
        """Let go."""
        self.socket.close()


def connected(path: Path, seconds: float) -> Channel:
    """A channel to who listens at `path`; what it waits for, it waits for so long. Raises
    OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        made.settimeout(seconds)
        with short_name(path) as name:
            made.connect(name)
    except BaseException:
        made.close()
        raise
    return Channel(made)


@contextmanager
def short_name(path: Path) -> Generator[str]:
    """A name of the socket that is no longer than the kernel takes (108 bytes: unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came and are not wanted."""
    for descriptor in descriptors:
        os.close(descriptor)
