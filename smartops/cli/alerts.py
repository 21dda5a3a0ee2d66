"""``smartops alert``: what was alerted, who looks after it, and whether it would arrive."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from uuid6 import uuid7

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.options import AsJson, read_duration
from smartops.cli.output import err, local_time, out, print_json, say, table
from smartops.errors import BadInput, SmartOpsError
from smartops.people import who_is_here
from smartops.settings import get_settings

if TYPE_CHECKING:
    from smartops.alerts.policy import Policy
    from smartops.audit.alert_book import Episode

app = typer.Typer(help="Alerts: list, ack, mute, unmute, sent, check, test.", no_args_is_help=True)
AlertId = Annotated[str, typer.Argument(help="The alert's id, or the first part of it.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; it stands on record.")]
File = Annotated[
    Path | None, typer.Option("--file", help="The rules. Default: SMARTOPS_ALERTS.", exists=True)
]
_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


@app.command("list")
def list_(
    closed: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at the most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the alerts that are open, the newest first."""
    from smartops.audit import alert_reading  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        found = alert_reading.list_alerts(store, closed=closed, limit=limit)
        facts, messages = alert_reading.waiting(store)
        seen = alert_reading.alerter_seen(store)
    if as_json:
        alerts = [_as_json(episode, person) for episode, person in found]
        seen_at = seen.isoformat() if seen else None
        counts = {"facts": facts, "messages": messages}
        print_json({"alerts": alerts, "waiting": counts, "alerter_seen_at": seen_at})
        return
    rows = [
        (
            str(episode.id),
            Text(episode.severity, style=_STYLES.get(episode.severity, "")),
            local_time(episode.raised_at),
            episode.count,
            f"acknowledged by {person}" if person and episode.state == "open" else episode.state,
            episode.title,
        )
        for episode, person in found
    ]
    out.print(table(["alert", "severity", "since", "times", "state", "what"], rows))
    if seen is None:
        out.print(Text("no alerter has ever run for this record", style="yellow"))
    elif facts or messages:
        out.print(f"not judged yet: {facts} facts; not sent yet: {messages} messages")


def _as_json(episode: Episode, person: str) -> dict[str, Any]:
    ended = episode.ended_at.isoformat() if episode.ended_at else None
    return {
        "id": str(episode.id),
        "rule": episode.rule,
        "severity": episode.severity,
        "state": episode.state,
        "title": episode.title,
        "subject": episode.subject,
        "count": episode.count,
        "raised_at": episode.raised_at.isoformat(),
        "last_at": episode.last_at.isoformat(),
        "ended_at": ended,
        "run_id": str(episode.run_id),
        "acknowledged_by": person or None,
        "labels": episode.details["labels"],
        "runbook": episode.details["runbook"],
        "check": episode.details["check"],
    }


