"""Nothing is altered unseen: chains, seals, anchors, exports, walls, pruning."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection
from uuid6 import uuid7

from smartops import errors
from smartops.audit import chain, export, holds, models, prune, replay, shipping
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import Journal, get_journal
from smartops.audit.keys import SigningKey, signing_key, trusted_keys
from smartops.audit.migrations import guarding, partitions
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.audit.seal import seal, seals_after
from smartops.audit.store import Store
from smartops.audit.verify import Verdict, verify
from smartops.settings import get_settings
from smartops.vocabulary import Effect

TABLES = (models.event, models.seal, models.seal_part, models.stream)
Row = dict[str, Any]


def record_runs(count: int = 3) -> list[RunInfo]:
    """Record some runs of two steps each."""
    made = []
    for number in range(count):
        info = RunInfo(id=uuid7(), job=f"job-{number}", flow="f", params={"n": number})
        with recorded_run(info):
            for name in ("a", "b"):
                step = StepRecord(
                    info, step=name, kind="wait", effect=Effect.READ, attempt=1, inputs={"x": name}
                )
                step.completed({"y": number})
        made.append(info)
    return made


def ship_and_seal(store: Store) -> None:
    shipping.ship_all(store, get_settings().journal_dir)
    seal(store, key())


def key() -> SigningKey:
    return signing_key(get_settings().keys_dir)


def published(store: Store) -> dict[int, bytes]:
    with store.reading() as connection:
        return {s.number: s.hash for s in seals_after(connection, 0, limit=100)}


def verdict(store: Store, anchored: dict[int, bytes] | None = None) -> Verdict:
    return verify(store, trusted_keys(get_settings().keys_dir), anchored)


@pytest.fixture
def sealed(store: Store) -> Store:
    """A store with two streams under three seals, and some events that are not sealed yet."""
    folder = get_settings().journal_dir
    record_runs()
    ship_and_seal(store)
    other = Journal(folder)
    for _ in range(5):
        other.append(Event("run.ended", uuid7(), {"state": "completed", "message": ""}))
    other.close()
    ship_and_seal(store)
    record_runs(2)
    ship_and_seal(store)
    record_runs(1)
    shipping.ship_all(store, folder)
    return store


def test_a_whole_record_is_whole(sealed: Store) -> None:
    """Every event counted, every seal compared, what is not sealed yet is said."""
    found = verdict(sealed, published(sealed))
    assert found.ok
    assert (found.events, found.seals, found.unsealed) == (41, 3, 6)
    assert (found.runs, found.anchored) == (11, 3)
    assert replay.first_difference(sealed) is None


# --- every tampering that we can think of ---------------------------------------------------------


def rows(connection: Connection, table: sa.Table) -> list[Row]:
    order = table.primary_key.columns
    return [dict(r) for r in connection.execute(sa.select(table).order_by(*order)).mappings()]


def put(connection: Connection, table: sa.Table, all_rows: list[Row]) -> None:
    connection.execute(sa.delete(table))
    if all_rows:
        connection.execute(sa.insert(table), all_rows)


def other_value(value: Any, chance: random.Random) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 1000))
    if isinstance(value, bytes):
        place = chance.randrange(len(value))
        return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    if isinstance(value, UUID):
        return UUID(int=value.int ^ (1 << chance.randrange(128)))
    if isinstance(value, datetime):
        return value + timedelta(microseconds=chance.choice((-1, 1, 10**9)))
    place = chance.randrange(len(value) + 1)
    return value[:place] + chance.choice(("x", " ", "Ω", "\\")) + value[place:]


def alter(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """One value of one row."""
    table = chance.choice((models.event, models.event, models.seal, models.seal_part))
    found = rows(c, table)
    row = chance.choice(found)
    column = chance.choice([name for name in row if name != "id" or table is models.event])
    row[column] = other_value(row[column], chance)
    put(c, table, found)
    return ("event", "seal", "seal_part")


def delete(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """One row."""
    table = chance.choice((models.event, models.event, models.seal, models.seal_part))
    found = rows(c, table)
    found.pop(chance.randrange(len(found)))
    put(c, table, found)
    return ("event", "seal", "seal_part")


def insert(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """A row that nobody recorded, at the end of a stream, in a chain that fits."""
    found = rows(c, models.event)
    last = max((r for r in found if r["stream"] == chance.choice(found)["stream"]),
               key=lambda r: r["seq"], default=found[-1])  # fmt: skip
    run = uuid7()
    added = {**last, "seq": last["seq"] + 1, "run_id": run, "run_seq": 1, "id": uuid7()}
    added["hash"] = digest(added, chain.FIRST)
    put(c, models.event, [*found, added])
    return ("event",)


def swap(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """Two events change places."""
    found = rows(c, models.event)
    one = chance.randrange(len(found) - 1)
    a, b = found[one], found[one + 1]
    for name in ("id", "run_id", "run_seq", "type", "at", "body", "hash"):
        a[name], b[name] = b[name], a[name]
    put(c, models.event, found)
    return ("event",)


def cut_tail(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """The last events of a stream, with the stream's own cursor put back."""
    found = rows(c, models.event)
    stream = chance.choice(found)["stream"]
    mine = [r for r in found if r["stream"] == stream]
    keep = chance.randrange(len(mine) - 7 if len(mine) > 8 else len(mine))
    put(c, models.event, [r for r in found if r["stream"] != stream or r["seq"] <= keep])
    c.execute(
        sa.update(models.stream)
        .where(models.stream.c.id == stream)
        .values(last_seq=keep, sealed_seq=keep)
    )
    return ("event",)


