"""The plant's scale, barcode reader and MQTT broker, used by the drivers as jobs use them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.plant_blocks import scale_line, scanner_line
from smartops import errors
from smartops.drivers import mqtt
from smartops.drivers.mqtt import Connection, Message, MqttDriver
from smartops.plant import Line, Plant, field_devices, mosquitto
from smartops.plant.faults import Faults, PlantLog
from smartops.plant.field_devices import FieldDevices
from smartops.plant.mqtt_line import COMMAND, COUNTS, STATE, STATUS
from smartops.rehearsal import rehearsing
from tests.conftest import ROOT, needs, wait_for

pytestmark = pytest.mark.usefixtures("home")
LIMIT_S = 60.0
WEIGHT = re.compile(rb"^S S +(?P<kg>-?[0-9.]+) kg$")
CODE = re.compile(rb"^(?P<batch>B\d{4})(?P<bottle>\d{6})$")


@pytest.fixture
async def plant(home: Path) -> AsyncIterator[Plant]:
    async with Plant(seed=7, opcua=False, folder=home / "plant") as running:
        yield running


@pytest.fixture
async def at_broker(plant: Plant) -> Connection:
    """How to reach the plant's broker, once the line is there."""
    needs(mosquitto.find_executable() is not None, "Mosquitto")
    await asyncio.wait_for(plant.field.line_is_at_broker(), LIMIT_S)
    return Connection("bus", "127.0.0.1", plant.addresses.mqtt_port)


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)


# --- serial ports -----------------------------------------------------------------------------


async def ask(plant: Plant, command: bytes, expect: re.Pattern[bytes] | None = None) -> bytes:
    line = scale_line(plant.field.ports["scale"].parent)
    line.timeout = timedelta(seconds=20)
    async with line.open() as client:
        return await client.ask(command, expect)


def stand_still(plant: Plant) -> None:
    plant.line.speed_setpoint = 0
    plant.line.advance(60)


async def kilograms(plant: Plant) -> float:
    found = WEIGHT.search(await ask(plant, b"S", WEIGHT))
    assert found is not None
    return float(found["kg"])


async def test_the_scale_weighs_what_the_line_packs(plant: Plant) -> None:
    """A full crate while it runs, nothing while it stands; zero and tare count from then on."""
    assert 12.1 <= await kilograms(plant) <= 12.5
    assert await ask(plant, b"Z") == b"Z +", "a loaded scale is not set to zero"
    stand_still(plant)
    assert await kilograms(plant) == 0.0
    assert await ask(plant, b"Z") == b"Z A"
    plant.line.speed_setpoint = 120
    plant.line.advance(60)
    assert re.match(rb"^T S +12\.\d\d kg$", await ask(plant, b"T"))
    assert abs(await kilograms(plant)) <= 0.2
    assert await ask(plant, b"TAC") == b"TAC A"
    assert await kilograms(plant) >= 12.1
    assert await ask(plant, b"nonsense") == b"ES"
    said = [entry["command"] for entry in plant.log.entries("scale.command")]
    assert said == ["Z", "Z", "T", "TAC"]


