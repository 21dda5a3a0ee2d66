"""Serial lines with a device or a converter that fails: what each fault comes to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio

from blocks import SerialLine
from scripts.fault_table import CONVERTER, SERIAL_CHECKED, SERIAL_UNCHECKED, Matrix
from smartops import errors
from smartops.drivers import serial_line, wire_notes
from smartops.drivers.framing import Framing
from smartops.drivers.quarantine import Patience
from smartops.drivers.serial_line import Connection
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tasks.serial_line import pattern
from tasks.step import DEFINITIONS
from tests import serial_device
from tests.fault_cells import Ends, all_of, cells, check, ended, in_a_step
from tests.faulty_wire import wire_to

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXPECT = r"^W\d{4}$"
LIMITS_S = {"value": 20.0, "DeviceTimeout": 0.5, "UnknownOutcome": 0.8}
"""How long an answer is waited for, by what the cell comes to."""
SHORT_S = 2.5
SILENCE_S = 1.0
"""Much more than the device pauses within a frame: all cells are begun in its loop."""
LATE_S = 2.0
LATE_WINDOW_S = 10.0
"""Much more than a late answer takes: the device has its loop in common with all cells, and an
answer that comes later than a device was said to give it may be taken for the next one's."""
NEVER = Patience(after=0)
"""A cell that fails must not have the next one's device left alone."""
SLACK_S = 5.0
"""How much longer a call may take on a loaded machine."""
CHECKED = {
    "line": Framing("line", checksum="xor", checksum_as_hex=True),
    "delimiter": Framing("delimiter", stop=b";", checksum="sum", checksum_as_hex=True),
    "length": Framing("length", length=7, checksum="crc16-modbus"),
    "start-stop": Framing("start-stop", checksum="lrc", checksum_as_hex=True),
    "silence": Framing("silence", checksum="crc16-kermit"),
}
UNCHECKED = {
    name: replace(framing, checksum="none", checksum_as_hex=False, length=5 * (name == "length"))
    for name, framing in CHECKED.items()
}
MATRICES = {"checked": SERIAL_CHECKED, "unchecked": SERIAL_UNCHECKED, "converter": CONVERTER}
CELLS = [(kind, *cell) for kind, matrix in MATRICES.items() for cell in cells(matrix)]


async def answer(line: serial_line.SerialDriver) -> str:
    """Ask what the device fails at."""
    assert await line.ask(b"W?", pattern(EXPECT)) == b"W1234", "another's answer"
    return "value"


async def unsafe(block: SerialLine) -> str:
    """Ask as a step that has an effect, once."""
    with in_a_step(Effect.UNSAFE) as record:
        try:
            output = await DEFINITIONS["serial.ask"].function(block, "W?", expect=EXPECT)
        except errors.DeviceUnreachable:
            assert record.touched is False
            raise
    assert output["text"] == "W1234", "another's answer"
    return "value"


async def the_next_question_is_answered(line: serial_line.SerialDriver) -> None:
    """Within the same connection: with its own answer, if with any."""
    with contextlib.suppress(errors.TransientError, errors.BadAnswer):
        assert await line.ask(b"T?") == b"W5678", "an answer to the question before"


def block_of(connection: Connection) -> SerialLine:
    framing = connection.framing
    return SerialLine(
        port=connection.port,
        timeout=connection.timeout,
        late_answers=connection.late,
        quarantine_after=connection.patience.after,
        silence=connection.silence,
        framing=framing.kind,
        stop=framing.stop.hex(),
        length=framing.length,
        checksum=framing.checksum,
        checksum_as_hex=framing.checksum_as_hex,
    )


async def on_a_line(matrix: Matrix, framings: dict[str, Framing], fault: str, column: str) -> str:
    """Run a cell on a pseudo-terminal."""
    framing = framings["line" if column == "write" else column]
    limit_s = LIMITS_S.get(matrix.end(fault, column), SHORT_S)
    if fault == "one and a half":
        limit_s = SHORT_S  # what comes behind the answer is waited out
    elif column == "silence" and fault not in {"late", "no-answer"}:
        limit_s = max(limit_s, SHORT_S)  # the silence that ends a frame has to fit in
    async with serial_device.on_pty(framing, fault) as (device, path):
        connection = Connection(
            column,
            path,
            timeout=timedelta(seconds=limit_s),
            late=timedelta(seconds=LATE_WINDOW_S if fault == "late" else LATE_S),
            silence=timedelta(seconds=SILENCE_S),
            framing=framing,
            patience=NEVER,
        )
        before = fault == "unplugged-before"
        if column == "write":
            if before:
                device.hang_up()
            end = await ended(unsafe(block_of(connection)), 2 * limit_s + LATE_WINDOW_S + SLACK_S)
        else:
            async with serial_line.open_line(connection) as line:
                if before:
                    device.hang_up()
                end = await ended(answer(line), limit_s + SLACK_S)
                await the_next_question_is_answered(line)
        assert device.asked.count(b"W?") == (0 if before else 1), (fault, column)
        if not fault.startswith("unplugged"):
            patient = replace(connection, timeout=timedelta(seconds=20), late=timedelta())
            async with serial_line.open_line(patient) as line:
                assert await line.ask(b"T?", pattern("^W5678$")) == b"W5678"
    return end


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTOPS_HOME", str(tmp_path_factory.mktemp("home")))
        get_settings.cache_clear()
        # Each open line waits in a thread of its own.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
        yield
    get_settings.cache_clear()


