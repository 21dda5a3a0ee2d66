"""Whose structures the library knows at the moment: it keeps their types for the whole process.

Two servers may give one node to two types, or one name, and the library would read the values of
one by the fields of the other. So its types are those of one server at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from asyncua import ua
from asyncua.ua import uatypes

_REGISTRIES: tuple[dict[Any, Any], ...] = (
    uatypes.extension_objects_by_typeid,
    uatypes.extension_objects_by_datatype,
    uatypes.enums_by_datatype,
    uatypes.basetype_by_datatype,
)
_STANDARD = tuple(frozenset(registry) for registry in _REGISTRIES)
_STANDARD_NAMES = frozenset(vars(ua))
_HALF_KNOWN = object()
"""The owner while types are being read in."""
_PLAIN = (bool, int, float, str, bytes)
_STANDARD_CLASSES = frozenset(uatypes.extension_objects_by_typeid.values())


class StructureTypes:
    """The types of structures that the library knows, beyond the standard ones."""

    def __init__(self) -> None:
        self.owner: Hashable = None
        """Whose they are; None while there are none."""
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def of(
        self, owner: Hashable, load: Callable[[], Awaitable[object]] | None
    ) -> AsyncIterator[None]:
        """See to it that no types but the owner's are known inside; read them in with ``load``.

        Without ``load`` there are none inside when they are another's. Raises what ``load`` raises.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if self.owner != owner:
                self._forget()
                if load is not None:
                    await self._load(owner, load)
            yield

    async def _load(self, owner: Hashable, load: Callable[[], Awaitable[object]]) -> None:
        self.owner = _HALF_KNOWN
        try:
            await load()
        except BaseException:
            self._forget()
            raise
        self.owner = owner

    def _forget(self) -> None:
        self.owner = None
        for registry, standard in zip(_REGISTRIES, _STANDARD, strict=True):
            for key in set(registry) - standard:
                del registry[key]
        for name in set(vars(ua)) - _STANDARD_NAMES:
            if not isinstance(getattr(ua, name), ModuleType):
                delattr(ua, name)


known = StructureTypes()


def is_own(value: Any) -> bool:
    """Return whether there is a structure in a value, of a type that is not a standard one."""
    if isinstance(value, (list, tuple)):
        return not (value and isinstance(value[0], _PLAIN)) and any(map(is_own, value))
    if type(value) is ua.ExtensionObject:
        return bool(value.TypeId.Identifier)
    if not dataclasses.is_dataclass(value):
        return False
    if type(value) in uatypes.typeid_by_extension_objects and type(value) not in _STANDARD_CLASSES:
        return True
    return any(is_own(getattr(value, field.name)) for field in dataclasses.fields(value))
