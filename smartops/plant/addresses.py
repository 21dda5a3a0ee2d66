"""Where the plant listens; light to import, for those who only want to know."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from smartops.settings import Settings

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def plant_folder(settings: Settings) -> Path:
    """Return the folder of the plant of a home folder: its serial ports, its broker's files."""
    return settings.home / "plant"


@dataclass(frozen=True)
class Addresses:
    """Where the plant listens; 0 for what it lacks. Serial ports have names, and no numbers."""

    modbus_port: int
    orders_port: int
    hmi_port: int
    opcua_port: int = 0
    mqtt_port: int = 0

    @property
    def opcua_url(self) -> str:
        """Address of the OPC UA server."""
        return f"opc.tcp://{HOST}:{self.opcua_port}"

    @property
    def orders_url(self) -> str:
        """Base URL of the orders service."""
        return f"http://{HOST}:{self.orders_port}"

    @property
    def hmi_url(self) -> str:
        """Base URL of the HMI."""
        return f"http://{HOST}:{self.hmi_port}"
