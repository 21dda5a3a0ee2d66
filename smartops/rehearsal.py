"""A rehearsal talks to what runs on this machine only, whatever a connection says.

Each driver asks before it connects, so that no step, plugin or block can go around it.
"""

from __future__ import annotations

import ipaddress
import os
from contextvars import ContextVar
from urllib.parse import urlsplit

from smartops.errors import RehearsalRefused

rehearsing: ContextVar[bool] = ContextVar("smartops_rehearsing", default=False)
"""Whether the code that runs here belongs to a rehearsal."""
TWIN = "-rehearsal"
"""What the name of the simulated twin of a connection ends with."""


def check_host(name: str, host: str) -> None:
    """Raise RehearsalRefused in a rehearsal, unless the host is this machine itself."""
    if rehearsing.get() and not is_here(host):
        raise RehearsalRefused(
            f"{name} is at {host}, and a rehearsal may reach nothing but this machine",
            hint=f"Save its simulated twin as {name}{TWIN}, with an address such as 127.0.0.1.",
        )


def check_url(name: str, url: str) -> None:
    """Do the same for the host of a URL."""
    check_host(name, urlsplit(url).hostname or "")


def check_port(name: str, port: str) -> None:
    """Raise RehearsalRefused in a rehearsal, unless a serial port is a simulated one (a pty)."""
    if rehearsing.get() and not os.path.realpath(port).startswith("/dev/pts/"):
        raise RehearsalRefused(
            f"{name} is at {port}, and a rehearsal may reach no real serial line",
            hint=f"Save its simulated twin as {name}{TWIN}, with the port of a pseudo-terminal.",
        )


def is_here(host: str) -> bool:
    """Return whether a host is this machine's own loopback."""
    if host in {"localhost", "localhost."}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
