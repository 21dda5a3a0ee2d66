"""The tables with which machines take turns, and hear of each other. Not on record.

They are used with SMARTOPS_LOCKS=database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table

from smartops.audit.column_types import UtcTime
from smartops.audit.table_parts import NAMING, OPTIONS

metadata = MetaData(naming_convention=NAMING)

lock_turn = Table(
    "lock_turn",
    metadata,
    Column("resource", String(255), primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Column("free", Boolean(create_constraint=False), nullable=False),
    **OPTIONS,
)

machine_beat = Table(
    "machine_beat",
    metadata,
    Column("home", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("beats", BigInteger, nullable=False),
    Column("at", UtcTime, nullable=False),
    **OPTIONS,
)

lock_place = Table(
    "lock_place",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("connection", BigInteger, nullable=False),
    Column("resource", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("run", String(36), nullable=False),
    Column("job", String(255), nullable=False),
    Column("step", String(255), nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("held", Boolean(create_constraint=False), nullable=False),
    Index(None, "resource"),
    **OPTIONS,
)
