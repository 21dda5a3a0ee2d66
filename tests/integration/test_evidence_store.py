"""Where evidence is kept, how long, and what a bundle of it holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from uuid6 import uuid7

from flows.retention import clear_evidence
from smartops import evidence_store
from smartops.audit import holds, schema, shipping
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.settings import get_settings
from tests.conftest import free_port


def made(days_ago: float = 0.0, run: UUID | None = None, name: str = "a.txt") -> Path:
    """Return a new file of a step that began some days ago."""
    milliseconds = int((time.time() - days_ago * 86_400) * 1000)
    step = UUID(int=milliseconds << 80 | uuid7().int & (1 << 80) - 1)
    folder = evidence_store.folder_of(run or uuid4(), step)
    folder.mkdir(parents=True)
    path = folder / name
    path.write_text(f"made {days_ago} days ago")
    return path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server with a bucket, as the store."""
    import boto3
    import s3fs  # type: ignore[import-untyped]
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="plant")
    monkeypatch.setenv("SMARTOPS_EVIDENCE_STORE", "s3://plant/evidence/")
    options = f'{{"endpoint_url": "{url}", "key": "x", "secret": "x", "use_listings_cache": false}}'
    monkeypatch.setenv("SMARTOPS_EVIDENCE_OPTIONS", options)
    get_settings.cache_clear()
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    client.close()
    server.stop()


def test_a_folder(home: Path) -> None:
    """What is made is where it is kept."""
    path = made()
    place = evidence_store.put(path)
    assert place == str(path)
    assert path.is_relative_to(home / "evidence")
    assert evidence_store.read(place).startswith(b"made")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bucket(home: Path, bucket: None) -> None:
    """Moved there, read from there, and cleared there when it is old."""
    paths = [made(days) for days in (0.0, 9.0, 11.0)]
    places = [evidence_store.put(path) for path in paths]
    assert places[0].startswith("s3://plant/evidence/")
    assert not any((home / "evidence").iterdir()), "nothing is left here"
    assert [evidence_store.read(place)[:4] for place in places] == [b"made"] * 3
    before = datetime.now(UTC) - timedelta(days=10)
    would = evidence_store.clear(before, dry_run=True)
    assert (would.steps, would.files) == (1, 1)
    assert evidence_store.clear(before) == would
    assert evidence_store.clear(before).files == 0
    assert evidence_store.read(places[1])
    with pytest.raises(FileNotFoundError):
        evidence_store.read(places[2])


def test_a_store_that_is_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence stays here, and its place says so; what is no address is told at once."""
    monkeypatch.setenv("SMARTOPS_EVIDENCE_STORE", "file:///proc/nothing/can/be/made/here")
    get_settings.cache_clear()
    path = made()
    assert evidence_store.put(path) == str(path)
    assert path.is_file()
    monkeypatch.setenv("SMARTOPS_EVIDENCE_STORE", "nonsense://x")
    get_settings.cache_clear()
    with pytest.raises(BadInput, match="SMARTOPS_EVIDENCE_STORE: nonsense"):
        evidence_store.clear(datetime.now(UTC))


def test_how_long_evidence_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many days as are said, but that of runs under hold; other files are left alone."""
    run, held = uuid4(), uuid4()
    old, new, kept = made(11.0, run), made(9.0, run), made(11.0, held)
    foreign = home / "evidence" / "not-a-run" / "notes"
    foreign.mkdir(parents=True)
    store = Store(get_settings().store_url)
    schema.migrate(store)
    holds.record(store, held, person="Ada", reason="an audit", placed=True)
    shipping.ship_all(store, get_settings().journal_dir, keep=True)
    store.close()
    assert clear_evidence(10, dry_run=True).files == 1
    assert old.exists()
    assert clear_evidence(10, dry_run=False).files == 1
    assert not old.parent.exists()
    assert new.exists()
    assert kept.exists()
    assert foreign.exists()
    assert clear_evidence(8, dry_run=False).files == 1
    assert not (home / "evidence" / str(run)).exists(), "no empty folders"
