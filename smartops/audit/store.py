"""The audit store: the only place that writes SQL.

Events are only ever added. The other tables are derived from them in the same transaction, with
the stream's cursor, so that a record is taken exactly once however often it is shipped.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from smartops import redact
from smartops.audit import database, models
from smartops.audit.alert_tables import alert_switch
from smartops.audit.bulk_insert import bulk_insert, utc_text
from smartops.audit.journal_reader import Record, Writer
from smartops.audit.projection import Projection
from smartops.errors import RecordRefused, StoreUnavailable

T = TypeVar("T")
_TRIES = 6
NOT_SHOWN = (
    RecordRefused,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
"""What a record raises that is not of the shape that its table wants."""
logger = logging.getLogger(__name__)
_COLUMNS = ("stream", "seq", "id", "run_id", "run_seq", "type", "at", "body", "hash")


class Store:
    """An audit store. Safe to use from several threads and processes."""

    def __init__(self, url: str, *, patient: bool = False) -> None:
        self.url = database.parse(url)
        redact.register(self.url.password)
        self.engine = database.connect(self.url, patient=patient)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def ship(self, writer: Writer, records: Sequence[Record]) -> int:
        """Add what is new of a stream's records; return how many that were.

        Raises StoreUnavailable, RecordRefused.
        """
        try:
            return self.again_on_deadlock(lambda: self._ship(writer, records))
        except NOT_SHOWN as error:
            logger.warning(
                "stream %s holds a record that cannot be shown: %s", writer.stream, error
            )
            return self.again_on_deadlock(lambda: self._ship(writer, records, singly=True))

    def _ship(self, writer: Writer, records: Sequence[Record], *, singly: bool = False) -> int:
        with self.transaction() as connection:
            known, alerting = self._lock_cursor(connection, writer)
            new = [record for record in records if record.seq > known]
            if not new:
                return 0
            rows = [_event_row(writer.stream.bytes, record) for record in new]
            bulk_insert(connection, "event", _COLUMNS, rows)
            if singly:
                self._show_singly(connection, writer, new, alerting)
            else:
                Projection(connection, writer, alerting=alerting).apply(new)
            connection.execute(
                sa.update(models.stream)
                .where(models.stream.c.id == writer.stream)
                .values(last_seq=new[-1].seq, sealed=False)
            )
            return len(new)

    @staticmethod
    def _show_singly(
        connection: Connection, writer: Writer, records: Sequence[Record], alerting: bool
    ) -> None:
        """Show what can be shown; the others stay in the events, which is where nothing is lost."""
        for record in records:
            try:
                with connection.begin_nested():
                    Projection(connection, writer, alerting=alerting).apply([record])
            except (*NOT_SHOWN, exc.IntegrityError, exc.DataError) as error:
                text = redact.text(str(error).splitlines()[0])
                logger.error("%s record %s is not shown: %s", record.type, record.seq, text)  # noqa: TRY400

    @property
    def is_server(self) -> bool:
        """Whether it is on MySQL or MariaDB."""
        return self.url.get_backend_name() in database.SERVERS

    @contextmanager
    def patient(self) -> Iterator[Store]:
        """Give the same store with connections that wait for what takes long."""
        store = Store(self.url.render_as_string(hide_password=False), patient=True)
        try:
            yield store
        finally:
            store.close()

    def again_on_deadlock(self, work: Callable[[], T]) -> T:
        """Do a transaction, and do it again when the server gave it up for another's sake."""
        for _ in range(_TRIES - 1):
            try:
                return work()
            except _Deadlock:
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - not for secrets
        return work()

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

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give a connection whose queries all see the same moment. Raises StoreUnavailable."""
        with self._connection("BEGIN") as connection:
            if self.is_server:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
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
            if _is_deadlock(error):
                raise _Deadlock(f"the audit store is busy: {error.orig}") from error
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
            hint="Check SMARTOPS_DATABASE_URL and that the database is up."
            if self.is_server
            else "Check SMARTOPS_HOME: its folder must be there and writable.",
        )

    @staticmethod
    def _lock_cursor(connection: Connection, writer: Writer) -> tuple[int, bool]:
        """Return the stream's last number, and keep others from this stream until the end.

        And whether alerts are wanted: asked in the same breath, as it is asked for each batch.
        """
        wanted = sa.exists(sa.select(alert_switch.c.id)).label("alerting")
        query = (
            sa.select(models.stream.c.last_seq, wanted)
            .where(models.stream.c.id == writer.stream)
            .with_for_update()
        )
        known = connection.execute(query).first()
        if known is not None:
            return int(known[0]), bool(known[1])
        row = {"host": writer.host, "pid": writer.pid, "process": writer.process}
        row |= {"home": writer.home, "last_seq": 0, "sealed_seq": 0, "sealed": True}
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(models.stream).values(id=writer.stream, **row))
        except exc.IntegrityError:  # another process was first; its transaction has ended now
            pass
        known = connection.execute(query).one()
        return int(known[0]), bool(known[1])


def _event_row(stream: bytes, record: Record) -> tuple[Any, ...]:
    seq, event_id, run_id, run_seq, event_type, at_us, body, digest = record
    return (stream, seq, event_id, run_id, run_seq, event_type, utc_text(at_us), body, digest)


class _Deadlock(StoreUnavailable):
    """The server gave up a transaction so that another could go on."""


def _is_deadlock(error: exc.DBAPIError) -> bool:
    return _code(error) in {1205, 1213}


def _code(error: exc.DBAPIError) -> Any:
    return error.orig.args[0] if error.orig and error.orig.args else None


def _no_such_table(error: exc.DBAPIError) -> bool:
    return _code(error) == 1146 or "no such table" in str(error.orig)
