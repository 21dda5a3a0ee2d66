"""Runs, steps and device commands as they stand in the audit store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from reports.run_processes import ProcessEntry, processes_of
from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """Something that began, and that may have ended."""

    started_at: datetime
    ended_at: datetime | None

    @property
    def duration_s(self) -> float | None:
        """How long it took with all its attempts, in seconds; None as long as it runs."""
        ended = self.ended_at
        return None if ended is None else (ended - self.started_at).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object, its times last."""
        fields = _plain(asdict(self))
        times = {name: fields.pop(name) for name in ("started_at", "ended_at")}
        return {**fields, **times, "duration_s": self.duration_s}


@dataclass(frozen=True, kw_only=True)
class RunSummary(_Timed):
    """One run."""

    run_id: UUID
    job: str
    kind: str
    revision: str | None
    flow: str
    deployment: str | None
    params: dict[str, Any]
    state: str
    message: str
    requested_by: str | None
    host: str
    pid: int
    evidence: dict[str, Any] | None
    """What is known of a run whose process died."""
    output: Any
    """What the run gave, where its job names outputs."""
    parent: UUID | None
    """The run whose step started it."""
    resumes: UUID | None
    """The run that it took up again."""
    rehearsal: bool


@dataclass(frozen=True, kw_only=True)
class StepResult(_Timed):
    """One step of a run: how its last attempt ended, when its first began, how many there were."""

    id: str
    kind: str
    effect: str
    state: str
    attempts: int
    inputs: Any
    output: Any
    error_class: str | None
    error: str | None


@dataclass(frozen=True)
class DeviceCommand:
    """One write to a device."""

    id: UUID
    device: str
    tag: str
    unit: str
    before: Any
    requested: Any
    after: Any
    state: str
    restored: bool
    reason: str
    approver: str | None
    """Who had approved it, where the tag map wants that."""
    requested_at: datetime
    concluded_at: datetime | None


@dataclass(frozen=True)
class ApprovalEntry:
    """Something that was asked in a run, or an answer to it."""

    step: str | None
    subject: str
    state: str
    """``asked``, ``granted``, ``denied``, ``expired``, or ``refused``: one that did not count."""
    person: str
    comment: str
    at: datetime


@dataclass(frozen=True)
class DecisionEntry:
    """What a person found out about an effect in doubt."""

    step: str | None
    verdict: str
    person: str
    comment: str
    at: datetime


E = TypeVar("E", ApprovalEntry, DecisionEntry)


@dataclass(frozen=True)
class RunDetail:
    """A run with all that happened in it."""

    run: RunSummary
    steps: tuple[StepResult, ...]
    commands: tuple[DeviceCommand, ...]
    approvals: tuple[ApprovalEntry, ...]
    decisions: tuple[DecisionEntry, ...]
    children: tuple[UUID, ...]
    """The runs that steps of this one started, also those that have not begun yet."""
    events: int
    """How many events of it are on record."""
    processes: tuple[ProcessEntry, ...] = ()
    """Its processes, the first one first: a run that waits for a person has several."""

    def as_json(self) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return {
            **self.run.as_json(),
            "steps": [step.as_json() for step in self.steps],
            "commands": [_plain(asdict(command)) for command in self.commands],
            "approvals": [_plain(asdict(approval)) for approval in self.approvals],
            "decisions": [_plain(asdict(decision)) for decision in self.decisions],
            "children": [str(child) for child in self.children],
            "events": self.events,
            "processes": [_plain(asdict(process)) for process in self.processes],
        }


@dataclass(frozen=True)
class Wanted:
    """Which runs are looked for; what is None does not matter."""

    job: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    device: str | None = None
    """Runs that sent a command to this device."""
    person: str | None = None
    """Runs that this person asked for, decided on, or approved something in."""
    after: UUID | None = None
    """The last run of the page before: only older ones follow."""