def drop_stream(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """A stream, wholly: its events, its cursor, its parts of seals."""
    stream = chance.choice(rows(c, models.stream))["id"]
    for table, column in ((models.event, "stream"), (models.seal_part, "stream")):
        put(c, table, [r for r in rows(c, table) if r[column] != stream])
    put(c, models.stream, [r for r in rows(c, models.stream) if r["id"] != stream])
    return ("seal_part",)


def digest(row: Row, before: bytes) -> bytes:
    return chain.link(
        before,
        row["stream"].bytes,
        row["seq"],
        row["run_id"].bytes,
        row["run_seq"],
        row["id"].bytes,
        row["type"],
        chain.micros(row["at"]),
        row["body"],
    )


def rewrite(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """One sealed body, and every hash after it computed anew."""
    found = rows(c, models.event)
    sealed = [r for r in found if r["seq"] <= 5]
    chance.choice(sealed)["body"] = '{"state": "completed", "message": "all was well"}'
    heads: dict[tuple[UUID, UUID], bytes] = {}
    for row in found:
        place = (row["stream"], row["run_id"])
        row["hash"] = heads[place] = digest(row, heads.get(place, chain.FIRST))
    put(c, models.event, found)
    return ("event",)


def cut_seals(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """The last seal with all that it covers: only what was published tells."""
    last = max(r["number"] for r in rows(c, models.seal))
    parts = [r for r in rows(c, models.seal_part) if r["seal"] == last]
    put(c, models.seal_part, [r for r in rows(c, models.seal_part) if r["seal"] != last])
    put(c, models.seal, [r for r in rows(c, models.seal) if r["number"] != last])
    events = rows(c, models.event)
    for part in parts:
        below = part["first_seq"] - 1
        events = [r for r in events if r["stream"] != part["stream"] or r["seq"] <= below]
        c.execute(
            sa.update(models.stream)
            .where(models.stream.c.id == part["stream"])
            .values(last_seq=below, sealed_seq=below)
        )
    put(c, models.event, events)
    return ("seal",)


def seal_with_another_key(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """The last seal, signed again by somebody else."""
    stranger = SigningKey(Ed25519PrivateKey.generate())
    found = rows(c, models.seal)
    row = found[-1]
    at = chain.micros(row["sealed_at"])
    text = chain.seal_text(
        row["number"], row["before"], row["root"], row["events"], at, stranger.id
    )
    row.update(
        key_id=stranger.id,
        public_key=stranger.public,
        hash=chain.seal_hash(text),
        signature=stranger.sign(text),
    )
    put(c, models.seal, found)
    return ("seal",)


def pass_for_sealed(c: Connection, chance: random.Random) -> tuple[str, ...]:
    """Events that no seal covers, in a stream that says it is sealed."""
    c.execute(sa.update(models.stream).values(sealed_seq=models.stream.c.last_seq))
    return ("event",)


TAMPERINGS: tuple[Callable[[Connection, random.Random], tuple[str, ...]], ...] = (
    alter,
    alter,
    alter,
    delete,
    delete,
    insert,
    swap,
    cut_tail,
    drop_stream,
    rewrite,
    cut_seals,
    seal_with_another_key,
    pass_for_sealed,
)


def test_every_tampering_is_found(sealed: Store) -> None:
    """Whatever is done to the rows by somebody who may do anything: it is named."""
    anchored = published(sealed)
    with sealed.transaction() as connection:
        guarding.unguard(connection)
    with sealed.reading() as connection:
        before = {table: rows(connection, table) for table in TABLES}
    for seed in range(len(TAMPERINGS) * 12):
        tampering = TAMPERINGS[seed % len(TAMPERINGS)]
        with sealed.transaction() as connection:
            try:
                tables = tampering(connection, random.Random(seed))
            except sa.exc.IntegrityError:
                connection.rollback()
                continue  # the database itself refused it
        found = verdict(sealed, anchored)
        what = f"{tampering.__name__}, seed {seed}: {found}"
        assert found.first_bad is not None, what
        assert found.first_bad.table in tables, what
        with sealed.transaction() as connection:
            for table, all_rows in before.items():
                put(connection, table, all_rows)
    assert verdict(sealed, anchored).ok


def test_the_first_bad_row_is_named(sealed: Store) -> None:
    """Not only that, but which: stream, number, run."""
    with sealed.transaction() as connection:
        guarding.unguard(connection)
        row = rows(connection, models.event)[3]
        connection.execute(
            sa.update(models.event)
            .where(models.event.c.stream == row["stream"], models.event.c.seq == row["seq"])
            .values(body=row["body"] + " ")
        )
    bad = verdict(sealed).first_bad
    assert bad is not None
    assert bad.row == f"stream {row['stream']} seq {row['seq']}"
    assert (bad.run_id, bad.what) == (str(row["run_id"]), "is not what was recorded")


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (models.job_run, {"state": "failed"}),
        (models.step_run, {"output": '{"y": 7}'}),
        (models.step_run, None),
    ],
)
def test_a_changed_table_is_found(sealed: Store, table: sa.Table, change: Row | None) -> None:
    """The tables that people query are derived from the events again, and compared."""
    (column,) = table.primary_key.columns
    with sealed.transaction() as connection:
        first = connection.execute(sa.select(column).limit(1)).scalar_one()
        statement: Any = sa.delete(table) if change is None else sa.update(table).values(change)
        connection.execute(statement.where(column == first))
    assert verdict(sealed).ok
    bad = replay.first_difference(sealed)
    assert bad is not None
    assert (bad.table, bad.row) == (table.name, str(first))


def test_events_of_a_stream_stay_in_their_order(store: Store) -> None:
    """One that was made before another may be journalled after it: the tables are no lie then."""
    run, now = uuid7(), datetime.now(UTC)
    body = {"job": "j", "kind": "flow", "flow": "f", "params": {}}
    line = {"level": 20, "logger": "l", "message": "m"}
    journal = get_journal()
    journal.append(Event("run.started", run, body, at=now))
    journal.append(Event("log", run, line, at=now - timedelta(seconds=1)))
    ship_and_seal(store)
    assert replay.first_difference(store) is None


def test_a_runs_own_word_that_comes_late(store: Store, tmp_path: Path) -> None:
    """Its machine was cut off, and Prefect's word came before: it began when it says so itself."""
    run, now = uuid7(), datetime.now(UTC)
    body = {"job": "j", "kind": "flow", "flow": "f", "params": {}}
    cut_off = Journal(tmp_path / "cut-off")
    cut_off.append(Event("run.started", run, body, at=now))
    cut_off.close()
    told = {**body, "told_by": "prefect", "at": (now - timedelta(seconds=1)).isoformat()}
    get_journal().append(Event("run.started", run, told, at=now + timedelta(seconds=3)))
    shipping.ship_all(store, get_settings().journal_dir)
    shipping.ship_all(store, tmp_path / "cut-off")
    with store.reading() as connection:
        (row,) = rows(connection, models.job_run)
    assert (row["told_by"], row["started_at"]) == ("own", now)
    assert replay.first_difference(store) is None


def test_sealing_and_shipping_at_once(store: Store) -> None:
    """Two that seal at once make one chain; nothing is sealed twice or left out."""
    from concurrent.futures import ThreadPoolExecutor

    own = key()
    for _ in range(6):
        record_runs(2)
        shipping.ship_all(store, get_settings().journal_dir)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: seal(store, own), range(4)))
        assert sum(s is not None for s in made) >= 1
    while seal(store, own) is not None:
        pass
    found = verdict(store)
    assert found.ok
    assert found.unsealed == 0


