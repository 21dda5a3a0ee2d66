"""The audit store: the only place that writes SQL.

Events are only ever added. The other tables are derived from them in the same transaction, with
the stream's cursor, so that a record is taken exactly once however often it is shipped.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from smartops import redact
from smartops.audit import models, projection
from smartops.audit.journal import Record
from smartops.errors import BadInput, RecordRefused, StoreUnavailable

_TIMEOUT_S = 10
_SERVERS = ("mysql", "mariadb")


class Store:
    """An audit store. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        redact.register(self.url.password)
        self.engine = _engine(self.url)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def ship(self, stream: UUID, host: str, pid: int, records: Sequence[Record]) -> int:
        """Add what is new of a stream's records; return how many that were.

        Raises StoreUnavailable.
        """
        with self.transaction() as connection:
            known = self._lock_cursor(connection, stream, host, pid)
            new = [record for record in records if record.seq > known]
            if not new:
                return 0
            connection.execute(
                sa.insert(models.event), [projection.event_row(stream, record) for record in new]
            )
            for record in new:
                projection.apply(connection, record, host, pid)
            connection.execute(
                sa.update(models.stream)
                .where(models.stream.c.id == stream)
                .values(last_seq=new[-1].seq)
            )
            return len(new)

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has. Raises StoreUnavailable."""
        with self.reading() as connection:
            return {
                table.name: connection.execute(
                    sa.select(sa.func.count()).select_from(table)
                ).scalar_one()
                for table in models.metadata.sorted_tables
            }

    def cursor(self, stream: UUID) -> int:
        """Return the number of the last record that the store has of a stream; 0 for none."""
        with self.reading() as connection:
            query = sa.select(models.stream.c.last_seq).where(models.stream.c.id == stream)
            return connection.execute(query).scalar() or 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection in a writing transaction. Raises StoreUnavailable, RecordRefused."""
        with self._connection("BEGIN IMMEDIATE") as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection for queries. Raises StoreUnavailable."""
        with self._connection("BEGIN") as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _connection(self, sqlite_begin: str) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(sqlite_begin=sqlite_begin)
        except (exc.IntegrityError, exc.DataError) as error:
            raise RecordRefused(
                f"the audit store {self.shown_url} refuses a record: {redact.text(str(error.orig))}"
            ) from error
        except exc.DBAPIError as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: exc.DBAPIError) -> StoreUnavailable:
        """Return a database's error as ours: where, why, what to do, and no password."""
        text = redact.text(str(error.orig))
        if _no_such_table(error):
            return StoreUnavailable(
                f"the audit store {self.shown_url} has no tables yet",
                hint="Run `smartops audit migrate`.",
            )
        return StoreUnavailable(
            f"the audit store {self.shown_url} cannot be used: {text}",
            hint="Check SMARTOPS_DATABASE_URL and that the database is up.",
        )

    @staticmethod
    def _lock_cursor(connection: Connection, stream: UUID, host: str, pid: int) -> int:
        """Return the stream's last number, and keep others from this stream until the end."""
        query = (
            sa.select(models.stream.c.last_seq)
            .where(models.stream.c.id == stream)
            .with_for_update()
        )
        known = connection.execute(query).scalar()
        if known is not None:
            return int(known)
        try:
            with connection.begin_nested():
                connection.execute(
                    sa.insert(models.stream).values(id=stream, host=host, pid=pid, last_seq=0)
                )
        except exc.IntegrityError:  # another process was first; its transaction has ended now
            return int(connection.execute(query).scalar_one())
        return 0


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (exc.ArgumentError, exc.NoSuchModuleError, ValueError):
        raise BadInput(
            "SMARTOPS_DATABASE_URL is no database URL that SmartOps knows",
            hint="Write mysql+pymysql://user:password@host/name or sqlite:///path.",
        ) from None
    if parsed.get_backend_name() not in {"sqlite", *_SERVERS}:
        raise BadInput(
            f"SMARTOPS_DATABASE_URL names {parsed.get_backend_name()}; "
            "the audit store runs on MySQL, MariaDB and SQLite"
        )
    if "password" in parsed.query:
        raise BadInput("SMARTOPS_DATABASE_URL: write the password as user:password@host")
    if parsed.get_backend_name() in _SERVERS and parsed.get_driver_name() != "pymysql":
        parsed = parsed.set(drivername=f"{parsed.get_backend_name()}+pymysql")
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _TIMEOUT_S})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    return sa.create_engine(
        url,
        # MySQL's own default deadlocks on concurrent upserts.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_recycle=3600,
        connect_args={
            "connect_timeout": _TIMEOUT_S,
            # Without these a frozen server hangs the caller for ever, even in the handshake.
            "read_timeout": 3 * _TIMEOUT_S,
            "write_timeout": 3 * _TIMEOUT_S,
            "charset": "utf8mb4",
            "sql_mode": "TRADITIONAL",
        },
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event below opens transactions
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    deadline = time.monotonic() + _TIMEOUT_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The switch does not wait for others as statements do: it fails at once.
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _no_such_table(error: exc.DBAPIError) -> bool:
    code = error.orig.args[0] if error.orig and error.orig.args else None
    return code == 1146 or "no such table" in str(error.orig)