def list_runs(store: Store, wanted: Wanted | None = None, *, limit: int = 50) -> list[RunSummary]:
    """Return runs, the newest first. Raises StoreUnavailable; BadInput for an unknown ``after``."""
    wanted = wanted or Wanted()
    with store.reading() as connection:
        query = runs_query(wanted, _place(connection, wanted.after), limit)
        return [_run(row) for row in connection.execute(query).mappings()]


def _place(connection: sa.Connection, after: UUID | None) -> tuple[datetime, UUID] | None:
    """Return where in the order a page begins."""
    if after is None:
        return None
    run = models.job_run
    row = connection.execute(sa.select(run.c.started_at).where(run.c.id == after)).first()
    if row is None:
        raise BadInput(f"there is no run {after} on record")
    return row[0], after


def runs_query(wanted: Wanted, place: tuple[datetime, UUID] | None, limit: int) -> sa.Select[Any]:
    """Return the query for a page of runs: each way to look is one range of one index."""
    run = models.job_run
    if wanted.person is None:
        return _page(sa.select(run), wanted, place, limit)
    # A page of each of the ways to be involved: together they hold the page of all of them.
    one = sa.select(run.c.id)
    decision, approval = models.decision, models.approval
    ways = (
        one.where(run.c.requested_by == wanted.person),
        one.where(run.c.id.in_(_involved(decision, wanted.person))),
        one.where(run.c.id.in_(_involved(approval, wanted.person))),
    )
    pages = [sa.select(_page(way, wanted, place, limit).subquery().c.id) for way in ways]
    found = sa.union(*pages).subquery()
    return _page(sa.select(run).join(found, found.c.id == run.c.id), wanted, place, limit)


def _involved(table: sa.Table, person: str) -> sa.Select[tuple[UUID]]:
    return sa.select(table.c.run_id).where(table.c.person == person)


