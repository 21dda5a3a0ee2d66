"""Saves the connections to the simulated plant, given its ports as arguments."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import HttpUrl, SecretStr

from blocks import (
    BrowserProfile,
    HttpService,
    ModbusDevice,
    MqttBroker,
    OpcUaServer,
    SerialLine,
)
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.tag_files import load_map, load_tags
from smartops.plant.addresses import HOST, Addresses, plant_folder
from smartops.plant.serial_devices import SCALE, SCANNER
from smartops.plant.web import PASSWORD, TOKEN, USERNAME
from smartops.settings import get_settings


async def save_plant_blocks(addresses: Addresses) -> None:
    """Save ``plant-line``, ``plant-cell``, ``plant-orders`` and ``plant-hmi`` for a plant.

    Also ``plant-scale`` and ``plant-scanner``; and ``plant-broker``, where the plant has one.
    """
    tags = load_tags(get_settings().deployments / "tags" / "bottling-line.yaml")
    device = ModbusDevice(host=HOST, port=addresses.modbus_port, unit=1, tags=list(tags))
    nodes = load_map(get_settings().deployments / "tags" / "bottling-cell.yaml", OpcTag)
    cell = OpcUaServer(url=addresses.opcua_url, tags=list(nodes))
    orders = HttpService(base_url=HttpUrl(addresses.orders_url), token=SecretStr(TOKEN))
    hmi = BrowserProfile(
        base_url=HttpUrl(addresses.hmi_url), username=USERNAME, password=SecretStr(PASSWORD)
    )
    await device.asave("plant-line", overwrite=True)
    await cell.asave("plant-cell", overwrite=True)
    await orders.asave("plant-orders", overwrite=True)
    await hmi.asave("plant-hmi", overwrite=True)
    await scale_line(plant_folder(get_settings())).asave("plant-scale", overwrite=True)
    await scanner_line(plant_folder(get_settings())).asave("plant-scanner", overwrite=True)
    if addresses.mqtt_port:
        broker = MqttBroker(host=HOST, port=addresses.mqtt_port)
        await broker.asave("plant-broker", overwrite=True)


def scale_line(folder: Path) -> SerialLine:
    """Return the connection to the scale of a plant whose serial ports are in a folder."""
    return SerialLine(port=str(folder / SCALE))


def scanner_line(folder: Path) -> SerialLine:
    """Return the connection to the barcode reader: STX, the code, its XOR in two digits, ETX."""
    port = str(folder / SCANNER)
    return SerialLine(port=port, framing="start-stop", checksum="xor", checksum_as_hex=True)


def main() -> None:
    """Save the connections; the arguments are the ports, in the order of ``Addresses``."""
    asyncio.run(save_plant_blocks(Addresses(*map(int, sys.argv[1:]))))


if __name__ == "__main__":
    main()
