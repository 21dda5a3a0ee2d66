"""Facts on record become alerts by the rules: on SQLite and on a real server."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from reports import slo
from reports.period import Period
from services.alert_judge import Judge
from smartops import errors, redact
from smartops.alerts.policy import Policy
from smartops.audit import alert_book, alert_tables, recording, shipping
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.audit.store import Store
from smartops.drivers.quarantine import Change
from smartops.jobs import loader
from smartops.settings import get_settings
from smartops.vocabulary import Effect

MAIL = {"block": "alert-mail/ops"}
ROUTE = {"name": "all", "channels": ["ops"]}
SECOND = timedelta(seconds=1)
NEXT = uuid7()
Rows = list[dict[str, Any]]


def policy(*rules: dict[str, Any], **fields: Any) -> Policy:
    """Return a policy in which one channel hears of everything."""
    named = [{"name": f"rule-{number}", **rule} for number, rule in enumerate(rules)]
    document = {"channels": {"ops": MAIL}, "rules": named, "routes": [ROUTE], **fields}
    return Policy.model_validate(document)


def rows(store: Store, table: sa.Table) -> Rows:
    with store.reading() as connection:
        query = sa.select(table).order_by(table.c.id)
        return [dict(row) for row in connection.execute(query).mappings()]


def episodes(store: Store) -> Rows:
    return rows(store, alert_tables.alert_episode)


def messages(store: Store) -> list[tuple[str, str]]:
    found = rows(store, alert_tables.alert_message)
    return [(message["channel"], message["kind"]) for message in found]


def not_sent(store: Store) -> list[str]:
    found = rows(store, alert_tables.alert_delivery)
    return [row["reason"] for row in found if row["state"] == "not_sent"]


class Plantlet:
    """Puts runs on record and lets them be judged."""

    def __init__(self, store: Store) -> None:
        self.store = store
        alert_book.switch_on(store, datetime.now(UTC) - timedelta(hours=1))

    def run(self, job: str = "fill", *, fails: str = "", **fields: Any) -> UUID:
        """Put a run on record that fails at a step, or succeeds."""
        info = RunInfo(id=uuid7(), job=job, flow="run-job", kind="job", **fields)
        with contextlib.suppress(errors.DeviceTimeout), recorded_run(info):
            if fails:
                for attempt in (1, 2):
                    step = StepRecord(
                        info,
                        step=fails,
                        kind="modbus.read",
                        effect=Effect.READ,
                        attempt=attempt,
                        inputs={},
                    )
                    step.failed(errors.DeviceTimeout("no answer in 3 s"))
                raise errors.DeviceTimeout("no answer in 3 s")
        return info.id

    def tell(self, kind: Any, body: dict[str, Any], run_id: UUID = NO_RUN) -> None:
        """Put an event on record."""
        get_journal().append(Event(kind, run_id, body))

    @staticmethod
    def ship(store: Store) -> None:
        """Bring what is in the journals to the store."""
        shipping.ship_all(store, get_settings().journal_dir)

    def judge(self, rules: Policy, now: datetime | None = None, **options: Any) -> int:
        """Ship what there is, and judge it."""
        self.ship(self.store)
        return Judge(self.store, rules).judge(now or datetime.now(UTC), **options)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that another file's test keeps secret may stand in an alert's words here."""
    monkeypatch.setattr(redact, "_known", ())


@pytest.fixture
def plantlet(store: Store) -> Plantlet:
    """Runs and judgements."""
    return Plantlet(store)


FAILURE = {"on": "failure"}


def test_a_failure_and_its_recovery(plantlet: Plantlet, store: Store) -> None:
    """One alert after the last attempt, with what happened; one recovery."""
    rules = policy(FAILURE, {"on": "needs_decision"})
    run_id = plantlet.run(fails="open-valve")
    assert plantlet.judge(rules) == 1
    [episode] = episodes(store)
    assert (episode["title"], episode["state"]) == ("fill failed at step open-valve", "open")
    [alert] = rows(store, alert_tables.alert)
    assert (alert["id"], alert["run_id"], alert["rule"]) == (episode["id"], run_id, "rule-0")
    assert "Step: open-valve (attempt 2)" in alert["text"]
    assert "no answer in 3 s" in alert["text"]
    plantlet.run()
    plantlet.judge(rules)
    assert episodes(store)[0]["state"] == "ended"
    assert messages(store) == [("ops", "raised"), ("ops", "recovered")]
    assert rows(store, alert_tables.alert_fact) == []


