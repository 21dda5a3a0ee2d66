"""What can be made to go wrong in the plant, and the record of what was done to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smartops.errors import BadInput

FAULTS = {
    "plc-offline": "the PLC refuses connections",
    "plc-silent": "the PLC accepts connections and never answers",
    "plc-busy": "the PLC answers everything with exception 6",
    "plc-ignores-writes": "the PLC acknowledges a write and keeps its value",
    "plc-acts-without-answer": "the PLC carries a write out and never acknowledges it",
    "opcua-offline": "the OPC UA server is away; it comes back when the fault is off",
    "opcua-uncertain": "the OPC UA server calls all its values uncertain",
    "broker-offline": "the MQTT broker is away; it comes back when the fault is off",
    "line-away": "the line is away from the MQTT broker, and its last will says so",
    "line-mute": "the line obeys commands by MQTT and never answers",
    "scale-busy": "the scale is never at rest",
    "scale-silent": "the scale does not answer",
    "scanner-garbles": "the barcode reader's checksums are wrong",
    "orders-down": "the orders service answers 503",
    "orders-commit-then-drop": "the orders service takes a POST, then drops the connection",
    "hmi-down": "the HMI answers 503",
    "hmi-password-changed": "the HMI refuses every login",
    "zoo-session-expired": "the page zoo forgets its sessions, once",
}


class Faults:
    """The faults that are switched on. Safe to use from several threads."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._on: set[str] = set()
        self._guard = threading.Lock()
        for name in names:
            self.switch_on(name)

    def switch_on(self, name: str) -> None:
        """Switch a fault on. Raises BadInput for an unknown name."""
        if name not in FAULTS:
            raise BadInput(f"unknown fault {name!r}; known: {', '.join(FAULTS)}")
        with self._guard:
            self._on.add(name)

    def switch_off(self, name: str) -> None:
        """Switch a fault off, if it is on."""
        with self._guard:
            self._on.discard(name)

    def __contains__(self, name: str) -> bool:
        """Return whether a fault is on."""
        with self._guard:
            return name in self._on

    def names(self) -> list[str]:
        """Return the names of the faults that are on."""
        with self._guard:
            return sorted(self._on)


class PlantLog:
    """What was done to the plant, as the plant saw it: the truth that tests count with."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._entries: list[dict[str, Any]] = []
        self._guard = threading.Lock()

    def add(self, what: str, **details: Any) -> None:
        """Note one thing, with its time (UTC)."""
        entry = {"at": datetime.now(UTC).isoformat(), "what": what, **details}
        with self._guard:
            self._entries.append(entry)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(entry) + "\n")

    def entries(self, what: str | None = None) -> list[dict[str, Any]]:
        """Return everything, or everything of one sort, oldest first."""
        with self._guard:
            return [e for e in self._entries if what is None or e["what"] == what]