# --- walls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [models.event, models.seal, models.seal_part], ids=str)
def test_the_second_wall(sealed: Store, table: sa.Table) -> None:
    """Triggers refuse to change or delete what is only ever added to."""
    for statement in (
        sa.delete(table),
        sa.update(table).values({next(iter(table.primary_key.columns)).name: None}),
    ):
        with (
            pytest.raises(errors.SmartOpsError, match="only ever added to"),
            sealed.transaction() as connection,
        ):
            connection.execute(statement)
    assert verdict(sealed).ok


def test_the_first_wall(mysql_url: str, home: Path) -> None:
    """The shipped grants: the recorder's user can record and seal, and cannot undo anything."""
    from smartops.audit import schema
    from tests.conftest import ROOT

    owner = Store(mysql_url)
    schema.migrate(owner)
    text = (ROOT / "deployments/mysql/grants.sql").read_text("utf-8")
    word = "Some-passw0rd"
    text = text.replace("'smartops'@", "'rec_wall'@").replace("'smartops_read'@", "'read_wall'@")
    text = text.replace("change-me", word).replace("smartops.", f"{owner.url.database}.")
    with owner.engine.connect() as connection:
        for statement in filter(str.strip, _statements(text)):
            connection.connection.cursor().execute(statement)
    record_runs(1)
    recorder = Store(_as_user(owner, "rec_wall", word))
    reader = Store(_as_user(owner, "read_wall", word))
    try:
        assert not schema.migrate(recorder)
        ship_and_seal(recorder)
        assert verdict(reader).ok
        for sql in (
            "UPDATE event SET body = ''",
            "DELETE FROM event",
            "TRUNCATE TABLE event",
            "DROP TABLE event",
            "ALTER TABLE event DROP COLUMN body",
            "DROP TRIGGER no_delete_of_event",
            "DELETE FROM seal",
            "UPDATE seal_part SET last_seq = 1",
            "DELETE FROM job_run",
        ):
            with pytest.raises(sa.exc.OperationalError), recorder.engine.connect() as connection:
                connection.exec_driver_sql(sql)
        with pytest.raises(sa.exc.OperationalError), reader.engine.connect() as connection:
            connection.exec_driver_sql("INSERT INTO hold SELECT * FROM hold")
    finally:
        with owner.engine.connect() as connection:
            connection.connection.cursor().execute("DROP USER 'rec_wall'@'%', 'read_wall'@'%'")
        for store in (recorder, reader, owner):
            store.close()


