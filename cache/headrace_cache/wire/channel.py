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
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_cache.backing import create_backing, map_for_reading
from headrace_namespace.errors import StoreAnswerWrong

#: A packet's bytes; the kernel's usual bound (net.core.wmem_default) is some 200 KiB.
MOST_PACKET_BYTES = 128 << 10
#: An answer that is longer comes in memory beside the packet; this is the longest.
MOST_LONG_BYTES = 16 << 20
#: The packet that stands for it: no message of MessagePack begins so.
_ELSEWHERE = b"\xc1"
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
        """One packet, at most `MOST_LONG_BYTES`; a long one with one descriptor less beside it.

        Raises Ended, BlockingIOError where it does not wait and had to, and OSError.
        """
        if len(packet) > MOST_PACKET_BYTES:
            with closing(create_backing(len(packet), shared=True)) as backing:
                backing.mapping[:] = packet
                self._send(_ELSEWHERE, (backing.descriptor, *descriptors))
        else:
            self._send(packet, descriptors)

    def _send(self, packet: bytes, descriptors: Sequence[int]) -> None:
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

    def receive(self, room: bytearray, *, long: bool = False) -> tuple[memoryview, list[int]]:
        """The next packet, a view of `room` (`MOST_PACKET_BYTES` of the caller's memory), and the
        descriptors beside it, which are the caller's to close. A `long` one comes as a view of its
        own memory. Raises Ended, BlockingIOError, TimeoutError, and StoreAnswerWrong for a packet
        that is too long."""
        try:
            space = socket.CMSG_SPACE((MOST_DESCRIPTORS + 1) * array.array("i").itemsize)
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
        packet = memoryview(room)[:length]
        if length == 1 and packet[0] == _ELSEWHERE[0] and descriptors and long:
            return _elsewhere(descriptors.pop(0), descriptors), list(descriptors)
        return packet, list(descriptors)

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


def _elsewhere(descriptor: int, others: Sequence[int]) -> memoryview:
    try:
        if os.fstat(descriptor).st_size > MOST_LONG_BYTES:
            raise OSError("it is longer than any may be")
        return memoryview(map_for_reading(descriptor))
    except OSError as error:
        close_all(others)
        raise StoreAnswerWrong(f"a packet over the node's socket cannot be read: {error}") from None
    finally:
        os.close(descriptor)


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
