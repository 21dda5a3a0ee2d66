"""What a run has asked people, and what they answered; all of it is on record."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger

from flows import asking
from flows.asking import Question
from flows.taking_up import AGAIN, ANSWERED, ASKED, ENDED
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.progress import Kept, Progress
from smartops.audit.recording import RunInfo
from smartops.errors import BadInput
from smartops.jobs import answers
from smartops.jobs.answers import Answer, Decision
from smartops.jobs.kinds.approval import Approval


class Questions:
    """The questions of one run, of this part of it and of those before."""

    def __init__(self, info: RunInfo, progress: Progress, history: Iterable[Kept]) -> None:
        self._info = info
        self._progress = progress
        self._asked: dict[str, int] = {}
        self._open: dict[str, Kept] = {}
        """What waits for an answer, as it was asked first."""
        for kept in history:
            self._take(kept)

    def _take(self, kept: Kept) -> None:
        if kept.state == ASKED:
            self._asked[kept.step] = self._asked.get(kept.step, 0) + 1
            self._open.setdefault(kept.step, kept)
        elif kept.state == ENDED:
            self._open.clear()
        else:
            self._open.pop(kept.step, None)

    def _note(self, name: str, state: str) -> None:
        kept = Kept(name, state, at=datetime.now(UTC).timestamp())
        self._progress.keep(kept)
        self._take(kept)

    def _number(self, name: str) -> int:
        """Return the number of the open question about a step, else of the next one."""
        asked = self._asked.get(name, 0)
        return asked if name in self._open else asked + 1

    # --- approvals ----------------------------------------------------------------------------

    async def answer(self, step: Approval, text: str) -> Answer | None:
        """Return the answer to an approval; None as long as there is none that counts."""
        asked = self._open.get(step.id)
        if asked is None:
            return None
        question = asking.approval_question(step, self._number(step.id), text)
        response = await asking.read_response(self._info.id, question)
        if response is None:
            at = datetime.fromtimestamp(asked.at, UTC)
            answer = answers.answer_of_nobody(step, at, datetime.now(UTC))
            state = "expired"
        else:
            answer = self._checked(step, asking.answer_of(response))
            state = "granted" if answer and answer.granted else "denied"
        if answer is not None:
            self._note(step.id, ANSWERED)
            self._record_approval(step, text, state, answer.person, answer.comment)
        return answer

    def _checked(self, step: Approval, answer: Answer) -> Answer | None:
        """Return an answer that counts; where it does not, say why: it is asked again."""
        try:
            return answers.check_answer(step, answer, self._info.requested_by)
        except BadInput as error:
            get_run_logger().warning("the answer to %s does not count: %s", step.id, error)
            self._note(step.id, ANSWERED)
            self._record_approval(step, str(error), "refused", answer.person or "?", answer.comment)
            return None

    async def ask_approval(self, step: Approval, text: str) -> None:
        """Ask a person; it raises Prefect's ``Pause``."""
        if step.id not in self._open:
            self._note(step.id, ASKED)
            question = asking.approval_question(step, self._number(step.id), text)
            self._record_approval(step, text, "asked", "", "", asking.as_text(step, question))
        while True:
            question = asking.approval_question(step, self._number(step.id), text)
            await asking.wait_in_prefect(question)
            # Somebody let the run go on without an answer: the same is asked anew.
            self._note(step.id, ASKED)

    def _record_approval(
        self,
        step: Approval,
        subject: str,
        state: str,
        person: str,
        comment: str,
        question: str | None = None,
    ) -> None:
        body: dict[str, Any] = {
            "step": step.id,
            "subject": subject[:255],
            "state": state,
            "person": person,
            "comment": comment,
            "question": question,
        }
        get_journal().append(Event("approval", self._info.id, body))

    # --- decisions ----------------------------------------------------------------------------

    def _about(self, name: str, evidence: str) -> Question:
        return asking.decision_question(name, self._number(name), evidence)

    async def decision(self, name: str, evidence: str) -> Decision | None:
        """Return what a person found out about a step; None as long as nobody said."""
        if name not in self._open:
            return None
        response = await asking.read_response(self._info.id, self._about(name, evidence))
        decision = asking.decision_of(response) if response is not None else None
        if decision is not None:
            self._note(name, AGAIN if decision.verdict == "retry" else ANSWERED)
            body = {"step": name, **vars(decision)}
            get_journal().append(Event("decision", self._info.id, body))
        return decision

    async def ask_decision(self, name: str, evidence: str) -> None:
        """Ask a person; it raises Prefect's ``Pause``."""
        if name not in self._open:
            self._note(name, ASKED)
        while True:
            await asking.wait_in_prefect(self._about(name, evidence))
            self._note(name, ASKED)
