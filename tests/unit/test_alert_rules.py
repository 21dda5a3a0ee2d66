"""Rules, routes, calendars and maintenance as tables; and files that are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from uuid6 import uuid7

from smartops.alerts.finding import Finding
from smartops.alerts.findings import of_quality
from smartops.alerts.judging import Known, Mute, judge
from smartops.alerts.message import Said, compose
from smartops.alerts.policy import Policy, load_policy
from smartops.alerts.routing import (
    Standing,
    Subject,
    channels_of,
    group_key,
    in_maintenance,
    next_step,
    routes_for,
)
from smartops.alerts.rules import Rule, fingerprint
from smartops.errors import BadInput
from tests.conftest import ROOT

RULE: TypeAdapter[Rule] = TypeAdapter(Rule)
TUESDAY = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
CHANNELS = {name: {"block": f"alert-mail/{name}"} for name in ("ops", "anna", "ben", "boss")}


def rule(**fields: Any) -> Rule:
    return RULE.validate_python({"name": "r", **fields})


def a_finding(**fields: Any) -> Finding:
    known = {"on": "failure", "bad": True, "subject": "fill", "name": "fill", "at": TUESDAY}
    return Finding(**{**known, **fields})


def policy(**fields: Any) -> Policy:
    return Policy.model_validate({"channels": CHANNELS, **fields})


def subject(**fields: Any) -> Subject:
    known = {"rule": "job-failed", "severity": "warning", "name": "fill", "labels": {}}
    return Subject(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "finding", "covers"),
    [
        ({"on": "failure"}, {}, True),
        ({"on": "late"}, {}, False),
        ({"on": "failure", "jobs": ["fill"]}, {}, True),
        ({"on": "failure", "jobs": ["pack-*", "f*"]}, {}, True),
        ({"on": "failure", "jobs": ["FILL"]}, {}, False),
        ({"on": "failure", "labels": {"line": "*"}}, {}, False),
        ({"on": "failure", "labels": {"line": "*"}}, {"labels": {"line": ""}}, True),
        ({"on": "failure", "labels": {"line": "3"}}, {"labels": {"line": "4"}}, False),
        ({"on": "quarantine", "devices": ["plc*"]}, {"on": "quarantine", "name": "plc-1"}, True),
        ({"on": "quarantine", "devices": ["plc*"]}, {"on": "quarantine", "name": "hmi"}, False),
        ({"on": "quality", "suites": ["audit"]}, {"on": "quality", "name": "orders"}, False),
    ],
)
def test_what_a_rule_covers(fields: dict[str, Any], finding: dict[str, Any], covers: bool) -> None:
    """Its kind, names as patterns, labels."""
    assert rule(**fields).covers(a_finding(**finding)) is covers


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fields", "finding", "means"),
    [
        ({"on": "failure"}, {"bad": False}, "well"),
        ({"on": "late"}, {}, "bad"),
        ({"on": "late"}, {"delay": 9 * MINUTE}, "well"),
        ({"on": "late", "after": "5m"}, {"delay": 5 * MINUTE}, "well"),
        ({"on": "late", "after": "5m"}, {"delay": 6 * MINUTE}, "bad"),
        ({"on": "slow", "longer_than": "5m"}, {"duration": 5 * MINUTE}, "well"),
        ({"on": "slow", "longer_than": "5m"}, {"duration": 6 * MINUTE}, "bad"),
        ({"on": "slow", "times_usual": 2}, {"duration": 6 * MINUTE}, "unclear"),
        (
            {"on": "slow", "times_usual": 2},
            {"duration": 6 * MINUTE, "usual": MINUTE, "before": 9},
            "unclear",
        ),
        (
            {"on": "slow", "times_usual": 2},
            {"duration": 6 * MINUTE, "usual": MINUTE, "before": 10},
            "bad",
        ),
        (
            {"on": "slow", "times_usual": 2, "longer_than": "90s"},
            {"duration": 1.8 * MINUTE, "usual": MINUTE, "before": 10},
            "bad",
        ),
    ],
)
def test_what_a_finding_means(fields: dict[str, Any], finding: dict[str, Any], means: str) -> None:
    """The limit of the rule decides; what is not known is neither."""
    assert rule(**fields).means(a_finding(on=fields["on"], **finding)) == means


def test_fingerprints() -> None:
    """Equal for equal subjects; steps and errors count where the rule says so."""
    plain, apart = rule(on="failure"), rule(on="failure", apart_by=["step", "error"])
    one, other = a_finding(step="a", error="X"), a_finding(step="b", error="X")
    assert fingerprint(plain, one) == fingerprint(plain, other)
    assert fingerprint(apart, one) != fingerprint(apart, other)
    assert fingerprint(plain, one) != fingerprint(rule(name="q", on="failure"), one)
    assert fingerprint(plain, one) != fingerprint(plain, a_finding(subject="pack"))


def test_long_subjects_stay_apart() -> None:
    """A check of data with long names fits into its column, and is no other's."""
    found = {
        of_quality({"suite": "s", "dataset": "d" * 300, "subject": end}, TUESDAY, RUN, None).subject
        for end in ("one", "other")
    }
    assert (len(found), {len(subject) for subject in found}) == (2, {255})


