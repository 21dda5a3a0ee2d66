"""The audit report: who changed, approved and decided what, and whether the record is whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby

from reports import people_numbers
from reports.catalogue import Asked, ReportKind
from reports.document import Column, Document, Figure, Section, Table, table_of
from reports.people_numbers import Happening, JobChange, Person, Sealed, Word
from reports.period import Period
from reports.wording import counted
from smartops.audit import anchors, keys, seal, verify
from smartops.audit.store import Store
from smartops.errors import BadInput, SmartOpsError
from smartops.settings import get_settings


@dataclass(frozen=True)
class Proof:
    """Whether the whole record is as it was sealed."""

    state: str
    """whole, altered, not looked at."""
    text: str


@dataclass(frozen=True)
class Found:
    """What the queries give."""

    changes: list[JobChange]
    approvals: list[Word]
    decisions: list[Word]
    holds: list[Word]
    people: list[Person]
    happenings: list[Happening]
    sealed: Sealed
    proof: Proof


def build(store: Store, period: Period, asked: Asked) -> Document:
    """Return the report. Raises StoreUnavailable; BadInput for a wrong ``verify``."""
    wanted = asked.get("verify", "yes")
    if wanted not in {"yes", "no"}:
        raise BadInput(f"verify={wanted}: it is yes or no")
    proof = prove(store) if wanted == "yes" else Proof("not looked at", "it was not asked for")
    with store.snapshot() as connection:
        changes = people_numbers.job_changes(connection, period)
        approved = people_numbers.approvals(connection, period)
        decided = people_numbers.decisions(connection, period)
        held = people_numbers.holds(connection, period)
        runs = people_numbers.runs_asked_for(connection, period)
        found = Found(
            changes,
            approved,
            decided,
            held,
            people_numbers.people(changes, approved, decided, held, runs),
            people_numbers.happenings(connection, period),
            people_numbers.sealed(connection, period),
            proof,
        )
    return _document(found, period)


def prove(store: Store) -> Proof:
    """Return whether chains, seals and what was published fit together, of the whole record."""
    settings = get_settings()
    if not seal.is_sealed(store):
        return Proof("not looked at", "nothing is sealed yet")
    try:
        published = [s for place in anchors.anchors_of(settings) for s in place.published()]
    except (SmartOpsError, OSError) as error:
        said = error.one_line if isinstance(error, SmartOpsError) else str(error)
        return Proof("not looked at", f"where seals are published cannot be read: {said}")
    trusted = keys.trusted_keys(settings.keys_dir)
    verdict = verify.verify(store, trusted, anchors.anchored_hashes(published))
    bad = verdict.first_bad
    if bad is None:
        return Proof("whole", "chains, seals and what was published fit together")
    run = f" (run {bad.run_id})" if bad.run_id else ""
    return Proof("altered", f"{bad.table} {bad.row} {bad.what}{run}")


def _document(found: Found, period: Period) -> Document:
    return Document(
        REPORT.name,
        REPORT.title,
        period,
        _summary(found),
        _figures(found),
        (
            Section("The record", (_proof_table(found), _happenings_table(found))),
            Section("People", (_people_table(found),), _LOGINS),
            Section("Changes of jobs", (_changes_table(found),)),
            Section(
                "Approvals and decisions",
                (
                    _words(
                        "approvals", "Approvals", found.approvals, "Nothing was to be approved."
                    ),
                    _words("decisions", "Decisions", found.decisions, "Nothing was to be decided."),
                    _words("holds", "Legal holds", found.holds, "No hold was placed or ended."),
                ),
            ),
        ),
    )


_LOGINS = (
    "There are no logins to list: a person is the user of the operating system who gave the "
    "command, or who is named by Prefect."
)


def _summary(found: Found) -> tuple[str, ...]:
    said = [f"The record is {found.proof.state}: {found.proof.text}."]
    if found.proof.state == "not looked at":
        said = [f"The record was not verified: {found.proof.text}."]
    changed = counted(len(found.changes), "change")
    jobs = counted(len({change.job for change in found.changes}), "job")
    said.append(f"{changed} of {jobs}, {counted(len(found.decisions), 'decision')}.")
    denied = Counter(word.what for word in found.approvals)
    if found.approvals:
        said.append(
            f"{denied['granted']} approvals granted, {denied['denied']} denied, "
            f"{denied['expired']} without an answer in time."
        )
    return tuple(said)


def _figures(found: Found) -> tuple[Figure, ...]:
    states = Counter(word.what for word in found.approvals)
    return (
        Figure("record", "The record", found.proof.state, "state"),
        Figure("seals", "Seals", found.sealed.seals),
        Figure("sealed_events", "Events sealed", found.sealed.events),
        Figure("changes", "Changes of jobs", len(found.changes)),
        Figure("granted", "Approved", states["granted"]),
        Figure("denied", "Denied", states["denied"]),
        Figure("decisions", "Decisions", len(found.decisions)),
        Figure("holds", "Legal holds", sum(word.what == "held" for word in found.holds)),
    )


@dataclass(frozen=True)
class _ProofLine:
    state: str
    text: str
    seals: int
    sealed_events: int
    first_seal: int | None
    last_seal: int | None


_PROOF = (
    Column("state", "The record", "state"),
    Column("text", "What was found"),
    Column("seals", "Seals of the period", "count"),
    Column("sealed_events", "Events sealed", "count"),
    Column("first_seal", "First seal", "id"),
    Column("last_seal", "Last seal", "id"),
)


def _proof_table(found: Found) -> Table:
    of = found.sealed
    line = _ProofLine(found.proof.state, found.proof.text, of.seals, of.events, of.first, of.last)
    note = (
        "The whole record is verified, as smartops audit verify does it, and not the period alone."
    )
    return table_of("proof", "Verification", _PROOF, [line], note=note)


_HAPPENINGS = (Column("at", "At", "time"), Column("what", "What"), Column("text", "Of what"))


def _happenings_table(found: Found) -> Table:
    empty = "Nothing was pruned, and nothing was found altered."
    return table_of("record", "Done with it", _HAPPENINGS, found.happenings, empty=empty)


_PEOPLE = (
    Column("person", "Who"),
    Column("changes", "Changes of jobs", "count"),
    Column("approvals", "Approvals", "count"),
    Column("decisions", "Decisions", "count"),
    Column("holds", "Holds", "count"),
    Column("runs", "Runs asked for", "count"),
)


def _people_table(found: Found) -> Table:
    note = "Runs asked for: also by schedules and by event sources, under their names."
    return table_of("people", "Who did what", _PEOPLE, found.people, note=note)


_CHANGES = (
    Column("at", "At", "time"),
    Column("job", "Job"),
    Column("action", "Action"),
    Column("person", "By"),
    Column("source", "From"),
    Column("before", "Before", "id"),
    Column("revision", "Revision", "id"),
)


def _changes_table(found: Found) -> Table:
    changes = sorted(found.changes, key=lambda change: (change.job, change.at))
    times = {job: len(list(each)) for job, each in groupby(changes, key=lambda c: c.job)}
    most = max(times, key=lambda job: times[job], default="")
    note = f"Changed most often: {most}, {counted(times[most], 'time')}." if most else ""
    empty = "No job was changed."
    return table_of("job_changes", "Changes", _CHANGES, found.changes, note=note, empty=empty)


_WORDS = (
    Column("at", "At", "time"),
    Column("what", "What"),
    Column("person", "By"),
    Column("job", "Job"),
    Column("step", "Step"),
    Column("subject", "On what"),
    Column("comment", "Comment"),
    Column("run_id", "Run", "id"),
)


def _words(name: str, title: str, words: list[Word], empty: str) -> Table:
    return table_of(name, title, _WORDS, words, empty=empty)


REPORT = ReportKind(
    "audit",
    "Audit report",
    "changes of jobs, approvals, decisions, who did what, and the proof that the record is whole",
    build,
    span="month",
    asks={"verify": "yes (the default) or no: whether the whole record is verified for it."},
)