def _statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return "\n".join(lines).split(";")


def _as_user(store: Store, user: str, password: str) -> str:
    url = store.url.set(username=user, password=password)
    return url.render_as_string(hide_password=False)


# --- exports --------------------------------------------------------------------------------------


def independent(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verifier of an export as an auditor does, away from our code."""
    script = file.with_suffix(".py")
    with zipfile.ZipFile(file) as opened:
        script.write_bytes(opened.read("verify.py"))
    return subprocess.run(
        [sys.executable, "-I", str(script), str(file), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=file.parent,
    )


def test_an_export_proves_itself(sealed: Store, tmp_path: Path) -> None:
    """Whole, or one run of it; with the right key and with a wrong one."""
    whole = tmp_path / "whole.zip"
    assert export.export(sealed, whole).events == 35
    done = independent(whole, key().public.hex())
    assert done.stdout.startswith("OK: 35 events under 3 seals (to number 3)"), done.stderr
    assert independent(whole, bytes(32).hex()).returncode == 1
    pem = str(get_settings().keys_dir / "seal.pub")
    assert independent(whole, pem, published(sealed)[3].hex()).returncode == 0
    assert independent(whole, pem, bytes(32).hex()).returncode == 1
    for bad in (("no key",), (str(whole),)):
        assert independent(whole, *bad).returncode == 2
    with pytest.raises(errors.BadInput, match="is there already"):
        export.export(sealed, whole)
    with sealed.reading() as connection:
        first = rows(connection, models.job_run)[0]["id"]
    one = tmp_path / "one.zip"
    assert export.export(sealed, one, first).events == 6
    assert independent(one).stdout.startswith("OK: ")
    with zipfile.ZipFile(one) as opened:
        bodies = [json.loads(x) for x in opened.read("events.jsonl").splitlines()]
    assert {line["run_id"] for line in bodies if "body" in line} == {first.hex}


@pytest.mark.parametrize(
    "change", ["body", "order", "tail", "seal", "signature", "no seals", "fewer seals", "pruned"]
)
def test_a_changed_export_is_found(sealed: Store, tmp_path: Path, change: str) -> None:
    """The short verifier finds what was changed in the file."""
    file = tmp_path / "x.zip"
    export.export(sealed, file)
    with zipfile.ZipFile(file) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    lines = parts["events.jsonl"].splitlines()
    if change == "body":
        lines[2] = lines[2].replace(b'"body": "{', b'"body": " {')
    elif change == "order":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "tail":
        lines = lines[:5]
    elif change == "seal":
        parts["seals.jsonl"] = parts["seals.jsonl"].replace(b'"last": 18', b'"last": 17')
    elif change == "signature":
        start = parts["seals.jsonl"].index(b'"signature": "') + 14
        text = bytearray(parts["seals.jsonl"])
        text[start : start + 2] = b"00" if text[start : start + 2] != b"00" else b"11"
        parts["seals.jsonl"] = bytes(text)
    elif change == "no seals":
        parts["seals.jsonl"] = b""
    elif change == "fewer seals":
        parts["seals.jsonl"] = parts["seals.jsonl"].splitlines()[0]
    else:  # an invented word of pruning, and an event less
        lines = [*lines[:3], *lines[4:], _invented_word()]
    parts["events.jsonl"] = b"\n".join(lines)
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in parts.items():
            opened.writestr(name, content)
    done = independent(file)
    assert done.returncode == 1
    assert "TAMPERED" in done.stderr


def _invented_word() -> bytes:
    body = json.dumps({"streams_before": "ff" * 16, "held": 0})
    row: Row = {"stream": uuid7(), "seq": 1, "run_id": NO_RUN, "run_seq": 1, "id": uuid7()}
    row |= {"type": "records.pruned", "at": datetime.now(UTC), "body": body}
    line = {key: row[key].hex for key in ("stream", "run_id", "id")}
    line |= {"seq": 1, "run_seq": 1, "type": row["type"], "body": body}
    line |= {"at_us": chain.micros(row["at"]), "hash": digest(row, chain.FIRST).hex()}
    return json.dumps(line).encode()


def test_nothing_to_export(store: Store, tmp_path: Path) -> None:
    """Told, and no empty file is left."""
    with pytest.raises(errors.BadInput, match="no sealed events"):
        export.export(store, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
    with pytest.raises(errors.BadInput, match="cannot be written"):
        export.export(store, tmp_path / "no" / "x.zip")


# --- pruning --------------------------------------------------------------------------------------


def old_stream(store: Store, monkeypatch: pytest.MonkeyPatch, age: timedelta) -> None:
    """Record runs in a journal that was begun some time ago, with the months for it."""
    from smartops.audit import events
    from smartops.audit import journal as module

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - age

    moment = datetime.now(UTC) - age
    stream = UUID(bytes=partitions.key_at(moment)[:6] + uuid7().bytes[6:])
    get_journal()
    with monkeypatch.context() as patch:
        patch.setattr(module, "uuid7", lambda: stream)
        patch.setattr(module, "_current", None)
        patch.setattr(events, "datetime", Then)
        record_runs(3)
        module.get_journal().close()
    module._current = None
    if store.is_server:
        with store.engine.connect() as connection:
            for table in partitions.PARTITIONED:
                connection.exec_driver_sql(f"ALTER TABLE {table} REMOVE PARTITIONING")
                partitions.partition(connection, table, moment - timedelta(days=40))


def test_old_records_go_and_the_rest_stays_verifiable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old goes, what is held stays, the seals hold, and that it went is on record."""
    old_stream(store, monkeypatch, timedelta(days=100))
    record_runs(2)
    ship_and_seal(store)
    with store.reading() as connection:
        old = [r["id"] for r in rows(connection, models.job_run) if r["started_at"].year < 9999]
        held = min(rows(connection, models.job_run), key=lambda r: r["started_at"])["id"]
    assert len(old) == 5
    holds.record(store, held, person="ann", reason="court", placed=True)
    shipping.ship_all(store, get_settings().journal_dir)
    with pytest.raises(errors.BadInput, match="already held"):
        holds.record(store, held, person="ann", reason="court", placed=True)
    ship_and_seal(store)
    planned = prune.prune(store, key(), 30, dry_run=True)
    assert (planned.events, planned.runs, planned.held_runs) == (12, 2, 1)
    assert verdict(store).events == 31
    done = prune.prune(store, key(), 30)
    assert (done.events, done.held_runs) == (12, 1)
    with store.reading() as connection:
        left = {r["id"] for r in rows(connection, models.job_run)}
        assert len(rows(connection, models.event_held)) == 6
    assert len(left) == 3
    assert held in left
    found = verdict(store)
    assert found.ok, found
    assert found.events == 20  # 12 new, 6 held, the hold, and the pruning itself
    assert replay.first_difference(store) is None
    with store.transaction() as connection:
        guarding.unguard(connection, "event_held")
        connection.execute(sa.delete(models.event_held).where(models.event_held.c.seq == 6))
    assert verdict(store).first_bad is not None


def test_a_released_hold_goes_with_the_next_pruning(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the record stays verifiable."""
    old_stream(store, monkeypatch, timedelta(days=100))
    ship_and_seal(store)
    with store.reading() as connection:
        held = rows(connection, models.job_run)[0]["id"]
    holds.record(store, held, person="ann", reason="court", placed=True)
    ship_and_seal(store)
    prune.prune(store, key(), 30)
    assert verdict(store).ok
    holds.record(store, held, person="ann", reason="over", placed=False)
    ship_and_seal(store)
    prune.prune(store, key(), 30)
    with store.reading() as connection:
        assert rows(connection, models.event_held) == []
        assert rows(connection, models.job_run) == []
    assert verdict(store).ok


def test_what_is_not_sealed_is_not_pruned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody could say that it was pruned and not stolen."""
    old_stream(store, monkeypatch, timedelta(days=100))
    shipping.ship_all(store, get_settings().journal_dir)
    with pytest.raises(errors.BadInput, match="not sealed yet"):
        prune.prune(store, key(), 30)
    assert verdict(store).events == 18


def test_a_false_word_of_pruning_hides_nothing(sealed: Store) -> None:
    """Somebody deletes events and adds a record that they were pruned: it is not sealed."""
    with sealed.transaction() as connection:
        guarding.unguard(connection)
        stream = rows(connection, models.stream)[0]["id"]
        put(
            connection,
            models.event,
            [r for r in rows(connection, models.event) if r["stream"] != stream],
        )
    lie = Journal(get_settings().journal_dir)
    body = {"streams_before": "ff" * 16, "held": 0, "held_root": chain.FIRST.hex(), "held_runs": []}
    lie.append(Event("records.pruned", NO_RUN, body))
    lie.close()
    shipping.ship_all(sealed, get_settings().journal_dir)
    assert verdict(sealed).first_bad is not None


def test_partitions_come_ahead(mysql_url: str, home: Path) -> None:
    """On a server the great tables are divided by months, and months are added in time."""
    from smartops.audit import schema

    store = Store(mysql_url)
    schema.migrate(store)
    with store.engine.connect() as connection:
        before = partitions.partitions(connection, "event")
        later = datetime.now(UTC) + timedelta(days=200)
        partitions.partition(connection, "event", later)
        after = partitions.partitions(connection, "event")
    store.close()
    assert len(before) == 25
    assert before[-1] == after[-1] == "p_later"
    assert len(after) > len(before)


def test_keys_are_private_and_stay(home: Path) -> None:
    """Made once, readable by the owner alone; what is no key is told."""
    folder = home / "keys"
    first = signing_key(folder)
    assert signing_key(folder).public == first.public
    assert (folder / "seal.key").stat().st_mode & 0o077 == 0
    assert trusted_keys(folder) == {first.public}
    (folder / "other.pub").write_text("no key")
    with pytest.raises(errors.BadInput, match="no public key"):
        trusted_keys(folder)
    (folder / "seal.key").write_text("no key")
    with pytest.raises(errors.BadInput, match="no private key"):
        signing_key(folder)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (models.event, {"at": datetime(1969, 1, 1, tzinfo=UTC)}),
        (models.event, {"run_seq": -1}),
        (models.seal, {"events": -1}),
        (models.seal_part, {"first_seq": -5}),
    ],
    ids=["time", "number", "seal", "part"],
)
def test_values_that_no_event_can_have(sealed: Store, table: sa.Table, values: Row) -> None:
    """They are named as what they are; the verification does not break on them."""
    with sealed.transaction() as connection:
        guarding.unguard(connection)
        connection.execute(sa.update(table).values(values))
    assert verdict(sealed).first_bad is not None


