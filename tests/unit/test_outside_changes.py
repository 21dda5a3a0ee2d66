"""What of a job was changed past our own commands, as the record and Prefect have it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from uuid6 import uuid7

from services.changing_jobs import _last_known
from services.deployed_jobs import DeployedJob
from services.outside_changes import SETTLED, Known, OutsideChanges, differences, known_jobs
from smartops.audit.revisions import OUTSIDE, JobChange
from smartops.jobs.spec import JobSpec

SPEC = JobSpec.model_validate(
    {"name": "j", "steps": [{"id": "a", "kind": "wait", "duration": "1s"}]}
)
NOW = DeployedJob(uuid7(), "j", SPEC, paused=False, updated_at=None)


def change(action: str, revision: str | None, before: str | None, source: str) -> JobChange:
    return JobChange("j", action, revision, before, "ann", source, datetime.now(UTC))


def kinds(now: DeployedJob | None, known: Known | None) -> list[tuple[str, str | None, str | None]]:
    return [(c.action, c.revision, c.before) for c, _ in differences("j", now, known)]


def test_what_differs_from_the_record() -> None:
    """Made, changed, paused, deleted; nothing where the record has it already."""
    here = NOW.revision
    assert kinds(NOW, None) == [("created", here, None)]
    assert kinds(NOW, Known(here)) == []
    assert kinds(NOW, Known("other")) == [("updated", here, "other")]
    assert kinds(replace(NOW, paused=True), Known(here)) == [("paused", here, here)]
    assert kinds(NOW, Known(here, paused=True)) == [("resumed", here, here)]
    assert kinds(None, Known(here)) == [("deleted", None, here)]
    assert kinds(None, Known(None)) == []
    assert kinds(replace(NOW, drifted=True), Known(here)) == [("updated", here, here)]
    assert kinds(replace(NOW, drifted=True), Known(here, drifted=True)) == []


def test_how_the_changes_on_record_leave_a_job() -> None:
    """The newest comes first; to pause changes no revision, to delete ends all."""
    made, moved = change("created", "1", None, "file x"), change("updated", "2", "1", "cli")
    paused = change("paused", "2", "2", OUTSIDE)
    assert known_jobs([paused, moved, made]) == {"j": Known("2", paused=True)}
    again = change("updated", "3", "2", "cli")
    assert known_jobs([again, paused, moved, made]) == {"j": Known("3", paused=True)}
    other_schedules = change("updated", "2", "2", OUTSIDE)
    assert known_jobs([other_schedules, moved, made]) == {"j": Known("2", drifted=True)}
    put_right = change("updated", "2", "2", "file x")
    assert known_jobs([put_right, other_schedules, moved]) == {"j": Known("2")}
    gone: Any = change("deleted", None, "2", OUTSIDE)
    assert known_jobs([gone, paused, moved, made]) == {"j": Known()}


def test_a_change_in_prefect_is_still_a_conflict() -> None:
    """That it is on record makes it nobody's own: applying a file must not overwrite it."""
    history = [change("updated", "2", "1", OUTSIDE), change("created", "1", None, "file x")]
    assert _last_known(history) == {"j": "1"}


def test_a_job_that_went_and_came_back_has_its_time_anew() -> None:
    """When it goes once more, the record of our own deletion may be on its way again."""
    nothing: Any = None
    outside, now = OutsideChanges(nothing), datetime.now(UTC)
    assert not outside._is_settled("j", None, now)
    assert outside._is_settled("j", None, now + SETTLED)
    outside._came_back("j")
    assert not outside._is_settled("j", None, now + 2 * SETTLED)