def test_a_thousand_equal_failures(plantlet: Plantlet, store: Store) -> None:
    """One alert with a counter, each of the others told as not sent, and one recovery."""
    rules = policy(FAILURE)
    for _ in range(1000):
        info = RunInfo(id=uuid7(), job="fill", flow="run-job")
        recording.start_run(info)
        recording.end_run(info, "failed", "no answer")
    plantlet.judge(rules)
    plantlet.run()
    plantlet.judge(rules)
    [episode] = episodes(store)
    assert (episode["count"], episode["state"]) == (1000, "ended")
    assert messages(store) == [("ops", "raised"), ("ops", "recovered")]
    assert len(not_sent(store)) == 999


def test_what_the_job_says_stands_in_the_alert(plantlet: Plantlet, store: Store) -> None:
    """Runbook, what to check, and the labels by which rules choose."""
    text = """
name: fill
steps: [{id: a, kind: wait, duration: 1s}]
alert:
  runbook: Close valve 7 by hand.
  check: ["Is line 3 under power?"]
  labels: {line: filling}
"""
    job = loader.loads(text)
    spec = json.dumps(job.canonical())
    rules = policy(
        {**FAILURE, "labels": {"line": "fill*"}}, {**FAILURE, "labels": {"line": "packing"}}
    )
    plantlet.run(fails="a", revision="1" * 64, spec=spec)
    plantlet.judge(rules)
    [episode] = episodes(store)
    details = json.loads(episode["details"])
    assert episode["rule"] == "rule-0"
    assert details["runbook"] == "Close valve 7 by hand."
    assert details["check"] == ["Is line 3 under power?"]
    assert details["labels"] == {"line": "filling"}


def test_failures_in_a_row(plantlet: Plantlet, store: Store) -> None:
    """A success between them begins anew; what does not count yet is told as not sent."""
    rules = policy({**FAILURE, "in_a_row": 3})
    for fails in ("a", "a", "", "a", "a"):
        plantlet.run(fails=fails)
        plantlet.judge(rules)
    assert episodes(store) == []
    assert not_sent(store)[-1] == "only 2 of 3 failures in a row"
    plantlet.run(fails="a")
    plantlet.judge(rules)
    assert len(episodes(store)) == 1


def test_failures_that_are_told_apart(plantlet: Plantlet, store: Store) -> None:
    """By step or error where the rule says so; a success ends them all."""
    rules = policy({**FAILURE, "apart_by": ["step"]})
    for step in ("a", "b", "a"):
        plantlet.run(fails=step)
    plantlet.judge(rules)
    assert sorted(episode["count"] for episode in episodes(store)) == [1, 2]
    plantlet.run()
    plantlet.judge(rules)
    assert {episode["state"] for episode in episodes(store)} == {"ended"}


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"parent": uuid7()}, "has its own alert"),
        ({"rehearsal": True}, "rehearsal"),
    ],
)
def test_runs_whose_failure_does_not_count(
    plantlet: Plantlet, store: Store, run: dict[str, Any], reason: str
) -> None:
    """Rehearsals, and runs that a step of another run has started."""
    plantlet.run(fails="a", **run)
    plantlet.judge(policy(FAILURE))
    assert episodes(store) == []
    assert reason in not_sent(store)[0]


def test_children_count_where_the_rule_says_so(plantlet: Plantlet, store: Store) -> None:
    """With children: true."""
    plantlet.run(fails="a", parent=uuid7())
    plantlet.judge(policy({**FAILURE, "children": True}))
    assert len(episodes(store)) == 1


