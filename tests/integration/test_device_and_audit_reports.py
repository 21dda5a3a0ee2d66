"""The device report and the audit report: their numbers against pandas over the raw rows."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from benchmarks.year import Plant, load
from reports import as_data, as_html, audit_report, devices
from reports.document import Document
from reports.own_query import first_id
from reports.period import Period
from smartops.audit import anchors, keys, models, replay, seal, shipping
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.migrations import guarding
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.audit.store import Store
from smartops.drivers import modbus
from smartops.drivers.exchanges import Tally, exchange, tally
from smartops.drivers.quarantine import Patience
from smartops.drivers.tag_files import load_tags
from smartops.errors import DeviceRefused, DeviceTimeout, SmartOpsError
from smartops.plant import Plant as SimulatedPlant
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tests.conftest import ROOT

START = datetime(2026, 3, 27, tzinfo=UTC)
DAY = Period(START + timedelta(days=1), START + timedelta(days=2), "UTC", "day")
DEVICES = ("line-1", "tank-2", "press-4")


def frame(store: Store, table: sa.Table) -> pd.DataFrame:
    with store.reading() as connection:
        rows = connection.execute(sa.select(table)).mappings().all()
    return pd.DataFrame([dict(row) for row in rows])


def of_day(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows[(rows[column] >= DAY.start) & (rows[column] < DAY.end)]


def lines(document: Document, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(as_data.as_json(document))["tables"][table]
    return found


def figure(document: Document, name: str) -> Any:
    return next(figure.value for figure in document.figures if figure.name == name)


@pytest.fixture
def history(store: Store) -> Store:
    """Three days of a plant, with devices that do not answer, readings, requests and people."""
    load(store, Plant(seed=5, start=START, length=timedelta(days=3), density=0.2, faults=20))
    chance = random.Random(5)
    with store.transaction() as connection:
        for table, rows in _rows(chance):
            connection.execute(sa.insert(table), rows)
    return store


def _rows(chance: random.Random) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
    def moment() -> datetime:
        return START + timedelta(seconds=chance.uniform(0, 3 * 86_400))

    changes: list[dict[str, Any]] = []
    for device, part in ((d, p) for d in DEVICES[:2] for p in ("", "unit 3")):
        edges = sorted(moment() for _ in range(chance.choice((4, 5, 7))))
        for number, at in enumerate(edges):
            state = "back" if number % 2 else "quarantined"
            since = edges[number - number % 2]
            own = {"device": device, "part": part, "state": state, "at": at, "since": since}
            rest = {"resource": f"modbus://{device}", "failures": 3, "reason": f"timeout {number}"}
            changes.append({"id": uuid7(), "run_id": uuid7(), **own, **rest})
    readings, exchanges = [], []
    for number in range(600):
        at = moment()
        quality = chance.choice(("good", "good", "good", "uncertain", "bad"))
        reading = {"device": chance.choice(DEVICES), "tag": chance.choice("ab"), "unit": "%"}
        place = {"stream": first_id(at - timedelta(hours=1)), "seq": number, "item": 0}
        times = {"received_at": at, "value": "1", "number": 1.0}
        who = {"run_id": uuid7(), "step_run_id": uuid7()}
        why = "" if quality == "good" else f"why {number}"
        readings.append({**place, **reading, **times, **who, "quality": quality, "reason": why})
        answered, gone = chance.randint(0, 5), chance.randint(0, 1)
        asked = {"requests": answered + gone, "answered": answered, "unanswered": gone}
        took = {"total_s": chance.random() * answered, "longest_s": chance.random(), "at": moment()}
        exchanges.append({"device": reading["device"], **who, **asked, **took})
    job_changes, approvals, holds = [], [], []
    for _ in range(80):
        person = chance.choice(("ines", "marek"))
        ids: dict[str, Any] = {"id": uuid7(), "person": person, "at": moment()}
        revision = {"revision": "b" * 64, "before": "a" * 64, "source": "job apply"}
        job_changes.append({**ids, "job": chance.choice("xyz"), "action": "updated", **revision})
        state = chance.choice(("asked", "granted", "denied", "expired"))
        word: dict[str, Any] = {
            "id": uuid7(),
            "run_id": uuid7(),
            "at": moment(),
            "subject": "may it?",
        }
        said = {"person": person if state in {"granted", "denied"} else "", "comment": ""}
        approvals.append({**word, **said, "state": state, "step": "ask"})
        held = {"id": uuid7(), "run_id": uuid7(), "placed": chance.random() < 0.5}
        holds.append({**held, "person": person, "reason": "claim", "at": moment()})
    return [
        (models.device_change, changes),
        (models.reading, readings),
        (models.device_exchange, exchanges),
        (models.job_change, job_changes),
        (models.approval, approvals),
        (models.hold, holds),
    ]


# --- devices ----------------------------------------------------------------------------------


def down_of(changes: pd.DataFrame, device: str) -> float:
    """Return how long a device was left alone, by summing its edges up over time."""
    edges = []
    for _, part in changes[changes.device == device].groupby("part"):
        ordered = part.sort_values("at")
        begun = ordered[ordered.state == "quarantined"]["at"].tolist()
        ended = ordered[ordered.state == "back"]["at"].tolist()
        edges += [(at, 1) for at in begun] + [(at, -1) for at in ended]
    clipped = [(min(max(at, DAY.start), DAY.end), step) for at, step in edges]
    sums = pd.DataFrame([*clipped, (DAY.end, 0)], columns=["at", "step"]).sort_values("at")
    sums["open"] = sums["step"].cumsum()
    sums["took"] = (sums["at"].shift(-1) - sums["at"]).dt.total_seconds()
    return float(sums[sums["open"] > 0]["took"].sum())


def test_the_device_report_says_what_pandas_says(history: Store) -> None:
    """Availability by the union of its parts, commands, readings and requests by device."""
    document = devices.build(history, DAY, {})
    changes = frame(history, models.device_change)
    for line in lines(document, "availability"):
        down_s = down_of(changes, line["device"])
        assert line["down_s"] == pytest.approx(down_s, abs=1e-3)
        assert line["availability"] == pytest.approx(1 - down_s / 86_400)
    assert sum(line["quarantines"] for line in lines(document, "availability")) > 4
    commands = of_day(frame(history, models.device_command), "requested_at")
    by_device = commands.groupby("device")["state"].value_counts()
    assert len(commands) > 30
    for line in lines(document, "commands"):
        for state in ("confirmed", "mismatch"):
            assert line[state] == by_device.get((line["device"], state), 0)
    assert len(lines(document, "command_log")) == len(commands) == figure(document, "commands")
    assert figure(document, "mismatches") == (commands.state == "mismatch").sum() > 0
    wrong = commands[commands.state != "confirmed"].sort_values("requested_at")
    shown = [(line["before"], line["after"]) for line in lines(document, "not_confirmed")]
    assert shown == list(zip(wrong.before_value, wrong.after_value, strict=True))
    assert {line["asked_by"] for line in lines(document, "command_log")} == {"schedule"}
    readings = of_day(frame(history, models.reading), "received_at")
    counted = pd.crosstab([readings.device, readings.tag], readings.quality)
    assert len(lines(document, "readings")) == len(counted)
    for line in lines(document, "readings"):
        row = counted.loc[(line["device"], line["tag"])]
        assert (line["readings"], line["bad"]) == (row.sum(), row["bad"])
        assert line["good_share"] == pytest.approx(row["good"] / row.sum())
        own = readings[(readings.device == line["device"]) & (readings.tag == line["tag"])]
        last = own[own.quality != "good"].sort_values("received_at").iloc[-1]
        assert line["reason"] == last.reason
    asked = of_day(frame(history, models.device_exchange), "at").groupby("device")
    for line in lines(document, "requests"):
        rows = asked.get_group(line["device"])
        assert (line["steps"], line["requests"]) == (len(rows), rows.requests.sum())
        assert line["unanswered"] == rows.unanswered.sum()
        assert line["mean_s"] == pytest.approx(rows.total_s.sum() / rows.answered.sum())
        assert line["longest_s"] == pytest.approx(rows.longest_s.max())


def test_the_report_of_one_device(history: Store) -> None:
    """Of the device that is asked for, and of no other; the same bytes each time."""
    document = devices.build(history, DAY, {"device": "tank-2"})
    for table in document.tables():
        assert {row["device"] for row in lines(document, table.name)} <= {"tank-2"}
    assert document.subject == "tank-2"
    again = devices.build(history, DAY, {"device": "tank-2"})
    assert as_html.as_html(document) == as_html.as_html(again)
    nothing = devices.build(history, DAY, {"device": "nobody"})
    assert figure(nothing, "devices") == 0


async def test_what_is_asked_of_a_device_is_counted(plant: SimulatedPlant) -> None:
    """As many requests as the driver plans, with their times; what does not answer is told."""
    tags = load_tags(ROOT / "deployments" / "tags" / "bottling-line.yaml")
    port = plant.addresses.modbus_port
    device = modbus.Connection(
        "plc", "127.0.0.1", port, 1, timedelta(seconds=0.4), tags, patience=Patience(0)
    )
    wanted = [tag for tag in tags if tag.name in {"tank_level", "pump"}]
    counting = Tally()
    token = tally.set(counting)
    try:
        async with modbus.open_device(device) as client:
            await client.read(["tank_level", "pump"])
            plan = len(client.plan(wanted))
            found = counting.devices["plc"]
            assert (found.requests, found.answered, found.unanswered) == (plan, plan, 0)
            assert 0 < found.longest_s <= found.total_s < 30
            plant.faults.switch_on("plc-silent")
            with pytest.raises(SmartOpsError):
                await client.read(["tank_level"])
        assert found.unanswered > 0
        assert found.answered == plan
    finally:
        tally.reset(token)


def test_refusals_are_answers() -> None:
    """A refusal came from the device; no answer did not; outside of a step nothing is counted."""
    with exchange("plc"):
        assert tally.get() is None
    counting = Tally()
    token = tally.set(counting)
    try:
        for error in (DeviceRefused("no"), DeviceTimeout("silence"), ValueError("a library's")):
            with pytest.raises(type(error)), exchange("plc"):
                raise error
        with pytest.raises(ValueError, match="none"), exchange("plc", ValueError):
            raise ValueError("none")
    finally:
        tally.reset(token)
    found = counting.devices["plc"]
    assert (found.requests, found.answered, found.unanswered) == (4, 2, 2)


def test_requests_are_on_record(store: Store) -> None:
    """A row for each device that an attempt of a step asked, derived from its end."""
    info = RunInfo(uuid7(), "j", "f")
    with recorded_run(info):
        record = StepRecord(
            info, step="s", kind="modbus.read", effect=Effect.READ, attempt=1, inputs={}
        )
        token = tally.set(record.tally)
        for device in ("plc", "plc", "scale"):
            with exchange(device):
                pass
        tally.reset(token)
        record.completed({})
    shipping.ship_all(store, get_settings().journal_dir)
    rows = frame(store, models.device_exchange).set_index("device")
    assert rows.requests.to_dict() == {"plc": 2, "scale": 1}
    assert set(rows.step_run_id) == {record.id}
    assert replay.first_difference(store) is None


# --- the record -------------------------------------------------------------------------------


def test_the_audit_report_says_what_pandas_says(history: Store) -> None:
    """Changes, approvals, decisions and holds, and who did how many of them."""
    document = audit_report.build(history, DAY, {"verify": "no"})
    changes = of_day(frame(history, models.job_change), "at")
    approvals = of_day(frame(history, models.approval), "at")
    decisions = of_day(frame(history, models.decision), "at")
    holds = of_day(frame(history, models.hold), "at")
    runs = of_day(frame(history, models.job_run), "started_at")
    assert figure(document, "changes") == len(changes) == len(lines(document, "job_changes"))
    assert figure(document, "granted") == (approvals.state == "granted").sum()
    assert figure(document, "denied") == (approvals.state == "denied").sum()
    assert figure(document, "holds") == holds.placed.sum()
    assert len(lines(document, "decisions")) == len(decisions) > 0
    assert len(lines(document, "approvals")) == len(approvals)
    everybody = {line["person"]: line for line in lines(document, "people")}
    parts = {"changes": changes, "approvals": approvals, "decisions": decisions, "holds": holds}
    for name, line in everybody.items():
        for part, rows in parts.items():
            assert line[part] == (rows.person == name).sum(), (name, part)
        assert line["runs"] == (runs.requested_by == name).sum()
    assert {"ines", "marek", "schedule"} <= set(everybody)
    assert figure(document, "record") == "not looked at"


def test_the_audit_report_proves_the_record(store: Store) -> None:
    """Whole while it is; how much was sealed in the period; altered once somebody altered it."""
    now = datetime.now(UTC)
    today = Period(now - timedelta(hours=1), now + timedelta(hours=1))
    assert figure(audit_report.build(store, today, {}), "record") == "not looked at"
    info = RunInfo(uuid7(), "j", "f")
    with recorded_run(info):
        pass
    get_journal().append(Event("audit.verified", uuid7(), {"ok": True}))
    shipping.ship_all(store, get_settings().journal_dir)
    key = keys.signing_key(get_settings().keys_dir)
    made = list(iter(lambda: seal.seal(store, key), None))
    assert figure(audit_report.build(store, today, {}), "record") == "not looked at"
    for place in anchors.anchors_of(get_settings()):
        place.publish(made)
    document = audit_report.build(store, today, {})
    seals = frame(store, models.seal)
    (line,) = lines(document, "proof")
    assert line["state"] == figure(document, "record") == "whole"
    assert (line["seals"], line["sealed_events"]) == (len(seals), seals.events.sum())
    assert (line["first_seal"], line["last_seal"]) == (seals.number.min(), seals.number.max())
    before = Period(now - timedelta(hours=3), now - timedelta(hours=2))
    assert lines(audit_report.build(store, before, {}), "proof")[0]["seals"] == 0
    with store.transaction() as connection:
        guarding.unguard(connection, "event")
        event = models.event
        of_run = (event.c.run_id == info.id) & (event.c.type == "run.ended")
        connection.execute(sa.update(event).where(of_run).values(body='{"state": "completed"}'))
        guarding.guard(connection)
    altered = audit_report.build(store, today, {})
    assert figure(altered, "record") == "altered"
    assert str(info.id) in altered.summary[0]
    with pytest.raises(SmartOpsError, match="verify=maybe: it is yes or no"):
        audit_report.build(store, today, {"verify": "maybe"})
