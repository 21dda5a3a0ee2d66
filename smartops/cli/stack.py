"""``smartops up | down | status | doctor | try``: the whole system on one machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.text import Text

from services import stack
from smartops.cli.connection import use_stack
from smartops.cli.options import AsJson, read_duration
from smartops.cli.output import out, print_json, say, table
from smartops.errors import PrefectUnavailable

if TYPE_CHECKING:
    from services.stack import Stack


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("doctor")(doctor)
    app.command("try")(try_)


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running.")] = False,
    plant: Annotated[bool, typer.Option(help="Start the simulated plant too.")] = True,
) -> None:
    """Start Prefect's server, the worker, the recorder and the plant."""
    running = stack.up(say, plant=plant, api_url=os.environ.get("PREFECT_API_URL"))
    _print_addresses(running)
    if detach:
        return
    say("Ctrl-C ends it")
    with _signals_raise():
        try:
            signal.pause()
        finally:
            say("stopping")
            running.stop()


def down(
    drain: Annotated[
        str, typer.Option(help="How long runs may go on, such as 5m; then they are cancelled.")
    ] = "5s",
) -> None:
    """Stop what `up --detach` started; runs that are cancelled take back what can be undone."""
    limit = read_duration("--drain", drain)
    found = stack.find()
    stopped = found.stop(drain_s=limit.total_seconds()) if found else []
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(as_json: AsJson = False) -> int:
    """Show the services with address, process and health; exit with 3 when one is down."""
    found = stack.find()
    rows = [_service_row(service) for service in found.services] if found else []
    healthy = bool(rows) and all(row["up"] for row in rows)
    if as_json:
        print_json({"running": healthy, "services": rows})
    elif not rows:
        raise PrefectUnavailable(
            "nothing is running for this home folder", hint="Start it with `smartops up --detach`."
        )
    else:
        titles = ["service", "state", "pid", "address", "log"]
        cells = [
            (
                r["name"],
                _up_text(r["up"], "down"),
                r["pid"],
                r["address"],
                r["log"],
            )
            for r in rows
        ]
        out.print(table(titles, cells))
    return 0 if healthy else 3


def doctor(as_json: AsJson = False) -> int:
    """Look for each thing that SmartOps needs; say what to do where one is missing."""
    from services.doctor import examine  # noqa: PLC0415 - slow to import

    findings = examine()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        rows = [(f.what, _up_text(f.ok), f.found or f.cure) for f in findings]
        out.print(table(["what", "state", "found, or what to do"], rows))
    return 0 if all(finding.ok for finding in findings) else 1


def try_(
    job: Annotated[
        str, typer.Argument(help="Name of a shipped job, or a job file.")
    ] = "line-check",
) -> int:
    """Start everything, run one job, show it, stop everything: the first run in one command."""
    from smartops.cli.jobs import job_of_file  # noqa: PLC0415 - loads plugins

    spec = job_of_file(job)
    known = stack.find()
    keep = known is not None and known.alive()
    with _signals_raise():
        running = stack.up(say)
        try:
            use_stack(running)
            # Imported here: Prefect reads its settings when it is imported, and not in a loop.
            from smartops.cli.running import first_run  # noqa: PLC0415

            code = asyncio.run(first_run(job, spec, running))
        finally:
            if not keep:
                say("stopping everything")
                running.stop()
    if keep:
        out.print(Text(f"The Prefect UI is at {running.ui_url}"))
    else:
        out.print("See it in the Prefect UI: `make up` starts it again, with this run in it.")
    return code


def _print_addresses(running: Stack) -> None:
    out.print(Text(f"Prefect UI   {running.ui_url}"))
    if running.plant is not None:
        out.print(Text(f"plant HMI    {running.plant.hmi_url}"))
        out.print(Text(f"plant orders {running.plant.orders_url}"))
        out.print(Text(f"plant Modbus 127.0.0.1:{running.plant.modbus_port}"))
        out.print(Text(f"plant OPC UA {running.plant.opcua_url}"))
        if running.plant.mqtt_port:
            out.print(Text(f"plant MQTT   127.0.0.1:{running.plant.mqtt_port}"))
        out.print(Text(f"plant serial {running.plant_folder}: scale, scanner"))
    out.print(Text("run a job    .venv/bin/smartops job run line-check --wait"))


def _service_row(service: Any) -> dict[str, Any]:
    return {
        "name": service.name,
        "up": service.process is not None,
        "pid": service.pid,
        "address": service.address,
        "log": service.log,
    }


def _up_text(ok: bool, other: str = "missing") -> Text:
    return Text("ok", style="green") if ok else Text(other, style="red")


class _signals_raise:  # noqa: N801 - reads as a statement
    """Lets SIGTERM and SIGHUP end the block like Ctrl-C, so that its clean-up runs."""

    def __enter__(self) -> None:
        self._before = {
            number: signal.signal(number, self._raise) for number in (signal.SIGTERM, signal.SIGHUP)
        }

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @staticmethod
    def _raise(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.stderr.flush()
        raise KeyboardInterrupt
