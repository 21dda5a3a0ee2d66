"""Job revisions on record: what a job was, and who changed it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.revision import revision_of
from smartops.jobs.spec import JobSpec

_SHORTEST_PREFIX = 4
OUTSIDE = "Prefect"
"""The source of a change that was made in Prefect: its UI, its deploy, its API."""


@dataclass(frozen=True)
class JobChange:
    """One change of a job."""

    job: str
    action: str
    """``created``, ``updated``, ``rolled-back``, ``paused``, ``resumed`` or ``deleted``."""
    revision: str | None
    before: str | None
    """The revision that it replaced."""
    person: str
    source: str
    """Where it came from: a file, ``cli``, ``api``, or :data:`OUTSIDE`."""
    at: datetime


def spec_on_record(store: Store, revision: str) -> JobSpec | None:
    """Return the job of a revision, byte for byte; None where it is not on record as it was.

    Raises StoreUnavailable.
    """
    table = models.job_revision
    query = sa.select(table.c.spec).where(table.c.revision == revision)
    with store.reading() as connection:
        text = connection.execute(query).scalar()
    if text is None:
        return None
    spec = JobSpec.model_validate(json.loads(text))
    return spec if revision_of(spec) == revision else None


def find_revision(store: Store, job: str, start: str) -> str:
    """Return the revision of a job that begins so. Raises StoreUnavailable, BadInput."""
    table = models.job_revision
    query = sa.select(table.c.revision).where(
        table.c.job == job, table.c.revision.startswith(start, autoescape=True)
    )
    if len(start) < _SHORTEST_PREFIX:
        raise BadInput(f"revision {start!r}: write at least {_SHORTEST_PREFIX} digits of it")
    with store.reading() as connection:
        found = list(connection.execute(query.limit(2)).scalars())
    if len(found) != 1:
        problem = "several revisions begin" if found else "no revision on record begins"
        raise BadInput(f"{problem} with {start!r} for job {job}")
    return str(found[0])


def changes_of(store: Store, job: str | None = None, limit: int = 50) -> list[JobChange]:
    """Return the changes of a job, or of all, the newest first. Raises StoreUnavailable."""
    table = models.job_change
    columns = [table.c[name] for name in JobChange.__dataclass_fields__]
    query = sa.select(*columns).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(table.c.job == job)
    with store.reading() as connection:
        return [JobChange(*row) for row in connection.execute(query)]