RUN = uuid7()


@pytest.mark.parametrize(
    ("finding", "known", "mute", "verdict"),
    [
        ({}, None, None, "raise"),
        ({}, Known(uuid7(), 1, uuid7()), None, "count"),
        ({"run_id": RUN}, Known(uuid7(), 1, RUN), None, "nothing"),
        ({"bad": False}, None, None, "end"),
        ({"rehearsal": True}, None, None, "hold"),
        ({"child": True}, None, None, "hold"),
        ({"at": TUESDAY - timedelta(hours=25)}, None, None, "hold"),
        ({}, None, "fill", "hold"),
        ({}, None, "r", "hold"),
        ({}, Known(uuid7(), 1, uuid7()), "fi*", "hold"),
        ({}, None, "pack", "raise"),
    ],
)
def test_verdicts(
    finding: dict[str, Any], known: Known | None, mute: str | None, verdict: str
) -> None:
    """What becomes of a finding; whatever is held has a reason."""
    mutes = [Mute(mute, TUESDAY + timedelta(hours=1), "ada")] if mute else []
    found = judge(
        rule(on="failure"),
        a_finding(**finding),
        known,
        policy=policy(),
        mutes=mutes,
        now=TUESDAY,
    )
    assert found.do == verdict
    assert bool(found.reason) == (verdict in {"hold", "count"})


def test_a_mute_ends() -> None:
    """With its time."""
    mute = Mute("fill", TUESDAY, "ada")
    assert not mute.covers(subject(), TUESDAY)
    assert mute.covers(subject(), TUESDAY - timedelta(seconds=1))


ROUTES = [
    {"name": "line-3", "labels": {"line": "3"}, "channels": ["ben"]},
    {"name": "copies", "severity": ["critical"], "channels": ["boss"], "go_on": True},
    {
        "name": "nights",
        "between": [{"start": "22:00", "end": "06:00"}],
        "timezone": "Europe/Berlin",
        "channels": ["anna"],
    },
    {"name": "late", "rules": ["late-*"], "channels": ["ben"]},
    {"name": "rest", "severity": ["warning", "critical"], "channels": ["ops"]},
]


@pytest.mark.parametrize(
    ("fields", "hour", "names"),
    [
        ({}, 12, ["rest"]),
        ({"severity": "info"}, 12, []),
        ({"severity": "critical"}, 12, ["copies", "rest"]),
        ({"labels": {"line": "3"}, "severity": "critical"}, 12, ["line-3"]),
        ({"rule": "late-runs"}, 12, ["late"]),
        ({}, 21, ["nights"]),
        ({}, 5, ["rest"]),
        ({}, 4, ["nights"]),
    ],
)
def test_routes(fields: dict[str, Any], hour: int, names: list[str]) -> None:
    """The first that takes it, by rule, severity, label and local time, unless that says go on."""
    now = TUESDAY.replace(hour=hour)
    found = routes_for(policy(routes=ROUTES), subject(**fields), now)
    assert [route.name for route in found] == names


@pytest.mark.parametrize(
    ("when", "channels"),
    [
        (datetime(2026, 3, 3, 8, 0, tzinfo=UTC), ["ops", "anna"]),
        (datetime(2026, 3, 3, 13, 30, tzinfo=UTC), ["ops", "ben"]),
        (datetime(2026, 3, 7, 8, 0, tzinfo=UTC), ["ops", "boss"]),
        (datetime(2026, 7, 3, 12, 30, tzinfo=UTC), ["ops", "ben"]),
    ],
)
def test_who_is_on_call(when: datetime, channels: list[str]) -> None:
    """By the shifts in their own zone, summer and winter; somebody else when nobody is."""
    days = ["mon", "tue", "wed", "thu", "fri"]
    shifts = [
        {"between": {"start": "06:00", "end": "14:00", "days": days}, "channels": ["anna"]},
        {"between": {"start": "14:00", "end": "22:00", "days": days}, "channels": ["ben"]},
    ]
    calendar = {"timezone": "Europe/Berlin", "shifts": shifts, "otherwise": ["boss"]}
    known = policy(on_call={"line": calendar})
    assert channels_of(known, ["ops"], "line", when) == channels


