"""What the steps for devices of all protocols share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smartops.drivers.readings import Command, CommandResult, Reading
from smartops.errors import BadAnswer
from smartops.jobs.kinds.device import Require
from smartops.vocabulary import Effect
from tasks.step import current_record

_BELOW: Mapping[Require, tuple[str, ...]] = {
    "good": ("uncertain", "bad"),
    "uncertain": ("bad",),
    "any": (),
}


def readings_found(
    device: str, readings: Sequence[Reading], require: Require, *, keep: bool
) -> dict[str, Any]:
    """Return what a step that reads tags gives; with ``keep`` put each reading on record.

    Raises BadAnswer for readings whose quality is below what is required.
    """
    if keep:
        current_record().readings(device, readings)
    low = [f"{r.tag}: {r.quality}: {r.reason}" for r in readings if r.quality in _BELOW[require]]
    if low:
        raise BadAnswer(f"{device}: no value for " + "; ".join(low))
    values = {reading.tag: reading.value for reading in readings}
    single = {"value": readings[0].value} if len(readings) == 1 else {}
    return {
        **single,
        "values": values,
        "readings": {reading.tag: reading.as_json() for reading in readings},
    }


def effect_of_write(inputs: Mapping[str, Any]) -> Effect:
    """Return what the tag map says of writing a tag; unsafe where it does not know the tag."""
    tags = {tag.name: tag.effect for tag in inputs["device"].tags}
    return Effect(tags.get(inputs["tag"], "unsafe"))


def written(command: Command, result: CommandResult) -> dict[str, Any]:
    """Return what a step that writes a tag gives."""
    return {
        "tag": command.tag,
        "unit": command.unit,
        "before": command.before,
        "requested": command.requested,
        "after": result.after,
        "state": result.state,
    }
