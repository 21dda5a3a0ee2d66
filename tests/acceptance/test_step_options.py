"""The options of each step kind, as a job says them: a test fails when one has no effect."""

from __future__ import annotations

import asyncio
import json
import os
import tty
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from blocks import HttpService, MqttBroker, SerialLine
from services.stack import Stack
from smartops.audit import models
from smartops.audit.store import Store
from smartops.drivers import mqtt
from tests import mosquitto
from tests.acceptance.conftest import PlantControl, Run
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


class Echo(BaseHTTPRequestHandler):
    """Answers 202 with what it was asked."""

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        asked = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": json.loads(self.rfile.read(length) or b"null"),
        }
        text = json.dumps(asked).encode()
        self.send_response(202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = _answer  # noqa: N815 - the names that the base class looks for

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_each_option_of_a_request(run: Run, echo: str) -> None:
    """Method, path, query, headers, body, key and expected status reach the service."""
    saving: Any = HttpService(base_url=f"{echo}/base").save("echo", overwrite=True)
    await saving
    detail = await run(
        """
name: request-options
steps:
  - id: all
    kind: rest.request
    service: echo
    method: PUT
    path: /a/b
    query: {x: 1, y: two}
    headers: {X-Line: line-1}
    body: {n: 3}
    expect_status: [202]
    idempotency_key: true
  - {id: plain, kind: rest.request, service: echo, path: /c}
  - {id: strict, kind: rest.request, service: echo, path: /d, expect_status: [200],
     on_failure: continue}
"""
    )
    assert detail.run.state == "completed", detail.run.message
    found = {step.id: step for step in detail.steps}
    asked = found["all"].output["body"]
    assert (asked["method"], asked["path"]) == ("PUT", "/base/a/b?x=1&y=two")
    assert (asked["headers"]["x-line"], asked["body"]) == ("line-1", {"n": 3})
    assert asked["headers"]["idempotency-key"]
    plain = found["plain"].output["body"]
    assert (plain["method"], plain["path"], plain["body"]) == ("GET", "/base/c", None)
    assert "idempotency-key" not in plain["headers"]
    assert found["strict"].error_class == "ExpectationFailed"


async def test_each_option_of_a_write(run: Run, plant_control: PlantControl) -> None:
    """Tolerance, time to verify, and whether the value from before is written again."""
    plant_control.switch_on("plc-ignores-writes")
    before = len(plant_control.log("modbus.write"))
    write = "kind: modbus.write, device: plant-line, tag: speed_setpoint, verify_within: 100ms"
    detail = await run(
        f"""
name: write-options
steps:
  - {{id: now, kind: modbus.read, device: plant-line, tags: [speed_setpoint]}}
  - {{id: near, {write}, tolerance: 2,
     value: "{{{{ steps.now.readings.speed_setpoint.value + 1 }}}}"}}
  - {{id: off, {write}, value: "{{{{ steps.now.readings.speed_setpoint.value + 1 }}}}",
     needs: [near], on_failure: continue}}
  - {{id: back, {write}, value: "{{{{ steps.now.readings.speed_setpoint.value + 2 }}}}",
     needs: [off], restore_on_mismatch: true, on_failure: continue}}
"""
    )
    found = {step.id: step for step in detail.steps}
    assert found["near"].state == "completed", found["near"].error
    assert found["off"].error_class == found["back"].error_class == "WriteMismatch"
    assert "was restored" in (found["back"].error or "")
    held = found["now"].output["readings"]["speed_setpoint"]["value"]
    written = [entry["values"] for entry in plant_control.log("modbus.write")[before:]]
    assert written == [[held + 1], [held + 1], [held + 2], [held]]
    for step in ("near", "off"):
        assert (found[step].duration_s or 0) < 5, "it looks no longer than it was told to"


async def test_each_option_of_a_check(run: Run) -> None:
    """Both sides, the comparison, and the sentence."""
    detail = await run(
        """
name: check-options
params: {n: {type: integer, default: 3}}
steps:
  - id: good
    kind: assert
    checks: [{left: "{{ params.n }}", op: ">=", right: 3}, {left: 1, right: 1}]
  - {id: bad, kind: assert, checks: [{left: 1, op: "!=", right: 1, message: The pump is dry}]}
"""
    )
    good, bad = detail.steps
    assert (good.state, bad.state) == ("completed", "failed")
    assert "The pump is dry" in (bad.error or "")


async def test_readings_are_kept_where_the_job_says_so(run: Run, in_stack: Stack) -> None:
    """Each with its unit and its quality, for reports; without ``keep`` none is."""
    read = "kind: modbus.read, device: plant-line, tags: [tank_level, speed]"
    text = "name: keep-options\nsteps: [{id: a, " + read + "%s}]"
    kept = await run(text % ", keep: true")
    plain = await run(text % "")
    store = Store(in_stack.settings.store_url)
    reading = models.reading

    def tags(run_id: Any) -> list[tuple[str, str, str]]:
        query = sa.select(reading.c.tag, reading.c.unit, reading.c.quality)
        with store.reading() as connection:
            rows = connection.execute(query.where(reading.c.run_id == run_id))
            return sorted((row.tag, row.unit, row.quality) for row in rows)

    wait_for(lambda: len(tags(kept.run.run_id)) == 2, "the readings on record")
    assert tags(kept.run.run_id) == [("speed", "1/min", "good"), ("tank_level", "%", "good")]
    assert tags(plain.run.run_id) == []
    store.close()


async def test_each_option_of_opc_ua(run: Run, plant_control: PlantControl) -> None:
    """Read, write and call; how old a value may be; a quality that will do; a value that sticks."""
    line = "nsu=urn:smartops:plant:line"
    before = len(plant_control.log("opcua.write"))
    detail = await run(
        f"""
name: opcua-options
steps:
  - {{id: level, kind: opcua.read, server: plant-cell, tags: [tank_level, batch], max_age: 1m}}
  - {{id: old, kind: opcua.read, server: plant-cell, tags: [speed_setpoint], max_age: 0s,
     require: good, on_failure: continue, needs: [level]}}
  - {{id: now, kind: opcua.read, server: plant-cell, tags: [speed_setpoint], keep: true,
     needs: [old]}}
  - {{id: near, kind: opcua.write, server: plant-cell, tag: speed_setpoint, tolerance: 1,
     verify_within: 5s, value: "{{{{ steps.now.value }}}}", restore_on_mismatch: true}}
  - {{id: count, kind: opcua.call, server: plant-cell, node: "{line};s=Line", needs: [near],
     method: "{line};s=ResetCounters", args: [end of shift]}}
"""
    )
    assert detail.run.state == "completed", detail.run.message
    found = {step.id: step for step in detail.steps}
    assert found["level"].output["readings"]["batch"]["quality"] == "good"
    assert found["old"].error_class == "BadAnswer"
    assert "old" in (found["old"].error or "")
    assert found["near"].output["state"] == "confirmed"
    assert found["count"].output["result"] > 0
    assert len(plant_control.log("opcua.write")) == before + 1
    [command] = detail.commands
    assert (command.device, command.tag, command.state) == (
        "plant-cell",
        "speed_setpoint",
        "confirmed",
    )


@pytest.fixture(scope="module")
def mosquitto_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mosquitto.Broker]:
    with mosquitto.running(tmp_path_factory.mktemp("mosquitto")) as found:
        yield found


