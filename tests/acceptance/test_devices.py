"""``smartops device``, as people use it at the plant."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from services.stack import Stack
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.tag_files import load_map
from tests.acceptance.conftest import Cli, PlantControl
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


def answer(quick: Cli, *arguments: str) -> Any:
    done = quick("device", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_looking_at_devices(quick: Cli, plant_control: PlantControl, stack: Stack) -> None:
    """Check and read, of both protocols; a device that is away is an error with exit code 1."""
    for device in ("plant-line", "plant-cell"):
        checked = answer(quick, "check", device)
        assert {reading["quality"] for reading in checked["readings"]} == {"good"}
    [batch] = answer(quick, "read", "plant-line", "batch")
    assert batch["value"].startswith("B")
    assert "16 tags in" in quick("device", "check", "plant-line").stdout
    assert "bottles" in quick("device", "read", "plant-cell", "good_count").stdout
    for other in ("plant-broker", "plant-scale"):
        assert "answers: connected in" in quick("device", "check", other).stdout
        assert answer(quick, "check", other)["readings"] == []
    assert stack.plant is not None
    plc = stack.plant.modbus_port
    plant_control.switch_on("plc-offline")
    wait_for(lambda: not listens(plc), "the PLC's end")
    for _ in range(3):
        gone = quick("device", "check", "plant-line")
        assert (gone.returncode, "no answer at 127.0.0.1" in gone.stderr) == (1, True)
    [left_alone] = answer(quick, "quarantined")
    assert (left_alone["device"], left_alone["failures"]) == ("plant-line", 3)
    assert "plant-line" in quick("device", "quarantined").stdout
    plant_control.all_well()
    wait_for(lambda: listens(plc), "the PLC's return")
    assert answer(quick, "quarantined") == []
    assert "every device that was asked" in quick("device", "quarantined").stderr


@pytest.mark.parametrize("device", ["plant-line", "plant-cell"])
def test_writing_by_hand(quick: Cli, plant_control: PlantControl, device: str) -> None:
    """A dry run sends nothing; a write is on record, with who asked for it, like any step's."""
    what = "modbus.write" if device == "plant-line" else "opcua.write"
    before = len(plant_control.log(what))
    dry = answer(quick, "write", device, "speed_setpoint", "101", "--dry-run")
    assert dry["requested"] == 101
    assert dry["sends"] in {
        "function 6, unit 1, holding 0: 0065",
        "nsu=urn:smartops:plant:line;s=SpeedSetpoint: 101",
    }
    refused = quick("device", "write", device, "speed_setpoint", "251", "--dry-run")
    assert (refused.returncode, "above the limit" in refused.stderr) == (1, True)
    assert len(plant_control.log(what)) == before
    done = answer(quick, "write", device, "speed_setpoint", "101", "--within", "5s")
    assert (done["after"], done["state"]) == (101, "confirmed")
    [run] = json.loads(
        quick("run", "list", "--job", "device-write", "--limit", "1", "--json").stdout
    )
    shown = json.loads(quick("run", "show", run["run_id"], "--json").stdout)
    assert shown["requested_by"]
    [command] = shown["commands"]
    assert (command["device"], command["requested"], command["state"]) == (device, 101, "confirmed")


def test_watching_and_browsing(quick: Cli, tmp_path: Any) -> None:
    """Changes as lines of JSON; what a server has, as a tag map that loads."""
    done = quick(
        "device", "watch", "plant-line", "good_count", "--every", "50ms", "--for", "3s", "--json"
    )
    values = [json.loads(line)["value"] for line in done.stdout.splitlines()]
    assert len(values) >= 2
    assert values == sorted(set(values)), "each change once"
    done = quick("device", "browse", "plant-cell", "--tags")
    (tmp_path / "found.yaml").write_text(done.stdout)
    found = {tag.name: tag.node for tag in load_map(tmp_path / "found.yaml", OpcTag)}
    assert found["line_speed_setpoint"] == "nsu=urn:smartops:plant:line;s=SpeedSetpoint"
    assert "ResetCounters" in quick("device", "browse", "plant-cell").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "no-such"), "no device 'no-such' is saved"),
        (("read", "plant-line", "nope"), "has no tag 'nope'"),
        (("write", "plant-line", "speed_setpoint", "fast"), "'fast' is no number"),
        (("write", "plant-line", "speed_setpoint", "[1"), "is no value"),
        (("write", "plant-line", "tank_level", "1"), "does not allow writing"),
        (("write", "plant-line", "speed_setpoint", "1", "--within", "soon"), "--within"),
        (("watch", "plant-line", "--every", "0s"), "longer than 0s"),
        (("browse", "plant-line"), "cannot tell what it has"),
        (("trust", "plant-cell"), "uses no security policy"),
        (("browse", "plant-cell", "--below", "nsu=urn:none;s=x"), "no namespace urn:none"),
    ],
)
def test_bad_input(quick: Cli, arguments: tuple[str, ...], said: str) -> None:
    """One line that says what is wrong, and nothing was sent."""
    done = quick("device", *arguments)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr
