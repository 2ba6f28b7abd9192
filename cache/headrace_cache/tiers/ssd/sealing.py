"""How a page becomes what lies on the disk, and back: compressed where it pays, always encrypted.

A sealed page is a header of 48 bytes and the ciphertext with its tag:

    offset  size  field
         0     4  magic, "HRP1": this format
         4     1  encoding of the plaintext: 0 as it is, 1 one zstd frame
         5     3  zero
         8     4  index of the page in its object
        12     4  plain length: bytes of the page before compression
        16     4  sealed length: ciphertext and tag, all that follows the header
        20    16  object id (keyed hash of the version's digest; see `ObjectIds`)
        36    12  nonce of AES-256-GCM, random
        48     -  ciphertext, and its tag of 16 bytes

Numbers are little-endian. The first 36 bytes are the associated data, so a page answers only for
the object, index and length it was sealed as, wherever its file was moved to. Each object version
has a random data key of its own, and a key is used for at most 2^32 pages, far below where random
nonces would repeat. The data key itself lies in the index, wrapped (`KeyWrap`) by the key of its
object's scope, which is wrapped by the key-encryption key: replace that one without wrapping the
scope's key again, and every copy of the page is noise (`purging.py`).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import blake2b
from queue import Empty, SimpleQueue

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"HRP1"
PLAIN = 0
ZSTD = 1

OBJECT_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
_BOUND = struct.Struct("<4sB3xIII16s")  # what the tag covers beside the page
HEADER_BYTES = _BOUND.size + NONCE_BYTES
#: What sealing adds to a page that is not compressed.
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES

#: Nonce, wrapped key of 32 bytes, tag.
WRAPPED_KEY_BYTES = NONCE_BYTES + 32 + TAG_BYTES

#: How much of a page is compressed on trial. 64 KiB takes 7 microseconds where the page turns out
#: to be incompressible, against 60 for sealing 1 MiB.
_SAMPLE_BYTES = 64 * 1024

#: Compressed pages must save an eighth; less does not pay for the time to decompress them.
_WORTH_NUMERATOR, _WORTH_DENOMINATOR = 7, 8

#: zstd level 1: at 0.5 GiB/s per core the only level near the speed of a disk.
_ZSTD_LEVEL = 1

#: Threads that open pages at once, and that store batches at once: each has up to 4 MiB of scratch
#: memory meanwhile. One core opens 20 GB/s, so that more at once would only wait for the disk.
MOST_LOADING, MOST_STORING = 16, 8
#: How long a thread waits for scratch memory: far longer than a disk that works takes.
LEND_SECONDS = 60.0


class ObjectIds:
    """Names of versions on disk: BLAKE2b-128 of the digest under a secret key.

    Who has the disk cannot tell which object an id stands for, nor test a guess.
    """

    def __init__(self, identity_key: bytes) -> None:
        self._keyed = blake2b(
            key=identity_key, digest_size=OBJECT_ID_BYTES, person=b"headrace-object"
        )

    def of(self, version: bytes) -> bytes:
        """The id of the version with this digest."""
        hasher = self._keyed.copy()
        hasher.update(version)
        return hasher.digest()


class KeyWrap:
    """Keys sealed under the key-encryption key, each bound to what it is for."""

    def __init__(self, key: bytes) -> None:
        derived = blake2b(key=key, digest_size=32, person=b"headrace-wrap").digest()
        self._cipher = AESGCM(derived)
        #: 16 bytes that tell this key from another without telling the key.
        self.fingerprint = blake2b(key=key, digest_size=16, person=b"headrace-print").digest()

    def wrap(self, key: bytes, purpose: bytes) -> bytes:
        """`key` in `WRAPPED_KEY_BYTES` bytes."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, purpose)

    def unwrap(self, wrapped: bytes, purpose: bytes) -> bytes | None:
        """The key again; None where it was wrapped by another key, or for another purpose."""
        if len(wrapped) != WRAPPED_KEY_BYTES:
            return None
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], purpose)
        except InvalidTag:
            return None


class Scratch:
    """Memory for one page on its way to or from the disk, used by one thread at a time."""

    def __init__(self, page_bytes: int) -> None:
        #: Room for one sealed page.
        self.sealed = memoryview(bytearray(page_bytes + OVERHEAD_BYTES))
        #: Room for the compressed plaintext of one page, made when it is first needed.
        self._compressed: memoryview | None = None
        self._page_bytes = page_bytes
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()

    def compressed(self) -> memoryview:
        """Room for the compressed plaintext of one page."""
        if self._compressed is None:
            self._compressed = memoryview(bytearray(self._page_bytes))
        return self._compressed


