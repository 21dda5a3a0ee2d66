"""The audit report: who changed, approved and decided what, and whether the record is whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby

from reports import people_numbers
from reports.catalogue import Asked, ReportKind
from reports.document import Column, Document, Figure, Section, Table, table_of
from reports.people_numbers import Happening, JobChange, Person, Sealed, Verification, Word
from reports.period import Period
from reports.wording import counted
from smartops.audit import seal, verification
from smartops.audit.anchors import AnchorFailed
from smartops.audit.store import Store
from smartops.errors import BadInput, SmartOpsError, StoreUnavailable


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
    prunings: list[Happening]
    verifications: list[Verification]
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
            people_numbers.prunings(connection, period),
            people_numbers.verifications(connection, period),
            people_numbers.sealed(connection, period),
            proof,
        )
    return _document(found, period)


def prove(store: Store) -> Proof:
    """Return whether chains, seals and what was published fit together, of the whole record."""
    try:
        if not seal.is_sealed(store):
            return Proof("not looked at", "nothing is sealed yet")
        verdict = verification.look(store)
    except AnchorFailed as error:
        return Proof("not looked at", f"where seals are published cannot be read: {error}")
    except StoreUnavailable:
        raise
    except SmartOpsError as error:
        return Proof("not looked at", error.one_line)
    if verdict.first_bad is None:
        return Proof("whole", "chains, seals and what was published fit together")
    return Proof("altered", verdict.first_bad.text)


def _document(found: Found, period: Period) -> Document:
    return Document(
        REPORT.name,
        REPORT.title,
        period,
        _summary(found),
        _figures(found),
        (
            Section("The record", _of_the_record(found)),
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
    "There are no logins to list, as SmartOps has none of its own. A name is that of the operating "
    "system's user who gave the command (root may be anybody), or what was typed in Prefect, "
    "which nobody has proved. Who may log in to the machines and reaches Prefect decides who acts."
)


def _summary(found: Found) -> tuple[str, ...]:
    said = [f"The record is {found.proof.state}: {found.proof.text}."]
    if found.proof.state == "not looked at":
        said = [f"The record was not verified: {found.proof.text}."]
    said.append(_verified(found.verifications))
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


def _verified(found: list[Verification]) -> str:
    """Return what the verifications on record come to, the scheduled ones among them."""
    if not found:
        return "No verification was put on record."
    last, bad = found[-1], sum(each.state == "altered" for each in found)
    times = (
        f"{counted(len(found), 'verification')} on record, the last at {last.at:%Y-%m-%d %H:%M} UTC"
    )
    if last.state == "altered":
        return f"{times}: altered: {last.text}."
    return f"{times}: whole" + (f", and {bad} before it found it altered." if bad else ".")


def _figures(found: Found) -> tuple[Figure, ...]:
    states = Counter(word.what for word in found.approvals)
    return (
        Figure("record", "The record", found.proof.state, "state"),
        Figure("verifications", "Verifications on record", len(found.verifications)),
        Figure(
            "found_altered",
            "Found altered",
            sum(each.state == "altered" for each in found.verifications),
            better="less",
        ),
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


def _of_the_record(found: Found) -> tuple[Table, ...]:
    of = found.sealed
    line = _ProofLine(found.proof.state, found.proof.text, of.seals, of.events, of.first, of.last)
    note = (
        "The whole record is verified, as smartops audit verify does it, and not the period alone."
    )
    proof = table_of("proof", "Verification for this report", _PROOF, [line], note=note)
    note = (
        "Those of the deployments audit-verification and audit-verification-tables, and those by "
        "command that found something. Published: the last seal that was compared with what is "
        "published outside of the database."
    )
    empty = "None: is the deployment audit-verification there, and not paused?"
    verified = table_of(
        "verifications", "Verifications on record", _VERIFICATIONS, found.verifications,
        note=note, empty=empty,
    )  # fmt: skip
    empty = "Nothing was pruned."
    pruned = table_of("record", "Taken away", _PRUNINGS, found.prunings, empty=empty)
    return proof, verified, pruned


_VERIFICATIONS = (
    Column("at", "At", "time"),
    Column("state", "The record", "state"),
    Column("text", "First that was wrong"),
    Column("events", "Events", "count"),
    Column("seals", "Seals", "count"),
    Column("published", "Published", "count"),
    Column("tables", "Tables too"),
    Column("by_run", "Run", "id"),
)
_PRUNINGS = (Column("at", "At", "time"), Column("what", "What"), Column("text", "Of what"))


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