async def through_a_converter(fault: str, column: str) -> str:
    """Run a cell on a socket."""
    limit_s = LIMITS_S.get(CONVERTER.end(fault, column), SHORT_S)
    framing = CHECKED["line"]
    async with (
        serial_device.on_socket(framing) as (asked, target),
        wire_to(target, limit_s + 1) as wire,
    ):
        connection = Connection(
            column,
            f"socket://127.0.0.1:{wire.port}",
            timeout=timedelta(seconds=limit_s),
            late=timedelta(seconds=LATE_S),
            framing=framing,
            patience=NEVER,
        )
        wire.fault = "" if fault == "none" else fault
        if column == "write":
            work = unsafe(block_of(connection))
            end = await ended(work, 2 * limit_s + LATE_S + SLACK_S)
        else:
            async with serial_line.open_line(connection) as line:
                end = await ended(answer(line), limit_s + SLACK_S)
                await the_next_question_is_answered(line)
        assert asked.count(b"W?") == (
            0 if fault in {"request-lost", "request-reset", "half-open"} else 1
        )
        if fault != "flapping":
            wire.fault = ""
        patient = replace(connection, timeout=timedelta(seconds=20), late=timedelta())
        async with serial_line.open_line(patient) as line:
            assert await line.ask(b"T?", pattern("^W5678$")) == b"W5678"
    return end


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(home: None) -> dict[str, Ends]:
    """How each cell ends; they are run side by side, as most of them wait."""
    gate = asyncio.Semaphore(64)

    async def run(kind: str, fault: str, column: str) -> str:
        async with gate:
            if kind == "converter":
                return await through_a_converter(fault, column)
            framings = CHECKED if kind == "checked" else UNCHECKED
            return await on_a_line(MATRICES[kind], framings, fault, column)

    found = await asyncio.gather(
        *(all_of(partial(run, kind), cells(matrix)) for kind, matrix in MATRICES.items())
    )
    return dict(zip(MATRICES, found, strict=True))


@pytest.mark.parametrize(("kind", "fault", "column"), CELLS)
async def test_each_fault_comes_to_what_the_table_says(
    ends: dict[str, Ends], kind: str, fault: str, column: str
) -> None:
    """Within the timeout; never to another's answer, and it is asked once."""
    check(MATRICES[kind], ends[kind], (fault, column))


async def test_a_late_answer_is_no_message(home: None) -> None:
    """Whoever listens after somebody who was killed lets pass what that one had asked for."""
    async with serial_device.on_pty(UNCHECKED["line"], "none") as (device, path):
        limit = timedelta(seconds=0.3)
        connection = Connection("reader", path, timeout=limit, late=limit)
        wire_notes.OpenQuestion(connection.resource).ask()
        async with serial_line.open_line(connection) as line:
            listening = asyncio.create_task(line.listen(None, None))
            device.say_late()
            await asyncio.wait({listening}, timeout=0.1)
            while not listening.done():
                device.send(b"4012345\r\n")
                await asyncio.wait({listening}, timeout=0.1)
            assert await listening == b"4012345"


async def test_a_converter_that_hangs_up_may_still_pass_on_an_answer(home: None) -> None:
    """The device behind it was asked: its answer is not the next question's, on any connection."""
    passed_on = asyncio.Event()
    now: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now[:] = [writer]
        question = await reader.readline()
        if question == b"W?\r\n":
            now.clear()
            writer.transport.abort()
            await asyncio.sleep(0.7)
            for whoever in now:
                whoever.write(b"W1234\r\n")
            passed_on.set()
        else:
            await passed_on.wait()
            writer.write(b"W5678\r\n")
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limit = timedelta(seconds=0.5)
    late = timedelta(seconds=4)
    connection = Connection("scale", f"socket://127.0.0.1:{port}", timeout=limit, late=late)
    async with serial_line.open_line(connection) as line:
        with pytest.raises(errors.DeviceUnreachable):
            await line.ask(b"W?")
    async with serial_line.open_line(replace(connection, timeout=timedelta(seconds=20))) as line:
        assert await line.ask(b"T?") == b"W5678"
    server.close()
    await server.wait_closed()


async def test_a_converter_that_takes_nothing_more(home: None) -> None:
    """What cannot be sent is given up within the timeout."""
    async with (
        serial_device.on_socket(UNCHECKED["line"]) as (_, target),
        wire_to(target, 0) as wire,
    ):
        wire.fault = "stuck"
        port = f"socket://127.0.0.1:{wire.port}"
        connection = Connection("scale", port, timeout=timedelta(seconds=0.5), late=timedelta())
        async with serial_line.open_line(connection) as line:

            async def ask() -> str:
                return (await line.ask(bytes(16_000_000))).decode()

            assert await ended(ask(), 0.5 + SLACK_S) == "DeviceTimeout"
