"""``smartops audit``: the audit store itself."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartops.audit.store import Store
from smartops.cli.connection import audit_store
from smartops.cli.options import AsJson
from smartops.cli.output import local_time, out, print_json, table
from smartops.errors import BadInput, SmartOpsError
from smartops.people import who_is_here
from smartops.settings import get_settings

if TYPE_CHECKING:
    from smartops.audit.verify import Verdict

app = typer.Typer(help="The audit record.", no_args_is_help=True)


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the audit store's tables to the version of this program."""
    from smartops.audit import schema  # noqa: PLC0415 - slow to import

    store = Store(get_settings().store_url)
    try:
        changed = schema.migrate(store) or schema.guard_again(store)
        version = schema.current_version(store)
    finally:
        store.close()
    if as_json:
        print_json({"store": store.shown_url, "version": version, "changed": changed})
    else:
        out.print(f"{store.shown_url}: version {version}, {'migrated' if changed else 'unchanged'}")


@app.command()
def stats(as_json: AsJson = False) -> None:
    """Count what is on record, and what still waits in the journals of this machine."""
    from smartops.audit import shipping  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        counts = store.counts()
        waiting = shipping.lag(store, get_settings().journal_dir)
    if as_json:
        print_json({"store": store.shown_url, "rows": counts, "waiting_in_journals": waiting})
        return
    out.print(table(["table", "rows"], counts.items()))
    out.print(f"waiting in journals: {waiting}")


@app.command()
def verify(
    tables: Annotated[
        bool, typer.Option("--tables", help="Also derive every run from its events again.")
    ] = False,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(help="A file with published seals, one a line; beside those of the settings."),
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option(help="A public key (PEM) that may have signed.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Prove that nothing was altered, deleted, inserted, moved or cut off; else exit with 1."""
    from smartops.audit import verification  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        verdict = verification.look(
            store, tables=tables, anchor_files=anchor or (), key_files=key or ()
        )
        if not verdict.ok:
            _tell_alerts(store, verdict, tables=tables)
    if as_json:
        print_json(verdict.as_json())
    else:
        _print_verdict(verdict)
    return 0 if verdict.ok else 1


def _tell_alerts(store: Store, verdict: Verdict, *, tables: bool) -> None:
    """Put on record that the record is not whole: a rule of alerts may wait for that."""
    from smartops.audit import shipping, verification  # noqa: PLC0415 - slow to import

    with contextlib.suppress(SmartOpsError):  # who verifies may be no more than a reader
        verification.put_on_record(verdict, tables=tables)
        shipping.ship_all(store, get_settings().journal_dir)


def _print_verdict(verdict: Verdict) -> None:
    counted = f"{verdict.events} events of {verdict.runs} runs under {verdict.seals} seals"
    anchored = f"published up to seal {verdict.anchored}" if verdict.anchored else "none published"
    if verdict.first_bad is None:
        out.print(Text.assemble(("whole", "green"), f": {counted}, {anchored}"))
        if verdict.unsealed:
            out.print(f"{verdict.unsealed} events are not sealed yet")
    else:
        out.print(Text.assemble(("TAMPERED", "red"), f": {verdict.first_bad.text}"))


@app.command()
def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The ZIP file to write.")],
    run: Annotated[str | None, typer.Option(help="Only this run, by its id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the record to a file that proves itself: it holds its own short verifier."""
    from reports.runs import get_run  # noqa: PLC0415 - slow to import
    from smartops.audit import export as exporting  # noqa: PLC0415

    with audit_store() as store:
        run_id = get_run(store, run).run.run_id if run is not None else None
        done = exporting.export(store, output, run_id)
    if as_json:
        print_json({"file": str(output), "events": done.events, "seals": done.seals})
    else:
        out.print(f"{output}: {done.events} events, {done.seals} seals")
        keys_dir = get_settings().keys_dir
        out.print(
            f"verify it with: unzip -p {output} verify.py | python3 - {output} {keys_dir}/seal.pub"
        )


@app.command()
def prune(
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Keep so many days. Default: the setting.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take old records away, by whole months on a server; runs under hold are kept."""
    from smartops.audit import keys  # noqa: PLC0415 - slow to import
    from smartops.audit import prune as pruning  # noqa: PLC0415

    settings = get_settings()
    keep = days or settings.retention_days
    if keep is None:
        raise BadInput("nothing says how long to keep: give --days or set SMARTOPS_RETENTION_DAYS")
    with audit_store() as store:
        key = keys.signing_key(settings.keys_dir)
        done = pruning.prune(store, key, keep, dry_run=dry_run)
    if as_json:
        print_json({**vars(done), "before": done.before.isoformat(), "dry_run": dry_run})
        return
    would = "would go" if dry_run else "gone"
    out.print(f"before {local_time(done.before)}: {done.events} events of {done.runs} runs {would}")
    if done.held_runs:
        out.print(f"kept under hold: {done.held_runs} runs")


@app.command()
def rollup(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Count everything again, not only what is new.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the hourly sums that reports read up to date; the recorder does so each minute."""
    from smartops.audit import rollup as rollups  # noqa: PLC0415 - slow to import

    with audit_store() as store, store.patient() as patient:
        done = rollups.rebuild(patient) if rebuild else rollups.roll_up(patient)
    if as_json:
        print_json({"store": store.shown_url, "rebuilt": rebuild, "hours": done})
    else:
        out.print(f"{store.shown_url}: {done} hours counted")


@app.command()
def hold(
    run: Annotated[str, typer.Argument(help="The run's id, or the first part of it.")],
    reason: Annotated[str, typer.Option(help="Why; it is on record.")],
    as_json: AsJson = False,
) -> None:
    """Keep a run's record whatever the retention says."""
    _place_hold(run, reason, placed=True, as_json=as_json)


@app.command()
def release(
    run: Annotated[str, typer.Argument(help="The run's id, or the first part of it.")],
    reason: Annotated[str, typer.Option(help="Why; it is on record.")],
    as_json: AsJson = False,
) -> None:
    """End a hold; the run's record goes with the next pruning."""
    _place_hold(run, reason, placed=False, as_json=as_json)


def _place_hold(run: str, reason: str, *, placed: bool, as_json: bool) -> None:
    from reports.runs import get_run  # noqa: PLC0415 - slow to import
    from smartops.audit import holds, shipping  # noqa: PLC0415

    with audit_store() as store:
        run_id = get_run(store, run).run.run_id
        person = who_is_here()
        holds.record(store, run_id, person=person, reason=reason, placed=placed)
        shipping.ship_all(store, get_settings().journal_dir)
    if as_json:
        print_json({"run_id": str(run_id), "held": placed, "by": person, "reason": reason})
    else:
        out.print(f"run {run_id} is {'held' if placed else 'no longer held'}")
