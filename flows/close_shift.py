"""A procedure written in Python: read the line's counters and file them in the shift log."""

from __future__ import annotations

from typing import Any

from prefect import flow

from blocks import HttpService, ModbusDevice
from smartops import audited
from tasks.modbus import read_tags
from tasks.rest import request


@flow(name="close-shift", persist_result=False, retries=0)
@audited
async def close_shift(line: str = "line-1") -> dict[str, Any]:
    """Read the line's counters and file them in the shift log."""
    plc = await ModbusDevice.aload("plant-line")
    orders = await HttpService.aload("plant-orders")
    counters = (await read_tags(plc, ["good_count", "scrap_count"]))["values"]
    entry = {"line": line, "text": "shift closed", "good": counters["good_count"]}
    return await request(
        orders, "/shift-log", "POST", body={**entry, "scrap": counters["scrap_count"]}
    )


if __name__ == "__main__":
    import asyncio

    asyncio.run(close_shift())
