"""An HTTP server for the benchmarks, in a process of its own and as lean as Python can be.

``python -m benchmarks.rest_server`` prints its port, and answers every GET on connections that it
keeps open with the same JSON, until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BODY = {"items": [{"id": n, "line": "line-1", "quantity": 6000 + n} for n in range(20)]}
_CONTENT = json.dumps(BODY).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    + f"content-length: {len(_CONTENT)}\r\n\r\n".encode()
    + _CONTENT
)


@contextmanager
def running() -> Iterator[str]:
    """Give the URL of a server."""
    command = [sys.executable, "-m", "benchmarks.rest_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None  # noqa: S101 - for the type checker
        assert server.stdout is not None  # noqa: S101
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._wire, self._asked = transport, b""

    def data_received(self, data: bytes) -> None:
        *whole, self._asked = (self._asked + data).split(b"\r\n\r\n")
        if whole:
            self._wire.write(_ANSWER * len(whole))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_serve())