def a_slot(outcome: str, due: datetime, run_id: UUID | None = None) -> dict[str, Any]:
    return {
        "slot_id": str(uuid7()),
        "deployment": "d",
        "job": "fill",
        "due_at": due.isoformat(),
        "schedule": "0 6 * * *",
        "outcome": outcome,
        "reason": "no worker took it in time",
        "slot_run_id": str(run_id) if run_id else None,
    }


def test_missed_and_late(plantlet: Plantlet, store: Store) -> None:
    """A missed slot; a run that started late; one in time ends it. A skipped one is none."""
    rules = policy({"on": "late"}, {"on": "late", "after": "5m"})
    now = datetime.now(UTC)
    plantlet.tell("slot", a_slot("skipped", now - timedelta(hours=3)))
    plantlet.judge(rules)
    assert episodes(store) == []
    plantlet.tell("slot", a_slot("missed", now - timedelta(hours=2)))
    plantlet.judge(rules)
    assert [episode["rule"] for episode in episodes(store)] == ["rule-0", "rule-1"]
    plantlet.tell("slot", a_slot("run", now - timedelta(minutes=10), plantlet.run()))
    plantlet.judge(rules)
    assert [episode["state"] for episode in episodes(store)] == ["ended", "open"]
    plantlet.tell("slot", a_slot("run", now, plantlet.run()))
    plantlet.judge(rules)
    assert {episode["state"] for episode in episodes(store)} == {"ended"}


def test_a_run_that_takes_long_is_told_while_it_goes_on(plantlet: Plantlet, store: Store) -> None:
    """Over the limit: once, not again at its end; a quick one ends it."""
    rules = policy({"on": "slow", "longer_than": "1m"})
    info = RunInfo(id=uuid7(), job="fill", flow="run-job")
    recording.start_run(info)
    plantlet.judge(rules)
    assert episodes(store) == []
    later = datetime.now(UTC) + timedelta(minutes=2)
    for _ in range(2):
        plantlet.judge(rules, later)
    [episode] = episodes(store)
    assert episode["title"].startswith("fill has been running for 2m")
    assert episode["count"] == 1
    recording.end_run(info, "completed")
    end = later + SECOND
    body = {"job": "fill", "kind": "job", "flow": "f", "params": {}}
    get_journal().append(Event("run.started", NEXT, body, at=end))
    get_journal().append(Event("run.ended", NEXT, {"state": "completed", "message": ""}, at=end))
    plantlet.judge(rules, end)
    assert episodes(store)[0]["state"] == "ended"


def test_a_run_that_takes_longer_than_usual(plantlet: Plantlet, store: Store) -> None:
    """The median of those before it, once there are enough."""
    rules = policy({"on": "slow", "times_usual": 3, "least_runs": 4})
    for _ in range(3):
        plantlet.run()
    info = RunInfo(id=uuid7(), job="fill", flow="run-job")
    recording.start_run(info)
    later = datetime.now(UTC) + timedelta(minutes=2)
    plantlet.judge(rules, later)
    assert episodes(store) == []
    recording.end_run(info, "completed")
    recording.start_run(RunInfo(id=uuid7(), job="fill", flow="run-job"))
    plantlet.judge(rules, later)
    assert len(episodes(store)) == 1


def test_a_device_that_is_left_alone(plantlet: Plantlet, store: Store) -> None:
    """The alert is the one that the connection has put on record; its return ends it."""
    rules = policy({"on": "quarantine", "devices": ["plc*"]})
    since = datetime.now(UTC)
    change = Change("plc-1", "modbus://x:502", "unit 3", "quarantined", 5, "no answer", since)
    recording.device_changed(change)
    plantlet.judge(rules)
    [alert] = rows(store, alert_tables.alert)
    [episode] = episodes(store)
    assert (episode["id"], episode["state"]) == (alert["id"], "open")
    recording.device_changed(
        Change("plc-1", "modbus://x:502", "unit 3", "back", 5, "no answer", since)
    )
    plantlet.judge(rules)
    assert episodes(store)[0]["state"] == "ended"


