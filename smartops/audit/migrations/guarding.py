"""The second wall: triggers that refuse to change or delete what is only ever added to.

The first wall are the grants in ``deployments/mysql/grants.sql``.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from smartops.audit.migrations.partitions import is_server

GUARDED = ("event", "event_held", "seal", "seal_part")
_DOINGS = ("UPDATE", "DELETE")
_NOT_ALLOWED = {1142, 1227, 1419}
logger = logging.getLogger(__name__)


def trigger_names() -> list[str]:
    """Return the names of all guarding triggers."""
    return [_name(table, doing) for table in GUARDED for doing in _DOINGS]


def _name(table: str, doing: str) -> str:
    return f"no_{doing.lower()}_of_{table}"


def guard(connection: Connection) -> None:
    """Create the triggers that are not there.

    MySQL with a binary log lets only some users create triggers: then it says so and goes on, as
    the grants are the first wall, and `smartops doctor` names what is missing.
    """
    known = present(connection)
    try:
        for table in GUARDED:
            for doing in _DOINGS:
                if _name(table, doing) not in known:
                    connection.exec_driver_sql(_sql(connection, table, doing))
    except DBAPIError as error:
        if not error.orig or error.orig.args[0] not in _NOT_ALLOWED:
            raise
        logger.warning("the database user may not create triggers: %s", error.orig)


def unguard(connection: Connection, *tables: str) -> None:
    """Drop the triggers of some tables, or of all."""
    for table in tables or GUARDED:
        for doing in _DOINGS:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_name(table, doing)}")


def present(connection: Connection) -> set[str]:
    """Return the names of the triggers that are there."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if is_server(connection):
        sql = (
            "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()"
        )
    return {str(row[0]) for row in connection.execute(sa.text(sql))} & set(trigger_names())


def _sql(connection: Connection, table: str, doing: str) -> str:
    refusal = f"{table} is only ever added to"
    head = f"CREATE TRIGGER {_name(table, doing)} BEFORE {doing} ON {table}"
    if is_server(connection):
        return f"{head} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{refusal}'"
    return f"{head} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
