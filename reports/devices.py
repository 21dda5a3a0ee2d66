"""The device report: availability, commands, mismatches, the quality of readings, requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reports import device_numbers
from reports.catalogue import Asked, ReportKind
from reports.device_numbers import CommandLine, Down, Requests, TagReadings, covered_s
from reports.document import Column, Document, Figure, Section, Span, Table, Timeline, table_of
from reports.period import Period
from reports.wording import counted, share
from smartops.audit.store import Store


@dataclass(frozen=True)
class Found:
    """What the queries give."""

    downs: list[Down]
    commands: list[CommandLine]
    readings: list[TagReadings]
    requests: list[Requests]

    @property
    def devices(self) -> list[str]:
        """The names of all devices of which something is on record."""
        parts = (self.downs, self.commands, self.readings, self.requests)
        return sorted({item.device for part in parts for item in part})


def build(store: Store, period: Period, asked: Asked) -> Document:
    """Return the report, of all devices or of one. Raises StoreUnavailable."""
    device = asked.get("device")
    with store.snapshot() as connection:
        found = Found(
            device_numbers.downs(connection, period, device),
            device_numbers.commands(connection, period, device),
            device_numbers.readings(connection, period, device),
            device_numbers.requests(connection, period, device),
        )
    lines = availability(found, period)
    return Document(
        REPORT.name,
        REPORT.title,
        period,
        _summary(found, lines),
        _figures(found, lines),
        (
            Section("Availability", (*_timeline(found, period), _availability_table(lines))),
            Section("Commands", (_by_device(found), _wrong(found), _log(found))),
            Section("Readings", (_readings_table(found),)),
            Section("Requests", (_requests_table(found),)),
        ),
        subject=device or "",
    )


@dataclass(frozen=True)
class Availability:
    """How much of the period a device was not left alone."""

    device: str
    availability: float
    quarantines: int
    down_s: float
    longest_s: float
    state: str
    reason: str


def availability(found: Found, period: Period) -> list[Availability]:
    """Return how long each device was left alone, by the union of the times of its parts."""
    lines = []
    for device in found.devices:
        downs = [down for down in found.downs if down.device == device]
        down_s = covered_s(downs)
        lines.append(
            Availability(
                device,
                1 - down_s / period.seconds,
                len(downs),
                down_s,
                max((down.seconds for down in downs), default=0.0),
                "answers" if all(down.is_over for down in downs) else "left alone",
                downs[-1].reason if downs else "",
            )
        )
    return sorted(lines, key=lambda line: (line.availability, line.device))


def _summary(found: Found, lines: list[Availability]) -> tuple[str, ...]:
    said = [f"{counted(len(lines), 'device')} on record."]
    gone = [line for line in lines if line.quarantines]
    if gone:
        worst = gone[0]
        said.append(
            f"{counted(len(gone), 'device was', 'devices were')} left alone for a while; "
            f"{worst.device} longest: it was available {share(worst.availability)} of the time."
        )
    left = [line.device for line in lines if line.state == "left alone"]
    if left:
        said.append(f"Still left alone at the end: {', '.join(left)}.")
    wrong = [command for command in found.commands if command.state != "confirmed"]
    if wrong:
        what = counted(len(wrong), "command was", "commands were")
        said.append(f"{what} not confirmed, of {len(found.commands)}.")
    return tuple(said)


def _figures(found: Found, lines: list[Availability]) -> tuple[Figure, ...]:
    states = Counter(command.state for command in found.commands)
    kept = sum(tag.readings for tag in found.readings)
    good = sum(tag.good for tag in found.readings) / kept if kept else None
    return (
        Figure("devices", "Devices", len(lines)),
        Figure("quarantines", "Quarantines", len(found.downs)),
        Figure("down_s", "Time left alone", sum(line.down_s for line in lines), "seconds"),
        Figure("commands", "Commands", len(found.commands)),
        Figure("mismatches", "Write mismatches", states["mismatch"]),
        Figure("unknown", "Outcome not known", states["unknown"]),
        Figure("good", "Good readings", good, "share"),
        Figure("requests", "Requests", sum(one.requests for one in found.requests)),
        Figure("unanswered", "Unanswered", sum(one.unanswered for one in found.requests)),
    )


_AVAILABILITY = (
    Column("device", "Device"),
    Column("availability", "Available", "share"),
    Column("quarantines", "Quarantines", "count"),
    Column("down_s", "Left alone", "seconds"),
    Column("longest_s", "Longest", "seconds"),
    Column("state", "At the end", "state"),
    Column("reason", "What was said last"),
)


def _availability_table(lines: list[Availability]) -> Table:
    note = (
        "A device that does not answer several times in a row is left alone for a while: it counts "
        "as not available from then until it answers again. What nobody asked counts as available."
    )
    return table_of("availability", "Availability", _AVAILABILITY, lines, note=note)


def _timeline(found: Found, period: Period) -> list[Timeline]:
    if not found.downs:
        return []
    spans = tuple(
        Span(
            down.device,
            (down.start - period.start).total_seconds(),
            (down.end - period.start).total_seconds(),
            "failed",
            down.part,
        )
        for down in found.downs
    )
    says = f"{counted(len(found.downs), 'time')} in which a device was left alone."
    return [Timeline("left-alone", "Left alone", says, period.start, spans)]


@dataclass(frozen=True)
class DeviceCommands:
    """How the commands to a device ended."""

    device: str
    commands: int
    confirmed: int
    mismatch: int
    refused: int
    unknown: int
    restored: int


_COMMANDS = (
    Column("device", "Device"),
    Column("commands", "Commands", "count"),
    Column("confirmed", "Confirmed", "count"),
    Column("mismatch", "Mismatch", "count"),
    Column("refused", "Refused", "count"),
    Column("unknown", "Not known", "count"),
    Column("restored", "Restored", "count"),
)


def _by_device(found: Found) -> Table:
    lines = []
    for device in sorted({command.device for command in found.commands}):
        own = [command for command in found.commands if command.device == device]
        states = Counter(command.state for command in own)
        lines.append(
            DeviceCommands(
                device,
                len(own),
                states["confirmed"],
                states["mismatch"],
                states["refused"],
                states["unknown"],
                sum(command.restored for command in own),
            )
        )
    note = "Confirmed: what was read back is what was asked for. Restored: the value from before."
    return table_of("commands", "By device", _COMMANDS, lines, note=note)


_LOG = (
    Column("at", "At", "time"),
    Column("device", "Device"),
    Column("tag", "Tag"),
    Column("before", "Before"),
    Column("requested", "Requested"),
    Column("after", "After"),
    Column("unit", "Unit"),
    Column("state", "State", "state"),
    Column("asked_by", "By"),
    Column("approver", "Approved by"),
    Column("job", "Job"),
    Column("step", "Step"),
    Column("reason", "Reason"),
    Column("run_id", "Run", "id"),
)


def _wrong(found: Found) -> Table:
    wrong = [command for command in found.commands if command.state != "confirmed"]
    empty = "Each command was confirmed."
    return table_of("not_confirmed", "Not confirmed", _LOG, wrong, empty=empty)


def _log(found: Found) -> Table:
    return table_of("command_log", "Command log", _LOG, found.commands)


_READINGS = (
    Column("device", "Device"),
    Column("tag", "Tag"),
    Column("readings", "Readings", "count"),
    Column("good_share", "Good", "share"),
    Column("uncertain", "Uncertain", "count"),
    Column("bad", "Bad", "count"),
    Column("reason", "What was said last"),
)


def _readings_table(found: Found) -> Table:
    lines = sorted(found.readings, key=lambda tag: (tag.good_share, tag.device, tag.tag))
    note = "Of steps that keep their readings (`keep: true`)."
    empty = "No step has kept readings."
    return table_of("readings", "Quality of readings", _READINGS, lines, note=note, empty=empty)


_REQUESTS = (
    Column("device", "Device"),
    Column("steps", "Steps", "count"),
    Column("requests", "Requests", "count"),
    Column("answered", "Answered", "count"),
    Column("unanswered", "Unanswered", "count"),
    Column("mean_s", "Mean answer", "seconds"),
    Column("longest_s", "Longest", "seconds"),
)


def _requests_table(found: Found) -> Table:
    note = (
        "Counted where they are sent: Modbus, OPC UA, serial lines, messages to MQTT brokers. A "
        "refusal is an answer; a request that was broken off is neither answered nor unanswered."
    )
    empty = "No request is on record."
    lines = found.requests
    return table_of("requests", "Requests", _REQUESTS, lines, note=note, empty=empty)


REPORT = ReportKind(
    "devices",
    "Device report",
    "availability, commands, write mismatches, the quality of readings, requests and answers",
    build,
    asks={"device": "Only this device, by its name."},
)