def test_a_run_that_needs_a_decision(plantlet: Plantlet, store: Store) -> None:
    """One for each run, with the command; that it goes on ends it."""
    rules = policy({"on": "needs_decision", "severity": "critical"})
    info = RunInfo(id=uuid7(), job="fill", flow="run-job")
    recording.start_run(info)
    recording.suspend_run(info, "step dose needs a decision: lost", "needs_decision")
    plantlet.judge(rules)
    [alert] = rows(store, alert_tables.alert)
    assert f"smartops run decide {info.id}" in alert["text"]
    recording.start_run(info, again=True)
    plantlet.judge(rules)
    assert episodes(store)[0]["state"] == "ended"


def test_a_check_of_data(plantlet: Plantlet, store: Store) -> None:
    """Which results count stands in the rule; a pass ends it."""
    rules = policy({"on": "quality", "suites": ["audit"]})
    what = {"suite": "audit", "dataset": "runs", "expectation": "not_null", "subject": "ended_at"}
    body = {**what, "checked_rows": 4, "bad_rows": 2, "sentence": "2 of 4 rows"}
    for status in ("warned", "failed", "passed"):
        plantlet.tell("quality", {**body, "status": status}, uuid7())
        plantlet.judge(rules)
    [episode] = episodes(store)
    assert (episode["count"], episode["state"]) == (1, "ended")
    assert not_sent(store) == ["the rule is not for warn"]


def test_checks_of_data_are_told_apart(plantlet: Plantlet, store: Store) -> None:
    """What another job, or another part of the rows, meets ends nothing; rehearsals do not count.

    What the job says for its alerts stands in this one too.
    """
    rules = policy({"on": "quality"})
    what: dict[str, Any] = {"suite": "readings", "expectation": "not_null", "subject": "value"}
    what |= {"bad_rows": 2, "sentence": "2 of 9 rows"}
    spec = json.dumps({"alert": {"check": ["Is it on?"], "labels": {"line": "3"}}})
    about = {"revision": "2" * 64, "spec": spec}

    def check(job: str, dataset: str, status: str, **fields: Any) -> None:
        run_id = plantlet.run(job, **fields)
        body = {**what, "dataset": dataset, "status": status, "checked_rows": 9}
        plantlet.tell("quality", body, run_id)
        plantlet.judge(rules)

    check("fill", "first", "failed", rehearsal=True)
    assert episodes(store) == []
    check("fill", "first", "failed", **about)
    check("fill", "second", "passed", **about)
    check("pack", "first", "passed")
    [episode] = episodes(store)
    assert episode["state"] == "open"
    details = json.loads(episode["details"])
    assert (details["name"], details["labels"]) == ("readings", {"line": "3"})
    assert details["check"] == ["Is it on?"]
    assert ["Job", "fill"] in details["lines"]
    check("fill", "first", "passed", **about)
    assert episodes(store)[0]["state"] == "ended"


def test_a_record_that_was_altered(plantlet: Plantlet, store: Store) -> None:
    """What a verification finds is a fact like the others."""
    rules = policy({"on": "verification", "severity": "critical"})
    plantlet.tell("audit.verified", {"ok": False, "events": 7, "runs": 1, "first_bad": "event 3"})
    plantlet.judge(rules)
    assert episodes(store)[0]["severity"] == "critical"


def test_silence(plantlet: Plantlet, store: Store) -> None:
    """A job that has not succeeded for a while, also one that never ran; a success ends it."""
    rules = policy({"on": "silence", "jobs": ["fill", "never"], "within": "30m"})
    plantlet.run()
    plantlet.judge(rules, watch=True)
    assert [episode["subject"] for episode in episodes(store)] == ["never"]
    plantlet.run("never")
    plantlet.judge(rules, watch=True)
    assert [episode["state"] for episode in episodes(store)] == ["ended"]
    plantlet.judge(rules, datetime.now(UTC) + timedelta(minutes=31), watch=True)
    assert sorted((e["subject"], e["state"]) for e in episodes(store)) == [
        ("fill", "open"),
        ("never", "ended"),
        ("never", "open"),
    ]


