"""What the audit store asks of its database: TLS, deadlocks, migrations, indexes, backup."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.engine import Connection
from uuid6 import uuid7

from reports.runs import Wanted, get_run, list_runs, runs_query
from scripts import mariadb
from smartops import errors
from smartops.audit import models, schema, shipping
from smartops.audit.bulk_insert import bulk_insert
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.revisions import changes_of
from smartops.audit.store import Store
from smartops.settings import get_settings
from tests.conftest import all_tables, needs
from tests.integration.test_trust import record_runs, ship_and_seal, verdict

# --- TLS --------------------------------------------------------------------------------------


def authority(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Make an authority, and a certificate of it for 127.0.0.1; return CA, certificate and key."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {name}")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def builder(who: x509.Name, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(who)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = (
        builder(subject, key.public_key())
        .add_extension(host, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    paths = tuple(folder / f"{name}-{part}.pem" for part in ("ca", "cert", "key"))
    paths[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(own.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths[0], paths[1], paths[2]


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    """A server with TLS: its URL, its authority's certificate, and another authority's."""
    needs(mariadb.binary() is not None, "MariaDB's server (apt-get install mariadb-server-core)")
    folder = tmp_path_factory.mktemp("tls")
    ca, certificate, key = authority(folder, "own")
    stranger, _, _ = authority(folder, "other")
    tls = [f"--ssl-ca={ca}", f"--ssl-cert={certificate}", f"--ssl-key={key}"]
    if os.geteuid() == 0:
        folder.chmod(0o755)
    with mariadb.running(folder, [*tls, "--log-bin=bin", "--server-id=1"]) as server:
        yield server.url, ca, stranger


@pytest.mark.mysql
def test_the_connection_is_encrypted_and_the_server_is_checked(
    tls_server: tuple[str, Path, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the authority's certificate it is; with another one nothing is sent."""
    url, ca, stranger = tls_server

    def with_ca(path: Path) -> Store:
        monkeypatch.setenv("SMARTOPS_DATABASE_CA", str(path))
        get_settings.cache_clear()
        return Store(f"{url}/mysql")

    store = with_ca(ca)
    with store.reading() as connection:
        cipher = connection.execute(sa.text("SHOW STATUS LIKE 'Ssl_cipher'")).one()
    store.close()
    assert "AES" in cipher[1] or "CHACHA" in cipher[1]
    with pytest.raises(errors.StoreUnavailable, match="certificate verify failed"):
        with_ca(stranger).cursor(uuid7())
    with pytest.raises(errors.BadInput, match="SMARTOPS_DATABASE_CA"):
        with_ca(home / "nothing.pem")


@pytest.mark.parametrize("query", ["ssl_disabled=false", "ssl_ca=/x.pem", "ssl=true"])
def test_tls_words_in_the_url_are_refused(query: str) -> None:
    """They do what nobody expects; the error names the setting that does it right."""
    with pytest.raises(errors.BadInput, match="has no place in the URL") as error:
        Store(f"mysql+pymysql://a:b@h/d?{query}")
    assert "SMARTOPS_DATABASE_CA" in error.value.one_line


# --- locks ------------------------------------------------------------------------------------


def test_a_deadlock_is_tried_again(mysql_url: str, home: Path) -> None:
    """Two transactions that lock the same rows in another order: both get done."""
    store = Store(mysql_url)
    schema.migrate(store)
    record_runs(2)
    ship_and_seal(store)
    with store.reading() as connection:
        one, two = connection.execute(sa.select(models.job_run.c.id)).scalars()
    barrier = threading.Barrier(2)
    tries: list[int] = []

    def work(first: Any, second: Any) -> None:
        run = models.job_run

        def both() -> None:
            tries.append(1)
            with store.transaction() as connection:
                connection.execute(sa.update(run).where(run.c.id == first).values(pid=1))
                if len(tries) <= 2:
                    barrier.wait(20)
                connection.execute(sa.update(run).where(run.c.id == second).values(pid=2))

        store.again_on_deadlock(both)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (one, two), (two, one)))
    store.close()
    assert len(tries) == 3


# --- migrations -------------------------------------------------------------------------------