@pytest.mark.parametrize(
    ("window", "fields", "at", "covered"),
    [
        ({"start": "2026-03-03T11:00Z", "end": "2026-03-03T13:00Z"}, {}, TUESDAY, True),
        ({"start": "2026-03-03T13:00Z", "end": "2026-03-03T14:00Z"}, {}, TUESDAY, False),
        ({"between": [{"start": "11:00", "end": "13:00", "days": ["tue"]}]}, {}, TUESDAY, True),
        ({"between": [{"start": "11:00", "end": "13:00", "days": ["wed"]}]}, {}, TUESDAY, False),
        (
            {"between": [{"start": "12:30", "end": "13:30"}], "timezone": "Europe/Berlin"},
            {},
            TUESDAY,
            True,
        ),
        ({"between": [{"start": "11:00", "end": "13:00"}], "rules": ["slow"]}, {}, TUESDAY, False),
        (
            {"between": [{"start": "11:00", "end": "13:00"}], "subjects": ["pack"]},
            {},
            TUESDAY,
            False,
        ),
        (
            {"between": [{"start": "11:00", "end": "13:00"}], "labels": {"line": "3"}},
            {"labels": {"line": "3"}},
            TUESDAY,
            True,
        ),
    ],
)
def test_maintenance(
    window: dict[str, Any], fields: dict[str, Any], at: datetime, covered: bool
) -> None:
    """Once or again and again, of some rules, things and labels."""
    known = policy(maintenance=[{"name": "works", **window}])
    assert (in_maintenance(known, subject(**fields), at) == "works") is covered


@pytest.mark.parametrize(
    ("minutes", "level", "acknowledged", "step"),
    [
        (14, 0, False, None),
        (15, 0, False, ("escalated", ("boss",), 1)),
        (59, 1, False, None),
        (60, 1, False, ("repeated", ("ops",), 1)),
        (60, 1, True, None),
        (15, 0, True, None),
    ],
)
def test_what_is_said_next(
    minutes: int, level: int, acknowledged: bool, step: tuple[str, tuple[str, ...], int] | None
) -> None:
    """Escalation after its time, once; telling again; nothing once somebody has answered."""
    route = {"name": "all", "channels": ["ops"], "repeat": "1h"}
    escalate = [{"after": "15m", "channels": ["boss"]}]
    known = policy(routes=[{**route, "escalate": escalate}])
    standing = Standing(TUESDAY, TUESDAY, level, acknowledged)
    found = next_step(known, ["all"], standing, TUESDAY + timedelta(minutes=minutes))
    assert (found and (found.kind, found.channels, found.level)) == step


