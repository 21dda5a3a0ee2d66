"""``python -m tests.chaos.relay HOST TO PORT...``: passes connections on to another host."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import partial


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more, and then the end of them."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def passed_on(
    to: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Connect one who has connected; who cannot be is hung up on."""
    try:
        there, back = await asyncio.open_connection(to, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, back), pump(there, writer))


async def relay(host: str, to: str, ports: list[int]) -> None:
    """Serve all ports; never returns."""
    servers = [
        await asyncio.start_server(partial(passed_on, to, port), host, port) for port in ports
    ]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))
