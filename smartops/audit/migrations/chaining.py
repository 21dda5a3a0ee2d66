"""Gives the events of the first version their place in a hash chain, and takes it back."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from smartops.audit.chain import FIRST, link, micros
from smartops.audit.column_types import Digest, Id, LongText, UtcTime
from smartops.audit.migrations.resumable import create_index, drop_tables, has_column, has_table
from smartops.audit.table_parts import OPTIONS

_BATCH = 1000
_NEW, _OLD, _ASIDE = "event_made", "event", "event_aside"


def _create(name: str, *, chained: bool) -> sa.Table:
    """Create a table for events, empty, in place of one that a broken-off run has left."""
    if has_table(name):
        op.drop_table(name)
    extra: list[Any] = []
    if chained:
        extra = [
            sa.Column("run_seq", sa.BigInteger(), nullable=False),
            sa.Column("hash", Digest(32), nullable=False),
        ]
    else:
        extra = [sa.UniqueConstraint("id", name="uq_event_id")]
    return op.create_table(
        name,
        sa.Column("stream", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("body", LongText, nullable=False),
        *extra,
        sa.PrimaryKeyConstraint("stream", "seq"),
        **OPTIONS,
    )


def chain_old_events() -> None:
    """Copy the events into a table that has a chain, and put that in the place of the old one.

    The old one is put aside first: an older recorder that goes on finds no table, and keeps its
    journals, where it would else add what is lost with the table.
    """
    if has_table(_OLD) and not has_column(_OLD, "hash"):
        op.rename_table(_OLD, _ASIDE)
    if has_table(_ASIDE) and not has_table(_OLD):
        _copy(_ASIDE, _create(_NEW, chained=True), chained=True)
        op.rename_table(_NEW, _OLD)
    drop_tables(_ASIDE)
    create_index(_OLD, "run_id", "at")


def unchain_events() -> None:
    """Copy the events back into a table without a chain."""
    if has_table(_OLD):
        op.rename_table(_OLD, _ASIDE)
    _copy(_ASIDE, _create(_NEW, chained=False), chained=False)
    op.rename_table(_NEW, _OLD)
    drop_tables(_ASIDE)
    create_index(_OLD, "run_id", "at")


_COMMON = ("stream", "seq", "id", "run_id", "type", "at", "body")
_KINDS: dict[str, Any] = {"stream": Id, "id": Id, "run_id": Id, "at": UtcTime}


def _copy(source_name: str, target: sa.Table, *, chained: bool) -> None:
    bind = op.get_bind()
    source = sa.table(source_name, *(sa.column(name, _KINDS.get(name)) for name in _COMMON))
    heads: dict[bytes, tuple[int, bytes]] = {}
    stream, seq = None, 0
    while True:
        query = sa.select(source).order_by(source.c.stream, source.c.seq).limit(_BATCH)
        if stream is not None:
            later = (source.c.stream == stream) & (source.c.seq > seq)
            query = query.where(later | (source.c.stream > stream))
        rows = [dict(row) for row in bind.execute(query).mappings()]
        if not rows:
            return
        for row in rows:
            if row["stream"] != stream:
                heads = {}
            stream, seq = row["stream"], row["seq"]
            if chained:
                _link(row, heads)
        bind.execute(sa.insert(target), rows)


def _link(row: dict[str, Any], heads: dict[bytes, tuple[int, bytes]]) -> None:
    run = row["run_id"].bytes
    count, head = heads.get(run, (0, FIRST))
    head = link(
        head,
        row["stream"].bytes,
        row["seq"],
        run,
        count + 1,
        row["id"].bytes,
        row["type"],
        micros(row["at"]),
        row["body"],
    )
    heads[run] = (count + 1, head)
    row["run_seq"], row["hash"] = count + 1, head
