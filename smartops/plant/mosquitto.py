"""Mosquitto as a child process: the broker of the simulated plant."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from smartops.plant import with_parent
from smartops.plant.addresses import HOST, is_free
from smartops.plant.faults import Faults
from smartops.plant.following import Follower

MISSING = "the plant has no MQTT broker: apt-get install mosquitto"
_BESIDE_PATH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_LOOK_S = 0.1
_AGAIN_S = 1.0
_GRACE_S = 5.0
logger = logging.getLogger(__name__)


def find_executable() -> str | None:
    """Return where Mosquitto is on this machine; Debian puts it where a user's PATH does not look.

    None: it is not installed.
    """
    beside = os.pathsep.join(_BESIDE_PATH)
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=beside)


class Mosquitto:
    """A broker with its configuration and its log in a folder. It ends with this process."""

    def __init__(self, executable: str, folder: Path, config: str) -> None:
        self._folder, self._config = folder, folder / "mosquitto.conf"
        self._config.write_text(config, "utf-8")
        self._command = [executable, "-c", str(self._config)]
        if sys.platform == "linux":
            watched = [sys.executable, "-I", "-S", with_parent.__file__, str(os.getpid())]
            self._command = [*watched, *self._command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens soon after. To be called in a thread that lasts: it ends with it."""
        with (self._folder / "mosquitto.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the plant, which ends it
            )

    def is_running(self) -> bool:
        """Return whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def listens_on(self, port: int) -> bool:
        """Return whether it is the one that listens on a port."""
        if self._process is None:
            return False
        try:
            connections = psutil.Process(self._process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)

    def stop(self) -> None:
        """End it, and wait until it has gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """Return the last line of its log."""
        text = (self._folder / "mosquitto.log").read_text("utf-8", "replace").strip()
        return text.rpartition("\n")[2] or "it said nothing"


class PlantBroker(Follower):
    """The plant's broker on a port of the loopback interface, where anybody may log in."""

    def __init__(self, executable: str, faults: Faults, folder: Path, port: int) -> None:
        config = (
            f"listener {port} {HOST}\nallow_anonymous true\npersistence false\n"
            # Without a user of its own it drops no rights, and the kernel still watches its parent.
            "user root\nlog_dest stderr\nlog_type error\nlog_type warning\n"
        )
        self._broker = Mosquitto(executable, folder, config)
        self._faults, self.port = faults, port
        self._is_started = False
        self._said = ""
        self.listens = False
        """Whether it is this broker, and no other program's, that is at the port."""
        self.port_taken = asyncio.Event()
        """Set when another program has been quicker to take the port."""

    async def _leave(self) -> None:
        await asyncio.to_thread(self._broker.stop)

    async def _follow(self) -> None:
        """Keep it running, unless the fault is on that takes it off the network."""
        while True:
            if "broker-offline" in self._faults:
                self.listens = self._is_started = False
                await asyncio.to_thread(self._broker.stop)
            elif not self._broker.is_running():
                self.listens = False
                if self._is_started:
                    await self._after_its_end()
                self._broker.start()
                self._is_started = True
            elif not self.listens:
                self.listens = self._broker.listens_on(self.port)
            await asyncio.sleep(_LOOK_S)

    async def _after_its_end(self) -> None:
        """Say once why it has ended by itself, and wait a little."""
        said, self._said = self._said, self._broker.last_words()
        if self._said != said:
            logger.warning("the plant's MQTT broker has ended: %s", self._said)
        if not is_free(self.port):
            self.port_taken.set()
        await asyncio.sleep(_AGAIN_S)
