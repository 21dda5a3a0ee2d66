"""Steps that talk over serial lines."""

from __future__ import annotations

import re
from typing import Any, Literal

from blocks import SerialLine
from smartops.errors import (
    BadAnswer,
    BadInput,
    DeviceTimeout,
    DeviceUnreachable,
    UnknownOutcome,
)
from smartops.vocabulary import Effect
from tasks.step import current_record, step


@step(effect=Effect.UNSAFE, kind="serial.ask")
async def ask_line(
    line: SerialLine,
    send: str,
    format: Literal["text", "hex"] = "text",  # noqa: A002 - the option is called so
    expect: str = "",
) -> dict[str, Any]:
    """Send a frame once, and take its answer.

    Returns ``text`` (None where it is none), ``hex`` and ``fields``: the groups of ``expect``.
    Raises UnknownOutcome where no answer that can be read came to something unsafe, and the
    driver's errors.
    """
    record = current_record()
    record.touched = False
    question, wanted = sent_bytes(send, format), pattern(expect)
    async with line.open() as client:
        record.touched = True
        try:
            return found(await client.ask(question, wanted), wanted)
        except (BadAnswer, DeviceTimeout, DeviceUnreachable) as error:
            record.touched = client.sent
            if not client.sent or record.effect is not Effect.UNSAFE:
                raise
            raise UnknownOutcome(
                f"{error}, so that nobody knows what it did",
                hint="Look at the device before the job is run again.",
            ) from error


@step(effect=Effect.READ, kind="serial.listen")
async def listen_to_line(line: SerialLine, expect: str = "") -> dict[str, Any]:
    """Wait for a frame, within the step's time limit. Returns what ``serial.ask`` returns."""
    wanted = pattern(expect)
    async with line.open() as client:
        return found(await client.listen(None, wanted), wanted)


def sent_bytes(text: str, form: Literal["text", "hex"]) -> bytes:
    """Return what is to be sent. Raises BadInput."""
    try:
        return bytes.fromhex(text) if form == "hex" else text.encode("latin-1")
    except ValueError as error:
        raise BadInput(f"{text!r} cannot be sent as {form}: {error}") from None


def pattern(expect: str) -> re.Pattern[bytes] | None:
    """Return what a frame has to match. Raises BadInput."""
    try:
        return re.compile(expect.encode("latin-1"), re.DOTALL) if expect else None
    except (re.error, UnicodeEncodeError) as error:
        raise BadInput(f"expect: {expect!r}: {error}") from None


def found(data: bytes, wanted: re.Pattern[bytes] | None) -> dict[str, Any]:
    """Return a frame as an output: its text where it is printable, its bytes, its fields."""
    text = data.decode("latin-1")
    match = wanted.search(data) if wanted is not None else None
    groups = match.groupdict() if match is not None else {}
    fields = {name: (value or b"").decode("latin-1") for name, value in groups.items()}
    printable = text.isprintable() or not text
    return {"text": text if printable else None, "hex": data.hex(), "fields": fields}
