"""Saves the connections to the simulated plant, given its ports as arguments."""

from __future__ import annotations

import asyncio
import sys

from pydantic import HttpUrl, SecretStr

from blocks import BrowserProfile, HttpService, ModbusDevice, OpcUaServer
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.tag_files import load_map, load_tags
from smartops.plant.server import HOST, Addresses
from smartops.plant.web import PASSWORD, TOKEN, USERNAME
from smartops.settings import get_settings


async def save_plant_blocks(addresses: Addresses) -> None:
    """Save ``plant-line``, ``plant-cell``, ``plant-orders`` and ``plant-hmi`` for a plant."""
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


def main() -> None:
    """Save the connections; the arguments are the ports, in the order of ``Addresses``."""
    asyncio.run(save_plant_blocks(Addresses(*map(int, sys.argv[1:]))))


if __name__ == "__main__":
    main()