@app.command()
def sent(
    alert: Annotated[str, typer.Argument(help="The alert's id; without it, of all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at the most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show each attempt to send, and each decision not to, with its reason."""
    from smartops.audit import alert_reading  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        alert_id = alert_reading.find_alert(store, alert).id if alert else None
        found = alert_reading.deliveries(store, alert_id, limit)
    if as_json:
        names = ("alert_id", "channel", "recipient", "state", "reason", "rule", "message_id")
        print_json(
            [
                {"at": row["at"].isoformat()}
                | {name: str(row[name]) if row[name] is not None else None for name in names}
                for row in found
            ]
        )
        return
    rows = [
        (local_time(row["at"]), row["channel"], row["state"], row["rule"] or "", row["reason"])
        for row in found
    ]
    out.print(table(["at", "channel", "state", "rule", "why"], rows))


@app.command()
def ack(alert: AlertId, comment: Comment = "", as_json: AsJson = False) -> None:
    """Say that you look after an alert: it is neither repeated nor escalated any more."""
    from smartops.audit import alert_reading  # noqa: PLC0415 - slow to import

    person = who_is_here()
    with audit_store() as store:
        found = alert_reading.find_alert(store, alert)
        alert_reading.acknowledge(store, found, person, comment)
    if as_json:
        print_json({"id": str(found.id), "acknowledged_by": person})
    else:
        say(f"{found.title}: {person} looks after it")


@app.command()
def mute(
    target: Annotated[str, typer.Argument(help="A rule, a job or a device; or an alert's id.")],
    for_: Annotated[str, typer.Option("--for", help="How long, such as 2h.")] = "1h",
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Send nothing about a rule, a job or a device for a while; what happens is on record."""
    try:
        until = datetime.now(UTC) + read_duration("--for", for_)
    except OverflowError:
        raise BadInput("nothing can be muted for longer than a year") from None
    _mute(target, until, comment, as_json=as_json)


@app.command()
def unmute(
    target: Annotated[str, typer.Argument(help="What was muted, as it was written.")],
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """End a mute before its time."""
    _mute(target, None, comment, as_json=as_json)


def _mute(target: str, until: datetime | None, comment: str, *, as_json: bool) -> None:
    from smartops.audit import alert_reading  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        try:
            name = alert_reading.find_alert(store, target).details["name"]
        except BadInput:
            name = target
        alert_reading.mute(store, name, until, who_is_here(), comment)
    if as_json:
        print_json({"target": name, "until": until.isoformat() if until else None})
    else:
        say(f"{name} is muted until {local_time(until)}" if until else f"{name} is heard again")


def _policy(file: Path | None) -> tuple[Path, Policy]:
    from smartops.alerts.policy import load_policy  # noqa: PLC0415 - slow to import

    path = file or get_settings().alerts
    if path is None:
        raise BadInput("no rules of alerts: set SMARTOPS_ALERTS, or give --file")
    return path, load_policy(path)


@app.command()
def check(file: File = None, as_json: AsJson = False) -> int:
    """Check the rules, what they refer to, and that each channel's connection is saved.

    Exit with 1 when something is missing.
    """
    path, policy = _policy(file)
    problems = _without_objectives(policy)
    use_prefect()
    from services.alert_sender import load_channel  # noqa: PLC0415 - Prefect reads its settings

    for name, channel in policy.channels.items():
        try:
            load_channel(channel.block)
        except SmartOpsError as error:
            problems[f"channel {name}"] = error.one_line
    if as_json:
        print_json({"rules": len(policy.rules), "problems": problems})
    else:
        for name, problem in problems.items():
            err.print(Text(f"{name}: {problem}", style="red"))
        say(f"{path}: {len(policy.rules)} rules, {len(policy.channels)} channels")
    return 1 if problems else 0


def _without_objectives(policy: Policy) -> dict[str, str]:
    """Return which rules of kind slo name an objective that no file has. Raises BadInput."""
    from reports.objectives import load_all  # noqa: PLC0415 - slow to import
    from smartops.alerts.rules import OnSlo  # noqa: PLC0415

    folder = get_settings().deployments / "slo"
    there = [(each.job, one.called) for each in load_all(folder) for one in each.objectives]
    problems = {}
    for rule in (rule for rule in policy.rules if isinstance(rule, OnSlo)):
        wanted = [one for one in there if rule.wants(*one)]
        missing = [name for name in rule.jobs if not fnmatch.filter([a for a, _ in wanted], name)]
        missing += [n for n in rule.objectives if not fnmatch.filter([b for _, b in wanted], n)]
        if missing:
            names = ", ".join(dict.fromkeys(missing))
            problems[f"rule {rule.name}"] = f"no objective in {folder} is meant by {names}"
    return problems


@app.command("test")
def try_out(
    channel: Annotated[str, typer.Argument(help="The channel's name in the rules.")],
    file: File = None,
    as_json: AsJson = False,
) -> int:
    """Send a test message on a channel, past all rules; exit with 1 when it does not arrive."""
    _, policy = _policy(file)
    if channel not in policy.channels:
        known = ", ".join(sorted(policy.channels)) or "none"
        raise BadInput(f"there is no channel {channel!r}; there is: {known}")
    use_prefect()
    from services.alert_sender import load_channel  # noqa: PLC0415 - Prefect reads its settings
    from smartops.alerts.message import Said, compose  # noqa: PLC0415

    chosen = policy.channels[channel]
    who = (("Asked for by", who_is_here()), ("Channel", channel))
    said = Said(uuid7(), "test", "info", "SmartOps can reach you", who, 1, datetime.now(UTC))
    message = compose(uuid7(), "test", [said])
    problem = ""
    try:
        load_channel(chosen.block).send(message, chosen.to, None)
    except SmartOpsError as error:
        problem = error.one_line
    if as_json:
        print_json({"channel": channel, "sent": not problem, "problem": problem or None})
    elif problem:
        err.print(Text(f"{channel}: {problem}", style="red"))
    else:
        say(f"{channel}: sent")
    return 1 if problem else 0
