"""``smartops audit``: the audit store itself."""

from __future__ import annotations

from typing import Annotated

import typer

from smartops.audit.store import Store
from smartops.cli.connection import audit_store
from smartops.cli.output import out, print_json, table
from smartops.settings import get_settings

app = typer.Typer(help="The audit record.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the audit store's tables to the version of this program."""
    from smartops.audit import schema  # noqa: PLC0415 - slow to import

    store = Store(get_settings().store_url)
    try:
        changed = schema.migrate(store)
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
