"""The operations report of a day, a week or a month: what a shift lead has to know."""

from __future__ import annotations

from dataclasses import dataclass

from reports import data_check_tables as quality
from reports import data_checks, exceptions, run_numbers, step_numbers, trend
from reports import exception_tables as lost
from reports.catalogue import Asked, ReportKind
from reports.document import (
    Bars,
    Chart,
    Column,
    Document,
    Figure,
    Section,
    Series,
    Table,
    table_of,
)
from reports.period import Period
from reports.run_numbers import JobNumbers
from reports.wording import counted, share
from smartops.audit.rollup_reading import Rollups
from smartops.audit.store import Store


@dataclass(frozen=True)
class Operations:
    """What the queries give: everything that the report is made of."""

    period: Period
    jobs: dict[str, JobNumbers]
    jobs_before: dict[str, JobNumbers]
    failures: list[step_numbers.Failure]
    slots: list[exceptions.LostSlots]
    slot_counts: dict[str, int]
    doubts: list[exceptions.Doubt]
    locks: list[exceptions.LockWaits]
    flaky: list[step_numbers.Flaky]
    retried_s: dict[str, float]
    """By job: time that failed attempts took in runs that completed all the same."""
    days: list[trend.Day]
    checks: data_checks.DataChecks
    checks_before: dict[str, data_checks.SuiteNumbers]


def query(store: Store, period: Period) -> Operations:
    """Return the facts of a period, all as of one moment. Raises StoreUnavailable."""
    with store.snapshot() as connection:
        rollups = Rollups(connection)
        steps = rollups.steps(period.start, period.end)
        return Operations(
            period,
            run_numbers.numbers_of(connection, period),
            run_numbers.numbers_of(connection, period.before),
            step_numbers.failures(connection, period),
            exceptions.lost_slots(connection, period),
            dict(exceptions.slot_counts(connection, period)),
            exceptions.doubts(connection, period),
            exceptions.lock_waits(connection, period),
            step_numbers.flaky(steps),
            step_numbers.retried_s(steps),
            trend.days(rollups, period),
            data_checks.numbers_of(connection, period),
            data_checks.by_suite(connection, period.before),
        )


def build(store: Store, period: Period, _asked: Asked) -> Document:
    """Return the report."""
    found = query(store, period)
    whole = run_numbers.together(found.jobs.values())
    before = run_numbers.together(found.jobs_before.values())
    return Document(
        REPORT.name,
        REPORT.title,
        period,
        _summary(found, whole),
        _figures(found, whole, before),
        (
            Section("Runs", (*_run_charts(found), jobs_table(found), durations_table(found))),
            Section("Failures", (*_failure_charts(found), *failure_tables(found))),
            Section("Slots without a run", (lost.slots_table(found.slots),)),
            Section("Effects in doubt", (lost.doubts_table(found.doubts),)),
            Section("Waits", (lost.locks_table(found.locks),)),
            quality.section(found.checks, found.checks_before),
        ),
    )


def _summary(found: Operations, whole: JobNumbers) -> tuple[str, ...]:
    runs, jobs = counted(whole.runs, "run"), counted(len(found.jobs), "job")
    said = [f"{runs} of {jobs}, {whole.bad} of them failed."]
    if whole.success is not None:
        said[0] = f"{said[0][:-1]}: {share(whole.success)} succeeded."
    if found.failures:
        most = found.failures[0]
        times = counted(most.attempts, "time")
        said.append(f"{most.job} / {most.step} failed most often, {times}: {most.message}")
    open_doubts = sum(doubt.verdict == "open" for doubt in found.doubts)
    if open_doubts:
        what = counted(open_doubts, "effect is", "effects are")
        said.append(f"{what} in doubt, and nobody has decided yet.")
    missed = found.slot_counts.get("missed", 0)
    if missed:
        said.append(f"{counted(missed, 'slot was', 'slots were')} missed.")
    return (*said, *quality.sentences(found.checks, found.checks_before))


def _figures(found: Operations, whole: JobNumbers, before: JobNumbers) -> tuple[Figure, ...]:
    counts = found.slot_counts
    return (
        Figure("runs", "Runs", whole.runs, before=before.runs),
        Figure("success", "Success", whole.success, "share", before.success, "more"),
        Figure("failed", "Failed runs", whole.bad, before=before.bad, better="less"),
        Figure("lost_s", "Time lost", whole.lost_s, "seconds", before.lost_s, "less"),
        Figure("retried_s", "In failed attempts", sum(found.retried_s.values()), "seconds"),
        Figure("mttr_s", "MTTR", whole.mttr_s, "seconds", before.mttr_s, "less"),
        Figure("missed", "Missed slots", counts.get("missed", 0), better="less"),
        Figure("skipped", "Skipped slots", counts.get("skipped", 0)),
        Figure("doubts", "Effects in doubt", len(found.doubts), better="less"),
        *quality.figures(found.checks, found.checks_before),
    )


# --- runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobLine:
    """One job's runs, beside those of the period before."""

    job: str
    runs: int
    completed: int
    bad: int
    cancelled: int
    open: int
    success: float | None
    success_before: float | None
    lost_s: float
    retried_s: float
    mttr_s: float | None
    mtbf_s: float | None


