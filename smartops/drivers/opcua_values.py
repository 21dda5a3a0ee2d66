"""OPC UA values as JSON holds them, and back. Knows the library's types, and no connection."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from asyncua import ua

from smartops.drivers.device_tag import shortest_f32
from smartops.drivers.opcua_ranges import fitted, picked, widened
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.readings import Quality, Reading, Value, is_finite
from smartops.errors import BadInput

_WHOLE = {
    ua.VariantType.SByte: (-(2**7), 2**7),
    ua.VariantType.Byte: (0, 2**8),
    ua.VariantType.Int16: (-(2**15), 2**15),
    ua.VariantType.UInt16: (0, 2**16),
    ua.VariantType.Int32: (-(2**31), 2**31),
    ua.VariantType.UInt32: (0, 2**32),
    ua.VariantType.Int64: (-(2**63), 2**63),
    ua.VariantType.UInt64: (0, 2**64),
}
_MOST_FLOAT = struct.unpack("<f", bytes.fromhex("ffff7f7f"))[0]
ABSTRACT = ua.VariantType.Variant
"""What the library calls the type of a node that may hold any number, or anything."""
_FLOATS = (ua.VariantType.Float, ua.VariantType.Double)
_SIMPLE = frozenset(
    {
        *_WHOLE,
        *_FLOATS,
        ua.VariantType.Boolean,
        ua.VariantType.String,
        ua.VariantType.DateTime,
        ua.VariantType.ByteString,
        ua.VariantType.Guid,
        ua.VariantType.LocalizedText,
        ua.VariantType.QualifiedName,
        ua.VariantType.NodeId,
    }
)


def reading_of(
    tag: OpcTag, data: ua.DataValue, now: datetime, *, of_whole: bool = False
) -> Reading:
    """Return what a server said of a tag. Bad never has a value, and uncertain says so.

    ``of_whole`` says that it was asked for the whole array, of which the tag may be a part.
    """
    status = data.StatusCode or ua.StatusCode()  # none means good
    quality: Quality = "bad"
    if status.is_good():
        quality = "good"
    elif status.is_uncertain():
        quality = "uncertain"
    reason = "" if quality == "good" else status.name
    source_at = data.SourceTimestamp
    if source_at is not None and source_at.tzinfo is None:
        source_at = source_at.replace(tzinfo=UTC)
    value: Value | None = None
    if quality != "bad":
        try:
            value = _plain_value(data)
            value = fitted(picked(value, tag.spans) if of_whole else value, tag.spans)
            value = tag.named(value) if tag.enum else value
        except ValueError as error:
            quality, reason, value = "bad", str(error), None
    return Reading(tag.name, value, tag.unit, quality, reason, now, source_at)


def _plain_value(data: ua.DataValue) -> Value:
    if data.Value is None or data.Value.Value is None:
        raise ValueError("the server gives no value")
    found = plain(data.Value.Value)
    if not is_finite(found):
        raise ValueError(f"the server gives {found}, no number")
    value: Value = short(found) if data.Value.VariantType is ua.VariantType.Float else found
    return value


def short(value: Any) -> Any:
    """Return what 32 bits hold of a number, in few digits: 64.09, not 64.08999633789062."""
    if isinstance(value, list):
        return [short(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    try:
        return shortest_f32(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return value


def plain(value: Any) -> Any:
    """Return a value of the library as JSON holds it."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, int):
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, ua.LocalizedText):
        return value.Text or ""
    if isinstance(value, ua.QualifiedName):
        return value.to_string()
    if isinstance(value, ua.NodeId):
        return value.to_string()
    if isinstance(value, ua.StatusCode):
        return value.name
    if isinstance(value, ua.Variant):
        return plain(value.Value)
    if dataclasses.is_dataclass(value):
        return {field.name: _plain_field(value, field) for field in dataclasses.fields(value)}
    return str(value)


def _plain_field(structure: Any, field: dataclasses.Field[Any]) -> Any:
    found = plain(getattr(structure, field.name))
    return short(found) if _declared(field)[0] is ua.VariantType.Float else found


def _declared(field: dataclasses.Field[Any]) -> tuple[ua.VariantType | None, bool]:
    """Return the type of a structure's field, None for a structure, and whether it is an array."""
    text = str(field.type)
    found = re.search(r"\bua\.(\w+)", text)
    kind = ua.VariantType.__members__.get(found[1]) if found else None
    return (kind if kind in _SIMPLE else None), "list[" in text.lower()


