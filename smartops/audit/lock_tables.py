"""The tables with which machines take turns, with SMARTOPS_LOCKS=database. Not on record."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table

from smartops.audit.column_types import UtcTime
from smartops.audit.models import NAMING, OPTIONS

metadata = MetaData(naming_convention=NAMING)

lock_turn = Table(
    "lock_turn",
    metadata,
    Column("resource", String(255), primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Column("free", Boolean(create_constraint=False), nullable=False),
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
