"""What the plant has in a folder: its serial ports, and its MQTT broker with the line at it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from smartops.plant import mosquitto
from smartops.plant.faults import Faults, PlantLog
from smartops.plant.line import Line
from smartops.plant.mosquitto import PlantBroker
from smartops.plant.mqtt_line import LineClient
from smartops.plant.serial_devices import SCALE, SCANNER, SerialDevices


def tidy(folder: Path) -> None:
    """Remove the names of serial ports that a killed plant has left, unless another one runs.

    Their pseudo-terminals may be somebody's terminal by now.
    """
    if not folder.is_dir():
        return
    with contextlib.suppress(Timeout), _lock_of(folder).acquire(blocking=False):
        for name in (SCALE, SCANNER):
            (folder / name).unlink(missing_ok=True)


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / "plant.lock")


class FieldDevices:
    """They start in the background, and what cannot be there does not keep the others away."""

    def __init__(self, line: Line, faults: Faults, log: PlantLog, folder: Path | None) -> None:
        self._line, self._faults, self._log = line, faults, log
        self._folder = folder
        self._lock: FileLock | None = None
        self._broker: PlantBroker | None = None
        self._client: LineClient | None = None
        self._serial: SerialDevices | None = None
        self._executable = mosquitto.find_executable() if folder is not None else None
        self.missing: list[str] = []
        """What is not there, as sentences that say why."""

    @property
    def wants_broker(self) -> bool:
        """Whether there is a folder for a broker, and a program for it on the machine."""
        return self._executable is not None

    @property
    def has_broker(self) -> bool:
        """Whether a broker has been started."""
        return self._broker is not None

    @property
    def ports(self) -> dict[str, Path]:
        """The serial ports by their names."""
        serial = self._serial
        return {} if serial is None else {path.name: path for path in serial.paths}

    def start(self, mqtt_port: int) -> None:
        """Start what there can be."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(self._folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            self.missing.append(
                f"another plant uses {self._folder}: this one has no serial ports and no MQTT"
            )
            return
        self._lock = lock
        self._serial = SerialDevices(self._line, self._faults, self._log, self._folder)
        self._serial.start()
        if self._executable is None:
            self.missing.append(mosquitto.MISSING)
            return
        self._broker = PlantBroker(self._executable, self._faults, self._folder, mqtt_port)
        self._broker.start()
        self._client = LineClient(self._line, self._faults, self._log, self._broker)
        self._client.start()

    async def port_is_taken(self) -> None:
        """Wait until another program has been quicker to take the broker's port."""
        if self._broker is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._broker.port_taken.wait()

    async def line_is_at_broker(self) -> None:
        """Wait until the line has told its state by MQTT and hears commands."""
        if self._client is not None:
            await self._client.ready.wait()

    async def stop(self) -> None:
        """Stop everything and leave the folder to the next one."""
        parts = (self._serial, self._client, self._broker)
        for part in parts:
            if part is not None:
                await asyncio.shield(part.stop())
        if self._lock is not None:
            self._lock.release()
            self._lock = None