def typed(value: Any, kind: ua.VariantType, now: Any = None) -> Any:
    """Return a value as the server's type wants it; raise BadInput where it does not fit.

    ``now`` is what the server holds now: a structure is made from it, field by field.
    """
    if isinstance(value, list):
        if kind is not ua.VariantType.ExtensionObject:
            return [typed(item, kind) for item in value]
        held = now if isinstance(now, list) else []
        if len(held) != len(value):
            raise BadInput(f"the server holds {len(held)} structures, and {len(value)} are given")
        return [typed(item, kind, one) for item, one in zip(value, held, strict=True)]
    if kind in _WHOLE:
        return _whole(value, kind)
    if kind in _FLOATS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadInput(f"{value!r} is no number, and a {kind.name} is wanted")
        if kind is ua.VariantType.Float and not math.isinf(value) and abs(value) > _MOST_FLOAT:
            raise BadInput(f"{value} does not fit into Float")
        return float(value)
    if kind is ua.VariantType.Boolean:
        return _of_type(value, bool, kind)
    if kind is ua.VariantType.String:
        return _of_type(value, str, kind)
    if kind is ua.VariantType.ExtensionObject:
        return _structure(value, now)
    return _text_like(_of_type(value, str, kind), kind)


def variant_of(tag: OpcTag, value: Value, kind: ua.VariantType, now: Any) -> ua.Variant:
    """Return what to send for a tag's value. Raises ValueError (BadInput) where it does not fit.

    ``now`` is what the server gives for the tag's range, or holds where it is a structure.
    """
    if tag.spans:
        if now is None:
            raise ValueError(f"the server has nothing at {tag.index_range}")
        fitted(now, tag.spans)
    number = widened(tag.number(value), tag.spans)
    return ua.Variant(typed(number, kind, now), kind, is_array=isinstance(number, list))


def natural(value: Any) -> ua.VariantType:
    """Return the type to send a value in where any will do. Raises BadInput where there is none."""
    first = value[0] if isinstance(value, list) and value else value
    for kind, found in (
        (bool, ua.VariantType.Boolean),
        (int, ua.VariantType.Int64),
        (float, ua.VariantType.Double),
        (str, ua.VariantType.String),
    ):
        if isinstance(first, kind):
            return found
    raise BadInput(f"{value!r} has no type of its own, and the server does not say which it wants")


def _of_type(value: Any, wanted: type, kind: ua.VariantType) -> Any:
    if not isinstance(value, wanted):
        raise BadInput(f"{value!r} is no {kind.name}")
    return value


def _whole(value: Any, kind: ua.VariantType) -> int:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value):
        raise BadInput(f"{value!r} is no whole number, and a {kind.name} is wanted")
    low, high = _WHOLE[kind]
    if not low <= value < high:
        raise BadInput(f"{value} does not fit into {kind.name}")
    return int(value)


def _text_like(text: str, kind: ua.VariantType) -> Any:
    try:
        match kind:
            case ua.VariantType.DateTime:
                moment = datetime.fromisoformat(text)
                return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            case ua.VariantType.ByteString:
                return bytes.fromhex(text)
            case ua.VariantType.Guid:
                return UUID(text)
            case ua.VariantType.LocalizedText:
                return ua.LocalizedText(text)
            case ua.VariantType.QualifiedName:
                return ua.QualifiedName.from_string(text)
            case ua.VariantType.NodeId:
                return ua.NodeId.from_string(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no {kind.name}: {error}") from None
    raise BadInput(f"values of type {kind.name} cannot be written")


def _structure(value: Any, now: Any) -> Any:
    if not isinstance(value, Mapping) or not dataclasses.is_dataclass(now):
        raise BadInput("a structure is written as an object whose fields the server knows")
    fields = {field.name: field for field in dataclasses.fields(now)}
    unknown = set(value) - set(fields)
    if unknown:
        raise BadInput(f"the structure has no {', '.join(sorted(unknown))}; it has {list(fields)}")
    changed = {name: _typed_field(item, fields[name], now) for name, item in value.items()}
    return dataclasses.replace(now, **changed)  # type: ignore[type-var]


def _typed_field(value: Any, field: dataclasses.Field[Any], structure: Any) -> Any:
    kind, array = _declared(field)
    if kind is None:
        return _like(value, getattr(structure, field.name))
    if isinstance(value, list) != array:
        raise BadInput(f"{field.name} is {'an array' if array else 'no array'}")
    return typed(value, kind)


def _member(value: Any, known: type[enum.IntEnum]) -> enum.IntEnum:
    number = _whole(value, ua.VariantType.Int32)
    try:
        return known(number)
    except ValueError:
        names = ", ".join(f"{member.value} ({member.name})" for member in known)
        raise BadInput(f"{number} is none of {names}") from None


def _like(value: Any, now: Any) -> Any:
    """Return a field's new value in the type of what it holds now."""
    if isinstance(now, enum.IntEnum):
        return _member(value, type(now))
    if isinstance(now, bool) or isinstance(value, bool):
        return _of_type(value, bool, ua.VariantType.Boolean)
    if isinstance(now, int):
        return _whole(value, ua.VariantType.Int64)
    if isinstance(now, float):
        return typed(value, ua.VariantType.Double)
    if isinstance(now, str):
        return _of_type(value, str, ua.VariantType.String)
    if dataclasses.is_dataclass(now):
        return _structure(value, now)
    if isinstance(now, list) and isinstance(value, list) and now:
        return [_like(item, now[0]) for item in value]
    raise BadInput(f"{value!r} cannot be written where the server holds {plain(now)!r}")