def test_what_is_sent_together() -> None:
    """What shares the labels that the route groups by; the rule is one as well."""
    [route] = policy(
        routes=[{"name": "all", "channels": ["ops"], "group_by": ["line", "rule"]}]
    ).routes
    keys = {
        group_key(route, subject(labels={"line": line}, rule=name))
        for line, name in (("3", "a"), ("3", "a"), ("4", "a"), ("3", "b"))
    }
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"ruels": []}, "ruels: there is no such field"),
        ({"rules": [{"name": "r", "on": "failure", "job": ["x"]}]}, "no such field"),
        ({"rules": [{"name": "r", "on": "slow"}]}, "give longer_than, times_usual"),
        (
            {"rules": [{"name": "r", "on": "slow", "longer_than": "1m", "least_runs": 3}]},
            "goes with times_usual",
        ),
        ({"rules": [{"name": "r", "on": "late"}] * 2}, "stands there twice"),
        ({"routes": [{"name": "a", "channels": ["opps"]}]}, "there is no channel 'opps'"),
        ({"routes": [{"name": "a", "on_call": "line"}]}, "there is no calendar 'line'"),
        ({"routes": [{"name": "a"}]}, "give channels, on_call, or both"),
        (
            {"routes": [{"name": "a", "channels": ["ops"], "timezone": "Europe/Berlin"}]},
            "goes with between",
        ),
        (
            {"routes": [{"name": "a", "channels": ["ops"], "escalate": [{"after": "1m"}]}]},
            "give channels, on_call, or both",
        ),
        (
            {"routes": [{"name": "a", "channels": ["ops"], "repeat": "0s"}]},
            "not more often",
        ),
        ({"on_call": {"line": {"otherwise": ["nobody"]}}}, "there is no channel 'nobody'"),
        ({"on_call": {"line": {"timezone": "Mars/Base"}}}, "is no time zone"),
        ({"maintenance": [{"name": "m"}]}, "give start and end, or between"),
        (
            {"rules": [{"name": "r", "on": "quarantine", "labels": {"line": "3"}}]},
            "jobs have labels, and this rule is about no job",
        ),
        (
            {"rules": [{"name": "r", "on": "verification", "labels": {"line": "3"}}]},
            "jobs have labels, and this rule is about no job",
        ),
        (
            {
                "maintenance": [
                    {"name": "m", "start": "2026-01-01T00:00", "end": "2026-01-02T00:00"}
                ]
            },
            "with their zone",
        ),
        (
            {
                "maintenance": [
                    {"name": "m", "start": "2026-01-02T00:00Z", "end": "2026-01-01T00:00Z"}
                ]
            },
            "ends before it begins",
        ),
        ({"channels": {"ops": {"block": "mail/x"}}}, "should match pattern"),
        (
            {
                "channels": {
                    "a": {"block": "alert-mail/a", "fallback": "b"},
                    "b": {"block": "alert-mail/b", "fallback": "a"},
                }
            },
            "round in a circle",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    """With the file and the place; a misspelt word is not silently dropped."""
    file = tmp_path / "alerts.yaml"
    channels = document.get("channels", CHANNELS)
    file.write_text(json.dumps({**document, "channels": channels}))
    with pytest.raises(BadInput) as refused:
        load_policy(file)
    assert said in refused.value.one_line
    assert str(file) in refused.value.one_line


def test_a_folder_of_files(tmp_path: Path) -> None:
    """All files together; what stands in two of them is refused."""
    (tmp_path / "a.yaml").write_text("channels: {ops: {block: alert-mail/ops}}\n")
    (tmp_path / "b.yaml").write_text("rules: [{name: r, on: failure}]\n")
    (tmp_path / "c.yaml").write_text("rules: [{name: s, on: late}]\nroutes: []\n")
    (tmp_path / "notes.txt").write_text("not read")
    assert [rule.name for rule in load_policy(tmp_path).rules] == ["r", "s"]
    (tmp_path / "d.yaml").write_text("channels: {ops: {block: alert-mail/ops}}\n")
    with pytest.raises(BadInput, match=r"channels\.ops stands in another file"):
        load_policy(tmp_path)


@pytest.mark.parametrize("text", ["- a", "a: [", "channels: 3"])
def test_what_is_no_policy(tmp_path: Path, text: str) -> None:
    """A list, broken YAML, a number."""
    (tmp_path / "alerts.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"alerts\.yaml"):
        load_policy(tmp_path / "alerts.yaml")
    with pytest.raises(BadInput, match="there is no"):
        load_policy(tmp_path / "none.yaml")


def test_the_shipped_example() -> None:
    """It loads, and has a rule of each kind."""
    found = load_policy(ROOT / "deployments/alerts")
    kinds = {rule.on for rule in found.rules}
    assert len(kinds) == 9
    assert all(routes_for(found, subject(severity=s), TUESDAY) for s in ("warning", "critical"))


def test_a_rule_without_a_kind() -> None:
    """Is refused."""
    with pytest.raises(ValidationError):
        RULE.validate_python({"name": "r"})


def test_what_a_message_says_of_many() -> None:
    """The gravest decides; a few are named; nothing of a title is taken for HTML."""
    said = [
        Said(uuid7(), "r", severity, f"<b>{n}</b>", (), n + 1, TUESDAY)
        for n, severity in enumerate(("info", "critical", "warning", "info"))
    ]
    message = compose(uuid7(), "raised", said, instead_of="chat")
    assert message.severity == "critical"
    assert message.subject.startswith("[critical] 4 alerts: <b>0</b>; <b>1</b>; <b>2</b>; ...")
    assert "<b>" not in message.html
    assert "as chat could not be reached" in message.text
    assert f"smartops alert ack {said[0].id}" in message.text
