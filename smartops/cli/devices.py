"""``smartops device``: look at a device by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.text import Text

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.options import AsJson, read_duration
from smartops.cli.output import err, local_time, out, print_json, say, table, time_at
from smartops.drivers import quarantine
from smartops.drivers.opcua_tags import tag_names
from smartops.drivers.writing import WriteOptions
from smartops.errors import BadInput, SmartOpsError
from smartops.jobs.step import shorten
from smartops.people import who_is_here
from smartops.plain_yaml import plain_value

if TYPE_CHECKING:
    from services.devices import Checked
    from smartops.drivers.readings import Reading
    from tasks.device import Device

app = typer.Typer(help="Devices: check, read, write, browse, watch.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the saved device.")]
Tags = Annotated[list[str] | None, typer.Argument(help="Names from its tag map; none: all.")]
QUALITY_STYLES = {"good": "green", "uncertain": "yellow", "bad": "red"}


def _device(name: str) -> tuple[ModuleType, Device]:
    """Return what can be done with devices, and the saved one of a name."""
    use_prefect()
    from services import devices  # noqa: PLC0415 - Prefect reads its settings on import

    return devices, asyncio.run(devices.find(name))


@app.command()
def check(device: Name, as_json: AsJson = False) -> int:
    """Connect and read everything in the tag map; exit with 1 when a tag has no value.

    MQTT brokers are connected to, and serial lines opened.
    """
    use_prefect()
    from services import devices  # noqa: PLC0415 - Prefect reads its settings on import

    found = asyncio.run(devices.find_any(device))
    checked = asyncio.run(devices.check(found))
    if as_json:
        readings = [reading.as_json() for reading in checked.readings]
        print_json({"device": device, "took_ms": round(checked.took_ms, 1), "readings": readings})
    else:
        out.print(Text(f"{device} answers: {_said(checked)}"))
        _print_readings(checked.bad)
    return 1 if checked.bad else 0


def _said(checked: Checked) -> str:
    if not checked.readings:
        return f"connected in {checked.took_ms:.0f} ms"
    count, bad = len(checked.readings), len(checked.bad)
    return f"{count} tags in {checked.took_ms:.0f} ms, {bad} without a value"


@app.command()
def quarantined(as_json: AsJson = False) -> None:
    """List the devices that this machine leaves alone for a while, as they do not answer."""
    notes = quarantine.quarantined()
    if as_json:
        print_json([_quarantine(note) for note in notes])
    elif not notes:
        say("every device that was asked has answered")
    else:
        rows = [
            (n.device, n.resource, n.part, local_time(time_at(n.since)), n.failures, n.reason)
            for n in notes
        ]
        out.print(table(["device", "at", "part", "since", "failures", "why"], rows))


def _quarantine(note: quarantine.Note) -> dict[str, Any]:
    times = {"since": time_at(note.since).isoformat(), "try_at": time_at(note.try_at).isoformat()}
    return {**asdict(note), **times}


@app.command()
def read(device: Name, tags: Tags = None, as_json: AsJson = False) -> int:
    """Read tags once; exit with 1 when one of them has no value."""
    devices, found = _device(device)

    readings = asyncio.run(devices.read(found, tags or []))
    if as_json:
        print_json([reading.as_json() for reading in readings])
    else:
        _print_readings(readings)
    return 1 if any(reading.quality == "bad" for reading in readings) else 0


def _print_readings(readings: Any) -> None:
    rows = [_row(reading) for reading in readings]
    if rows:
        out.print(table(["tag", "value", "unit", "quality", "from", "why"], rows))


def _row(reading: Reading) -> tuple[Any, ...]:
    quality = Text(reading.quality, style=QUALITY_STYLES[reading.quality])
    value = "" if reading.value is None else json.dumps(reading.value, ensure_ascii=False)
    when = reading.source_at or reading.received_at
    return reading.tag, value, reading.unit, quality, local_time(when), reading.reason


@app.command()
def write(
    device: Name,
    tag: Annotated[str, typer.Argument(help="Name from its tag map.")],
    value: Annotated[str, typer.Argument(help="The value: 150, true, running, [1, 2].")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make every check, and show what would be sent.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="How far the read-back may be off.")] = 0,
    within: Annotated[str, typer.Option(help="How long the read-back may take.")] = "2s",
    restore: Annotated[
        bool, typer.Option("--restore", help="On a mismatch, write the value from before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a tag: checked, on record, sent once, read back."""
    wanted = _value(value)
    if wanted is None:
        raise BadInput(f"{value!r} is no value")
    limit = read_duration("--within", within)
    devices, found = _device(device)
    if dry_run:
        tried = asyncio.run(devices.try_write(found, tag, wanted))
        facts = {"before": tried.before, "requested": tried.requested, "sends": tried.sends}
        _tell(
            f"{tag} {tried.before} → {tried.requested} {tried.unit}: {tried.sends}", facts, as_json
        )
        return
    options = WriteOptions(tolerance, limit, restore)
    try:
        command, result = asyncio.run(devices.write(found, tag, wanted, options, who_is_here()))
    finally:
        _ship()
    facts = {"before": command.before, "after": result.after, "state": result.state}
    text = f"{tag} {command.before} → {result.after} {command.unit}".rstrip()
    _tell(f"{text}, {result.state}", facts, as_json)


