"""Every error that SmartOps raises on purpose; its class says whether trying again can help.

::

    SmartOpsError
    ├── TransientError          try again: the same call may succeed later
    │   ├── DeviceUnreachable     no connection to the device
    │   ├── DeviceTimeout         the device did not answer a read in time
    │   ├── DeviceQuarantined     it has not answered for long, and is left alone for a while
    │   ├── DeviceBusy            the device said that it is busy (exceptions 5, 6, 10, 11)
    │   ├── ServiceUnavailable    no connection, a timeout, 429 or 502-504 from a service
    │   ├── PrefectUnavailable    Prefect's API is not reachable
    │   ├── BrowserCrashed        the browser process or its page died
    │   ├── PageNotReady          an element or a page did not appear in time
    │   ├── LockTimeout           another job holds the thing that the step touches
    │   ├── LockLost              another machine may hold it now: the database was out of reach
    │   └── StepTimeout           the step reached its time limit, and it had no effect to fear for
    ├── PermanentError          trying again gives the same answer
    │   ├── BadInput              what the user wrote is wrong (nothing was started)
    │   │   ├── JobFileError        a job file does not load, validate or compile
    │   │   ├── TemplateError       an expression cannot be rendered
    │   │   ├── UnknownTag          the device's tag map has no such tag
    │   │   └── UnknownBlock        no connection of that name is saved
    │   ├── AuthenticationFailed  wrong or missing credentials
    │   ├── AddressRefused        a service leads to an address that its connection does not allow
    │   ├── UntrustedServer       nobody has said that this server's certificate is the right one
    │   ├── DeviceRefused         the device answered with a refusal (exceptions 1-4)
    │   ├── BadAnswer             an answer that does not belong to the question or cannot be read
    │   ├── WriteRefused          our own limits or the tag map forbid the write; nothing was sent
    │   ├── WriteMismatch         the device holds another value than was written
    │   ├── ExpectationFailed     an answer, a page or a check is not what the job expects
    │   ├── MissingProgram        a program that a step needs is not installed
    │   ├── ApprovalDenied        a person said no, or nobody answered in time
    │   ├── NotDone               a person found out that an effect in doubt did not happen
    │   ├── ChildRunFailed        the run that a `job` step started did not succeed
    │   ├── JobTimeout            the run reached its job's time limit
    │   ├── FunctionFailed        a function of one's own raised an error
    │   ├── RunTakenAway          another machine gave this run its end: it was not heard of
    │   ├── RehearsalRefused      a rehearsal may not do this: it would touch more than the plant
    │   ├── JournalUnavailable    the journal cannot take a record, so no effect may start
    │   │   └── JournalFull         it has reached its limit, or the disk is nearly full
    │   ├── RecordRefused         the audit store does not take a record as it is
    │   ├── RecordAltered         the audit record is not what was recorded
    │   └── StoreUnavailable      the audit store cannot be reached or has another schema
    └── UnknownOutcome          an effect may or may not have happened: a person has to look
"""

from __future__ import annotations

from datetime import timedelta


class SmartOpsError(Exception):
    """The root. ``hint`` says what to do, in one sentence."""

    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def one_line(self) -> str:
        """What happened and what to do, without line breaks."""
        text = " ".join(f"{self.args[0]}".split())
        return f"{text}. {self.hint}" if self.hint else text


class TransientError(SmartOpsError):
    """The same call may succeed later; not before ``retry_after``, where the other side said so.

    ``not_done`` says whether what was asked for has surely not been done.
    """

    retryable = True
    not_done: bool = False
    retry_after: timedelta | None = None


class DeviceUnreachable(TransientError):
    """No connection to the device."""


class DeviceTimeout(TransientError):
    """The device did not answer a read in time."""


class DeviceQuarantined(TransientError):
    """It has not answered several times in a row, and is left alone for a while."""


class DeviceBusy(TransientError):
    """The device said that it is busy; ``code`` is the protocol's own."""

    code: int = 0


class ServiceUnavailable(TransientError):
    """No connection to a service, a timeout, or an answer that means "later"."""


class PrefectUnavailable(TransientError):
    """Prefect's API is not reachable."""


class BrowserCrashed(TransientError):
    """The browser process or its page died."""


class PageNotReady(TransientError):
    """An element or a page did not appear in time."""


class LockTimeout(TransientError):
    """Another job holds the thing that the step touches."""


class LockLost(TransientError):
    """What the step held may have gone to another machine meanwhile, so that it was stopped."""


class StepTimeout(TransientError):
    """The step reached its time limit without an effect to fear for."""


class PermanentError(SmartOpsError):
    """Trying again gives the same answer."""


class BadInput(PermanentError):
    """What the user wrote is wrong; nothing was started."""


class JobFileError(BadInput):
    """A job file does not load, validate or compile."""


class TemplateError(BadInput):
    """An expression cannot be rendered."""


class UnknownTag(BadInput):
    """The device's tag map has no such tag."""


class UnknownBlock(BadInput):
    """No connection of that name is saved."""


class AuthenticationFailed(PermanentError):
    """Wrong or missing credentials."""


class AddressRefused(PermanentError):
    """A service leads to a host or address that its connection does not allow."""


class UntrustedServer(PermanentError):
    """Nobody has said that this server's certificate is the right one, or it refuses ours."""


class DeviceRefused(PermanentError):
    """The device answered with a refusal; ``code`` is the protocol's own.

    ``not_done`` says whether it has surely not done what it was asked for, not even a part of it.
    """

    code: int = 0
    not_done: bool = True


class BadAnswer(PermanentError):
    """An answer that does not belong to the question, or cannot be read."""


class WriteRefused(PermanentError):
    """Our own limits or the tag map forbid the write; nothing was sent."""


class WriteMismatch(PermanentError):
    """The device holds another value than was written."""


class ExpectationFailed(PermanentError):
    """An answer, a page or a check is not what the job expects."""


class MissingProgram(PermanentError):
    """A program that a step needs is not installed."""


class ApprovalDenied(PermanentError):
    """A person said no, or nobody answered in time."""


class NotDone(PermanentError):
    """A person found out that an effect in doubt did not happen."""


class ChildRunFailed(PermanentError):
    """The run that a ``job`` step started did not succeed."""


class JobTimeout(PermanentError):
    """The run reached its job's time limit."""


class FunctionFailed(PermanentError):
    """A function of one's own raised an error; ``__cause__`` names it where it is known."""


class RunTakenAway(PermanentError):
    """Another machine has given this run its end, because its own was not heard of any more."""


class RehearsalRefused(PermanentError):
    """A rehearsal may not do this: it would touch more than the simulated plant."""


class JournalUnavailable(PermanentError):
    """The journal cannot take a record, so no effect may start."""


class JournalFull(JournalUnavailable):
    """The journal has reached its limit, or its disk is nearly full."""


class RecordRefused(PermanentError):
    """The audit store does not take a record as it is."""


class RecordAltered(PermanentError):
    """The audit record is not what was recorded: something was altered, deleted or added."""


class StoreUnavailable(PermanentError):
    """The audit store cannot be reached, or has another schema."""


class UnknownOutcome(SmartOpsError):
    """An effect may or may not have happened; it is never repeated blindly."""


def error_names() -> frozenset[str]:
    """Return the names that ``retry.on`` accepts: every class of the tree that may be retried."""
    found: set[str] = set()
    queue: list[type[SmartOpsError]] = [TransientError, PermanentError]
    while queue:
        error = queue.pop()
        found.add(error.__name__)
        queue.extend(error.__subclasses__())
    return frozenset(found)
