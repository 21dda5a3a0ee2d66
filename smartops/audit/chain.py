"""The arithmetic of the tamper evidence: the hash chain of events, the Merkle root of a seal.

Pure functions of bytes. ``smartops/audit/verifier.py`` repeats them for auditors who do not have
this program; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

FIRST = bytes(32)
"""What the first event of a chain follows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EVENT = struct.Struct(">QQq")  # a time may be before 1970
_PART = struct.Struct(">16sQQ32s")
_SEAL = struct.Struct(">Q32s32sQQ16s")


def micros(at: datetime) -> int:
    """Return an aware time as microseconds since 1970, UTC."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at_us: int) -> datetime:
    """Return the aware time of a number of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us)


def link(
    before: bytes,
    stream: bytes,
    seq: int,
    run_id: bytes,
    run_seq: int,
    event_id: bytes,
    event_type: str,
    at_us: int,
    body: str,
) -> bytes:
    """Return the hash of an event that follows ``before`` in its run's chain.

    It covers every column of the event. Ids are 16 bytes, ``at_us`` is in microseconds.
    """
    numbers = _EVENT.pack(seq, run_seq, at_us)
    head = before + stream + numbers + run_id + event_id + event_type.encode() + b"\0"
    return hashlib.sha256(head + body.encode()).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a Merkle tree; an odd leaf goes up as it is.

    A node's preimage is 65 bytes, an event's is longer, so that neither can stand for the other.
    """
    level = list(leaves) or [FIRST]
    sha = hashlib.sha256
    while len(level) > 1:
        above = [sha(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = above + level[len(above) * 2 :]
    return level[0]


def part_leaf(stream: bytes, first: int, last: int, root: bytes) -> bytes:
    """Return the leaf of one stream's events ``first`` to ``last``, whose own root is ``root``."""
    return hashlib.sha256(b"part" + _PART.pack(stream, first, last, root)).digest()


def seal_text(
    number: int, before: bytes, root: bytes, events: int, at_us: int, key: bytes
) -> bytes:
    """Return the bytes that a seal's signature covers; its hash is their SHA-256."""
    return b"smartops-seal-1" + _SEAL.pack(number, before, root, events, at_us, key)


def seal_hash(text: bytes) -> bytes:
    """Return the hash of a seal, which the next seal names as the one before."""
    return hashlib.sha256(text).digest()


def key_id(public_key: bytes) -> bytes:
    """Return the short name, 16 bytes, of a raw Ed25519 public key."""
    return hashlib.sha256(public_key).digest()[:16]
