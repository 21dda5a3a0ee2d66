"""The journal: chained, shared by threads, rotated, bounded, and safe on a full disk."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from uuid6 import uuid7

from reports.runs import list_runs
from smartops import errors
from smartops.audit import chain, gaps, journal, liveness, shipping
from smartops.audit.events import Event
from smartops.audit.journal import Journal, get_journal
from smartops.audit.journal_reader import JournalReader, Record, journal_files
from smartops.audit.recording import RunInfo, StepRecord, end_run, recorded_run, start_run
from smartops.audit.store import Store
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tests.conftest import wait_for
from tests.integration.test_trust import ship_and_seal, verdict


def records(path: Path) -> list[Record]:
    reader = JournalReader(path)
    try:
        return reader.after(0, 10**9)
    finally:
        reader.close()


def an_end(run: UUID | None = None) -> Event:
    return Event("run.ended", run or uuid7(), {"state": "completed", "message": ""})


def test_each_run_has_its_own_chain(tmp_path: Path) -> None:
    """Two runs in one journal: each is counted from 1 and linked to its own records only."""
    made = Journal(tmp_path)
    runs = (uuid7(), uuid7())
    for number in range(6):
        made.append(an_end(runs[number % 2]))
    heads = dict.fromkeys((run.bytes for run in runs), chain.FIRST)
    for record in records(made.path):
        own = (record.seq, record.run_id, record.run_seq, record.id, record.type, record.at_us)
        expected = chain.link(heads[record.run_id], made.stream.bytes, *own, record.body)
        assert record.hash == expected
        heads[record.run_id] = expected
    assert [record.run_seq for record in records(made.path)] == [1, 1, 2, 2, 3, 3]
    made.close()


def test_threads_share_commits_and_lose_nothing(tmp_path: Path) -> None:
    """Eight threads at once: every record is there once, in an order that has no gap."""
    made = Journal(tmp_path)
    commits: list[str] = []
    made._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    events = [an_end() for _ in range(400)]
    barrier = threading.Barrier(8)

    def write(part: list[Event]) -> None:
        barrier.wait()
        for event in part:
            made.append(event)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [events[n::8] for n in range(8)]))
    found = records(made.path)
    assert [record.seq for record in found] == list(range(1, 401))
    assert {record.id for record in found} == {event.id.bytes for event in events}
    assert len(commits) < 400
    made.close()


def test_a_failed_commit_leaves_no_hole(tmp_path: Path) -> None:
    """What could not be written has no number, and the chain goes on behind what was."""
    made = Journal(tmp_path)
    run = uuid7()
    made.append(an_end(run))
    made._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(errors.JournalFull):
        made.append(Event("run.ended", run, {"message": "x" * 60_000}))
    made._db.execute("PRAGMA max_page_count = 100000")
    made.append(an_end(run))
    assert [(r.seq, r.run_seq) for r in records(made.path)] == [(1, 1), (2, 2)]
    made.close()


def test_a_used_up_journal_makes_room_for_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long-lived process does not keep its records for ever; its run goes on in a new file."""
    monkeypatch.setattr(journal, "_MOST_RECORDS", 5)
    info = RunInfo(id=uuid7(), job="j", flow="f")
    with recorded_run(info):
        for _ in range(6):
            step = StepRecord(info, step="s", kind="wait", effect=Effect.READ, attempt=1, inputs={})
            step.completed({})
    folder = get_settings().journal_dir
    assert len(journal_files(folder)) == 3
    shipping.ship_all(store, folder)
    assert len(journal_files(folder)) == 1
    ship_and_seal(store)
    assert verdict(store).ok
    assert verdict(store).events == 14
    assert not liveness.is_dead(folder, get_journal().process)


def test_a_process_may_back_up_its_own_journal(store: Store) -> None:
    """Who reads its own journal's bytes loses the locks on it; the recorder leaves it whole."""
    folder = get_settings().journal_dir
    mine = get_journal()
    runs = [uuid7(), uuid7()]
    mine.append(an_end(runs[0]))
    for file in folder.iterdir():
        file.read_bytes()
    look = "import sys; from pathlib import Path; from smartops.audit.journal_reader import *\n"
    look += "reader = JournalReader(Path(sys.argv[1])); print(len(reader.after(0, 10)))\n"
    look += "reader.close()"
    for count in (1, 2):
        seen = subprocess.run(
            [sys.executable, "-c", look, str(mine.path)], capture_output=True, text=True, check=True
        )
        assert seen.stdout.split() == [str(count)]
        mine.append(an_end(runs[1]))
    shipping.ship_all(store, folder)
    events = [record.run_id for record in records(mine.path)]
    assert events == [run.bytes for run in (runs[0], runs[1], runs[1])]


WRITER = """
import sys, time
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from uuid6 import uuid7
journal = get_journal()
def add():
    journal.append(Event("run.ended", uuid7(), {"state": "completed", "message": ""}))
add()
for file in journal.path.parent.iterdir():
    file.read_bytes()
print(journal.path, flush=True)
end = time.monotonic() + 2
count = 1
while time.monotonic() < end:
    add()
    count += 1
print(count, flush=True)
sys.stdin.read()
"""