def to(store: Store, version: str) -> None:
    """Bring a store to a version."""
    with store.engine.connect() as connection:
        config = schema._config(connection)
        step = command.upgrade if version >= (schema.current_version(store) or "") else None
        (step or command.downgrade)(config, version)
        connection.commit()


def first_version_with_data(store: Store) -> int:
    """Make a store of the first version with what it would hold; return how many events."""
    schema.migrate(store)
    record_runs(3)
    shipping.ship_all(store, get_settings().journal_dir)
    to(store, "0001")
    with store.reading() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM event")).scalar_one())


def test_up_and_down_with_data(empty_store: Store) -> None:
    """Every event keeps its place; after the way up it has a chain, and can be sealed."""
    events = first_version_with_data(empty_store)
    assert events == 18
    to(empty_store, schema.expected_version())
    with empty_store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_tables()) == []
    assert [run.state for run in list_runs(empty_store)] == ["completed"] * 3
    with empty_store.transaction() as connection:
        connection.execute(sa.update(models.stream).values(sealed=False))
    ship_and_seal(empty_store)
    found = verdict(empty_store)
    assert found.ok
    assert (found.events, found.unsealed) == (18, 0)


class _Killed(Exception):
    """The migration's process has died."""


@pytest.mark.parametrize("after", [1, 9, 17, 26, 33, 37, 41, 44])
def test_a_migration_that_is_killed_goes_on(empty_store: Store, after: int) -> None:
    """Wherever it stops: the next one finishes it, with every event in its place."""
    first_version_with_data(empty_store)
    done = 0

    def die(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        nonlocal done
        if statement.lstrip().startswith(("CREATE", "ALTER", "DROP", "INSERT INTO event")):
            done += 1
            if done > after:
                raise _Killed

    sa.event.listen(sa.Engine, "before_cursor_execute", die)
    with pytest.raises(_Killed):
        schema.migrate(empty_store)
    sa.event.remove(sa.Engine, "before_cursor_execute", die)
    assert schema.migrate(empty_store)
    with empty_store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_tables()) == []
        assert connection.execute(sa.text("SELECT count(*) FROM event")).scalar() == 18
    assert verdict(empty_store).first_bad is None


# --- ways to look -----------------------------------------------------------------------------


def explained(connection: Connection, query: sa.Select[Any]) -> str:
    """Return the database's plan for a query."""
    word = "EXPLAIN" if connection.dialect.name != "sqlite" else "EXPLAIN QUERY PLAN"

    def explain(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> Any:
        return f"{word} {statement}", values

    sa.event.listen(connection, "before_cursor_execute", explain, retval=True)
    try:
        cursor = connection.execute(query).cursor
        assert cursor is not None
        return "\n".join(map(str, cursor.fetchall()))
    finally:
        sa.event.remove(connection, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Wanted(), "ix_job_run_started_at_id"),
        (Wanted(job="j1"), "ix_job_run_job_started_at_id"),
        (Wanted(state="failed"), "ix_job_run_state_started_at_id"),
        (Wanted(person="p1"), "ix_job_run_requested_by_started_at_id"),
        (Wanted(device="d1"), "ix_device_command_device_requested_at"),
    ],
)
def test_each_way_to_look_has_an_index(store: Store, wanted: Wanted, index: str) -> None:
    """As the database itself explains it, on tables with some rows."""
    _fill(store, 12_000)
    moment = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    with store.engine.connect() as connection:
        if store.is_server:
            for table in ("job_run", "device_command", "step_run"):
                connection.exec_driver_sql(f"ANALYZE TABLE {table}")
        else:
            connection.exec_driver_sql("ANALYZE")
        plans = [
            explained(connection, runs_query(wanted, place, 50))
            for place in (None, (moment, uuid7()))
        ]
    for plan in plans:
        assert index in plan, plan


def _fill(store: Store, runs: int) -> None:
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    rows, commands = [], []
    for number in range(runs):
        run, at = uuid7(), begin + dt.timedelta(minutes=20 * number)
        row = {
            "id": run, "job": f"j{number % 40}", "kind": "job", "flow": "run-job", "params": "{}",
            "state": "failed" if number % 20 == 0 else "completed", "message": "",
            "started_at": at, "ended_at": at, "host": "h", "pid": 1,
            "requested_by": f"p{number % 50}",
        }  # fmt: skip
        rows.append(row)
        command = {
            "id": uuid7(), "run_id": run, "step_run_id": uuid7(), "device": f"d{number % 80}",
            "tag": "t", "unit": "", "requested_value": "1", "state": "confirmed",
            "restored": False, "reason": "", "requested_at": at,
        }  # fmt: skip
        commands.append(command)
    with store.transaction() as connection:
        connection.execute(sa.insert(models.job_run), rows)
        connection.execute(sa.insert(models.device_command), commands)