def _page(
    query: sa.Select[Any], wanted: Wanted, place: tuple[datetime, UUID] | None, limit: int
) -> sa.Select[Any]:
    run = models.job_run
    query = query.order_by(run.c.started_at.desc(), run.c.id.desc()).limit(limit)
    if wanted.job is not None:
        query = query.where(run.c.job == wanted.job)
    if wanted.state is not None:
        query = query.where(run.c.state == wanted.state)
    if wanted.since is not None:
        query = query.where(run.c.started_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(run.c.started_at < wanted.until)
    if wanted.device is not None:
        query = query.where(run.c.id.in_(_runs_at(wanted.device, wanted)))
    if place is not None:
        started, last = place
        earlier = (run.c.started_at == started) & (run.c.id < last)
        # The first condition alone would do; it lets the index begin where the page does.
        query = query.where(run.c.started_at <= started, (run.c.started_at < started) | earlier)
    return query


def _runs_at(device: str, wanted: Wanted) -> sa.Select[tuple[UUID]]:
    command = models.device_command
    query = sa.select(command.c.run_id).where(command.c.device == device)
    if wanted.since is not None:  # a command comes after the start of its run
        query = query.where(command.c.requested_at >= wanted.since)
    return query


def get_run(store: Store, run_id: str) -> RunDetail:
    """Return a run by its id or by the first part of it, at least 4 digits.

    Raises BadInput when there is none, or more than one.
    """
    with store.reading() as connection:
        row = _find(connection, run_id)
        run = _run(row)
        steps = models.step_run
        attempts = connection.execute(
            sa.select(steps).where(steps.c.run_id == run.run_id).order_by(steps.c.id)
        ).mappings()
        results = _steps(attempts.all())
        commands = models.device_command
        rows = connection.execute(
            sa.select(commands).where(commands.c.run_id == run.run_id).order_by(commands.c.id)
        ).mappings()
        done = tuple(_command(row) for row in rows)
        count = (
            sa.select(sa.func.count())
            .select_from(models.event)
            .where(models.event.c.run_id == run.run_id)
        )
        events = connection.execute(count).scalar_one()
        return RunDetail(
            run,
            results,
            done,
            tuple(_entries(connection, models.approval, ApprovalEntry, run.run_id)),
            tuple(_entries(connection, models.decision, DecisionEntry, run.run_id)),
            _children(connection, run.run_id),
            events,
            processes_of(connection, run.run_id),
        )


def _children(connection: sa.Connection, run_id: UUID) -> tuple[UUID, ...]:
    """Return the runs that a run says it started, and those that say so themselves, in order.

    A plain flow's steps do not say it; and a child that has not begun has nothing on record.
    """
    run, child = models.job_run, models.child_run
    told = sa.select(child.c.child).where(child.c.run_id == run_id).order_by(child.c.at, child.c.id)
    begun = sa.select(run.c.id).where(run.c.parent == run_id).order_by(run.c.started_at)
    found = [*connection.execute(told).scalars(), *connection.execute(begun).scalars()]
    return tuple(dict.fromkeys(found))


def _entries(
    connection: sa.Connection, table: sa.Table, kind: type[E], run_id: UUID
) -> Iterator[E]:
    """Yield the rows of a run in a table as values, the oldest first."""
    columns = [table.c[name] for name in kind.__dataclass_fields__]
    query = sa.select(*columns).where(table.c.run_id == run_id).order_by(table.c.at, table.c.id)
    for row in connection.execute(query):
        yield kind(*row)


def _find(connection: sa.Connection, run_id: str) -> sa.RowMapping:
    digits = run_id.replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or any(digit not in "0123456789abcdef" for digit in digits):
        raise BadInput(
            f"{run_id!r} is no run id: give at least 4 of its digits (`smartops run list`)"
        )
    low, high = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    table = models.job_run
    query = sa.select(table).where(table.c.id.between(low, high)).limit(2)
    rows = connection.execute(query).mappings().all()
    if not rows:
        raise BadInput(f"there is no run {run_id!r} on record; see `smartops run list`")
    if len(rows) > 1:
        raise BadInput(f"several runs begin with {run_id!r}; give more of the id")
    return rows[0]


def _run(row: sa.RowMapping) -> RunSummary:
    names = ["job", "kind", "revision", "flow", "deployment", "state", "message", "requested_by"]
    names += ["parent", "resumes", "rehearsal", "host", "pid"]

    return RunSummary(
        run_id=row["id"],
        evidence=json.loads(row["evidence"]) if row["evidence"] else None,
        params=json.loads(row["params"]),
        output=json.loads(row["output"]) if row["output"] else None,
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        **{name: row[name] for name in names},
    )


def _steps(attempts: Sequence[sa.RowMapping]) -> tuple[StepResult, ...]:
    """Return one result a step, in the order in which they first started."""
    first: dict[str, datetime] = {}
    last: dict[str, sa.RowMapping] = {}
    count: dict[str, int] = {}
    for row in attempts:
        first.setdefault(row["step"], row["started_at"])
        last[row["step"]] = row
        count[row["step"]] = count.get(row["step"], 0) + (row["state"] != "skipped")
    return tuple(
        StepResult(
            id=step,
            attempts=count[step],
            inputs=json.loads(row["inputs"]),
            output=json.loads(row["output"]) if row["output"] else None,
            **{name: row[name] for name in ("kind", "effect", "state", "ended_at")},
            started_at=first[step],
            error_class=row["error_class"],
            error=row["error"],
        )
        for step, row in last.items()
    )


def _command(row: sa.RowMapping) -> DeviceCommand:
    names = ("id", "device", "tag", "unit", "state", "restored", "reason", "approver")
    return DeviceCommand(
        before=json.loads(row["before_value"] or "null"),
        requested=json.loads(row["requested_value"]),
        after=json.loads(row["after_value"] or "null"),
        requested_at=row["requested_at"],
        concluded_at=row["concluded_at"],
        **{name: row[name] for name in names},
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with ids as text and times in ISO 8601."""
    return {key: _plain_value(value) for key, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
