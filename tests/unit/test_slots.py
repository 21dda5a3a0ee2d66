"""Since when a schedule counts, and which slots are known under another name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from uuid6 import uuid7

from services.slots import Slots, _text, key_of, slot_id
from smartops.audit.open_runs import KnownSlot, outcomes
from smartops.audit.store import Store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DEPLOYMENT = uuid7()


def schedule(
    cron: str, made_hours_ago: float = 1000, slug: str | None = None
) -> DeploymentSchedule:
    made: Any = NOW - timedelta(hours=made_hours_ago)
    own = CronSchedule(cron=cron, timezone="UTC")
    return DeploymentSchedule(id=uuid7(), schedule=own, slug=slug, created=made, updated=made)


def begin(slots: Slots, one: DeploymentSchedule, last: dict[str, float], *others: Any) -> float:
    """Return how many hours ago a schedule begins to count; ``last`` likewise, by its text."""
    deployment: Any = SimpleNamespace(id=DEPLOYMENT, schedules=[one, *others])
    known = {
        (str(DEPLOYMENT), text): (NOW - timedelta(hours=5000), NOW - timedelta(hours=hours))
        for text, hours in last.items()
    }
    found = slots._begin(deployment, one, known, NOW)
    return (NOW - found).total_seconds() / 3600


def test_since_when_a_schedule_counts() -> None:
    """Since the last slot on record; not since a time when it was another, or was not there."""
    slots = Slots(cast(Store, None))
    six, five = schedule("0 6 * * *"), schedule("0 5 * * *")
    assert begin(slots, six, {_text(six): 240}) == 240 + 12, "the program stood still for ten days"
    assert begin(slots, six, {_text(six): 240, _text(five): 7}) == 7, "it was another meanwhile"
    assert begin(slots, six, {_text(six): 240, _text(five): 7}, five) == 240 + 12, "beside it"
    changed = schedule("0 6 * * *", made_hours_ago=2)
    assert begin(slots, changed, {}) == 2, "it is new, or was edited just now"
    slots._gone.add((str(DEPLOYMENT), _text(changed)))
    assert begin(slots, changed, {_text(changed): 240}) == 2, "it was taken away, and is back"


def test_a_schedule_that_is_given_a_name_keeps_its_slots() -> None:
    """What has run does not run again because it is called otherwise now."""
    plain, named = schedule("0 6 * * *"), schedule("0 6 * * *", slug="morning")
    due = [NOW - timedelta(days=day) for day in range(3)]
    before = [
        KnownSlot(slot_id(DEPLOYMENT, key_of(plain), at), str(DEPLOYMENT), at, "run")
        for at in due[1:]
    ]
    other = KnownSlot(uuid7(), str(uuid7()), due[0], "run")
    present = {slot_id(DEPLOYMENT, key_of(named), at): at for at in due}
    found = outcomes([*before, other], DEPLOYMENT, present)
    assert {present[slot]: outcome for slot, outcome in found.items()} == dict.fromkeys(
        due[1:], "run"
    )