class ScratchPool:
    """Scratch memory lent to one caller at a time, to `most` callers at once; the others wait.

    Who has some must not wait for a caller that may be waiting here.
    """

    def __init__(self, page_bytes: int, most: int) -> None:
        self._page_bytes = page_bytes
        self._most = most
        self._idle: list[Scratch] = []  # list.append and list.pop are atomic
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._turns.put(None)

    @contextmanager
    def lend(self) -> Generator[Scratch]:
        """Scratch memory, for the length of a `with` block. Raises OSError where none came free in
        `LEND_SECONDS`."""
        try:
            self._turns.get(timeout=LEND_SECONDS)
        except Empty:
            raise OSError(
                errno.EBUSY, f"{self._most} pages at once took longer than {LEND_SECONDS:.0f} s"
            ) from None
        try:
            # The one used last, so that few are made where few are used at once.
            scratch = self._idle.pop() if self._idle else Scratch(self._page_bytes)
            try:
                yield scratch
            finally:
                self._idle.append(scratch)
        finally:
            self._turns.put(None)


def new_data_key() -> bytes:
    """A random key for one object version."""
    return AESGCM.generate_key(bit_length=256)


def seal(
    cipher: AESGCM, object_id: bytes, index: int, page: memoryview, scratch: Scratch
) -> memoryview:
    """The sealed page, in `scratch.sealed`: use it before the scratch memory is lent again."""
    encoding, body = _encoded(page, scratch)
    sealed_bytes = len(body) + TAG_BYTES
    bound = _BOUND.pack(MAGIC, encoding, index, len(page), sealed_bytes, object_id)
    nonce = os.urandom(NONCE_BYTES)
    target = scratch.sealed
    target[: len(bound)] = bound
    target[len(bound) : HEADER_BYTES] = nonce
    stop = HEADER_BYTES + sealed_bytes
    cipher.encrypt_into(nonce, body, bound, target[HEADER_BYTES:stop])
    return target[:stop]


def unseal(
    cipher: AESGCM,
    object_id: bytes,
    index: int,
    sealed: memoryview,
    target: memoryview,
    scratch: Scratch,
) -> bool:
    """Open `sealed` straight into `target`; False where it is not exactly that page, whole."""
    if len(sealed) < OVERHEAD_BYTES:
        return False
    encoding = sealed[4]
    sealed_bytes = len(sealed) - HEADER_BYTES
    expected = _BOUND.pack(MAGIC, encoding, index, len(target), sealed_bytes, object_id)
    if bytes(sealed[: len(expected)]) != expected:
        return False
    nonce, body = sealed[len(expected) : HEADER_BYTES], sealed[HEADER_BYTES:]
    plain_bytes = sealed_bytes - TAG_BYTES
    try:
        if encoding == PLAIN:
            if plain_bytes != len(target):
                return False
            cipher.decrypt_into(nonce, body, expected, target)
            return True
        if encoding != ZSTD or plain_bytes > len(target):
            return False
        frame = scratch.compressed()[:plain_bytes]
        cipher.decrypt_into(nonce, body, expected, frame)
        # The frame is our own: its tag held. It is streamed, so that no second copy is made.
        with scratch.decompressor.stream_reader(frame, closefd=False) as reader:
            # Its stub forgets to say what a buffer is.
            return reader.readinto(target) == len(target)  # pyright: ignore[reportUnknownMemberType]
    except (InvalidTag, zstandard.ZstdError):
        return False


def _encoded(page: memoryview, scratch: Scratch) -> tuple[int, memoryview | bytes]:
    """The page as it is, or as a zstd frame where that saves enough."""
    if len(page) > _SAMPLE_BYTES and not _pays(
        len(scratch.compressor.compress(page[:_SAMPLE_BYTES])), _SAMPLE_BYTES
    ):
        return PLAIN, page
    frame = scratch.compressor.compress(page)
    return (ZSTD, frame) if _pays(len(frame), len(page)) else (PLAIN, page)


def _pays(compressed: int, plain: int) -> bool:
    return compressed * _WORTH_DENOMINATOR <= plain * _WORTH_NUMERATOR