async def test_each_option_of_mqtt(run: Run, mosquitto_broker: mosquitto.Broker) -> None:
    """What is published, and how, reaches those who listen; messages and answers are waited for."""
    saving: Any = MqttBroker(host="127.0.0.1", port=mosquitto_broker.port).save(
        "bus", overwrite=True
    )
    await saving
    connection = mqtt.Connection("test", "127.0.0.1", mosquitto_broker.port)
    publish = "kind: mqtt.publish, broker: bus"
    wait = "kind: wait"
    with mosquitto_broker.station():
        async with mqtt.open_broker(connection) as listener:
            await listener.subscribe("out/#", 2)
            detail = await run(
                f"""
name: mqtt-options
steps:
  - {{id: a, {publish}, topic: out/a, payload: {{speed: 7}}, qos: 2}}
  - {{id: b, {publish}, topic: out/b, payload: "0a0b", format: hex, needs: [a], qos: 0}}
  - {{id: c, {publish}, topic: kept/c, payload: {{state: {{code: 5}}}}, retain: true, needs: [b]}}
  - {{id: d, {publish}, topic: kept/d, payload: soon gone, retain: true, expiry: 1s, needs: [c]}}
  - {{id: pause, kind: wait, duration: 2s, needs: [d]}}
  - {{id: here, {wait}, timeout: 10s, needs: [pause], message: {{broker: bus, topic: "kept/#",
     retained: true, field: state.code, op: ">", value: 4}}}}
  - {{id: gone, {wait}, timeout: 2s, needs: [pause], on_failure: continue,
     message: {{broker: bus, topic: kept/d, retained: true}}}}
  - {{id: "new", {wait}, timeout: 2s, needs: [pause], on_failure: continue,
     message: {{broker: bus, topic: kept/c}}}}
  - {{id: refused, {publish}, topic: secret/x, payload: 1, on_failure: continue}}
  - {{id: ask, kind: mqtt.ask, broker: bus, topic: ask/nobody, payload: hello, timeout: 1s,
     effect: read, on_failure: continue}}
  - {{id: asked, kind: mqtt.ask, broker: bus, topic: ask/me, payload: "6869", format: hex, qos: 2}}
"""
            )
            messages = [await listener.next_message() for _ in range(2)]
    found = {step.id: step for step in detail.steps}
    assert detail.run.state == "completed", detail.run.message
    assert [(m.topic, m.payload, m.qos) for m in messages] == [
        ("out/a", {"speed": 7}, 2),
        ("out/b", "\n\x0b", 0),
    ]
    assert found["here"].output["message"]["payload"] == {"state": {"code": 5}}
    for step in ("gone", "new", "ask"):
        assert found[step].error_class == "StepTimeout", step
    assert found["refused"].error_class == "DeviceRefused"
    answer = found["asked"].output
    assert (answer["payload"], answer["qos"]) == ("HI", 2)


