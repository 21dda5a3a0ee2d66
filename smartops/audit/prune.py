"""Takes old records away: by month on a server, by date on SQLite; runs under hold are kept.

Whole streams go, so that what is kept keeps its chain, and the seals of what went stay and hold.
That records went, and up to which moment, is itself on record, and sealed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import alert_tables, chain, kept_reports, models, report_tables
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import Journal
from smartops.audit.keys import SigningKey
from smartops.audit.migrations import guarding, partitions
from smartops.audit.pruned import pruned
from smartops.audit.seal import seal
from smartops.audit.shipping import ship_file
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.settings import get_settings

_CHUNK = 5000
_SEAL_TRIES = 50
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MARGIN = timedelta(days=2)
"""How much longer than the month of its stream's beginning an event may be from."""
_BY_STREAM = (models.log_line, models.reading)
_BY_TIME = (
    (models.step_run, "started_at"),
    (models.device_command, "requested_at"),
    (models.artifact, "stored_at"),
    (models.approval, "at"),
    (models.decision, "at"),
    (models.child_run, "at"),
    (models.device_change, "at"),
    (report_tables.lock_wait, "at"),
    (alert_tables.alert, "raised_at"),
    (models.quality_result, "at"),
    (models.device_exchange, "at"),
    (models.run_process, "claimed_at"),
)
_WITHOUT_RUN = (
    (models.slot, "due_at"),
    (models.report, "made_at"),
    (alert_tables.alert_fact, "at"),
    (alert_tables.alert_delivery, "at"),
    (alert_tables.alert_message, "made_at"),
    (alert_tables.alert_answer, "at"),
    (alert_tables.alert_episode, "ended_at"),
)


@dataclass(frozen=True)
class Pruning:
    """What a pruning did, or would do."""

    before: datetime
    """Streams that began earlier are gone."""
    events: int
    runs: int
    held_runs: int


def cutoff(connection: Connection, now: datetime, days: int) -> datetime:
    """Return up to which moment streams go: the end of a partition on a server, else of a day."""
    day = (now - timedelta(days=days) - _MARGIN).replace(hour=0, minute=0, second=0, microsecond=0)
    if not partitions.is_server(connection):
        return day
    return partitions.boundary(connection, "event", day) or _LONG_AGO


def held_runs(connection: Connection) -> set[UUID]:
    """Return the runs under legal hold."""
    table = models.hold
    last: dict[UUID, bool] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.at, table.c.id)):
        last[row.run_id] = row.placed
    return {run for run, placed in last.items() if placed}


def prune(
    store: Store, key: SigningKey, days: int, *, dry_run: bool = False, now: datetime | None = None
) -> Pruning:
    """Take away what is older than some days. Needs a database user that may delete.

    Raises BadInput when something that would go is not sealed yet, StoreUnavailable.
    """
    with store.patient() as patient:
        return _prune(patient, key, days, dry_run=dry_run, now=now or datetime.now(UTC))


def _prune(store: Store, key: SigningKey, days: int, *, dry_run: bool, now: datetime) -> Pruning:
    with store.reading() as connection:
        before = max(
            cutoff(connection, now, days),
            partitions.moment_of(pruned(connection).before),  # what is gone stays gone
        )
        low = partitions.key_at(before)
        held = held_runs(connection)
        plan = _plan(connection, before, low, held)
        _all_sealed(connection, low)
        released = connection.execute(_released(held)).scalar() is not None
    if dry_run or not (plan.events or released):
        return plan
    _put_on_record(store, key, plan, low, held)
    _keep_held(store, low, held)
    with store.reading() as connection:
        _all_sealed(connection, low)
        if held_runs(connection) != held:
            raise BadInput(
                "a hold was placed or ended meanwhile; nothing was pruned, call it again"
            )
    _delete(store, before, low, held)
    return plan


def _released(held: set[UUID]) -> sa.Select[tuple[UUID]]:
    """Return a query for events that were kept for a hold that is over."""
    kept = models.event_held
    return sa.select(kept.c.run_id).where(kept.c.run_id.not_in(held)).limit(1)


def _plan(connection: Connection, before: datetime, low: bytes, held: set[UUID]) -> Pruning:
    event = models.event
    old = sa.select(sa.func.count()).where(event.c.stream < low)
    runs = sa.select(sa.func.count(sa.distinct(event.c.run_id))).where(event.c.stream < low)
    kept = event.c.run_id.in_(held)
    if not held:
        return Pruning(
            before, connection.execute(old).scalar_one(), connection.execute(runs).scalar_one(), 0
        )
    return Pruning(
        before,
        connection.execute(old.where(~kept)).scalar_one(),
        connection.execute(runs.where(~kept)).scalar_one(),
        connection.execute(runs.where(kept)).scalar_one(),
    )


