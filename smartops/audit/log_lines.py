"""Puts the log lines of recorded runs into the journal as they are written.

Only the standard library's logging is used: Prefect's loggers for runs are known by their names. A
line survives kill -9; with the machine's power the last few may be lost.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from uuid import UUID

from smartops.errors import JournalUnavailable

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "smartops")
_LONGEST = 16_384
_busy: ContextVar[bool] = ContextVar("smartops_logging", default=False)


class JournalHandler(logging.Handler):
    """Appends a line to the journal of the run that it belongs to, if that is recorded here."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line. A journal that cannot take it hides nothing else."""
        if _busy.get():
            return
        token = _busy.set(True)
        try:
            with suppress(JournalUnavailable):
                self._write(record)
        except Exception:  # noqa: BLE001 - what logging itself does with a handler's error
            self.handleError(record)
        finally:
            _busy.reset(token)

    def _write(self, record: logging.LogRecord) -> None:
        # Imported here: the journal's own modules log, and recording imports this one.
        from smartops.audit import recording  # noqa: PLC0415
        from smartops.audit.events import Event  # noqa: PLC0415
        from smartops.audit.journal import get_journal  # noqa: PLC0415

        run_id = _run_of(record)
        if run_id is None or not recording.is_recorded(run_id):
            return
        step = recording.current_step.get()
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        body = {
            "level": record.levelno,
            "logger": record.name,
            "message": text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)})",
            "step_run_id": str(step.id) if step and step.run_id == run_id else None,
        }
        get_journal().append(Event("log", run_id, body), durable=False)


def _run_of(record: logging.LogRecord) -> UUID | None:
    from smartops.audit import recording  # noqa: PLC0415

    named = getattr(record, "flow_run_id", None)
    with suppress(ValueError):
        if named:
            return UUID(str(named))
    info = recording.explicit_run()
    return info.id if info else None


_handler = JournalHandler(logging.INFO)


def install() -> None:
    """Add the handler to the loggers of runs. Prefect's set-up takes handlers away: call again."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _handler not in logger.handlers:
            logger.addHandler(_handler)
