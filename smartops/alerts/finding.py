"""What a fact means to the rules: something is wrong with a subject, or is well again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

On = Literal[
    "failure",
    "late",
    "slow",
    "slo",
    "quarantine",
    "needs_decision",
    "quality",
    "verification",
    "silence",
]
"""What a rule may be about."""
NO_ID = UUID(int=0)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a subject, or well again, for one kind of rule."""

    on: On
    bad: bool
    """Whether it is wrong; else it ends what was wrong."""
    subject: str
    """What it is about: a job, a device, a run. What is well again ends what is wrong with it."""
    at: datetime
    title: str = ""
    """One line that says what happened."""
    lines: tuple[tuple[str, str], ...] = ()
    """What is to be known of it: a word and a text each."""
    name: str = ""
    """By which ``jobs`` (or ``devices``) of a rule choose it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    run_id: UUID = NO_ID
    step: str = ""
    error: str = ""
    """The class of the error."""
    status: str = ""
    """Of a check of data: ``warn`` or ``fail``."""
    in_a_row: int = 1
    """How many runs have ended like this, one after the other."""
    delay: timedelta | None = None
    """How late a run began."""
    duration: timedelta | None = None
    """How long a run took, or has taken so far."""
    usual: timedelta | None = None
    """How long the runs before it took: the middle one."""
    before: int = 0
    """How many runs that counts."""
    child: bool = False
    """Whether the run was started by another run's step."""
    rehearsal: bool = False
    alert_id: UUID | None = None
    """The alert that is on record already: a device says itself that it is left alone."""
    runbook: str = ""
    check: tuple[str, ...] = ()
