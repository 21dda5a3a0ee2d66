"""Machines that share a database: one that is gone is told from one that is slow, or comes back."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from uuid6 import uuid7

from services.dead_runs import DeadRuns
from smartops.audit import beats, schema, shipping
from smartops.audit.beats import Silence, beat
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.liveness import home_id
from smartops.audit.open_runs import open_runs
from smartops.audit.store import Store
from smartops.errors import LockTimeout, RunTakenAway
from smartops.settings import get_settings
from tests.conftest import free_port

A, B = UUID(int=1), UUID(int=2)


def test_who_is_silent() -> None:
    """For ten seconds on end, while the database was heard all the time; a word is enough."""
    listener = Silence()
    gone = [listener.gone({A: 7, B: second // 3}, float(second)) for second in range(12)]
    assert gone[:10] == [set()] * 10
    assert gone[10:] == [{A}, {A}]
    assert listener.gone({A: 8, B: 4}, 12.0) == set()


def test_a_listener_that_was_away_listens_anew() -> None:
    """After an outage of the database, or a pause of the listener, nobody is gone at once."""
    listener = Silence()
    for second in range(9):
        assert listener.gone({A: 1}, float(second)) == set()
    assert listener.gone({A: 1}, 60.0) == set()
    assert [bool(listener.gone({A: 1}, 60.0 + n)) for n in range(1, 11)] == [False] * 9 + [True]


@pytest.fixture
def shared(mysql_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A database that several machines share."""
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", mysql_url)
    monkeypatch.setenv("SMARTOPS_LOCKS", "database")
    monkeypatch.setenv("SMARTOPS_LOCK_TIMEOUT", "1s")
    get_settings.cache_clear()
    home.mkdir(parents=True)
    store = Store(mysql_url)
    schema.migrate(store)
    return store


@pytest.mark.mysql
def test_the_runs_of_a_machine_that_is_gone(
    shared: Store, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine ends them, with a step in doubt; if they come back, they make no effect."""
    settings = get_settings()
    run, step = uuid7(), str(uuid7())
    started = {"job": "j", "kind": "job", "flow": "f", "params": {}}
    unsafe = {"step": "s", "kind": "k", "effect": "unsafe", "attempt": 1, "inputs": {}}
    get_journal().append(
        Event("run.started", run, started),
        Event("step.started", run, {"step_run_id": step, **unsafe}),
    )
    shipping.ship_all(shared, settings.journal_dir)
    gone = home_id(settings.journal_dir)
    with shared.transaction() as connection:
        beat(connection, str(gone))
        beat(connection, str(gone))
    assert beats.beats(shared) == {gone: 2}
    beats.check_still_ours(run)

    monkeypatch.setenv("SMARTOPS_HOME", str(tmp_path / "other"))
    get_settings.cache_clear()
    other = DeadRuns(shared, get_settings().journal_dir)
    assert other.find() == []
    other.gone = frozenset({gone})
    ((found, claim),) = other.find()
    other.end(found, claim)
    assert open_runs(shared) == []
    third = DeadRuns(shared, tmp_path / "third")
    third.gone = other.gone
    third.end(found, claim)  # it had looked at the same moment, and comes second
    shipping.ship_all(shared, get_settings().journal_dir)
    with shared.reading() as connection:
        ends = "SELECT count(*) FROM event WHERE type = 'run.ended'"
        assert connection.exec_driver_sql(ends).scalar() == 1
    with shared.reading() as connection:
        rows = connection.exec_driver_sql("SELECT state, message FROM job_run").all()
        steps = connection.exec_driver_sql("SELECT state FROM step_run").scalars().all()
    assert [row.state for row in rows] == ["crashed"]
    assert "is not heard of any more during s; what s did has to be looked at" in rows[0].message
    assert steps == ["unknown_outcome"]

    monkeypatch.setenv("SMARTOPS_HOME", str(home))
    get_settings.cache_clear()
    with pytest.raises(RunTakenAway, match="was given its end while its machine was not heard of"):
        beats.check_still_ours(run)
    shared.close()


@pytest.mark.mysql
def test_without_the_database_no_effect_is_made(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell then whether the run was given up."""
    shared.close()
    away = f"mysql+pymysql://nobody@127.0.0.1:{free_port()}/away"
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", away)
    get_settings.cache_clear()
    with pytest.raises(LockTimeout, match="whether this run was given up"):
        beats.check_still_ours(uuid7())
