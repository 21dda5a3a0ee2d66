"""Bundles of a run's record and evidence: whole, or not there."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from smartops.audit import recording, schema, shipping
from smartops.audit.recording import RunInfo
from smartops.audit.store import Store
from smartops.cli.app import main
from smartops.settings import get_settings


def test_a_store_that_goes_away_leaves_no_half_of_a_bundle(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the same command may be given again."""
    home.mkdir(parents=True)
    store = Store(get_settings().store_url)
    schema.migrate(store)
    info = RunInfo(id=uuid7(), job="fill", flow="run-job")
    recording.start_run(info)
    recording.end_run(info, "completed")
    shipping.ship_all(store, get_settings().journal_dir)

    def rename(one: str, other: str) -> None:
        with store.transaction() as connection:
            connection.execute(sa.text(f"ALTER TABLE {one} RENAME TO {other}"))

    bundle = tmp_path / "bundle" / "run.zip"
    bundle.parent.mkdir()
    command = ["smartops", "run", "evidence", str(info.id), "-o", str(bundle)]
    monkeypatch.setattr(sys, "argv", command)
    rename("seal_part", "away")
    assert main() == 3
    assert list(bundle.parent.iterdir()) == []
    rename("away", "seal_part")
    assert main() == 0
    assert "run.json" in zipfile.ZipFile(bundle).namelist()
    store.close()
