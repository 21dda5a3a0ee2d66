"""The journal, the store and what lies between, on SQLite and on a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prefect import flow
from prefect.exceptions import ParameterTypeError
from uuid6 import uuid7

from reports.runs import Wanted, get_run, list_runs
from services.recorder import Recorder
from smartops import audited, errors, redact
from smartops.audit import log_lines, models, open_runs, recording, schema, shipping
from smartops.audit.events import Event
from smartops.audit.journal import Journal, get_journal
from smartops.audit.journal_reader import JournalReader, journal_files
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.audit.store import Store
from smartops.drivers.readings import Command, CommandResult, Reading
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tests.conftest import all_tables, free_port, wait_for

WRITER = """
import sys
from pathlib import Path
from uuid6 import uuid7
from smartops.audit.events import Event
from smartops.audit.journal import Journal
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    journal.append(Event("run.ended", uuid7(), {"state": "completed", "message": str(number)}))
    print(number, flush=True)
"""


def rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def ship(store: Store) -> int:
    return shipping.ship_all(store, get_settings().journal_dir)


def a_run(**fields: Any) -> RunInfo:
    return RunInfo(**{"id": uuid7(), "job": "j", "flow": "f", **fields})


# --- the journal ------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A writer is killed in mid-write; every record that it reported is there, without gaps."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        while acknowledged < 200:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    (path,) = journal_files(tmp_path)
    reader = JournalReader(path)
    assert reader.finished
    records = reader.after(0, 1_000_000)
    reader.close()
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert len(records) >= acknowledged


def test_a_living_writer_is_not_dead(tmp_path: Path) -> None:
    """A quiet writer is told from a dead one, and its journal is not deleted."""
    journal = Journal(tmp_path)
    reader = JournalReader(journal.path)
    assert not reader.finished
    journal.close()
    reader = JournalReader(journal.path)
    assert reader.finished


def test_an_unwritable_journal_stops_the_effect(tmp_path: Path) -> None:
    """No journal, no step: the error says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.JournalUnavailable, match="cannot be written"):
        Journal(tmp_path / "file" / "folder")
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(errors.JournalUnavailable):
        journal.append(Event("run.ended", uuid7(), {}))


def test_a_forked_child_writes_its_own_file(home: Path) -> None:
    """Two processes never share a journal."""
    parent = get_journal()
    child = os.fork()
    if child == 0:
        os._exit(0 if get_journal().path != parent.path else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get_journal() is parent


# --- the schema -------------------------------------------------------------------------------


def test_migrations_give_the_models(store: Store) -> None:
    """After all migrations the tables are what the models say."""
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_tables()) == []


def test_many_migrators_at_once(empty_store: Store) -> None:
    """Several processes that start together: one migrates, none fails."""

    def migrate(_number: int) -> bool:
        own = Store(empty_store.url.render_as_string(hide_password=False))
        try:
            return schema.migrate(own)
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(migrate, range(6))) == 1
    assert schema.current_version(empty_store) == schema.expected_version()


def test_a_newer_schema_is_left_alone(store: Store) -> None:
    """An older program does not touch what a newer one has made."""
    with store.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(errors.StoreUnavailable, match="newer"):
        schema.migrate(store)


def test_a_store_without_tables_says_so(empty_store: Store) -> None:
    """The error says which command makes them."""
    with pytest.raises(errors.StoreUnavailable) as error:
        list_runs(empty_store)
    assert "smartops audit migrate" in error.value.one_line


@pytest.mark.parametrize(
    "url", ["nonsense", "postgresql://x/y", "oracle://x", "mysql+nodriver://x/y"]
)
def test_a_url_that_is_none(url: str) -> None:
    """Bad input, told in one line, without the URL's text."""
    with pytest.raises(errors.BadInput):
        Store(url)


def test_a_database_that_is_away() -> None:
    """Nobody listens: the URL is shown without its password."""
    store = Store(f"mysql+pymysql://me:hidden-word@127.0.0.1:{free_port()}/x")
    with pytest.raises(errors.StoreUnavailable) as error:
        store.cursor(uuid7())
    assert "hidden-word" not in error.value.one_line
    assert "SMARTOPS_DATABASE_URL" in error.value.one_line