async def test_each_option_of_a_serial_line(run: Run) -> None:
    """What is sent, in which form, what the answer has to look like; and a frame by itself."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    heard: list[bytes] = []
    scans: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()

    def answer() -> None:
        heard.append(os.read(ours, 100))
        if heard[-1] == b"SCAN\r\n":
            scan()
        else:
            os.write(ours, b"EVENT\r\nW 12.5 kg\r\n")

    def scan() -> None:
        os.write(ours, b"4012345\r\n")
        scans.append(loop.call_later(0.3, scan))

    saving: Any = SerialLine(port=os.ttyname(theirs), timeout="2s").save("scale", overwrite=True)
    await saving
    loop.add_reader(ours, answer)
    try:
        detail = await run(
            """
name: serial-options
steps:
  - {id: weight, kind: serial.ask, line: scale, send: "W?", expect: "W (?P<kg>[0-9.]+) kg"}
  - {id: any, kind: serial.ask, line: scale, send: "573f", format: hex, needs: [weight]}
  - {id: never, kind: serial.ask, line: scale, send: "W?", expect: nothing, effect: read,
     needs: [any], on_failure: continue}
  - {id: scan, kind: serial.ask, line: scale, send: SCAN, needs: [never]}
  - {id: code, kind: serial.listen, line: scale, expect: "^4", timeout: 10s, needs: [scan]}
"""
        )
    finally:
        loop.remove_reader(ours)
        for timer in scans:
            timer.cancel()
        os.close(ours)
        os.close(theirs)
    found = {step.id: step for step in detail.steps}
    assert found["weight"].output["fields"] == {"kg": "12.5"}
    assert (found["any"].output["text"], heard[1]) == ("EVENT", b"W?\r\n")
    assert found["never"].error_class == "DeviceTimeout"
    assert found["code"].output["text"] == "4012345"