def _all_sealed(connection: Connection, low: bytes) -> None:
    stream = models.stream
    query = sa.select(stream.c.id).where(stream.c.id < low, stream.c.sealed_seq < stream.c.last_seq)
    found = connection.execute(query.limit(1)).scalar()
    if found is not None:
        raise BadInput(
            f"stream {found} has events that are not sealed yet; nothing was pruned",
            hint="Let the recorder run (`smartops up`, or `python -m services.recorder`).",
        )


def _keep_held(store: Store, low: bytes, held: set[UUID]) -> None:
    """Copy the events of held runs to where no pruning comes."""
    event, kept = models.event, models.event_held
    names = [column.name for column in kept.columns]
    for run in sorted(held):
        with store.transaction() as connection:
            there = sa.exists().where(kept.c.stream == event.c.stream, kept.c.seq == event.c.seq)
            query = sa.select(*(event.c[name] for name in names)).where(
                event.c.run_id == run, event.c.stream < low, ~there
            )
            connection.execute(sa.insert(kept).from_select(names, query))


def _put_on_record(
    store: Store, key: SigningKey, plan: Pruning, low: bytes, held: set[UUID]
) -> None:
    """Say on record, and have it sealed, what is about to go and what is kept of it."""
    with store.reading() as connection:
        hashes = _kept_hashes(connection, low, held)
    body = {
        "before": plan.before.isoformat(),
        "streams_before": low.hex(),
        "events": plan.events,
        "runs": plan.runs,
        "held": len(hashes),
        "held_root": chain.merkle_root(hashes).hex(),
        "held_runs": sorted(run.hex for run in held),
    }
    journal = Journal(get_settings().journal_dir)
    journal.append(Event("records.pruned", NO_RUN, body))
    journal.close()
    ship_file(store, journal.path)
    for _ in range(_SEAL_TRIES):  # another recorder may take the number
        while seal(store, key) is not None:
            pass
        with store.reading() as connection:
            word = pruned(connection)
        if (word.before, word.held) == (low, len(hashes)):
            return
        time.sleep(0.1)
    raise BadInput("the pruning could not be sealed; nothing was pruned")


def _kept_hashes(connection: Connection, low: bytes, held: set[UUID]) -> list[bytes]:
    """Return the hashes of the events of held runs that are, or will be, kept apart."""
    found: dict[tuple[bytes, int], bytes] = {}
    for table in (models.event, models.event_held):
        query = sa.select(table.c.stream, table.c.seq, table.c.hash).where(
            table.c.run_id.in_(held), table.c.stream < low
        )
        for row in connection.execute(query):
            found[row.stream.bytes, row.seq] = row.hash
    return [found[place] for place in sorted(found)]


def _delete(store: Store, before: datetime, low: bytes, held: set[UUID]) -> None:
    if store.is_server:
        with store.engine.connect() as connection:
            for name in partitions.PARTITIONED:
                if name == "event" or not held:
                    partitions.drop_months(connection, name, before)
                partitions.partition(connection, name)
    # On a server these are the few that came late, and lie in a younger month.
    _delete_guarded(store, models.event, models.event.c.stream < low)
    kept = models.event_held
    _delete_guarded(store, kept, kept.c.run_id.not_in(held))
    for table in _BY_STREAM:
        _delete_where(store, table, table.c.stream < low, held)
    for table, column in _BY_TIME:
        _delete_where(store, table, table.c[column] < before, held)
    for table, column in _WITHOUT_RUN:
        _delete_where(store, table, table.c[column] < before, set())
    run = models.job_run
    over = (run.c.started_at < before) & (run.c.ended_at < before)
    _delete_where(store, run, over, held, column="id")
    _delete_where(store, models.stream, models.stream.c.id < low, set())
    with store.transaction() as connection:
        kept_reports.delete_unused(connection)


def _delete_guarded(store: Store, table: sa.Table, condition: sa.ColumnElement[bool]) -> None:
    """Delete rows of a table that is only ever added to."""
    with store.transaction() as connection:
        guarding.unguard(connection, table.name)
        try:
            connection.execute(sa.delete(table).where(condition))
        finally:
            guarding.guard(connection)


def _delete_where(
    store: Store,
    table: sa.Table,
    condition: sa.ColumnElement[bool],
    held: set[UUID],
    column: str = "run_id",
) -> None:
    """Delete rows in small transactions, so that nobody waits for it."""
    if held:
        condition = condition & table.c[column].not_in(held)
    statement = sa.delete(table).where(condition)
    if store.is_server:
        statement = statement.with_dialect_options(mysql_limit=_CHUNK, mariadb_limit=_CHUNK)
    else:
        row: sa.ColumnElement[int] = sa.literal_column("rowid")
        some = sa.select(row).select_from(table).where(condition).limit(_CHUNK)
        statement = sa.delete(table).where(row.in_(some))
    while True:
        with store.transaction() as connection:
            if connection.execute(statement).rowcount == 0:
                return
