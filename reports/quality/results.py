"""What a check has found: frozen, and the same as JSON between processes and in reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reports.quality.suite import Dataset, Expectation

Status = Literal["passed", "warned", "failed"]
WORST_FIRST: tuple[Status, ...] = ("failed", "warned", "passed")


@dataclass(frozen=True)
class Result:
    """How one expectation was met."""

    dataset: str
    expectation: str
    subject: str
    """Which columns, and of which rows."""
    status: Status
    checked_rows: int
    bad_rows: int
    """How many rows do not meet it; 0 where it is about the whole."""
    bad_share: float | None
    """The same in percent of the rows; None where it is about the whole."""
    warn_above: float | None
    fail_above: float | None
    sentence: str
    """What was found, for people."""
    quarantined: int | None = 0
    """How many rows it keeps apart that nothing before it in the check did, so that those of a
    check are the sum; None where that is not on record."""


@dataclass(frozen=True)
class BadRow:
    """A row that is kept apart."""

    dataset: str
    number: int
    """Which row of its dataset, from 0."""
    row: dict[str, Any]
    reasons: list[str]


@dataclass(frozen=True)
class Found:
    """All that a check has found."""

    suite: str
    revision: str
    """SHA-256 of the suite's file."""
    rows: dict[str, int]
    """How many rows each dataset has."""
    results: list[Result]
    bad_rows: list[BadRow]
    seconds: float = 0.0
    """How long the rows were judged, without getting them and without loading the library."""
    not_listed: int = 0
    """How many bad rows beyond those listed there are."""

    @property
    def status(self) -> Status:
        """The worst status of all."""
        return worst([result.status for result in self.results])

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Found:
        """Return what :meth:`as_json` gave."""
        return cls(
            **{
                **plain,
                "results": [Result(**result) for result in plain["results"]],
                "bad_rows": [BadRow(**row) for row in plain["bad_rows"]],
            }
        )


def worst(statuses: Sequence[Status]) -> Status:
    """Return the worst of some statuses; ``passed`` of none."""
    return min(statuses, key=WORST_FIRST.index, default="passed")


def of_rows(dataset: Dataset, expected: Expectation, checked: int, bad: int) -> Result:
    """Return the result of an expectation that tells which rows do not meet it."""
    share = 100.0 * bad / checked if checked else 0.0
    limits = _limits(expected)
    status: Status = "passed"
    if limits[1] is not None and share > limits[1]:
        status = "failed"
    elif limits[0] is not None and share > limits[0]:
        status = "warned"
    words = "all rows meet it" if checked else "there are no rows"
    if bad:
        words = f"{bad} of {checked} rows do not meet it ({share:.3g} %)"
    return _result(dataset, expected, status, checked, bad, share, words)


def of_whole(
    dataset: Dataset, expected: Expectation, checked: int, *, holds: bool, observed: Any
) -> Result:
    """Return the result of an expectation about the rows as a whole."""
    status: Status = "passed"
    if not holds:
        warns, fails = _limits(expected)
        status = "failed" if fails is not None else "warned" if warns is not None else "passed"
    words = "as expected" if holds else "not as expected"
    seen = "" if observed is None else f": found {_short(observed)}"
    return _result(dataset, expected, status, checked, 0, None, f"{words}{seen}")


def not_looked_at(dataset: Dataset, expected: Expectation, checked: int, why: str) -> Result:
    """Return the result of an expectation that could not be looked at, which is a failure."""
    return _result(dataset, expected, "failed", checked, 0, None, f"could not be looked at: {why}")


def _limits(expected: Expectation) -> tuple[float | None, float | None]:
    warn, fail = expected.warn, expected.fail
    return None if warn == "never" else warn, None if fail == "never" else fail


def _result(
    dataset: Dataset,
    expected: Expectation,
    status: Status,
    checked: int,
    bad: int,
    share: float | None,
    words: str,
) -> Result:
    warn, fail = _limits(expected)
    meaning = f"{expected.message.rstrip('.')}: " if expected.message and status != "passed" else ""
    return Result(
        dataset.name,
        expected.expect,
        subject(expected),
        status,
        checked,
        bad,
        share,
        warn,
        fail,
        f"{meaning}{in_words(expected)}: {words}",
    )


def subject(expected: Expectation) -> str:
    """Return what an expectation is about: its columns, and of which rows."""
    columns = ", ".join(expected.columns) or "table"
    where = ", ".join(f"{name} = {_short(value)}" for name, value in expected.where.items())
    return f"{columns} where {where}" if where else columns


def in_words(expected: Expectation) -> str:
    """Return what is expected, as a person would say it."""
    words = expected.expect.replace("_", " ")
    kept = {"column", "column_A", "column_B", "column_list"}
    args = ", ".join(f"{n} {_short(v)}" for n, v in expected.args.items() if n not in kept)
    return f"{subject(expected)}: {words} ({args})" if args else f"{subject(expected)}: {words}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
