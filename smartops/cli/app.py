"""Puts the commands together, and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import sys

import typer
from pydantic import ValidationError

from smartops import redact
from smartops.cli import (
    alerts,
    audit,
    automations,
    bridge,
    changing,
    control,
    devices,
    evidence,
    jobs,
    plant,
    quality,
    report,
    runs,
    scheduling,
    stack,
)
from smartops.errors import BadInput, PrefectUnavailable, SmartOpsError, StoreUnavailable

DONE, FAILED, BAD_INPUT, NOT_REACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="smartops",
    help="Automation jobs for operations and plant engineers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stack.add_to(app)
plant.add_to(app)
changing.add_to(jobs.app)
app.add_typer(jobs.app, name="job")
control.add_to(runs.app)
evidence.add_to(runs.app)
app.add_typer(runs.app, name="run")
app.add_typer(scheduling.app, name="schedule")
app.add_typer(control.app, name="approve")
app.add_typer(devices.app, name="device")
app.add_typer(bridge.app, name="bridge")
app.add_typer(automations.app, name="automation")
app.add_typer(audit.app, name="audit")
app.add_typer(alerts.app, name="alert")
report.add_to(app)
app.add_typer(quality.app, name="quality")


def main() -> int:
    """Run the command; return its exit code (see the interface's page for what they mean)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        code = typer.main.get_command(app)(standalone_mode=False)
    except typer.TyperException as error:
        return _use(error)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        said = first["msg"].removeprefix("Value error, ")
        return _fail(f"setting SMARTOPS_{name}: {said}", BAD_INPUT)
    except SmartOpsError as error:
        return _fail(error.one_line, exit_code(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has gone; there is nobody to tell
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}. Check SMARTOPS_HOME.", BAD_INPUT)
    if code == INTERRUPTED:
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else DONE


def _use(error: typer.TyperException) -> int:
    """Say how the command was used wrongly; a command without arguments gets its help."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    return _fail(text, BAD_INPUT) if text else BAD_INPUT


def exit_code(error: SmartOpsError) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, BadInput):
        return BAD_INPUT
    if isinstance(error, (StoreUnavailable, PrefectUnavailable)):
        return NOT_REACHABLE
    return FAILED


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"smartops: {redact.text(' '.join(text.split()))}\n")
    return code
