"""Steps that check data against suites of expectations."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reports.quality import page
from reports.quality.checking import check
from reports.quality.results import Found
from reports.quality.rows import rows_of
from smartops import evidence_store, redact
from smartops.audit.recording import StepRecord
from smartops.errors import ExpectationFailed
from smartops.evidence_store import KeptFile, kept_file
from smartops.vocabulary import Effect
from tasks import artifacts
from tasks.evidence import keep
from tasks.step import current_record, step

_MOST_SAID = 5


@step(effect=Effect.READ, kind="check.quality")
async def check_quality(
    suite: str, rows: Any = None, look_back: timedelta = timedelta(days=2)
) -> dict[str, Any]:
    """Look at every expectation of a suite; put what is found, and the bad rows, on record.

    Returns ``status`` (passed or warned), ``rows`` and ``quarantined`` (how many), ``good_rows``
    (the others, of rows that were given), ``results``, ``page`` and ``quarantine`` (files). Raises
    ExpectationFailed where an expectation failed, with all of this on record; BadInput.
    """
    found = await check(suite, rows, look_back=look_back)
    record = current_record()
    for result in found.results:
        record.quality(suite=suite, **{**vars(result), "sentence": redact.text(result.sentence)})
    files = await _keep(record, found)
    await _show(found)
    failed = [result.sentence for result in found.results if result.status == "failed"]
    if failed:
        more = f"; and {len(failed) - _MOST_SAID} more" if failed[_MOST_SAID:] else ""
        raise ExpectationFailed(f"suite {suite!r}: {'; '.join(failed[:_MOST_SAID])}{more}")
    bad = {row.number for row in found.bad_rows}
    given = [] if rows is None else rows_of(rows)
    return {
        "suite": suite,
        "revision": found.revision,
        "status": found.status,
        "rows": sum(found.rows.values()),
        "quarantined": len(found.bad_rows) + found.not_listed,
        **files,
        "results": [vars(result) for result in found.results],
        "good_rows": [row for number, row in enumerate(given) if number not in bad],
    }


async def _keep(record: StepRecord, found: Found) -> dict[str, str | None]:
    """Keep the page, and the bad rows with their reasons, as evidence; return their places."""
    folder = evidence_store.folder_of(record.run_id, record.id)
    about = f"Run {record.run_id}. Suite {found.revision[:12]}."
    html = page.check_page(found.suite, datetime.now(UTC), found.results, found.bad_rows, about)
    path = folder / f"quality-{found.suite}.html"
    files = [await asyncio.to_thread(_written, path, "text/html", f"{html}\n")]
    if found.bad_rows:
        rows = [redact.scrub(vars(bad)) for bad in found.bad_rows]
        text = "".join(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in rows)
        path = folder / f"quarantine-{found.suite}.jsonl"
        files.append(await asyncio.to_thread(_written, path, "application/jsonl", text))
    places = [*(await keep(record, files)).values(), None]
    return {"page": places[0], "quarantine": places[1]}


def _written(path: Path, media_type: str, text: str) -> KeptFile:
    """Write a file that the check leaves as evidence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
    return replace(kept_file(path), media_type=media_type)


async def _show(found: Found) -> None:
    """Show the results in Prefect's UI."""
    lines = [
        f"**{found.status}**: {sum(found.rows.values())} rows, {len(found.bad_rows)} kept apart",
        "",
        "| status | found | rows | bad |",
        "|---|---|---|---|",
        *(
            f"| {page.STATES[r.status]} {r.status} | {_cell(r.sentence)} | {r.checked_rows} "
            f"| {r.bad_rows} |"
            for r in found.results
        ),
    ]
    key, about = f"quality-{found.suite}", f"Suite {found.suite}"
    await artifacts.show("\n".join(lines), key, about)


def _cell(text: str) -> str:
    return redact.text(text).replace("|", "\\|").replace("\n", " ")
