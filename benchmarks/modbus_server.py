"""A Modbus TCP server for the benchmarks, in a process of its own and as lean as Python can be.

``python -m benchmarks.modbus_server DELAY_S`` takes the registers (65,536 of them, big-endian) from
standard input, prints its port, and answers function 3 until its standard input is closed.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REGISTERS = 65_536
_REQUEST = struct.Struct(">HHHBBHH")
_HEAD = struct.Struct(">HHHBBB")


@contextmanager
def running(registers: bytes, delay_s: float) -> Iterator[int]:
    """Give the port of a server that answers after a time."""
    command = [sys.executable, "-m", "benchmarks.modbus_server", str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None  # noqa: S101 - for the type checker
        assert server.stdout is not None  # noqa: S101
        server.stdin.write(registers)
        server.stdin.flush()
        yield int(server.stdout.readline())
        server.stdin.close()


def serve(client: socket.socket, registers: bytes, delay_s: float) -> None:
    """Answer one client until it has gone."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        while len(request := client.recv(_REQUEST.size, socket.MSG_WAITALL)) == _REQUEST.size:
            number, _, _, unit, function, address, count = _REQUEST.unpack(request)
            data = registers[2 * address : 2 * (address + count)]
            if delay_s:
                time.sleep(delay_s)
            head = _HEAD.pack(number, 0, 3 + len(data), unit, function, len(data))
            client.sendall(head + data)


def main() -> None:
    """Serve until standard input is closed."""
    registers = sys.stdin.buffer.read(2 * REGISTERS)
    delay_s = float(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                client, _ = server.accept()
                threading.Thread(
                    target=serve, args=(client, registers, delay_s), daemon=True
                ).start()

        threading.Thread(target=accept, daemon=True).start()
        print(server.getsockname()[1], flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