# --- from the journal to the store --------------------------------------------------------------


def test_a_run_with_all_that_can_be_in_it(store: Store) -> None:
    """Run, revision, steps, attempts, a device command: the report gives back what was recorded."""
    info = a_run(kind="job", revision="ab" * 32, spec='{"name":"j"}', params={"line": "Ω🙂"})
    with recorded_run(info):
        for attempt in (1, 2):
            step = StepRecord(
                info, step="s", kind="modbus.write", effect=Effect.IDEMPOTENT, attempt=attempt,
                inputs={"a": 1},
            )  # fmt: skip
            if attempt == 1:
                step.failed(errors.DeviceTimeout("slow"))
        command = step.intend(Command("plc", "speed", "1/min", 120, 140))
        step.conclude(command, CommandResult("confirmed", 140))
        step.completed({"after": 140})
        recording.skip_step(info, step="t", kind="wait", effect=Effect.READ, why="because")
    assert ship(store) == 10
    detail = get_run(store, str(info.id))
    assert (detail.run.state, detail.run.params) == ("completed", {"line": "Ω🙂"})
    first, second = detail.steps
    assert (first.id, first.state, first.attempts, first.output) == (
        "s",
        "completed",
        2,
        {"after": 140},
    )
    assert (second.id, second.state, second.attempts, second.error) == (
        "t",
        "skipped",
        0,
        "because",
    )
    (done,) = detail.commands
    assert (done.before, done.requested, done.after, done.state) == (120, 140, 140, "confirmed")
    assert detail.events == 10
    assert rows(store, models.job_revision)[0]["spec"] == '{"name":"j"}'
    json.dumps(detail.as_json())


def test_a_run_that_is_cancelled_as_it_begins_has_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal may come right behind the start; one that was not put on record has no end."""

    def cancelled() -> None:
        raise recording.RunCancelled

    monkeypatch.setattr(log_lines, "install", cancelled)
    with pytest.raises(recording.RunCancelled), recorded_run(a_run()):
        pytest.fail("it was cancelled before")
    assert ship(store) == 2
    assert [run.state for run in list_runs(store)] == ["cancelled"]
    monkeypatch.setattr(recording, "get_journal", cancelled)
    with pytest.raises(recording.RunCancelled), recorded_run(a_run()):
        pytest.fail("it was cancelled before")


def test_shipping_twice_changes_nothing(store: Store) -> None:
    """Replays are harmless, in the events as in the tables."""
    with recorded_run(a_run()):
        pass
    (path,) = journal_files(get_settings().journal_dir)
    reader = JournalReader(path)
    records = reader.after(0, 100)
    assert reader.writer is not None
    assert store.ship(reader.writer, records) == 2
    before = [rows(store, table) for table in models.metadata.sorted_tables]
    assert store.ship(reader.writer, records) == 0
    assert store.ship(reader.writer, records[:1]) == 0
    assert [rows(store, table) for table in models.metadata.sorted_tables] == before
    reader.close()


def test_many_shippers_at_once(store: Store) -> None:
    """Recorders that race for the same journals take each record once, and none fails."""
    for _ in range(20):
        with recorded_run(a_run(kind="job", revision="cd" * 32, spec="{}")):
            pass
    start = threading.Barrier(5)

    def race(_number: int) -> int:
        own = Store(store.url.render_as_string(hide_password=False))
        try:
            start.wait()
            return ship(own)
        finally:
            own.close()

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(race, range(5))) == 40
    assert len(rows(store, models.event)) == 40
    assert {row["state"] for row in rows(store, models.job_run)} == {"completed"}


def test_a_dead_writers_journal_is_deleted_when_it_is_shipped(store: Store) -> None:
    """And not before: the living one's stays."""
    folder = get_settings().journal_dir
    dead = Journal(folder)
    dead.append(Event("run.ended", uuid7(), {"state": "completed", "message": ""}))
    dead.close()
    living = Journal(folder)
    assert ship(store) == 1
    assert journal_files(folder) == [living.path]
    assert sorted(p.suffix for p in folder.iterdir() if str(dead.stream) in p.name) == []
    living.close()


