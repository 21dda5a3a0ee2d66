"""Jobs as text: the YAML of a job, the difference of two, and which revision a file began from."""

from __future__ import annotations

import difflib
import re
from typing import Any

import yaml

from smartops.jobs.revision import revision_of
from smartops.jobs.spec import JobSpec

_HEADER = re.compile(r"\A# revision: ([0-9a-f]{64}).*\n")
_NOTE = "(smartops job apply compares it with what is deployed, and keeps it up to date)"


def as_yaml(job: JobSpec) -> str:
    """Return a job file of the job, as it was written: what was left out stays out."""
    return yaml.safe_dump(_ordered(job), sort_keys=False, allow_unicode=True, width=100)


def _ordered(job: JobSpec) -> dict[str, Any]:
    """Return the job's document with its name first and its steps last, each with its id first."""
    document = job.document()
    steps = [{"id": step["id"], **step} for step in document.pop("steps")]
    return {"name": job.name, **document, "steps": steps}


def export(job: JobSpec) -> str:
    """Return a job file that knows which revision it began from."""
    return with_revision(as_yaml(job), revision_of(job))


def with_revision(text: str, revision: str) -> str:
    """Return a job file's text with the revision that it stands for in its first line."""
    return f"# revision: {revision} {_NOTE}\n{_HEADER.sub('', text)}"


def revision_in(text: str) -> str | None:
    """Return the revision that a job file began from, None where it does not say."""
    match = _HEADER.match(text)
    return match[1] if match else None


def difference(before: JobSpec | None, after: JobSpec | None) -> str:
    """Return how two jobs differ, as a unified diff; "" where they are the same."""
    texts = [as_yaml(job).splitlines(keepends=True) if job else [] for job in (before, after)]
    names = [f"{job.name} {revision_of(job)[:12]}" if job else "nothing" for job in (before, after)]
    return "".join(difflib.unified_diff(texts[0], texts[1], names[0], names[1]))
