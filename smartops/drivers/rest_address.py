"""Which hosts and addresses the connection to a REST service may lead to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from smartops import errors
from smartops.drivers.wire_notes import note_path, write_note

Private = Literal["declared", "none", "all"]
Kind = Literal["public", "private", "forbidden"]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds give a machine's own credentials to whoever asks, beside 169.254.169.254."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@lru_cache(maxsize=256)
def kind_of(address: str) -> Kind:
    """Return what sort of address it is; an IPv4 address inside of an IPv6 one counts as itself."""
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "forbidden"
    return "public" if ip.is_global else "private"


def _inner(ip: _Address) -> _Address:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


@lru_cache(maxsize=256)
def as_address(host: str) -> str | None:
    """Return a host that is an address by itself, None for a name."""
    try:
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return None


@dataclass(frozen=True)
class Reach:
    """What one connection may reach."""

    name: str
    declared: frozenset[str]
    """The hosts that stand in the connection itself: they may be at private addresses."""
    private: Private = "declared"

    def check_literal(self, host: str) -> None:
        """Raise AddressRefused for a host that is itself an address which may not be used."""
        if (address := as_address(host)) is not None:
            self.permitted(host, [address])

    def permitted(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Return those of a host's addresses that may be used. Raises AddressRefused for none."""
        host = host.lower().rstrip(".")
        good = [address for address in addresses if self._may_use(host, address)]
        if not good:
            found = ", ".join(dict.fromkeys(addresses)) or "no address"
            at = "" if found == host else f" is at {found},"
            raise errors.AddressRefused(
                f"{self.name}: {host}{at} which its connection does not allow",
                hint="Private and metadata addresses are refused, unless the connection's field "
                "`private_addresses` says otherwise.",
            )
        return good

    def _may_use(self, host: str, address: str) -> bool:
        kind = kind_of(address)
        if self.private == "all":
            return True
        if kind == "public":
            self._remember_public(host)
            return True
        is_named = kind == "private" and self.private == "declared" and host in self.declared
        return is_named and not self._was_public(host)

    def _remember_public(self, host: str) -> None:
        """Note that a name led to the public network: it may not be turned inwards later."""
        if as_address(host) is None and not self._was_public(host):
            write_note(note_path(f"host://{host}", "public"), self.name)

    def _was_public(self, host: str) -> bool:
        if as_address(host) is not None or host == "localhost":
            return False
        return note_path(f"host://{host}", "public").exists()


def is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Return whether a host is among the allowed ones; ``*.example.com`` is all below a domain."""
    return any(
        host.endswith(one[1:].lower()) if one.startswith("*.") else host == one.lower()
        for one in allowed
    )