def test_pages_hold_each_run_once(store: Store) -> None:
    """Page after page, by the last run of the one before; also where many began at one moment."""
    _fill(store, 60)
    with store.transaction() as connection:
        same = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
        connection.execute(
            sa.update(models.job_run).where(models.job_run.c.state == "completed").values(
                started_at=same
            )
        )  # fmt: skip
    seen: list[Any] = []
    last = None
    while page := list_runs(store, Wanted(after=last), limit=7):
        seen += [run.run_id for run in page]
        last = page[-1].run_id
    assert len(seen) == len(set(seen)) == 60
    with pytest.raises(errors.BadInput, match="no run"):
        list_runs(store, Wanted(after=uuid7()))


# --- backup -----------------------------------------------------------------------------------


@pytest.mark.mysql
def test_backup_and_point_in_time(
    tls_server: tuple[str, Path, Path], home: Path, tmp_path: Path
) -> None:
    """As the how-to page says: a dump, then the binary log up to a moment; and it verifies."""
    tools = [shutil.which(name) for name in ("mariadb-dump", "mariadb", "mariadb-binlog")]
    needs(all(tools), "MariaDB's client programs (apt-get install mariadb-client)")
    url = tls_server[0]
    engine = sa.create_engine(f"{url}/", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("kept", "restored"):
            connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    store = Store(f"{url}/kept")
    schema.migrate(store)
    record_runs(2)
    ship_and_seal(store)
    login = ["--host=127.0.0.1", f"--port={store.url.port}", "--user=root", "--skip-ssl"]

    def call(*arguments: str, text: bytes | None = None) -> bytes:
        done = subprocess.run(arguments, input=text, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    dump = call(
        "mariadb-dump", *login, "--single-transaction", "--triggers", "--hex-blob",
        "--master-data=2", "kept",
    )  # fmt: skip
    record_runs(3)
    ship_and_seal(store)
    with store.reading() as connection:
        good = connection.execute(sa.text("SHOW MASTER STATUS")).one()
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE kept")
    position = next(
        line for line in dump.decode().splitlines() if line.startswith("-- CHANGE MASTER TO")
    )
    file, start = position.split("'")[1], position.rstrip(";").rsplit("=", 1)[1]
    assert file == good[0]
    call("mariadb", *login, "restored", text=dump)
    log = call(
        "mariadb-binlog", "--read-from-remote-server", *login, f"--start-position={start}",
        f"--stop-position={good[1]}", "--rewrite-db=kept->restored", file,
    )  # fmt: skip
    call("mariadb", *login, "restored", text=log)
    store.close()
    restored = Store(f"{url}/restored")
    found = verdict(restored)
    runs = list_runs(restored)
    assert get_run(restored, str(runs[0].run_id)).events == 6
    restored.close()
    engine.dispose()
    assert found.ok
    assert (found.events, len(runs), found.seals) == (30, 5, 2)


def test_whatever_a_table_calls_its_columns(store: Store) -> None:
    """Rows are added in bulk to each of them; a name may be a word of the database's own."""
    for table in all_tables().sorted_tables:
        names = [column.name for column in table.columns]
        with contextlib.suppress(errors.RecordRefused), store.transaction() as connection:
            bulk_insert(connection, table.name, names, [[None] * len(names)])


def test_a_change_of_a_job_is_on_record(store: Store) -> None:
    """It says which revision it replaced."""
    change = {"job": "j", "action": "updated", "revision": "b" * 64, "before": "a" * 64}
    get_journal().append(Event("job.changed", NO_RUN, {**change, "person": "p", "source": "cli"}))
    assert shipping.ship_all(store, get_settings().journal_dir) == 1
    (row,) = changes_of(store, "j")
    assert (row.action, row.before, row.revision) == ("updated", "a" * 64, "b" * 64)