async def test_the_scale_serves_one_after_the_other(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    """Who leaves without an answer takes nothing from the next one, nor does the plant."""
    for _ in range(10):
        hasty = os.open(plant.field.ports["scale"], os.O_WRONLY | os.O_NOCTTY)
        os.write(hasty, b"SI\r\nSI\r\n")
        os.close(hasty)
        # As on a real line, what was asked before may be answered yet.
        assert await ask(plant, b"Z", re.compile(b"^Z")) == b"Z +"
    assert not caplog.records


async def test_a_scale_that_is_disturbed(plant: Plant) -> None:
    """At rest it says so; a silent one is a timeout, and no weight."""
    plant.faults.switch_on("scale-busy")
    assert await ask(plant, b"S") == b"S I"
    assert (await ask(plant, b"SI")).startswith(b"S D")
    plant.faults.switch_off("scale-busy")
    plant.faults.switch_on("scale-silent")
    line = scale_line(plant.field.ports["scale"].parent)
    line.timeout = line.late_answers = timedelta(seconds=0.3)
    with pytest.raises(errors.DeviceTimeout):
        async with line.open() as client:
            await client.ask(b"S")
    plant.faults.switch_off("scale-silent")
    assert WEIGHT.search(await ask(plant, b"S"))


async def codes(plant: Plant, count: int) -> list[bytes]:
    plant.line.speed_setpoint = 300
    plant.line.advance(10)
    async with scanner_line(plant.field.ports["scanner"].parent).open() as reader:
        return [await reader.listen(timedelta(seconds=LIMIT_S), CODE) for _ in range(count)]


async def test_the_reader_tells_each_bottle(plant: Plant) -> None:
    """One code for each, in their order, of the line's batch."""
    found = [CODE.search(code) for code in await codes(plant, 3)]
    numbers = [int(match["bottle"]) for match in found if match]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert {match["batch"] for match in found if match} == {plant.line.batch.encode()}
    assert numbers[-1] <= plant.line.passed


async def some_bottles(plant: Plant) -> None:
    before = plant.line.passed
    await until(lambda: plant.line.passed >= before + 3, "three bottles")


async def test_what_nobody_heard_is_lost(plant: Plant) -> None:
    """As on a real line: who comes later does not get the codes of bottles that passed before."""
    plant.line.speed_setpoint = 300
    plant.line.advance(10)
    port, reading = plant.field.ports["scanner"], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK
    careless = os.open(port, reading)
    await some_bottles(plant)
    os.close(careless)
    await some_bottles(plant)
    reader = plant.field._serial
    assert reader is not None
    # Not between a bottle and the reader's look at it.
    await until(lambda: reader._told == plant.line.passed, "the reader's look")
    late = os.open(port, reading)
    missed, frame = plant.line.passed, b""
    try:
        while not frame.endswith(b"\x03"):
            await asyncio.sleep(0.02)
            with suppress(BlockingIOError):
                frame += os.read(late, 1)
    finally:
        os.close(late)
    assert int(frame[6:12]) >= missed


async def test_a_code_that_was_garbled(plant: Plant) -> None:
    """Is no code."""
    plant.faults.switch_on("scanner-garbles")
    with pytest.raises(errors.BadAnswer, match="wrong checksum"):
        await codes(plant, 1)
    plant.faults.switch_off("scanner-garbles")
    assert await codes(plant, 1)


async def test_the_names_of_the_ports(home: Path) -> None:
    """A rehearsal may use them; they are gone with the plant, and a dead plant's are replaced."""
    folder = home / "plant"
    folder.mkdir(parents=True)
    (folder / "scale").symlink_to("/dev/pts/no-such")
    async with Plant(opcua=False, folder=folder) as first:
        assert (folder / "scale").is_char_device()
        token = rehearsing.set(True)
        assert await ask(first, b"Z") == b"Z +"
        rehearsing.reset(token)
        async with Plant(opcua=False, folder=folder) as second:
            assert (second.field.ports, second.addresses.mqtt_port) == ({}, 0)
            assert "another plant uses" in second.field.missing[0]
        field_devices.tidy(folder)
        assert await ask(first, b"Z") == b"Z +"
    assert not (folder / "scale").is_symlink()
    assert not (folder / "scanner").is_symlink()


# --- MQTT -------------------------------------------------------------------------------------


async def heard(client: MqttDriver, wanted: Callable[[Message], bool]) -> Message:
    async with asyncio.timeout(LIMIT_S):
        while not wanted(message := await client.next_message()):
            pass
        return message


async def command(client: MqttDriver, **order: Any) -> Any:
    async with asyncio.timeout(LIMIT_S):
        return (await client.ask(COMMAND, json.dumps(order).encode())).payload


async def test_the_line_tells_its_state(plant: Plant, at_broker: Connection) -> None:
    """Retained for those who come later, and again each second; the counts when they change."""
    async with mqtt.open_broker(at_broker) as client:
        await client.subscribe(STATE)
        await heard(client, lambda _: True)  # the broker has it from now on
        await client.subscribe("plant/line/#")
        first = [await heard(client, lambda m: m.retained) for _ in range(2)]
        assert {message.topic for message in first} == {STATUS, STATE}
        assert "online" in [message.payload for message in first]
        state = (await heard(client, lambda m: m.topic == STATE and not m.retained)).payload
        assert (state["state"], state["batch"]) == ("running", plant.line.batch)
        counts = (await heard(client, lambda m: m.topic == COUNTS)).payload
        assert 0 < counts["good"] <= plant.line.good
        stand_still(plant)
        await heard(client, lambda m: m.topic == STATE and m.payload["state"] == "stopped")


async def test_the_line_obeys_and_answers(plant: Plant, at_broker: Connection) -> None:
    """Each command once; what it cannot do it refuses, and says why."""
    async with mqtt.open_broker(at_broker) as client:
        answer = await command(client, command="set-speed", speed=90)
        assert (answer, plant.line.speed_setpoint) == ({"done": True, "speed_setpoint": 90}, 90)
        for number in (1, 2):
            filed = await command(client, command="sample", kg=12.3)
            assert filed == {"done": True, "sample": number, "batch": plant.line.batch}
        assert (await command(client, command="set-speed", speed=5000))["done"] is False
        assert plant.line.speed_setpoint == 90
        assert "knows" in (await command(client, command="explode"))["reason"]
        counted = plant.line.good
        assert (await command(client, command="reset-counters"))["good"] >= counted
        assert plant.line.good < counted
    said = [entry["done"] for entry in plant.log.entries("mqtt.command")]
    assert said == [True, True, True, False, False, True]


async def test_a_command_without_a_question(plant: Plant, at_broker: Connection) -> None:
    """Who uses 3.1.1 cannot ask, and is obeyed; a command that was kept is none."""
    old = Connection("bus", "127.0.0.1", plant.addresses.mqtt_port, version="3.1.1")
    async with mqtt.open_broker(old) as client:
        await client.publish(COMMAND, b'{"command": "set-speed", "speed": 80}', retain=True)
        await until(lambda: plant.line.speed_setpoint == 80, "the command")
    plant.line.speed_setpoint = 70
    async with mqtt.open_broker(at_broker) as client:
        await leave_and_come_back(plant, client)
        # What was kept comes before what is asked now.
        assert (await command(client, command="sample", kg=1))["done"]
    assert plant.line.speed_setpoint == 70


async def test_a_mute_line(plant: Plant, at_broker: Connection) -> None:
    """It acts, and nobody hears of it."""
    plant.faults.switch_on("line-mute")
    async with mqtt.open_broker(at_broker) as client:
        question = asyncio.create_task(client.ask(COMMAND, b'{"command": "sample", "kg": 1}'))
        await until(lambda: plant.log.entries("mqtt.command"), "the command")
        assert not question.done()
        question.cancel()
        with suppress(asyncio.CancelledError):
            await question


async def leave_and_come_back(plant: Plant, client: MqttDriver) -> None:
    await client.subscribe(STATUS)
    await heard(client, lambda m: m.payload == "online")
    plant.faults.switch_on("line-away")
    await heard(client, lambda m: m.payload == "offline")
    plant.faults.switch_off("line-away")
    await heard(client, lambda m: m.payload == "online")


async def test_the_last_will(plant: Plant, at_broker: Connection) -> None:
    """When the line is away the broker says so, and the line when it is back."""
    async with mqtt.open_broker(at_broker) as client:
        await leave_and_come_back(plant, client)
        assert (await command(client, command="set-speed", speed=60))["done"]


async def test_a_broker_that_is_away(plant: Plant, at_broker: Connection) -> None:
    """Nobody is at its port; when it is back the line is too, and tells its state."""
    plant.faults.switch_on("broker-offline")
    await until(lambda: not answers(at_broker.port), "the broker's end")
    with pytest.raises(errors.DeviceUnreachable):
        async with mqtt.open_broker(at_broker):
            pass
    plant.faults.switch_off("broker-offline")
    await until(lambda: answers(at_broker.port), "the broker's return")
    async with mqtt.open_broker(at_broker) as client:
        await client.subscribe(STATE)
        await heard(client, lambda m: m.payload["state"] == "running")


async def test_a_port_that_another_plant_has_taken(
    plant: Plant, at_broker: Connection, tmp_path: Path
) -> None:
    """The slower one says so, and its line does not go to the other's broker."""
    slower = FieldDevices(Line(1), Faults(), PlantLog(), tmp_path)
    slower.start(at_broker.port)
    ready = asyncio.create_task(slower.line_is_at_broker())
    await asyncio.wait_for(slower.port_is_taken(), LIMIT_S)
    async with mqtt.open_broker(at_broker) as client:
        await client.subscribe(STATUS)
        await heard(client, lambda m: m.payload == "online")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.next_message(), 0.2)
    assert not ready.done()
    ready.cancel()
    await slower.stop()