def test_a_damaged_stream_does_not_stop_the_sealing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of, once, and the others are sealed."""
    record_runs(1)
    shipping.ship_all(store, get_settings().journal_dir)
    with store.transaction() as connection:
        guarding.unguard(connection)
        connection.execute(sa.delete(models.event).where(models.event.c.seq == 2))
        guarding.guard(connection)
    other = Journal(get_settings().journal_dir)
    other.append(Event("run.ended", uuid7(), {"state": "completed", "message": ""}))
    other.close()
    for _ in range(2):
        shipping.ship_all(store, get_settings().journal_dir)
        seal(store, key())
    assert published(store)
    assert sum("is not sealed" in text for text in caplog.messages) == 1


def test_verification_on_a_busy_system(store: Store) -> None:
    """Events and seals come while it reads: no false alarm."""
    import threading

    own, stop = key(), threading.Event()
    record_runs(3)
    ship_and_seal(store)

    def work() -> None:
        while not stop.is_set():
            record_runs(2)
            shipping.ship_all(store, get_settings().journal_dir)
            seal(store, own)

    busy = threading.Thread(target=work)
    busy.start()
    try:
        for _ in range(12):
            anchored = published(store)
            found = verdict(store, anchored)
            assert found.ok, found
    finally:
        stop.set()
        busy.join()


def test_the_public_key_is_made_again(home: Path) -> None:
    """A crash between the two files leaves no key that nobody can trust."""
    made = signing_key(home / "keys")
    (home / "keys" / "seal.pub").unlink()
    signing_key(home / "keys")
    assert trusted_keys(home / "keys") == {made.public}


def test_an_export_after_pruning(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was kept under hold proves itself, in the whole export and alone."""
    old_stream(store, monkeypatch, timedelta(days=100))
    record_runs(1)
    ship_and_seal(store)
    with store.reading() as connection:
        held = min(rows(connection, models.job_run), key=lambda r: r["started_at"])["id"]
    holds.record(store, held, person="ann", reason="court", placed=True)
    ship_and_seal(store)
    prune.prune(store, key(), 30)
    for name, run in (("whole", None), ("one", held)):
        file = tmp_path / f"{name}.zip"
        export.export(store, file, run)
        done = independent(file)
        assert done.returncode == 0, done.stderr
