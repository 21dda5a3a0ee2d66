"""Which test fails when an option of the files of users' own reports has no effect."""

from __future__ import annotations

_OWN = "tests/integration/test_own_reports.py::"
_FILE = _OWN + "test_the_file_says_how_it_is_made"
_SHOWN = _OWN + "test_how_rows_are_shown"
_PYTHON = _OWN + "test_python_gets_rows_and_gives_rows"
_ROWS = _OWN + "test_no_rows_and_too_many"
_MADE = "tests/acceptance/test_own_reports.py::test_a_report_of_ones_own_is_made_and_mailed"
_SCHEDULE = "tests/acceptance/test_own_reports.py::test_both_ways_to_deploy_give_the_same"

REPORT_OPTION_TESTS: dict[str, str] = {
    "report.name": _FILE,
    "report.title": _FILE,
    "report.description": _FILE,
    "report.period": _FILE,
    "report.schedule": _SCHEDULE,
    "report.formats": _MADE,
    "report.mail": _MADE,
    "report.mail_by": _MADE,
    "report.attach": _MADE,
    "report.limit": _OWN + "test_a_query_that_takes_too_long_is_ended",
    "report.template": _OWN + "test_the_words_are_what_the_template_says",
    "report.queries": _OWN + "test_a_query_as_it_comes",
    "schedule.cron": _SCHEDULE,
    "schedule.timezone": _SCHEDULE,
    "query.name": _SHOWN,
    "query.title": _SHOWN,
    "query.sql": _OWN + "test_a_query_as_it_comes",
    "query.python": _PYTHON,
    "query.args": _PYTHON,
    "query.given": _PYTHON,
    "query.rows": _ROWS,
    "query.columns": _SHOWN,
    "query.show": _SHOWN,
    "query.text": _SHOWN,
    "query.note": _SHOWN,
    "query.empty": _ROWS,
    "query.chart": _SHOWN,
    "column.name": _SHOWN,
    "column.title": _SHOWN,
    "column.kind": _SHOWN,
    "chart.kind": _SHOWN,
    "chart.title": _SHOWN,
    "chart.labels": _SHOWN,
    "chart.values": _SHOWN,
    "chart.unit": _SHOWN,
    "chart.lying": _SHOWN,
    "chart.limit": _SHOWN,
}
