"""Verifies the record with what this machine knows of it, and puts on record what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from smartops.audit import anchors, keys, replay, seal, verify
from smartops.audit.anchors import AnchorFailed
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.store import Store
from smartops.audit.verify import Verdict
from smartops.errors import BadInput
from smartops.settings import get_settings


def look(
    store: Store,
    *,
    tables: bool = False,
    anchor_files: Sequence[Path] = (),
    key_files: Sequence[Path] = (),
) -> Verdict:
    """Return whether chains, seals and what was published fit together, of the whole record.

    With ``tables`` every run is derived from its events again as well. Raises StoreUnavailable;
    AnchorFailed where published seals cannot be read back; BadInput for files that are none, a
    record that is not there, and seals of which no key is known.
    """
    settings = get_settings()
    sealed = seal.is_sealed(store)
    published = _published(anchor_files, sealed=bool(sealed))
    if sealed is None and not published:
        raise BadInput(f"there is no record in {store.shown_url}", hint="Check SMARTOPS_HOME.")
    trusted = keys.trusted_keys(settings.keys_dir, *key_files)
    if sealed and not trusted:
        raise BadInput(
            f"there is no public key in {settings.keys_dir}, so no seal can be trusted",
            hint="Copy keys/seal.pub there from the machine whose recorder seals, or give --key.",
        )
    verdict = verify.verify(store, trusted, anchors.anchored_hashes(published))
    if tables and verdict.ok:
        verdict.first_bad = replay.first_difference(store)
    return verdict


def _published(files: Sequence[Path], *, sealed: bool) -> list[Mapping[str, Any]]:
    """Return the seals that are published; also where the record has none: it may be a new one."""
    found: list[Mapping[str, Any]] = []
    for place in anchors.anchors_of(get_settings()):
        try:
            found += place.published()
        except AnchorFailed:
            if sealed:  # else nothing may have been published yet
                raise
    for path in files:
        if not path.is_file():
            raise BadInput(f"--anchor: there is no file {path}")
        found += anchors.read_file(path)
    return found


def put_on_record(verdict: Verdict, *, tables: bool, run_id: UUID = NO_RUN) -> None:
    """Put what was found on record: the audit report and rules of alerts look for it there.

    ``run_id`` is the run that verified. Raises JournalUnavailable.
    """
    bad = verdict.first_bad
    body = {
        "ok": verdict.ok,
        "events": verdict.events,
        "runs": verdict.runs,
        "seals": verdict.seals,
        "unsealed": verdict.unsealed,
        "published": verdict.anchored,
        "tables": tables,
        "first_bad": bad.text if bad else None,
        "by_run": None if run_id == NO_RUN else str(run_id),
    }
    get_journal().append(Event("audit.verified", NO_RUN, body))