def test_a_reader_never_kills_a_writer(home: Path) -> None:
    """A hundred readers come and go while a process that has lost its locks writes on."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().strip())
        for _ in range(100):
            reader = JournalReader(path)
            reader.after(0, 10)
            reader.close()
        count = int(writer.stdout.readline())
        assert len(records(path)) == count
        writer.communicate("")
    assert writer.returncode == 0


def test_a_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    """A process that was forked and outlives its parent: the parent is known as dead."""
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        process = liveness.this_process(tmp_path)
        child = os.fork()
        if child == 0:
            os.close(read)
            threading.Event().wait(20)
            os._exit(0)
        os.write(write, f"{process} {child}".encode())
        os._exit(0)
    os.waitpid(parent, 0)
    process_id, child_pid = os.read(read, 200).decode().split()
    try:
        wait_for(lambda: liveness.is_dead(tmp_path, UUID(process_id)), "the parent to be dead", 5)
    finally:
        os.kill(int(child_pid), 9)


def test_signs_of_life_of_the_dead_are_cleared_away(store: Store) -> None:
    """After their last record is in the store; those of the living stay."""
    folder = get_settings().journal_dir
    get_journal()
    code = (
        "from uuid6 import uuid7\nfrom smartops.audit.events import Event\n"
        "from smartops.audit.journal import get_journal\n"
        "get_journal().append(Event('run.ended', uuid7(), {'state': 'x', 'message': ''}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(list(folder.glob("*.alive"))) == 2
    shipping.ship_all(store, folder)
    assert [path.stem for path in folder.glob("*.alive")] == [str(get_journal().process)]


OLD_SCHEMA = """
CREATE TABLE stream (id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL);
CREATE TABLE record (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, run_id TEXT NOT NULL,
    type TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL);
"""


def test_a_journal_of_the_first_version_is_shipped(store: Store) -> None:
    """What an older program has left behind is chained when it is read."""
    folder = get_settings().journal_dir
    folder.mkdir(parents=True)
    stream, run = uuid7(), uuid7()
    old = sqlite3.connect(folder / f"{stream}.journal", isolation_level=None)
    old.executescript(OLD_SCHEMA)
    old.execute("INSERT INTO stream VALUES (?, 'h', 1)", (str(stream),))
    start = '{"job": "old", "flow": "f", "kind": "flow", "params": {}, "deployment": null}'
    for event_type, body in (
        ("run.started", start),
        ("run.ended", '{"state": "completed", "message": ""}'),
    ):
        at = datetime.now(UTC).isoformat()
        row = (str(uuid7()), str(run), event_type, at, body)
        old.execute("INSERT INTO record (id, run_id, type, at, body) VALUES (?, ?, ?, ?, ?)", row)
    old.close()
    ship_and_seal(store)
    assert [(r.job, r.state) for r in list_runs(store)] == [("old", "completed")]
    assert verdict(store).ok
    assert journal_files(folder) == []


# --- bounds ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
            check=False,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("this machine has no mount command")
    if done.returncode != 0:
        pytest.skip("this user may not mount a disk of its own")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte on a disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def _is_taken(event: Event) -> bool:
    try:
        get_journal().append(event)
    except errors.JournalFull:
        return False
    return True


def a_step(info: RunInfo, effect: Effect, *, unrecorded: bool = False) -> StepRecord:
    return StepRecord(
        info,
        step="s",
        kind="k",
        effect=effect,
        attempt=1,
        inputs={},
        unrecorded_reads=unrecorded,
    )


def test_steps_that_only_read_share_their_syncs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An effect's intent and outcome, and what was read, are synced; a read's start and end not."""
    monkeypatch.setattr(journal, "_LONGEST_UNSYNCED_S", 60.0)
    info = RunInfo(id=uuid7(), job="j", flow="f")
    start_run(info)
    read, reading = (a_step(info, Effect.READ) for _ in range(2))
    assert not is_synced()
    read.completed({})
    assert not is_synced()
    reading.artifact("a", "a", "text/plain", sha256="", size=0)
    assert is_synced()
    reading.failed(ValueError("bad"))
    assert not is_synced()
    for effect in (Effect.IDEMPOTENT, Effect.UNSAFE):
        step = a_step(info, effect)
        assert is_synced()
        a_step(info, Effect.READ)
        assert not is_synced()
        step.completed({})
        assert is_synced()
    a_step(info, Effect.READ)
    end_run(info, "completed")
    assert is_synced()
    get_journal().close()