def test_what_holds_is_held_back_once(plantlet: Plantlet, store: Store) -> None:
    """A mute of what is looked at again and again is one row; when it ends, the alert comes."""
    rules = policy({"on": "silence", "jobs": ["never"], "within": "30m"})
    now = datetime.now(UTC)
    until = (now + timedelta(minutes=10)).isoformat()
    mute = {"target": "never", "action": "mute", "until": until, "person": "ada", "comment": ""}
    plantlet.tell("alert.answer", mute)
    plantlet.ship(store)
    judge = Judge(store, rules)
    for minutes in (0, 2, 4):
        judge.judge(now + timedelta(minutes=minutes), watch=True)
    assert (len(not_sent(store)), messages(store)) == (1, [])
    judge.judge(now + timedelta(minutes=11), watch=True)
    assert messages(store) == [("ops", "raised")]


def test_a_fact_that_cannot_be_understood(plantlet: Plantlet, store: Store) -> None:
    """Is told as such, and holds up no other."""
    now = datetime.now(UTC)
    body = json.dumps({**a_slot("missed", now), "due_at": "soon"})
    fact = {"id": uuid7(), "kind": "slot", "run_id": NO_RUN, "at": now, "body": body}
    with store.transaction() as connection:
        connection.execute(sa.insert(alert_tables.alert_fact).values(**fact))
    plantlet.run(fails="a")
    plantlet.judge(policy(FAILURE))
    assert len(episodes(store)) == 1
    assert "cannot be understood" in not_sent(store)[0]
    assert rows(store, alert_tables.alert_fact) == []


def test_silence_counts_how_a_run_ends(plantlet: Plantlet, store: Store) -> None:
    """A failure is no sign of life, unless the rule takes any end."""
    plantlet.run(fails="a")
    now = datetime.now(UTC) + timedelta(minutes=30)
    for any_end, alerts in ((True, 0), (False, 1)):
        rule = {"on": "silence", "jobs": ["fill"], "within": "1h", "any_end": any_end}
        plantlet.judge(policy(rule), now, watch=True)
        assert len(episodes(store)) == alerts


PROMISES = """
job: fill
window: 28d
objectives:
  - {kind: success, target: 0.9}
  - {name: quick, kind: latency, target: 0.5, limit: 1ms}
  - {kind: freshness, target: 0.9, limit: 30m}
"""


