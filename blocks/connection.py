"""What all connections share: strict fields, secrets known to the redactor, a clear not-found."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, model_validator

from blocks.device_changes import quarantine_changed
from smartops import redact
from smartops.drivers.quarantine import PATIENT, Patience
from smartops.durations import duration_field, format_duration
from smartops.errors import UnknownBlock
from smartops.rehearsal import TWIN, rehearsing

C = TypeVar("C", bound="Connection")


def plain(secret: SecretStr | None) -> str | None:
    """Return a secret as the drivers take it, None where none is given."""
    return None if secret is None else secret.get_secret_value()


def quarantine_after_field() -> Any:
    """Return the field ``quarantine_after``, which the connections to devices have."""
    return Field(
        default=PATIENT.after,
        ge=0,
        le=1000,
        title="Quarantine after",
        description="After how many times in a row without an answer the device is left alone for "
        "a while, so that it does not hold up others; 0: never.",
    )


def quarantine_longest_field() -> Any:
    """Return the field ``quarantine_longest``, which goes with it."""
    return duration_field(
        format_duration(PATIENT.longest),
        ge=timedelta(seconds=1),
        title="Longest quarantine",
        description="How long it is left alone at the most before it is tried again: 10 s at "
        "first, then twice as long each time.",
    )


class Connection(Block):
    """A saved connection to something that a step talks to."""

    _block_type_name: ClassVar[str | None] = None
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.prefect.io/v3/concepts/blocks"
    )
    model_config = ConfigDict(extra="forbid")

    def block_initialization(self) -> None:
        """Let the redactor know every secret, before any of it can be used."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                redact.register(value)

    @property
    def connection_name(self) -> str:
        """The name under which it is saved, or the kind of thing where it is not saved."""
        return self._block_document_name or type(self).__name__


class DeviceConnection(Connection):
    """A connection to something that is left alone for a while when it does not answer.

    Each kind has the two fields itself, so that they stand where they belong in its form.
    """

    if TYPE_CHECKING:
        quarantine_after: int
        quarantine_longest: timedelta

    @model_validator(mode="after")
    def _quarantine_has_an_effect(self) -> Self:
        if self.quarantine_after == 0 and self.quarantine_longest != PATIENT.longest:
            raise ValueError("quarantine_longest has no effect with quarantine_after: 0")
        return self

    def patience(self) -> Patience:
        """Return how soon the device is left alone when it does not answer."""
        return Patience(self.quarantine_after, self.quarantine_longest, quarantine_changed)


async def _load(kind: type[C], name: str) -> Any:
    """Load a saved connection; in a rehearsal its simulated twin, where it has one."""
    if rehearsing.get():
        with contextlib.suppress(ValueError):
            return await kind.aload(name + TWIN)
    return await kind.aload(name)


async def load_connection(kind: type[C], name: str) -> C:
    """Return the saved connection; raise UnknownBlock with what to do when there is none."""
    try:
        loaded: Any = await _load(kind, name)
    except ValueError as error:
        title = kind.get_block_type_slug()
        raise UnknownBlock(
            f"no connection {name!r} of type {title} is saved",
            hint=f"Make it in the Prefect UI under Blocks, or in Python: {kind.__name__}(...)"
            f".save({name!r}).",
        ) from error
    if not isinstance(loaded, kind):
        raise UnknownBlock(f"connection {name!r} is no {kind.__name__}")
    return loaded
