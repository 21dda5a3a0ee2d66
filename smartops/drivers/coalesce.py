"""Many tags, few requests: merge neighbouring addresses into blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from smartops.drivers.tags import Area, Tag

MAX_WORDS = 125
MAX_BITS = 2000


@dataclass(frozen=True)
class Block:
    """One request: ``count`` registers or bits of an area, and the tags that it answers."""

    area: Area
    address: int
    count: int
    tags: tuple[Tag, ...]


@dataclass(frozen=True)
class Hole:
    """Addresses that are never to be asked for, the last one included."""

    area: Area
    first: int
    last: int

    def cuts(self, start: int, end: int) -> bool:
        """Return whether it lies in the addresses from ``start`` up to, without, ``end``."""
        return self.first < end and self.last >= start


def plan_reads(
    tags: Iterable[Tag],
    *,
    max_gap: int = 8,
    holes: Iterable[Hole] = (),
    max_registers: int = MAX_WORDS,
    max_bits: int = MAX_BITS,
) -> list[Block]:
    """Return the fewest blocks that cover the tags.

    A block never bridges more than ``max_gap`` unused addresses and no part of a hole, never
    exceeds what one request may ask for (125 registers, 2,000 bits, or what the device allows), and
    never splits a tag.
    """
    ordered = sorted(tags, key=lambda tag: (tag.area, tag.address, tag.words))
    missing = list(holes)
    blocks: list[Block] = []
    for area, group in groupby(ordered, key=lambda tag: tag.area):
        limit = max_bits if area in {"coil", "discrete"} else max_registers
        own = [hole for hole in missing if hole.area == area]
        blocks += _merge(area, list(group), max_gap, limit, own)
    return blocks


def _merge(area: Area, tags: list[Tag], max_gap: int, limit: int, holes: list[Hole]) -> list[Block]:
    blocks: list[Block] = []
    start, end, members = tags[0].address, tags[0].address, list[Tag]()
    for tag in tags:
        new_end = max(end, tag.address + tag.words)
        too_far = tag.address > end + max_gap or new_end - start > limit
        # A tag within a hole, one that the device is known to refuse, is asked for by itself.
        if members and (too_far or (holes and _cut(holes, start, new_end))):
            blocks.append(Block(area, start, end - start, tuple(members)))
            start, new_end, members = tag.address, tag.address + tag.words, []
        end = new_end
        members.append(tag)
    return [*blocks, Block(area, start, end - start, tuple(members))]


def _cut(holes: list[Hole], start: int, end: int) -> bool:
    return any(hole.cuts(start, end) for hole in holes)


def gaps(block: Block) -> list[Hole]:
    """Return the addresses of a block that none of its tags is for."""
    found: list[Hole] = []
    end = block.address
    for tag in block.tags:
        if tag.address > end:
            found.append(Hole(block.area, end, tag.address - 1))
        end = max(end, tag.address + tag.words)
    return found
