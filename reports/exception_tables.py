"""Tables of what did not go as planned, for any report that has a use for them."""

from __future__ import annotations

from reports import exceptions
from reports.document import Column, Table, table_of

_SLOTS = (
    Column("job", "Job"),
    Column("schedule", "Schedule"),
    Column("outcome", "Outcome", "state"),
    Column("reason", "Reason"),
    Column("count", "Slots", "count"),
    Column("first_due", "First", "time"),
    Column("last_due", "Last", "time"),
)
_DOUBTS = (
    Column("at", "At", "time"),
    Column("job", "Job"),
    Column("step", "Step"),
    Column("error", "What is known"),
    Column("verdict", "Verdict"),
    Column("person", "By"),
    Column("decided_at", "Decided", "time"),
    Column("run_id", "Run", "id"),
)


def slots_table(slots: list[exceptions.LostSlots]) -> Table:
    """Return the slots that were missed or skipped, and why."""
    empty = "Each slot had its run."
    return table_of("slots", "Missed and skipped slots", _SLOTS, slots, empty=empty)


def doubts_table(doubts: list[exceptions.Doubt]) -> Table:
    """Return the effects in doubt and the decisions on them."""
    return table_of("doubts", "Needed a decision", _DOUBTS, doubts, empty="No effect was in doubt.")


_LOCKS = (
    Column("resource", "What"),
    Column("waits", "Waits", "count"),
    Column("gave_up", "Gave up", "count"),
    Column("total_s", "Together", "seconds"),
    Column("longest_s", "Longest", "seconds"),
    Column("job", "Job"),
    Column("step", "Step"),
    Column("holder", "Behind"),
    Column("at", "At", "time"),
)


def locks_table(waits: list[exceptions.LockWaits]) -> Table:
    """Return how long locks were waited for."""
    note = "Waits of more than 0.1 s; job, step and holder are those of the longest."
    empty = "Nobody waited for a lock for more than 0.1 s."
    return table_of("locks", "Longest waits for locks", _LOCKS, waits, note=note, empty=empty)
