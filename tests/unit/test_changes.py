"""What becomes of jobs that are applied, rolled back and deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from services.changing_jobs import Conflict, Wanted, _from_files_gone, plan_changes
from services.deployed_jobs import DeployedJob
from smartops.audit import lock_tables, models
from smartops.audit.revisions import JobChange
from smartops.jobs.spec import JobSpec
from tests.conftest import ROOT


def job(seconds: int = 1) -> JobSpec:
    step = {"id": "a", "kind": "wait", "duration": f"{seconds}s"}
    return JobSpec.model_validate({"name": "j", "steps": [step]})


def deployed(spec: JobSpec, *, drifted: bool = False) -> dict[str, DeployedJob]:
    return {"j": DeployedJob(uuid7(), "j", spec, False, None, drifted)}


def test_a_schedule_that_was_changed_elsewhere() -> None:
    """Nobody's change is lost unseen, and with --force the file is made true again."""
    wanted, there = [Wanted(job(), "file x")], deployed(job(), drifted=True)
    with pytest.raises(Conflict, match="were changed outside of its file"):
        plan_changes(wanted, there, {})
    [change] = plan_changes(wanted, there, {}, force=True)
    assert change.action == "updated"
    [change] = plan_changes(wanted, deployed(job()), {})
    assert change.action == "unchanged"


def changed(name: str, action: str, source: str) -> JobChange:
    fields: dict[str, Any] = {"job": name, "action": action, "source": source, "person": "ann"}
    return JobChange(**fields, revision="r", before=None, at=datetime.now(UTC))


def test_which_jobs_have_lost_their_file(tmp_path: Path) -> None:
    """Also one that is called otherwise in its file now, or that was rolled back since."""
    (tmp_path / "a.yaml").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").touch()
    there, gone = f"file {tmp_path / 'a.yaml'}", f"file {tmp_path / 'b.yaml'}"
    below = f"file {tmp_path / 'sub' / 'c.yaml'}"
    other = f"file {tmp_path.parent / 'gone.yaml'}"
    history = [
        changed("rolled", "rolled-back", "cli"),
        changed("rolled", "created", gone),
        changed("renamed", "created", there),
        changed("kept", "created", there),
        changed("not-read", "created", below),
        changed("elsewhere", "created", other),
        changed("made-again", "rolled-back", "cli"),
        changed("made-again", "deleted", "pruned"),
        changed("made-again", "created", gone),
        changed("by-hand", "rolled-back", "cli"),
    ]
    found = _from_files_gone(history, [tmp_path], {(there, "kept")})
    assert found == {"rolled", "renamed"}


def test_services_may_write_each_table() -> None:
    """The grants for MySQL name every table: one that is missing would stop the recorder."""
    grants = (ROOT / "deployments" / "mysql" / "grants.sql").read_text()
    tables = [*models.metadata.sorted_tables, *lock_tables.metadata.sorted_tables]
    for table in tables:
        assert f" ON smartops.{table.name} TO 'smartops'" in grants, table.name
