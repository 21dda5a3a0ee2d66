"""What a query of a report may read, by its text: what is not surely allowed is refused."""

from __future__ import annotations

import pytest

from reports.own import readable
from reports.own.asking import problem_of
from tests.conftest import all_tables

ALLOWED = [
    "SELECT 1",
    "select count(*) from job_run;",
    "SELECT r.job, s.step FROM job_run r, step_run s WHERE s.run_id = r.id -- the same run",
    "SELECT * FROM (SELECT job FROM `job_run`) x LEFT JOIN slot USING (job)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n",
    "WITH a AS (SELECT job FROM job_run), b AS (SELECT job FROM a) SELECT * FROM a NATURAL JOIN b",
    "SELECT EXTRACT(HOUR FROM started_at), TRIM('x' FROM job) FROM job_run",
    "SELECT AVG(n) OVER w FROM rollup_run WINDOW w AS (PARTITION BY job), v AS (ORDER BY job)",
    "SELECT job FROM job_run WHERE message LIKE 'it''s FROM seal, event: %'",
    "SELECT (SELECT MAX(at) FROM decision) FROM job_run WHERE id IN (SELECT run_id FROM hold)",
    "SELECT r.order FROM job_run r",
]


@pytest.mark.parametrize("query", ALLOWED)
def test_queries_on_the_record_are_taken(query: str) -> None:
    """Joins, subqueries, WITH, windows; keywords within functions and texts are none."""
    assert readable.problem(query) == ""


REFUSED = [
    ("DELETE FROM job_run", "begins with SELECT"),
    ("", "begins with SELECT"),
    ("SELECT 1; SELECT 2", "one statement"),
    ("SELECT 1 INTO OUTFILE 'x'", "writes nowhere"),
    ("SELECT * FROM job_run FOR UPDATE", "locks nothing"),
    ("SELECT LOAD_FILE('/etc/passwd')", "reads no files"),
    ("SELECT SLEEP(9)", "waits for nothing"),
    ("SELECT * FROM event", "table event may not be read"),
    ("SELECT * FROM mysql.user", "table mysql.user may not"),
    ("SELECT * FROM `mysql`.`user`", "table mysql.user may not"),
    ("SELECT * FROM job_run r, mysql.user", "table mysql.user may not"),
    ("SELECT * FROM job_run r JOIN slot s ON r.job = s.job, seal", "table seal may not"),
    ("SELECT * FROM job_run r JOIN slot s ON r.order = s.group, seal", "table seal may not"),
    ("SELECT * FROM (job_run r JOIN (slot s, seal))", "table seal may not"),
    ("SELECT * FROM job_run window, seal", "table seal may not"),
    ("SELECT job FROM job_run UNION SELECT tag FROM alembic_version", "alembic_version may not"),
    ("SELECT * FROM job_run WHERE 1 = (SELECT 1 FROM information_schema.tables)", "may not"),
    ("SELECT * FROM `select`.x", "table select.x may not"),
    ("TABLE seal", "begins with SELECT"),
    ("SELECT 1 UNION TABLE seal", "name the table after FROM"),
    ("SELECT 1.FROM seal", "cannot be read from '1.FROM seal'"),
    ("SELECT 1FROM seal", "cannot be read"),
    ("SELECT 5--1 FROM seal", "table seal may not"),
    ("SELECT 1 /*! FROM seal */", "cannot be read"),
    ("SELECT 'a\\' FROM seal WHERE ' '", "cannot be read"),
    ("SELECT 1 # FROM job_run", "cannot be read"),
    ("SELECT @@version", "cannot be read"),
    ("SELECT\u00a01 FROM seal", "cannot be read"),
    ("SELECT * FROM pragma_table_info('job_run')", "pragma_table_info may not"),
    ("SELECT 1 FROM job_run WHERE job = :job", ""),
]


@pytest.mark.parametrize(("query", "said"), REFUSED[:-1])
def test_other_queries_are_refused(query: str, said: str) -> None:
    """Other tables and databases, changes, files, and what databases read in different ways."""
    assert said in readable.problem(query)


def test_a_query_names_the_period_alone() -> None:
    """Every other name with a colon is told at once."""
    assert problem_of("SELECT job FROM slot WHERE due_at >= :since AND id < :until_key") == ""
    assert "names :job" in problem_of(REFUSED[-1][0])


def test_what_may_be_read_is_there_and_the_rest_is_meant() -> None:
    """Each table of the list exists; the others are what only services use."""
    known = set(all_tables().tables)
    assert known >= readable.READABLE
    assert known - readable.READABLE == {
        "alert_episode", "alert_fact", "alert_message", "alert_switch", "event", "event_held",
        "lock_place", "lock_turn", "machine_beat", "report_part", "rollup_state", "seal",
        "seal_part", "stream",
    }  # fmt: skip
