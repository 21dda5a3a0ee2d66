"""OPC UA tag maps: names for the nodes of a server. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from smartops.drivers import opcua_ranges
from smartops.drivers.device_tag import DeviceTag

_NODE = re.compile(r"(?:(?:nsu=(?P<uri>[^;]+)|ns=(?P<index>\d+));)?(?P<rest>[isgb]=.+)")


class OpcTag(DeviceTag):
    """One named variable of an OPC UA server."""

    node: str = Field(
        min_length=3,
        max_length=4096,
        description="Its node, such as nsu=http://example.com/line;s=Speed. A namespace given by "
        "its URI stays right when the server is set up again; ns=2 may not.",
    )

    index_range: str = Field(
        default="",
        pattern=r"^(\d+(:\d+)?(,\d+(:\d+)?)*)?$",
        max_length=100,
        description="The part of an array that it stands for, from 0: 3 for the fourth value, 2:5 "
        "for a list of four, 1,0:2 for a part of a matrix's second row. Empty: all of it.",
    )

    @field_validator("index_range", mode="before")
    @classmethod
    def _number_is_a_range(cls, given: Any) -> Any:
        return str(given) if isinstance(given, int) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _is_a_node(self) -> Self:
        if _NODE.fullmatch(self.node) is None:
            raise ValueError(f"{self.node!r} is no node id, such as nsu=http://uri;s=Speed or i=85")
        opcua_ranges.parse(self.index_range)
        return self

    @property
    def spans(self) -> tuple[opcua_ranges.Span, ...]:
        """What it stands for of each dimension of an array; empty: all of it."""
        return opcua_ranges.parse(self.index_range)


def with_index(node: str, namespaces: Sequence[str]) -> str:
    """Return a node id with its namespace as this server numbers it.

    Raises ValueError for a namespace that the server does not have.
    """
    found = _NODE.fullmatch(node)
    if found is None:
        raise ValueError(f"{node!r} is no node id")
    uri = found["uri"]
    if uri is None:
        return node
    if uri not in namespaces:
        raise ValueError(f"the server has no namespace {uri}; it has {', '.join(namespaces)}")
    return f"ns={namespaces.index(uri)};{found['rest']}"


def with_uri(node: str, namespaces: Sequence[str]) -> str:
    """Return a node id with its namespace by URI, as tag maps should have it."""
    found = _NODE.fullmatch(node)
    if found is None or found["index"] in {None, "0"}:
        return node
    index = int(found["index"])
    return f"nsu={namespaces[index]};{found['rest']}" if index < len(namespaces) else node


def tag_names(paths: Sequence[str]) -> list[str]:
    """Return a name for a tag for each path of names, no two alike: Line/Speed gives line_speed."""
    made: list[str] = []
    for path in paths:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path)
        name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[-56:].lstrip("_0123456789")
        name = unique = name or "tag"
        number = 2
        while unique in made:
            unique, number = f"{name}_{number}", number + 1
        made.append(unique)
    return made
