"""What is put on record of a run whose process died: decided here, without any effect."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from smartops.audit.events import Event
from smartops.audit.open_runs import Claim, LastWord, OpenRun, OpenStep

TELLER = "reconciler"


def of_dead_run(
    run: OpenRun,
    steps: Sequence[OpenStep],
    last: LastWord | None,
    claim: Claim | None,
    *,
    machine_gone: bool = False,
    cancelled: bool = False,
) -> list[Event]:
    """Return the events that end a run whose process died, with the evidence.

    A step that was under way and could have an effect has an unknown outcome; one that only reads
    has crashed, and did no harm. A run that was being ``cancelled`` is that, unless an effect is in
    doubt.
    """
    ends = [end_of_step(run.id, step) for step in steps]
    doubtful = [step.step for step in steps if _is_doubtful(step)]
    status = claim.exit_status if claim and claim.exited_at else None
    during = f" during {', '.join(step.step for step in steps)}" if steps else ""
    cause = f" ({claim.cause})" if claim and claim.cause else _status_text(status)
    message = f"its process died{cause}{during}"
    if machine_gone:
        message = f"its machine {run.host} is not heard of any more{during}"
    if doubtful:
        message += f"; what {', '.join(doubtful)} did has to be looked at"
    evidence = {
        "host": run.host,
        "pid": run.pid,
        "exit_status": status,
        "last_record": {"type": last.type, "at": last.at.isoformat()} if last else None,
        "steps_under_way": [step.step for step in steps],
        "unknown_outcome": doubtful,
    }
    if cancelled and not doubtful:
        message = f"it was being cancelled, and {message}"
    state = "cancelled" if cancelled and not doubtful else "crashed"
    return [*ends, end_of_run(run.id, state, message, evidence)]


def end_of_run(
    run_id: UUID, state: str, message: str, evidence: dict[str, Any], told_by: str = TELLER
) -> Event:
    """Return the event that ends a run in the name of somebody who looked from outside."""
    body = {"state": state, "message": message, "evidence": evidence, "told_by": told_by}
    return Event("run.ended", run_id, body)


def _is_doubtful(step: OpenStep) -> bool:
    return step.effect != "read"


def end_of_step(run_id: UUID, step: OpenStep) -> Event:
    """Return the event that ends a step whose process died."""
    doubtful = _is_doubtful(step)
    text = "the process died while the step was under way"
    if doubtful:
        text += f"; {step.sent} device commands were announced" if step.sent else ""
        text += "; its effect may or may not have happened"
    body = {
        "step_run_id": str(step.id),
        "state": "unknown_outcome" if doubtful else "crashed",
        "error_class": "UnknownOutcome" if doubtful else "ProcessDied",
        "error": text,
        "told_by": TELLER,
    }
    return Event("step.ended", run_id, body)


def _status_text(status: int | None) -> str:
    """Return an exit status in words: negative ones are signals."""
    if status is None:
        return ""
    if status < 0:
        try:
            return f" (killed by {signal.Signals(-status).name})"
        except ValueError:
            return f" (killed by signal {-status})"
    return f" (exit status {status})"
