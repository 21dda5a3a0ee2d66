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


def plan_reads(tags: Iterable[Tag], *, max_gap: int = 8) -> list[Block]:
    """Return the fewest blocks that cover the tags.

    A block never bridges more than ``max_gap`` unused addresses, never exceeds what one request
    may ask for (125 registers, 2,000 bits), and never splits a tag.
    """
    ordered = sorted(tags, key=lambda tag: (tag.area, tag.address, tag.words))
    blocks: list[Block] = []
    for area, group in groupby(ordered, key=lambda tag: tag.area):
        limit = MAX_BITS if area in {"coil", "discrete"} else MAX_WORDS
        blocks += _merge(area, list(group), max_gap, limit)
    return blocks


def _merge(area: Area, tags: list[Tag], max_gap: int, limit: int) -> list[Block]:
    blocks: list[Block] = []
    start, end, members = tags[0].address, tags[0].address, list[Tag]()
    for tag in tags:
        new_end = max(end, tag.address + tag.words)
        if members and (tag.address > end + max_gap or new_end - start > limit):
            blocks.append(Block(area, start, end - start, tuple(members)))
            start, new_end, members = tag.address, tag.address + tag.words, []
        end = new_end
        members.append(tag)
    return [*blocks, Block(area, start, end - start, tuple(members))]
