"""A private MariaDB server on a free port, for tests, benchmarks and the chaos suite."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pymysql

_START_S = 60.0


def binary() -> str | None:
    """Return the server's program, None where it is not installed."""
    return shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")


class MariaDB:
    """A server with its data in a folder. It can be killed and started again on its port."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *_as_root(),
            ],
            check=True,
            capture_output=True,
        )

    @property
    def url(self) -> str:
        """The server's URL, without a database name."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None  # noqa: S101 - a wrong call in a test
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    binary() or "mariadbd",
                    "--no-defaults",
                    f"--datadir={self.folder / 'data'}",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    f"--socket={self.folder / 'server.sock'}",
                    f"--pid-file={self.folder / 'server.pid'}",
                    *_as_root(),
                    *self._options,
                ],
                env={k: v for k, v in os.environ.items() if not k.startswith("SMARTOPS_")},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user="root").close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self, *, hard: bool = False) -> None:
        """End it, or kill it."""
        if self._process is not None:
            (self._process.kill if hard else self._process.terminate)()
            self._process.wait(60)
            self._process = None


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, options: Sequence[str] = ()) -> Iterator[MariaDB]:
    """Give a running server."""
    server = MariaDB(folder, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
