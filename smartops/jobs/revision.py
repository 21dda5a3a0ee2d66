"""A job's revision: the SHA-256 of its canonical JSON. The same job has the same revision."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from smartops.jobs.spec import JobSpec


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a JSON value: sorted keys, no blanks, plain UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_job(job: JobSpec) -> str:
    """Return the job's canonical JSON. Fields at their default are left out.

    So a later version that adds an option keeps the revisions of the jobs that do not use it.
    """
    return canonical_json(job.canonical())


def revision_of(job: JobSpec) -> str:
    """Return the job's revision, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_job(job).encode()).hexdigest()