def _ship() -> None:
    """Bring the record into the store at once; it is on record in the journal in any case."""
    try:
        with audit_store():
            pass
    except SmartOpsError as error:
        say(f"the record waits in the journal: {error.one_line}")


def _value(text: str) -> Any:
    try:
        return plain_value(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{text!r} is no value: {' '.join(str(error).split())}") from None


def _tell(text: str, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        out.print(Text(text))


@app.command()
def watch(
    device: Name,
    tags: Tags = None,
    every: Annotated[str, typer.Option(help="How often to look.")] = "1s",
    for_: Annotated[
        str | None, typer.Option("--for", help="How long; without it until it is interrupted.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print each change of tags, beyond their deadband; with --json one object a line."""
    pause = read_duration("--every", every)
    if not pause:
        raise BadInput("--every must be longer than 0s")
    limit = None if for_ is None else read_duration("--for", for_).total_seconds()
    devices, found = _device(device)

    async def follow() -> None:
        async for news in devices.watch(found, tags or [], pause):
            if isinstance(news, str):
                err.print(Text(f"• {device} {news}", style="dim"))
            elif as_json:
                sys.stdout.write(json.dumps(news.as_json(), ensure_ascii=False) + "\n")
                sys.stdout.flush()
            else:
                value = "" if news.value is None else json.dumps(news.value, ensure_ascii=False)
                text = f"{local_time(news.received_at)}  {news.tag} {value} {news.unit}".rstrip()
                style = QUALITY_STYLES[news.quality]
                reason = f"{news.quality} {news.reason}".rstrip()
                out.print(Text.assemble(text, "  ", (reason, style)))

    async def follow_for_a_while() -> None:
        try:
            async with asyncio.timeout(limit):
                await follow()
        except TimeoutError:
            return

    asyncio.run(follow_for_a_while())


@app.command()
def browse(
    device: Name,
    below: Annotated[str, typer.Option(help="The node to begin at.")] = "i=85",
    depth: Annotated[int, typer.Option(min=1, max=50, help="How many levels to go down.")] = 10,
    tag_map: Annotated[
        bool, typer.Option("--tags", help="As a tag map in YAML, to be saved and cut down.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an OPC UA server has: its variables and methods."""
    devices, found = _device(device)
    entries = asyncio.run(devices.browse(found, below, depth))
    if as_json:
        print_json(entries)
    elif tag_map:
        variables = [entry for entry in entries if entry["class"] == "variable"]
        names = tag_names([entry["name"] for entry in variables])
        for name, entry in zip(names, variables, strict=True):
            sys.stdout.write(f"- {{name: {name}, node: {json.dumps(entry['node'])}}}\n")
    else:
        rows = [
            (e["name"], e["class"], e.get("type", ""), shorten(e.get("value", ""), 40), e["node"])
            for e in entries
        ]
        out.print(table(["name", "class", "type", "value", "node"], rows))


@app.command()
def trust(
    device: Name,
    fingerprint: Annotated[
        str | None,
        typer.Option(help="The SHA-256 that it must have; without it you are asked."),
    ] = None,
) -> None:
    """Trust the certificate that an OPC UA server shows, from now on."""
    devices, found = _device(device)
    from smartops.drivers import opcua_trust  # noqa: PLC0415

    shown = asyncio.run(devices.offered_certificate(found))
    digest = opcua_trust.fingerprint(shown)
    say(f"{opcua_trust.described(shown)}, SHA-256 {digest}")
    if fingerprint is not None:
        if fingerprint.replace(":", "").lower() != digest:
            raise BadInput("the server shows another certificate than that: nothing is trusted")
    elif not typer.confirm("Is this the server's certificate?", err=True):
        raise typer.Abort
    say(f"trusted; it is kept in {devices.trust(found, shown)}")