def test_reads_are_not_left_without_a_sync_for_long(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes later than a while after the last sync takes along what was written since."""
    monkeypatch.setattr(journal, "_LONGEST_UNSYNCED_S", 0.0)
    info = RunInfo(id=uuid7(), job="j", flow="f")
    start_run(info)
    a_step(info, Effect.READ)
    assert is_synced()
    get_journal().close()


def is_synced() -> bool:
    """Return whether the journal's last commit was synced: SQLite's mode, FULL is 2."""
    return bool(get_journal()._db.execute("PRAGMA synchronous").fetchone()[0] == 2)


def test_a_full_disk_stops_effects_and_loses_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really full: what was acknowledged is there, nothing new starts, and it heals by itself."""
    monkeypatch.setenv("SMARTOPS_HOME", str(small_disk))
    monkeypatch.setenv("SMARTOPS_JOURNAL_RESERVE", "100kB")
    monkeypatch.setattr(journal, "_ROOM_IS_FRESH_S", 0.0)
    get_settings.cache_clear()
    info = RunInfo(id=uuid7(), job="j", flow="f")
    start_run(info)
    before = a_step(info, Effect.UNSAFE)
    ballast = fill(small_disk)
    with pytest.raises(errors.JournalFull, match=r"has less than 100\.0KB left"):
        a_step(info, Effect.UNSAFE)
    written = 0
    line = Event("log", info.id, {"message": "x" * 4000, "level": 20})
    while _is_taken(replace(line, id=uuid7())):
        written += 1
    with pytest.raises(errors.UnknownOutcome, match="could not be put on record"):
        before.completed({})
    assert len(records(get_journal().path)) == 2 + written
    ballast.unlink()
    before.completed({})
    a_step(info, Effect.UNSAFE).completed({})
    end_run(info, "completed")
    kinds = [record.type for record in records(get_journal().path)]
    assert kinds[-4:] == ["step.ended", "step.started", "step.ended", "run.ended"]
    get_journal().close()


def test_the_limit_stops_effects_before_their_outcome_has_no_room(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit nothing with an effect begins; what has begun is still put on record."""
    info = RunInfo(id=uuid7(), job="j", flow="f")
    step = a_step(info, Effect.UNSAFE)
    monkeypatch.setenv("SMARTOPS_JOURNAL_LIMIT", "1kB")
    monkeypatch.setattr(journal, "_ROOM_IS_FRESH_S", 0.0)
    get_settings.cache_clear()
    get_journal()._room.known_until = -1
    with pytest.raises(errors.JournalFull, match=r"has reached its limit of 1\.0KB"):
        a_step(info, Effect.IDEMPOTENT)
    with pytest.raises(errors.JournalFull):
        a_step(info, Effect.READ)
    step.completed({})
    assert [record.type for record in records(get_journal().path)] == [
        "run.started",
        "step.started",
        "step.ended",
    ]


def test_reads_go_on_when_the_job_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off the record, and how many records are missing is on record as soon as there is room."""
    info = RunInfo(id=uuid7(), job="j", flow="f")
    start_run(info)
    monkeypatch.setenv("SMARTOPS_JOURNAL_LIMIT", "1kB")
    monkeypatch.setattr(journal, "_ROOM_IS_FRESH_S", 0.0)
    get_settings.cache_clear()
    get_journal()._room.known_until = -1
    a_step(info, Effect.READ, unrecorded=True).completed({"x": 1})
    with pytest.raises(errors.JournalFull):
        a_step(info, Effect.UNSAFE, unrecorded=True)
    end_run(info, "completed")
    found = records(get_journal().path)
    assert [record.type for record in found] == ["run.started", "journal.gap", "run.ended"]
    assert '"records": 2' in found[1].body
    assert gaps.take(info.id) == 0


# --- log lines ------------------------------------------------------------------------------


def test_log_lines_are_numbered_without_a_gap(store: Store) -> None:
    """From several processes' journals; secrets masked; in the order in which they came."""
    from smartops import redact
    from smartops.audit import models
    from tests.integration.test_audit import rows

    redact.register("v3ry-s3cret-line")
    logger = logging.getLogger("prefect.flow_runs")
    logger.setLevel(logging.INFO)
    info = RunInfo(id=uuid7(), job="j", flow="f")
    with recorded_run(info):
        for number in range(3):
            logger.info("line %d, %s", number, "v3ry-s3cret-line")
        logger.debug("not shown")
        logger.error("bad", exc_info=ValueError("why"))
        other = Journal(get_settings().journal_dir)
        other.append(
            Event("log", info.id, {"level": 20, "logger": "other", "message": "from elsewhere"})
        )
        other.close()
        shipping.ship_all(store, get_settings().journal_dir)
        logger.info("the last")
    logger.info("after its end")
    shipping.ship_all(store, get_settings().journal_dir)
    lines = sorted(rows(store, models.log_line), key=lambda row: row["number"])
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5, 6]
    texts = [line["message"] for line in lines]
    assert texts[0] == "line 0, ********"
    assert texts[3].startswith("bad\n")
    assert "ValueError: why" in texts[3]
    assert texts[4:] == ["from elsewhere", "the last"]
    assert rows(store, models.job_run)[0]["log_lines"] == 6