@pytest.fixture
def promises(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is promised of a job, in a file."""
    file = tmp_path / "deployments" / "slo" / "fill.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(PROMISES)
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(file.parent.parent))
    get_settings.cache_clear()
    return file


def test_an_objective_that_burns(plantlet: Plantlet, store: Store, promises: Path) -> None:
    """Half of the runs fail where the file allows one in ten: as fast as the SLO report says."""
    for number in range(6):
        plantlet.run(fails="a" if number % 2 else "", revision="1" * 64, spec="{}")
    plantlet.ship(store)
    now = datetime.now(UTC)
    (line, *_) = slo.lines(store, Period(now - timedelta(days=1), now))
    assert line.burn == pytest.approx(5)
    rule = {"on": "slo", "jobs": ["f*"], "objectives": ["succ*"]}
    for burn, least, alerts in ((6, 1, 0), (4, 7, 0), (4, 6, 1)):
        plantlet.judge(policy({**rule, "burn": burn, "least_runs": least}), now, watch=True)
        assert len(episodes(store)) == alerts
    assert episodes(store)[0]["title"] == "fill: success burns 5.0 times as fast as it may"
    assert ["Went wrong", "3 of 6 runs in 1d"] in json.loads(episodes(store)[0]["details"])["lines"]
    plantlet.judge(policy({**rule, "over": "1s"}), now + timedelta(hours=1), watch=True)
    assert episodes(store)[0]["state"] == "ended"


def test_the_file_alone_says_what_is_promised(
    plantlet: Plantlet, store: Store, promises: Path
) -> None:
    """Each objective by itself; a file that changes counts, one that is wrong changes nothing."""
    for _ in range(5):
        plantlet.run(revision="1" * 64, spec="{}")
    judge = Judge(store, policy({"on": "slo"}))
    plantlet.ship(store)
    now = datetime.now(UTC)

    def look(minutes: int) -> list[tuple[str, str]]:
        judge.judge(now + timedelta(minutes=minutes), watch=True)
        return [(episode["subject"], episode["state"]) for episode in episodes(store)]

    promises.write_text(PROMISES.replace("limit: 1ms", "limit: 1h"))
    assert look(0) == []
    promises.write_text(PROMISES.replace("limit: 1ms", "limit: 0ms"))
    assert look(2) == [("fill quick", "open")]
    promises.write_text(PROMISES.replace("target: 0.5", "target: 5"))
    assert look(4) == [("fill quick", "open")]
    promises.write_text(PROMISES.replace("limit: 1ms", "limit: 60m"))
    assert look(6) == [("fill quick", "ended")]
    assert look(400) == [("fill quick", "ended"), ("fill freshness", "open")]
    promises.unlink()
    assert look(402) == [("fill quick", "ended"), ("fill freshness", "ended")]


def test_what_was_not_there_cannot_be_stale(
    plantlet: Plantlet, store: Store, promises: Path
) -> None:
    """A job is as fresh as it is young, until its limit is over."""
    plantlet.run(fails="a", revision="1" * 64, spec="{}")
    judge = Judge(store, policy({"on": "slo", "objectives": ["freshness"]}))
    plantlet.ship(store)
    now = datetime.now(UTC)
    judge.judge(now + timedelta(minutes=20), watch=True)
    assert episodes(store) == []
    judge.judge(now + timedelta(hours=6), watch=True)
    assert [episode["subject"] for episode in episodes(store)] == ["fill freshness"]


def test_a_job_that_never_ran_is_to_be_fresh_from_when_alerts_are_on(
    plantlet: Plantlet, store: Store, promises: Path
) -> None:
    """So that a new installation does not begin with an alert."""
    judge = Judge(store, policy({"on": "slo"}))
    now = datetime.now(UTC) - timedelta(hours=1)
    judge.judge(now + timedelta(minutes=20), watch=True)
    assert episodes(store) == []
    judge.judge(now + timedelta(hours=6), watch=True)
    assert [episode["subject"] for episode in episodes(store)] == ["fill freshness"]


def test_an_alert_ends_with_what_its_rule_is_about(plantlet: Plantlet, store: Store) -> None:
    """A rule that is about other jobs now will never say that all is well."""
    plantlet.run(fails="a")
    plantlet.judge(policy(FAILURE), watch=True)
    plantlet.judge(policy({**FAILURE, "jobs": ["other"]}), watch=True)
    assert [episode["state"] for episode in episodes(store)] == ["ended"]
    assert "about other things now" in not_sent(store)[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {
                "maintenance": [
                    {
                        "name": "tuesday",
                        "subjects": ["fi*"],
                        "start": "2020-01-01T00:00Z",
                        "end": "2099-01-01T00:00Z",
                    }
                ]
            },
            "maintenance: tuesday",
        ),
        ({"ignore_older_than": "0s"}, "too long ago"),
        ({"routes": []}, "no route takes it"),
    ],
)
def test_why_nothing_is_sent(
    plantlet: Plantlet, store: Store, fields: dict[str, Any], reason: str
) -> None:
    """It stands on record."""
    plantlet.run(fails="a")
    plantlet.judge(policy(FAILURE, **fields))
    assert messages(store) == []
    assert reason in not_sent(store)[0]


def test_a_mute(plantlet: Plantlet, store: Store) -> None:
    """Of a rule or a job, until its time is over or it is taken back."""
    rules = policy(FAILURE)
    now = datetime.now(UTC)
    until = (now + timedelta(hours=1)).isoformat()
    mute = {"target": "fill", "action": "mute", "until": until, "person": "ada", "comment": "test"}
    plantlet.tell("alert.answer", mute)
    plantlet.run(fails="a")
    plantlet.judge(rules, now)
    assert messages(store) == []
    assert not_sent(store)[0].startswith("muted by ada until")
    plantlet.tell("alert.answer", {**mute, "action": "unmute"})
    plantlet.run(fails="a")
    plantlet.judge(rules, now + SECOND)
    assert messages(store) == [("ops", "raised")]


def test_escalation_ends_with_an_acknowledgement(plantlet: Plantlet, store: Store) -> None:
    """After its time the next are told, again and again until somebody answers."""
    route = {
        **ROUTE,
        "repeat": "1h",
        "escalate": [
            {"after": "15m", "channels": ["boss"]},
            {"after": "30m", "channels": ["plant-head"]},
        ],
    }
    channels = {"ops": MAIL, "boss": MAIL, "plant-head": MAIL}
    rules = policy(FAILURE, channels=channels, routes=[route])
    plantlet.run(fails="a")
    begin = datetime.now(UTC)
    judge = Judge(store, rules)
    shipping.ship_all(store, get_settings().journal_dir)
    for minutes in (0, 14, 16, 20):
        judge.judge(begin + timedelta(minutes=minutes), watch=True)
    assert messages(store) == [("ops", "raised"), ("boss", "escalated")]
    for minutes in (31, 60, 92):
        judge.judge(begin + timedelta(minutes=minutes), watch=True)
    assert messages(store)[2:] == [("plant-head", "escalated"), ("ops", "repeated")]
    [episode] = episodes(store)
    plantlet.tell(
        "alert.answer",
        {"alert_id": str(episode["id"]), "action": "ack", "person": "ada", "comment": ""},
    )
    shipping.ship_all(store, get_settings().journal_dir)
    judge.judge(begin + timedelta(hours=9), watch=True)
    assert len(messages(store)) == 4
    plantlet.run()
    plantlet.judge(rules)
    told = [channel for channel, kind in messages(store) if kind == "recovered"]
    assert told == ["ops", "boss", "plant-head"]


def test_who_is_on_call_is_told(plantlet: Plantlet, store: Store) -> None:
    """At first, and when an alert is escalated: by the calendar at that time."""
    begin = datetime.now(UTC)
    soon = begin + timedelta(hours=2)
    shift = {"start": f"{soon:%H:00}", "end": f"{soon + timedelta(hours=3):%H:00}"}
    calendar = {"shifts": [{"between": shift, "channels": ["ben"]}], "otherwise": ["anna"]}
    step = {"after": "2h", "on_call": "line"}
    rules = policy(
        FAILURE,
        channels={"anna": MAIL, "ben": MAIL},
        routes=[{"name": "all", "on_call": "line", "escalate": [step]}],
        on_call={"line": calendar},
    )
    plantlet.run(fails="a")
    plantlet.judge(rules, begin)
    plantlet.judge(rules, begin + timedelta(hours=2), watch=True)
    assert messages(store) == [("anna", "raised"), ("ben", "escalated")]


def test_a_rule_that_was_taken_away(plantlet: Plantlet, store: Store) -> None:
    """Its alerts are closed without a word."""
    plantlet.run(fails="a")
    plantlet.judge(policy(FAILURE))
    plantlet.judge(policy({"name": "other", "on": "late"}), watch=True)
    assert episodes(store)[0]["state"] == "ended"
    assert messages(store) == [("ops", "raised")]


def test_recovery_that_is_not_wanted(plantlet: Plantlet, store: Store) -> None:
    """recovery: false closes the alert silently, and says so on record."""
    rules = policy({**FAILURE, "recovery": False})
    plantlet.run(fails="a")
    plantlet.judge(rules)
    plantlet.run()
    plantlet.judge(rules)
    assert messages(store) == [("ops", "raised")]
    assert not_sent(store) == ["recovered: the rule has recovery: false"]


def test_two_that_judge_at_once(plantlet: Plantlet, store: Store) -> None:
    """They take turns: each fact is judged once."""
    rules = policy(FAILURE)
    for number in range(60):
        plantlet.run(f"job-{number}", fails="a")
    shipping.ship_all(store, get_settings().journal_dir)

    def judge(_: int) -> int:
        return Judge(store, rules).judge(datetime.now(UTC))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(judge, range(4))) == 60
    assert len(episodes(store)) == len(messages(store)) == 60
