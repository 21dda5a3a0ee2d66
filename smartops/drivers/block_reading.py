"""Turns the answer to one request into the readings of its tags. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from smartops.drivers.coalesce import Block
from smartops.drivers.readings import Reading
from smartops.drivers.registers import Decoder
from smartops.drivers.tags import BIT_AREAS


@dataclass(frozen=True)
class BlockReader:
    """A request that is made again and again, with all prepared that its answers take."""

    block: Block
    size: int
    """How many bytes of data the whole answer has."""
    parts: tuple[tuple[str, str, Decoder, int], ...]
    """For each tag its name, its unit, what reads it, and where it begins."""

    @classmethod
    def of(cls, block: Block) -> Self:
        """Prepare a block."""
        in_bits = block.area in BIT_AREAS
        step = 1 if in_bits else 2
        return cls(
            block,
            -(-block.count // 8) if in_bits else 2 * block.count,
            tuple(
                (tag.name, tag.unit, tag.decoder, step * (tag.address - block.address))
                for tag in block.tags
            ),
        )

    def readings(self, data: bytes, now: datetime) -> list[Reading]:
        """Return the readings in an answer of ``size`` bytes that came now.

        Words that are no value give quality bad with the reason, and harm no other tag.
        """
        found = []
        for name, unit, decode, at in self.parts:
            try:
                found.append(Reading(name, decode(data, at), unit, "good", "", now))
            except ValueError as error:
                found.append(Reading(name, None, unit, "bad", str(error), now))
        return found

    def bad(self, reason: str, now: datetime) -> list[Reading]:
        """Return the readings where there is no answer to read."""
        return [Reading(name, None, unit, "bad", reason, now) for name, unit, _, _ in self.parts]