_JOBS = (
    Column("job", "Job"),
    Column("runs", "Runs", "count"),
    Column("completed", "Completed", "count"),
    Column("bad", "Failed", "count"),
    Column("cancelled", "Cancelled", "count"),
    Column("open", "Not ended", "count"),
    Column("success", "Success", "share"),
    Column("success_before", "Before", "share"),
    Column("lost_s", "Time lost", "seconds"),
    Column("retried_s", "Retried", "seconds"),
    Column("mttr_s", "MTTR", "seconds"),
    Column("mtbf_s", "MTBF", "seconds"),
)


def jobs_table(found: Operations) -> Table:
    """Return how each job's runs went."""
    nothing = JobNumbers()
    lines = [
        JobLine(
            name,
            job.runs,
            job.states["completed"],
            job.bad,
            job.states["cancelled"],
            job.states["running"] + job.states["suspended"],
            job.success,
            found.jobs_before.get(name, nothing).success,
            job.lost_s,
            found.retried_s.get(name, 0.0),
            job.mttr_s,
            job.mtbf_s(found.period),
        )
        for name, job in found.jobs.items()
    ]
    note = (
        "Failed: failed, crashed, or in need of a decision; cancelled runs count for neither. Time "
        "lost: in runs that failed; retried: in failed attempts of runs that completed. MTTR: from "
        "a failure's end to the end of the next success. MTBF: the time in order for each time "
        "that the job began to fail."
    )
    return table_of("jobs", "Jobs", _JOBS, lines, note=note)


@dataclass(frozen=True)
class DurationLine:
    """How long one job's completed runs took, beside the period before."""

    job: str
    p50_s: float | None
    p50_before_s: float | None
    p95_s: float | None
    p95_before_s: float | None
    p99_s: float | None
    p99_before_s: float | None


_DURATIONS = (
    Column("job", "Job"),
    Column("p50_s", "p50", "seconds"),
    Column("p50_before_s", "before", "seconds"),
    Column("p95_s", "p95", "seconds"),
    Column("p95_before_s", "before", "seconds"),
    Column("p99_s", "p99", "seconds"),
    Column("p99_before_s", "before", "seconds"),
)


def durations_table(found: Operations) -> Table:
    """Return how long the completed runs of each job took."""
    nothing = JobNumbers()
    lines = []
    for name, job in found.jobs.items():
        before = found.jobs_before.get(name, nothing)
        both = [n.quantile_s(q) for q in (0.5, 0.95, 0.99) for n in (job, before)]
        lines.append(DurationLine(name, *both))
    note = "Of runs that completed; half of them took no longer than p50, 95 % no longer than p95."
    return table_of("durations", "Durations", _DURATIONS, lines, note=note)


def _run_charts(found: Operations) -> list[Chart]:
    most = sorted(found.jobs.items(), key=lambda item: (-item[1].runs, item[0]))[:20]
    over_days = trend.charts(found.days, found.period.zone)
    if not most:
        return over_days
    series = (
        Series("completed", tuple(float(job.states["completed"]) for _, job in most), "good"),
        Series("failed", tuple(float(job.bad) for _, job in most), "bad"),
        Series("cancelled", tuple(float(job.states["cancelled"]) for _, job in most), "warn"),
    )
    says = "; ".join(f"{name}: {job.runs} runs, {job.bad} failed" for name, job in most)
    names = tuple(name for name, _ in most)
    bars = Bars("runs-by-job", "Runs by job", says, names, series, "runs", lying=True)
    return [bars, *over_days]


# --- failures ---------------------------------------------------------------------------------

FAILURES = (
    Column("job", "Job"),
    Column("step", "Step"),
    Column("attempts", "Attempts", "count"),
    Column("runs", "Runs", "count"),
    Column("message", "Last message"),
    Column("lost_s", "Time", "seconds"),
    Column("last_at", "Last", "time"),
    Column("last_run", "Last run", "id"),
    Column("fingerprint", "Fingerprint", "id"),
)


_FLAKY = (
    Column("job", "Job"),
    Column("step", "Step"),
    Column("passed_on_retry", "Passed on retry", "count"),
    Column("passed", "Passed", "count"),
    Column("share", "Share", "share"),
    Column("retried_s", "Time retried", "seconds"),
    Column("p95_s", "p95 of an attempt", "seconds"),
)


def failure_tables(found: Operations) -> list[Table]:
    """Return what failed, the same failures together, and what passed at a second try."""
    note = "Failed attempts whose messages differ in numbers, ids and times alone are one line."
    empty = "No step failed."
    table = table_of("failures", "Top failures", FAILURES, found.failures, note=note, empty=empty)
    note = "Steps that passed after they had failed in the same run: the next failures to come."
    empty = "No step had to be tried again to pass."
    flaky = table_of("flaky", "Flaky steps", _FLAKY, found.flaky, note=note, empty=empty)
    return [table, flaky]


def _failure_charts(found: Operations) -> list[Chart]:
    top = found.failures[:10]
    if not top:
        return []
    labels = tuple(f"{failure.job} / {failure.step}" for failure in top)
    values = tuple(float(failure.attempts) for failure in top)
    says = "; ".join(f"{f.job} / {f.step}: {f.attempts} ({f.message[:60]})" for f in top)
    series = (Series("failed attempts", values, "bad"),)
    return [Bars("top-failures", "Top failures", says, labels, series, "attempts", lying=True)]


REPORT = ReportKind(
    "operations",
    "Operations report",
    "Runs, success, durations against the period before, failures, missed slots, doubts, data.",
    build,
)
