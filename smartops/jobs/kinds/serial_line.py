"""``serial.ask`` and ``serial.listen``: frames over a serial line."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten, suggest


class _HearsFrames(StepBase):
    """A step that takes a frame from a line."""

    line: str = Field(
        min_length=1,
        title="Line",
        description="Name of the saved Serial Line connection.",
        json_schema_extra=suggest(""),
    )
    expect: str = Field(
        default="",
        max_length=1000,
        title="Expect",
        description="A regular expression that the answer has to match; its named groups are "
        "fields of the output, such as (?P<kg>[0-9.]+). Frames that do not match are passed over.",
    )

    @field_validator("expect")
    @classmethod
    def _compiles(cls, text: str) -> str:
        if "{{" not in text:
            try:
                re.compile(text)
            except re.error as error:
                raise ValueError(f"{text!r} is no regular expression: {error}") from None
        return text

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what came."""
        return shorten(output["fields"] or output["text"] or output["hex"])


@register
class SerialAsk(_HearsFrames):
    """Send a frame over a serial line and take its answer; unsafe unless the job says otherwise."""

    model_config = ConfigDict(title="Serial ask")

    kind: Literal["serial.ask"] = "serial.ask"
    send: str = Field(
        min_length=1,
        title="Send",
        description="What to send: a text, or bytes in hexadecimal digits; the line's connection "
        "adds the frame around it.",
        json_schema_extra=suggest(""),
    )
    format: Literal["text", "hex"] = Field(
        default="text", title="Format", description="What stands in `send`."
    )


@register
class SerialListen(_HearsFrames):
    """Wait for a frame that comes by itself, such as from a barcode reader."""

    model_config = ConfigDict(title="Serial listen")

    kind: Literal["serial.listen"] = "serial.listen"
