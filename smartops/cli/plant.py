"""``smartops plant``: the simulated plant in the foreground."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartops.cli.output import say
from smartops.settings import get_settings

if TYPE_CHECKING:
    from smartops.plant import Plant

_PORT = typer.Option(min=0, max=65535, help="0 takes a free one.")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="plant")(plant)


def plant(
    seed: Annotated[int, typer.Option(help="Same seed, same course of the line.")] = 1,
    fault: Annotated[
        list[str] | None, typer.Option(help="Something that is to go wrong; can be repeated.")
    ] = None,
    modbus_port: Annotated[int, _PORT] = 5020,
    orders_port: Annotated[int, _PORT] = 5080,
    hmi_port: Annotated[int, _PORT] = 5081,
    opcua_port: Annotated[int, _PORT] = 5840,
    mqtt_port: Annotated[int, _PORT] = 5883,
    log: Annotated[Path | None, typer.Option(help="Where to note what was done to it.")] = None,
) -> None:
    """Run the simulated bottling line until it is interrupted."""
    from smartops.plant import Addresses, Plant, plant_folder  # noqa: PLC0415 - slow to import

    ports = Addresses(modbus_port, orders_port, hmi_port, opcua_port, mqtt_port)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with Plant(
            seed=seed,
            faults=fault or [],
            ports=ports,
            log_file=log,
            folder=plant_folder(get_settings()),
        ) as running:
            _say_addresses(running)
            await _until_the_end(running, stop)

    asyncio.run(run())


async def _until_the_end(running: Plant, stop: asyncio.Event) -> None:
    """Wait until it is stopped. Raises what it fails with before that."""
    failing = asyncio.create_task(running.fails())
    stopped = asyncio.create_task(stop.wait())
    done, rest = await asyncio.wait({failing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        await task


def _say_addresses(running: Plant) -> None:
    where, ports = running.addresses, running.field.ports
    say(f"Modbus TCP 127.0.0.1:{where.modbus_port}, unit 1   OPC UA {where.opcua_url}")
    if where.mqtt_port:
        say(f"MQTT 127.0.0.1:{where.mqtt_port}")
    if ports:
        say("   ".join(f"{name} {path}" for name, path in ports.items()))
    for text in running.field.missing:
        say(text)
    say(f"orders {where.orders_url}   HMI {where.hmi_url}   (Ctrl-C ends it)")