def test_times_keep_their_microseconds(store: Store) -> None:
    """UTC with six digits on every database."""
    at = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    journal = get_journal()
    journal.append(
        Event(
            "run.started", uuid7(), {"job": "j", "kind": "flow", "flow": "f", "params": {}}, at=at
        )
    )
    ship(store)
    assert list_runs(store)[0].started_at == at


def test_names_are_told_apart_by_every_letter(store: Store) -> None:
    """Case, accents and emoji make different names."""
    names = ["line", "Line", "lïne", "🙂", "🙃"]
    for name in names:
        with recorded_run(RunInfo(id=uuid7(), job=name, flow="f")):
            pass
    ship(store)
    for name in names:
        assert [run.job for run in list_runs(store, Wanted(job=name))] == [name]


def test_secrets_are_not_in_the_record(store: Store) -> None:
    """By value, by key and by shape: not in the journal's file, not in any table."""
    canary = "v3ry-s3cret-canary"
    redact.register(canary)
    info = a_run(params={"note": f"it is {canary}", "password": "another-one"})
    step = StepRecord(info, step="s", kind="k", effect=Effect.READ, attempt=1, inputs={"x": canary})
    step.completed({"authorization": "Bearer abcdefghijklm", "text": canary})
    with pytest.raises(errors.PermanentError), recorded_run(info):
        raise errors.PermanentError(f"failed with {canary}")
    ship(store)
    everything = str([rows(store, table) for table in models.metadata.sorted_tables])
    with sqlite3.connect(get_journal().path) as file:
        everything += str(file.execute("SELECT * FROM record").fetchall())
    for secret in (canary, "another-one", "abcdefghijklm"):
        assert secret not in everything
    assert redact.MASK in everything


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (errors.UnknownOutcome("x"), "needs_decision"),
        (errors.DeviceTimeout("x"), "failed"),
        (ZeroDivisionError("x"), "failed"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_the_error_decides_the_state(store: Store, error: BaseException, state: str) -> None:
    """Each way for a run to end has its state."""
    with pytest.raises(type(error)), recorded_run(a_run()):
        raise error
    ship(store)
    assert list_runs(store)[0].state == state


def test_filters_of_the_run_list(store: Store) -> None:
    """By job, by state, by time, newest first, limited."""
    for name in ("a", "b", "a"):
        with recorded_run(RunInfo(id=uuid7(), job=name, flow="f")):
            pass
    middle = datetime.now(UTC)
    with pytest.raises(ValueError, match="x"), recorded_run(RunInfo(id=uuid7(), job="a", flow="f")):
        raise ValueError("x")
    ship(store)
    assert [run.state for run in list_runs(store, Wanted(job="a"))] == [
        "failed",
        "completed",
        "completed",
    ]
    assert len(list_runs(store, Wanted(state="failed"))) == 1
    assert len(list_runs(store, Wanted(since=middle))) == 1
    assert len(list_runs(store, limit=2)) == 2


def test_a_run_by_the_first_part_of_its_id(store: Store) -> None:
    """Unknown, too short and ambiguous ids are told apart."""
    infos = [a_run() for _ in range(2)]
    for info in infos:
        with recorded_run(info):
            pass
    ship(store)
    assert get_run(store, str(infos[0].id)[:-1]).run.run_id == infos[0].id
    for text, said in [
        ("ffffffff", "no run"),
        ("01", "no run id"),
        ("xyzw", "no run id"),
        (str(infos[0].id)[:6], "several"),
    ]:
        with pytest.raises(errors.BadInput, match=said):
            get_run(store, text)


def test_a_start_that_comes_late_does_not_reopen_a_run(store: Store) -> None:
    """A second process's start, shipped after the run's end, leaves the end as it is."""
    info = a_run()
    late = Journal(get_settings().journal_dir)
    with recorded_run(info):
        body = {"job": "j", "kind": "flow", "flow": "f", "params": {}}
        late.append(Event("run.started", info.id, body))
    shipping.ship_file(store, get_journal().path)
    assert list_runs(store)[0].state == "completed"
    shipping.ship_file(store, late.path)
    assert list_runs(store)[0].state == "completed"
    with recorded_run(info):  # begun again after its end: that is a new beginning
        ship(store)
        assert list_runs(store)[0].state == "running"
    late.close()


def test_a_sick_journal_does_not_hold_up_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is no journal is told of once, and left."""
    folder = get_settings().journal_dir
    folder.mkdir(parents=True)
    (folder / "0.journal").write_bytes(b"not a database at all" * 100)
    with recorded_run(a_run()):
        pass
    assert [ship(store), ship(store)] == [2, 0]
    assert [run.state for run in list_runs(store)] == ["completed"]
    assert sum("cannot be shipped" in message for message in caplog.messages) == 1


def test_a_record_that_cannot_be_shown_is_kept(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A body of another shape, an id that is taken: the events are whole, the others are shown."""
    folder = get_settings().journal_dir
    step = {"step_run_id": str(uuid7()), "step": "s", "kind": "k", "effect": "read", "attempt": 1}
    for _ in range(2):  # the second is a step that was there before
        journal = Journal(folder)
        journal.append(Event("step.started", uuid7(), {**step, "inputs": {}}))
        journal.close()
    strange = Journal(folder)
    strange.append(Event("run.started", uuid7(), {"no": "job"}))
    strange.append(Event("slot", uuid7(), {"slot_id": "no uuid"}))
    strange.close()
    with recorded_run(a_run()):
        pass
    assert [ship(store), ship(store)] == [6, 0]
    assert [run.state for run in list_runs(store)] == ["completed"]
    assert len(rows(store, models.event)) == 6
    assert len(rows(store, models.step_run)) == 1
    assert sum("is not shown" in message for message in caplog.messages) == 3


def test_a_migration_that_was_killed_is_finished(empty_store: Store) -> None:
    """MySQL commits each statement: what is there already is taken as it is."""
    with empty_store.transaction() as connection:
        models.device_command.create(connection)
    schema.migrate(empty_store)
    with empty_store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_tables()) == []