async def test_a_plant_without_a_broker(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Mosquitto is not installed, the plant says what to do, and has all the rest."""
    monkeypatch.setattr(mosquitto, "find_executable", lambda: None)
    async with Plant(opcua=False, folder=home / "plant") as plant:
        assert plant.addresses.mqtt_port == 0
        assert plant.field.missing == ["the plant has no MQTT broker: apt-get install mosquitto"]
        assert await ask(plant, b"Z") == b"Z +"
        await plant.field.line_is_at_broker()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


PLANT = """
import asyncio, pathlib, sys
from smartops.plant import Plant

async def main():
    async with Plant(opcua=False, folder=pathlib.Path(sys.argv[1])) as plant:
        await plant.field.line_is_at_broker()
        print(plant.addresses.mqtt_port, flush=True)
        await plant.fails()

asyncio.run(main())
"""


def test_the_broker_dies_with_the_plant(home: Path) -> None:
    """Whatever ends the plant, also what nobody can prepare for; what it leaves is tidied up."""
    needs(mosquitto.find_executable() is not None, "Mosquitto")
    folder = home / "plant"
    with subprocess.Popen(
        [sys.executable, "-c", PLANT, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    ) as plant:
        assert plant.stdout is not None
        port = int(plant.stdout.readline())
        assert answers(port)
        plant.kill()
    wait_for(lambda: not answers(port), "the end of the broker", LIMIT_S)
    assert (folder / "scale").is_symlink()
    field_devices.tidy(folder)
    assert not (folder / "scale").is_symlink()
