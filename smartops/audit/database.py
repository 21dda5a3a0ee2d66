"""Connections to the audit store's database: SQLite, MariaDB or MySQL, with TLS where wanted."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from smartops.errors import BadInput
from smartops.settings import get_settings

_TIMEOUT_S = 10
SERVERS = ("mysql", "mariadb")
_TLS_WORDS = ("ssl", "ssl_ca", "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")


def parse(url: str) -> URL:
    """Return the URL of an audit store. Raises BadInput for one that cannot be such."""
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (exc.ArgumentError, exc.NoSuchModuleError, ValueError):
        raise BadInput(
            "SMARTOPS_DATABASE_URL is no database URL that SmartOps knows",
            hint="Write mysql+pymysql://user:password@host/name or sqlite:///path.",
        ) from None
    if parsed.get_backend_name() not in {"sqlite", *SERVERS}:
        raise BadInput(
            f"SMARTOPS_DATABASE_URL names {parsed.get_backend_name()}; "
            "the audit store runs on MySQL, MariaDB and SQLite"
        )
    if "password" in parsed.query:
        raise BadInput("SMARTOPS_DATABASE_URL: write the password as user:password@host")
    if words := sorted(set(_TLS_WORDS) & set(parsed.query)):
        # In a URL these do what nobody expects: ssl_disabled=false turns TLS off, and ssl_ca alone
        # verifies nothing.
        raise BadInput(
            f"SMARTOPS_DATABASE_URL: {words[0]} has no place in the URL",
            hint="Set SMARTOPS_DATABASE_CA to the authority's certificate.",
        )
    if parsed.get_backend_name() in SERVERS and parsed.get_driver_name() != "pymysql":
        parsed = parsed.set(drivername=f"{parsed.get_backend_name()}+pymysql")
    return parsed


def connect(
    url: URL, *, patient: bool = False, own: bool = False, limit_s: float | None = None
) -> Engine:
    """Return an engine that reconnects, times out and compares byte by byte.

    A ``patient`` one waits an hour for an answer: changing a great table takes its time. One of its
    ``own`` keeps no connections, commits each statement, and waits an hour too, but not for a
    machine that has gone. ``limit_s`` is another limit, also for connecting.
    """
    connect_s = min(limit_s or _TIMEOUT_S, _TIMEOUT_S)
    limit_s = limit_s or (3600 if patient or own else 3 * _TIMEOUT_S)
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _TIMEOUT_S})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    pool: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": 3600}
    engine = sa.create_engine(
        url,
        # MySQL's own default deadlocks on concurrent upserts.
        isolation_level="AUTOCOMMIT" if own else "READ COMMITTED",
        **({"poolclass": sa.NullPool} if own else pool),
        connect_args={
            "connect_timeout": connect_s,
            # Without these a frozen server hangs the caller for ever, even in the handshake.
            "read_timeout": limit_s,
            "write_timeout": limit_s,
            "charset": "utf8mb4",
            "sql_mode": "TRADITIONAL",
            **_tls(),
        },
    )
    if own:
        sa.event.listen(engine, "connect", _notice_a_dead_machine)
    return engine


def _notice_a_dead_machine(connection: Any, _record: Any) -> None:
    """Let the system ask every 2 s whether the server's machine is there; PyMySQL turns that on."""
    wire: socket.socket = connection._sock
    for option, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _tls() -> dict[str, Any]:
    path = get_settings().database_ca
    return {} if path is None else {"ssl": _tls_context(path)}


@lru_cache(maxsize=4)
def _tls_context(path: Path) -> ssl.SSLContext:
    """Return the one context of all connections: a fresh one costs 20 ms each."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise BadInput(f"SMARTOPS_DATABASE_CA={path}: {error.strerror or error}") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event below opens transactions
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    deadline = time.monotonic() + _TIMEOUT_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The switch does not wait for others as statements do: it fails at once.
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