def test_a_full_disk_does_not_hide_an_unknown_outcome(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal fails while a failure is recorded: the failure is what is raised."""
    info = a_run()

    def full(_journal: Journal, *_events: Event, **_how: bool) -> None:
        raise errors.JournalUnavailable("disk full")

    def begin() -> StepRecord:
        return StepRecord(info, step="s", kind="k", effect=Effect.UNSAFE, attempt=1, inputs={})

    def lose() -> None:
        with recorded_run(info):
            begin()
            monkeypatch.setattr(Journal, "append", full)
            raise errors.UnknownOutcome("sent, and no answer")

    with pytest.raises(errors.UnknownOutcome, match="sent"):
        lose()
    monkeypatch.undo()
    monkeypatch.setenv("SMARTOPS_HOME", str(home))
    done = begin()
    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(errors.UnknownOutcome, match="the step was done"):
        done.completed({})
    with pytest.raises(errors.UnknownOutcome, match="was sent"):
        done.conclude("1", CommandResult("confirmed", 1))


def test_a_cancelled_unsafe_step_needs_a_decision(store: Store) -> None:
    """Unless it had not touched anything yet."""

    def cancel(info: RunInfo, touched: bool | None) -> None:
        with recorded_run(info):
            step = StepRecord(info, step="s", kind="k", effect=Effect.UNSAFE, attempt=1, inputs={})
            step.touched = touched
            step.failed(asyncio.CancelledError())
            raise asyncio.CancelledError

    for touched, state, run_state in (
        (True, "unknown_outcome", "needs_decision"),
        (None, "unknown_outcome", "needs_decision"),
        (False, "cancelled", "cancelled"),
    ):
        info = a_run()
        with pytest.raises(asyncio.CancelledError):
            cancel(info, touched)
        ship(store)
        detail = get_run(store, str(info.id))
        assert (detail.steps[0].state, detail.run.state) == (state, run_state)


# --- the recorder and plain Python --------------------------------------------------------------


@pytest.mark.mysql
def test_the_recorder_waits_for_its_database(
    home: Path, mysql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Away at first: it says so once and keeps the records; back: it ships them and says so."""
    away = Store(
        mysql_url.replace("127.0.0.1", f"127.0.0.1:{free_port()}/x?", 1).split("/x?")[0] + "/x"
    )
    with recorded_run(a_run()):
        pass
    recorder = Recorder(away)
    assert [recorder.ship_once() for _ in range(3)] == [False, False, False]
    assert sum("until it is back" in message for message in caplog.messages) == 1
    recorder._store = Store(mysql_url)
    assert recorder.ship_once()
    assert "the audit store is back; 2 records shipped" in caplog.messages
    assert [run.state for run in list_runs(recorder._store)] == ["completed"]
    recorder._store.close()


def test_the_recorder_ships_once_more_when_it_stops(home: Path) -> None:
    """What was written before the stop is in the store after it."""
    home.mkdir(parents=True)
    store = Store(get_settings().store_url)
    recorder = Recorder(store)
    running = threading.Thread(target=recorder.run)
    running.start()
    with recorded_run(a_run()):
        pass
    recorder.stop()
    running.join(20)
    assert [run.state for run in list_runs(store)] == ["completed"]
    store.close()


async def test_one_line_audits_a_plain_function(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Async and plain, with defaults, with errors; no Prefect around."""
    monkeypatch.setenv("SMARTOPS_SHIP_AT_RUN_END", "60s")  # nobody else brings it to the store
    get_settings.cache_clear()

    @audited
    async def close_shift(line: str = "line-1") -> str:
        return line.upper()

    @audited
    def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    assert await close_shift() == "LINE-1"
    with pytest.raises(ValueError, match="number 3"):
        fail(3)
    store = Store(get_settings().store_url)
    failed, completed = list_runs(store)
    assert (completed.job, completed.params, completed.state) == (
        "close-shift", {"line": "line-1"}, "completed",
    )  # fmt: skip
    assert (failed.params, failed.state, failed.message) == (
        {"number": 3},
        "failed",
        "ValueError: number 3",
    )
    store.close()


def test_prefect_sees_the_types_of_an_audited_flow() -> None:
    """Also those that only its own module knows, and writes as text."""

    @flow
    @audited
    def late(since: Path, day: Literal["sunday", "monday"] = "monday") -> None: ...

    given = late.validate_parameters({"since": "here", "day": "sunday"})
    assert given == {"since": Path("here"), "day": "sunday"}
    with pytest.raises(ParameterTypeError, match="sunday"):
        late.validate_parameters({"since": "here", "day": "friday"})


async def test_a_run_does_not_wait_for_its_database(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away: the run succeeds, and its records stay in the journal."""
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", f"mysql+pymysql://me@127.0.0.1:{free_port()}/x")
    get_settings.cache_clear()

    @audited
    async def quick() -> int:
        return 1

    assert await quick() == 1
    reader = JournalReader(get_journal().path)
    wait_for(lambda: len(reader.after(0, 10)) == 2, "the journal's two records")
    reader.close()


# --- runs that do not simply begin and end ------------------------------------------------------


class _Suspends(BaseException):
    """What is raised through a run that leaves its process for a while."""


def test_a_suspended_run_goes_on_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no end until it has one, and it is not dead while nobody runs it."""
    monkeypatch.setattr(recording, "suspensions", {_Suspends})
    info = a_run()
    with pytest.raises(_Suspends), recorded_run(info):
        raise _Suspends
    ship(store)
    assert [(run.state, run.ended_at) for run in list_runs(store)] == [("suspended", None)]
    assert open_runs.open_runs(store) == []
    with recorded_run(info):
        ship(store)
        assert list_runs(store)[0].state == "running"
        assert [run.id for run in open_runs.open_runs(store)] == [info.id]
    ship(store)
    assert list_runs(store)[0].state == "completed"


def test_a_step_after_its_runs_end_does_not_begin_the_run_again(store: Store) -> None:
    """A flow that returns before its last task: the run stays ended, the step is on record."""
    info = a_run()
    with recorded_run(info):
        pass
    late = StepRecord(info, step="late", kind="k", effect=Effect.READ, attempt=1, inputs={})
    late.completed({})
    ship(store)
    assert list_runs(store)[0].state == "completed"
    assert get_run(store, str(info.id)).steps[0].state == "completed"


def test_the_start_in_a_child_process_is_not_the_runs(store: Store) -> None:
    """Whichever journal comes first: the run is judged by the process that runs it as a whole."""
    run = uuid7()
    start = {"job": "j", "flow": "f", "kind": "flow", "params": {}}
    child, parent = Journal(get_settings().journal_dir), Journal(get_settings().journal_dir)
    child.append(Event("run.started", run, {**start, "secondary": True}))
    child.close()
    ship(store)
    assert open_runs.open_runs(store)[0].process is None
    parent.append(Event("run.started", run, start))
    parent.close()
    ship(store)
    assert open_runs.open_runs(store)[0].process == parent.process


def test_a_run_is_linked_to_what_it_started_before_that_begins(store: Store) -> None:
    """Once each, in the order of their starts; a child that says itself whose it is, as well."""
    info = a_run()
    first, second, plain = uuid7(), uuid7(), uuid7()
    with recorded_run(info):
        step = StepRecord(info, step="s", kind="job", effect=Effect.READ, attempt=1, inputs={})
        step.child(first, "a")
        step.child(second, "b")
        step.completed({})
    with recorded_run(a_run(id=second, parent=info.id)):
        pass
    with recorded_run(a_run(id=plain, parent=info.id)):
        pass
    ship(store)
    assert get_run(store, str(info.id)).children == (first, second, plain)


def test_no_secret_in_any_table_or_file(store: Store, home: Path) -> None:
    """One canary through everything that can be put on record; then every cell is read."""
    canary = "c4nary-in-the-pl4nt"
    redact.register(canary)
    info = a_run(params={"note": canary, "list": [canary]}, requested_by=canary)
    logger = logging.getLogger("prefect.flow_runs")
    logger.setLevel(logging.INFO)
    with recorded_run(info):
        logger.info("said %s", canary)
        step = StepRecord(
            info, step="s", kind="k", effect=Effect.UNSAFE, attempt=1, inputs={"a": canary}
        )
        step.readings("plc", [Reading("t", canary, canary, "good", canary, datetime.now(UTC))])
        step.artifact(canary, str(home / canary), "text/plain", sha256="0" * 64, size=1)
        step.child(uuid7(), canary)
        command = step.intend(Command("plc", "t", canary, canary, canary))
        step.conclude(command, CommandResult("mismatch", canary, reason=canary))
        step.completed({"out": canary, canary: 1})
        journal = get_journal()
        body: dict[str, Any] = {
            "text": canary,
            "comment": canary,
            "reason": canary,
            "person": canary,
        }
        body |= {"subject": "s", "state": "x", "verdict": "v", "rule": "r", "severity": "s"}
        body |= {"title": canary, "channel": "c", "recipient": canary, "alert_id": str(uuid7())}
        body |= {"name": "n", "media_type": "m", "bytes": 1, "sha256": "0", "place": canary}
        body |= {"placed": True}
        kinds: tuple[Any, ...] = (
            "approval",
            "decision",
            "alert",
            "alert.delivery",
            "report",
            "hold",
        )
        for kind in kinds:
            journal.append(Event(kind, info.id, body))
        with pytest.raises(errors.PermanentError):
            raise errors.PermanentError(canary)
    ship(store)
    for table in models.metadata.sorted_tables:
        found = rows(store, table)
        assert canary not in str(found), table.name
        filled = {"approval", "decision", "alert", "alert_delivery", "report", "hold", "artifact"}
        filled.add("child_run")
        if table.name in filled | {"reading", "log_line", "device_command", "step_run", "event"}:
            assert found, table.name
    for file in home.rglob("*"):
        if file.is_file():
            assert canary.encode() not in file.read_bytes(), file
