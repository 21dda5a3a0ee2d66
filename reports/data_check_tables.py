"""The section of a report on checks of data: suites beside the period before, what did not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from reports.data_checks import DataChecks, SuiteNumbers, Unmet
from reports.document import Bars, Chart, Column, Figure, Section, Series, Table, table_of
from reports.wording import counted

Suites = Mapping[str, SuiteNumbers]
_MOST_BARS = 20


@dataclass(frozen=True)
class _Line:
    suite: str
    checks: int
    checks_before: int
    passed: int
    warned: int
    failed: int
    share: float | None
    share_before: float | None
    last: str | None
    last_at: datetime | None
    last_run: UUID | None
    quarantined: int
    quarantined_before: int


_SUITES = (
    Column("suite", "Suite"),
    Column("checks", "Checks", "count"),
    Column("checks_before", "Before", "count"),
    Column("passed", "Passed", "count"),
    Column("warned", "Warned", "count"),
    Column("failed", "Failed", "count"),
    Column("share", "Pass rate", "share"),
    Column("share_before", "Before", "share"),
    Column("quarantined", "Quarantined", "count"),
    Column("quarantined_before", "Before", "count"),
    Column("last", "Last result", "state"),
    Column("last_at", "Last", "time"),
    Column("last_run", "Last run", "id"),
)
_UNMET = (
    Column("suite", "Suite"),
    Column("dataset", "Rows"),
    Column("sentence", "Last found"),
    Column("failed", "Failed", "count"),
    Column("warned", "Warned", "count"),
    Column("bad_rows", "Bad rows", "count"),
    Column("worst_share", "At worst", "share"),
    Column("quarantined", "Quarantined", "count"),
    Column("last_at", "Last", "time"),
    Column("last_run", "Last run", "id"),
    Column("expectation", "Expectation"),
    Column("subject", "Of what"),
)


def section(now: DataChecks, before: Suites) -> Section:
    """Return the results of the suites, and the expectations that did not hold."""
    return Section("Data quality", (*_charts(now), _suites(now, before), _unmet(now.unmet)))


def figures(now: DataChecks, before: Suites) -> tuple[Figure, ...]:
    """Return how many checks failed, and how many rows were kept apart."""
    failed, apart = (
        [sum(getattr(suite, name) for suite in found.values()) for found in (now.suites, before)]
        for name in ("failed", "quarantined")
    )
    return (
        Figure("checks_failed", "Failed data checks", failed[0], "count", failed[1], "less"),
        Figure("quarantined_rows", "Quarantined rows", apart[0], "count", apart[1], "less"),
    )


def sentences(now: DataChecks, before: Suites) -> list[str]:
    """Return what is to be known first: what failed, and what was not looked at any more."""
    worst = {each.suite: each for each in reversed(now.unmet)}  # the first of each suite stays
    said = [
        f"Suite {name} failed in {suite.failed} of {counted(suite.checks, 'check')}: "
        f"{worst[name].sentence}"
        for name, suite in now.suites.items()
        if suite.failed
    ]
    return said + [
        f"Suite {name} was not checked, and was in the period before."
        for name in sorted(before.keys() - now.suites.keys())
    ]


def _suites(now: DataChecks, before: Suites) -> Table:
    nothing = SuiteNumbers()
    lines = []
    for name in sorted(now.suites.keys() | before.keys()):
        own, old = now.suites.get(name, nothing), before.get(name, nothing)
        lines.append(
            _Line(
                name,
                own.checks,
                old.checks,
                own.passed,
                own.warned,
                own.failed,
                own.share,
                old.share,
                own.last,
                own.last_at,
                own.last_run,
                own.quarantined,
                old.quarantined,
            )
        )
    note = (
        "A check is passed when no expectation of its suite warned or failed. Quarantined: rows "
        "that were kept apart from the others, as they do not meet an expectation."
    )
    empty = "No data was checked."
    return table_of("data_quality", "Checks of data", _SUITES, lines, note=note, empty=empty)


def _unmet(unmet: list[Unmet]) -> Table:
    note = "The worst first: by how often it failed, then warned, then by bad rows."
    return table_of(
        "unmet", "Expectations that did not hold", _UNMET, unmet, note=note,
        empty="Every expectation was met.",
    )  # fmt: skip


def _charts(now: DataChecks) -> list[Chart]:
    most = sorted(now.suites.items(), key=lambda item: (-item[1].checks, item[0]))[:_MOST_BARS]
    if not most:
        return []
    says = "; ".join(f"{name}: {of.checks} checks, {of.failed} failed" for name, of in most)
    series = (
        Series("passed", tuple(float(of.passed) for _, of in most), "good"),
        Series("warned", tuple(float(of.warned) for _, of in most), "warn"),
        Series("failed", tuple(float(of.failed) for _, of in most), "bad"),
    )
    names = tuple(name for name, _ in most)
    title = "Checks of data by suite"
    return [Bars("checks-by-suite", title, says, names, series, "checks", lying=True)]
