"""Real servers for the tests: the plant, MariaDB, and the whole stack with Prefect."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

# Nothing of the user's own Prefect or SmartOps may be seen, and this has to happen before the
# first import of Prefect.
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "SMARTOPS_"))]:
    if _name != "SMARTOPS_TEST_MYSQL_URL":
        del os.environ[_name]
_SESSION_HOME = Path(tempfile.mkdtemp(prefix="smartops-tests-"))
os.environ["PREFECT_HOME"] = str(_SESSION_HOME / "own-prefect")
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["AIOSMTPD_CONTROLLER_TIMEOUT"] = "60"  # a mail server has 5 s to start otherwise

import psutil  # noqa: E402
import pytest  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from scripts import mariadb  # noqa: E402
from services.stack import Stack  # noqa: E402
from smartops.audit import lock_tables, models, schema  # noqa: E402
from smartops.audit.store import Store  # noqa: E402
from smartops.drivers.browser import find_executable  # noqa: E402
from smartops.plant import Plant  # noqa: E402
from smartops.settings import get_settings  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def needs(found: bool, what: str) -> None:
    """Skip a test on a laptop without a server; fail it in CI, where all of them must be there."""
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing, and in CI it must be there")
        pytest.skip(f"{what} is not on this machine")


def wait_for(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> Any:
    """Wait until a condition gives something true, and return that."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {limit_s} s")
        time.sleep(0.02)
    return found


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_OF_THEIR_OWN = frozenset(
    {
        "test_deploying_needs_nothing_but_an_api",
        "test_two_systems_that_start_at_once_do_not_mix",
    }
)
"""Acceptance tests that start what they need by themselves: they run beside the others."""
_SECOND_SYSTEM = frozenset(
    {
        "test_control.py",
        "test_ending.py",
        "test_form.py",
        "test_reconciler.py",
        "test_warm_worker.py",
    }
)
"""The acceptance tests that have a second system to themselves: two wait at the same time."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares a system: the acceptance tests of each half, each file's tests."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class BySystem(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = str(nodeid).partition("::")
            if test.partition("[")[0] in _OF_THEIR_OWN:
                return "systems of their own"
            if not file.startswith("tests/acceptance/"):
                return file
            return f"acceptance {file.rpartition('/')[2] in _SECOND_SYSTEM}"

    return BySystem(config, log)


@pytest.fixture(scope="session", autouse=True)
def _tidy() -> Iterator[None]:
    """Remove the session's folder, and prove that no test left a process behind."""
    yield
    mine = psutil.Process()
    # What was just told to end may need a moment.
    _, left = psutil.wait_procs(mine.children(recursive=True), timeout=10)
    names = []
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                names.append(" ".join(process.cmdline())[:200])
                process.kill()
    shutil.rmtree(_SESSION_HOME, ignore_errors=True)
    assert not names, f"processes left behind: {names}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder of the test's own."""
    monkeypatch.setenv("SMARTOPS_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
async def plant(home: Path) -> AsyncIterator[Plant]:
    """A plant in this process, on free ports."""
    async with Plant(seed=7, opcua=False) as running:
        yield running


@pytest.fixture
async def opcua_plant(home: Path) -> AsyncIterator[Plant]:
    """A plant with its OPC UA server, which takes seconds to start."""
    async with Plant(seed=7) as running:
        await running.opcua_is_ready()
        yield running


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser on this machine."""
    found = find_executable()
    needs(found is not None, "Chromium")
    assert found is not None
    return found


# --- databases --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[str]:
    """The URL of a MySQL or MariaDB server, without a database name."""
    given = os.environ.get("SMARTOPS_TEST_MYSQL_URL")
    if given:
        yield given.rstrip("/")
        return
    needs(mariadb.binary() is not None, "MariaDB's server (apt-get install mariadb-server-core)")
    folder = _SESSION_HOME / "mariadb"
    folder.mkdir()
    with mariadb.running(folder) as server:
        yield server.url


@pytest.fixture
def mysql_url(mysql_server: str) -> Iterator[str]:
    """The URL of an empty database of the test's own on a real server."""
    name = f"smartops_{os.getpid()}_{time.monotonic_ns()}"
    engine = sa.create_engine(f"{mysql_server}/", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"{mysql_server}/{name}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def empty_store(request: pytest.FixtureRequest, home: Path) -> Iterator[Store]:
    """A store without tables, on SQLite and on a real server."""
    url = f"sqlite:///{home / 'audit.sqlite'}"
    if request.param == "mysql":
        url = request.getfixturevalue("mysql_url")
    home.mkdir(parents=True, exist_ok=True)
    store = Store(url)
    yield store
    store.close()


def all_tables() -> sa.MetaData:
    """Return the tables of the record and those of the locks."""
    both = sa.MetaData(naming_convention=models.metadata.naming_convention)
    for table in (*models.metadata.sorted_tables, *lock_tables.metadata.sorted_tables):
        table.to_metadata(both)
    return both


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """A database with all tables and nothing in them, to be copied."""
    path = _SESSION_HOME / "template.sqlite"
    store = Store(f"sqlite:///{path}")
    schema.migrate(store)
    store.close()
    return path


@pytest.fixture
def store(empty_store: Store, home: Path, sqlite_template: Path) -> Store:
    """A store with its tables, on SQLite and on a real server."""
    if not empty_store.is_server:
        shutil.copy(sqlite_template, home / "audit.sqlite")
    assert schema.migrate(empty_store) is empty_store.is_server
    return empty_store


# --- the whole system -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stack(chromium: Path) -> Iterator[Stack]:
    """Prefect's server, a worker, the recorder and the plant, for the whole session."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    from services import stack as stacks

    before = os.environ.get("SMARTOPS_HOME")
    os.environ["SMARTOPS_HOME"] = str(_SESSION_HOME / "stack")
    get_settings.cache_clear()
    running = stacks.up(lambda _text: None)
    if before is None:
        del os.environ["SMARTOPS_HOME"]
    else:
        os.environ["SMARTOPS_HOME"] = before
    get_settings.cache_clear()
    _pause_schedules(running.api_url)
    yield running
    # Prefect's threads in this process would try to reach a server that has gone, for a minute.
    EventsWorker.drain_all()
    APILogWorker.drain_all()
    running.stop()


def _pause_schedules(api_url: str) -> None:
    """Let no job that ships start by itself: its traces in the plant would confuse the tests."""

    def post(path: str) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{api_url}/{path}", b"{}", headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    for deployment in post("deployments/filter"):
        if deployment["schedules"]:
            post(f"deployments/{deployment['id']}/pause_deployment")


@pytest.fixture
def in_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, with this process pointed to it as a user's Python would be."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("SMARTOPS_HOME", str(stack.settings.home))
    get_settings.cache_clear()
    with temporary_settings({PREFECT_API_URL: stack.api_url}):
        yield stack
    get_settings.cache_clear()
    gc.collect()  # what Prefect's clients leave open is reported here, where it is expected
    importlib.import_module("hypothesis")  # it asks the collector who refers to what, as it loads
    gc.freeze()  # what is left stays: the next time only what is new is looked through


PREFECT_LEAVES_SOCKETS = pytest.mark.filterwarnings(
    # Prefect's own background clients are collected without being closed.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
