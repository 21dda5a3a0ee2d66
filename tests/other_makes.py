"""Servers and clients that are not made with the libraries that our drivers use.

libmodbus as a device and its mbpoll as a client, jsmodbus and node-opcua from tests/node. Each
server is a process of its own, which ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT, needs, wait_for
from tests.libmodbus_server import library

NODE_FOLDER = ROOT / "tests" / "node"
_START_S = 90.0
"""A machine with two cores that are busy takes its time to start node-opcua."""


@dataclass
class Memory:
    """What a Modbus device holds, from address 0; what it refuses, with which exception."""

    coil: list[int]
    discrete: list[int]
    holding: list[int]
    input: list[int]
    refused: dict[str, dict[int, int]] = field(default_factory=dict)
    """For each area: the addresses that may not be asked for, and the exception's number."""


@dataclass
class Server:
    """A server of another make: a command whose last argument is its log."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it says in its log that it listens."""
        started = len(self.noted("ready"))
        errors = self.log.with_suffix(".err")
        with errors.open("ab") as file:
            command = [*self.command, str(self.log)]
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=file, stderr=file
            )

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, errors.read_text("utf-8", "replace")[-3000:]
            return len(self.noted("ready")) > started

        wait_for(ready, f"{self.command}", _START_S)

    def stop(self) -> None:
        """Close its standard input, and wait until it has ended."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            finally:
                self.process = None

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.stop()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def requests(self) -> list[bytes]:
        """Return the requests that it got, as they came over the wire."""
        return [bytes.fromhex(line) for line in self.noted() if line != "ready"]

    def noted(self, about: str = "") -> list[str]:
        """Return the lines of its log, those that begin with a word."""
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return [line for line in lines if not about or line.partition(" ")[0] == about]


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Give the server, started, and stop it at the end."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


def libmodbus(framing: str, where: str, memory: Memory, folder: Path) -> Server:
    """Return a device made with libmodbus: ``tcp`` at a port, or ``rtu`` at a serial port."""
    needs(library() is not None, "libmodbus (apt-get install mbpoll)")
    file = _written(memory, folder)
    command = [sys.executable, "-m", "tests.libmodbus_server", framing, where, str(file)]
    return Server(command, folder / "libmodbus.log")


def jsmodbus(framing: str, port: int, memory: Memory, folder: Path) -> Server:
    """Return a device made with jsmodbus at a port: ``tcp``, or ``rtu`` over TCP."""
    file = _written(memory, folder)
    command = [*node("modbus_server.js", "jsmodbus"), framing, str(port), str(file)]
    return Server(command, folder / "jsmodbus.log")


def node_opcua(port: int, folder: Path, nodeset: Path = NODE_FOLDER / "recipe.xml") -> Server:
    """Return an OPC UA server made with node-opcua, which keeps its certificates in a folder."""
    command = [*node("opcua_server.js", "node-opcua-server"), str(port), str(folder), str(nodeset)]
    return Server(command, folder / "node-opcua.log")


def node(script: str, package: str) -> list[str]:
    """Return the command that runs a script of tests/node, which needs a package."""
    found = shutil.which("node")
    needs(found is not None, "Node.js (apt-get install nodejs npm)")
    installed = (NODE_FOLDER / "node_modules" / package).is_dir()
    needs(installed, f"{package} in tests/node (scripts/setup.sh --test, or npm ci in tests/node)")
    return [str(found), str(NODE_FOLDER / script)]


def user_files(folder: Path) -> tuple[Path, Path]:
    """Make a certificate (DER) and a key (PEM) for a user; return their paths."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maria")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    files = folder / "user.der", folder / "user.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.DER))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _written(memory: Memory, folder: Path) -> Path:
    file = folder / "memory.json"
    file.write_text(json.dumps(asdict(memory)), "utf-8")
    return file


@asynccontextmanager
async def serial_pair() -> AsyncIterator[tuple[str, str]]:
    """Give the paths of two pseudo-terminals: what is written to one can be read from the other."""
    loop = asyncio.get_running_loop()
    (one, one_end), (two, two_end) = os.openpty(), os.openpty()
    for end in (one_end, two_end):
        tty.setraw(end)
    loop.add_reader(one, lambda: os.write(two, os.read(one, 1000)))
    loop.add_reader(two, lambda: os.write(one, os.read(two, 1000)))
    try:
        yield os.ttyname(one_end), os.ttyname(two_end)
    finally:
        for master in (one, two):
            loop.remove_reader(master)
        for descriptor in (one, two, one_end, two_end):
            os.close(descriptor)


@dataclass(frozen=True)
class Polled:
    """What mbpoll printed: its exit code, the values that it read, the text as it stands."""

    code: int
    values: list[str]
    text: str


async def mbpoll(where: str, *arguments: str | int, port: int = 0) -> Polled:
    """Call mbpoll once, at a port of the loopback interface or at a serial port.

    Addresses count from 0. ``arguments`` are its options and, for a write, the values.
    """
    needs(bool(shutil.which("mbpoll")), "mbpoll (apt-get install mbpoll)")
    line = ["-p", str(port)] if port else ["-m", "rtu", "-b", "115200", "-P", "none"]
    command = ["mbpoll", "-0", "-1", "-o", "10", *line]
    options = [str(a) for a in arguments if str(a).startswith("-")]
    values = [str(a) for a in arguments if not str(a).startswith("-")]
    process = await asyncio.create_subprocess_exec(
        *command,
        *options,
        where,
        *values,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    found = re.findall(r"^\[\d+\]:\s+(\S+)", text, re.MULTILINE)
    return Polled(process.returncode or 0, found, text)
