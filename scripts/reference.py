"""Writes the generated pages of docs/reference from the code; with --check, compares them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from reports.own import spec as own_reports
from reports.own.readable import READABLE
from scripts.alert_option_tests import ALERT_OPTION_TESTS
from scripts.device_option_tests import DEVICE_OPTION_TESTS
from scripts.fault_table import MATRICES, Matrix
from scripts.option_tests import OPTION_TESTS
from scripts.report_option_tests import REPORT_OPTION_TESTS
from smartops import errors
from smartops.alerts import policy as alert_policy
from smartops.alerts import rules as alert_rules
from smartops.drivers.device_tag import DeviceTag, Interlock
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.tags import Tag
from smartops.durations import format_duration
from smartops.jobs.alerting import Alert
from smartops.jobs.kinds.check import Check
from smartops.jobs.kinds.wait import MessageCondition, TagCondition, UrlCondition
from smartops.jobs.param import Param
from smartops.jobs.scheduling import Between, Missed, Schedule, SkipOn
from smartops.jobs.schema import job_schema
from smartops.jobs.spec import STEP_KINDS, JobSpec
from smartops.jobs.step import Retry, StepBase
from smartops.page_actions import ACTIONS, Target
from smartops.page_table import Column
from smartops.settings import PROJECT_ROOT, Settings

_BELOW = {"retry", "missed", "skip_on", "alert", "throttle"}
FOLDER = PROJECT_ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->\n\n"


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Read from the environment or from a file `.env` in the working folder. Besides these,",
        "`PREFECT_API_URL` names the Prefect server to use; without it `smartops up` starts one.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default_factory and "`~/.local/share/smartops`"
        if default is None:
            default = _default(field.default)
        lines.append(f"| `SMARTOPS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def errors_page() -> str:
    """Return the page of all errors."""
    tree = (errors.__doc__ or "").split("::\n\n", 1)[1]
    body = "\n".join(line.removeprefix("    ") for line in tree.splitlines())
    return (
        "# Errors\n\n"
        "The class of an error says whether trying again can help. `retry: {on: [...]}` in a job\n"
        "takes any of these names but `UnknownOutcome`: an effect that may have happened is never\n"
        f"repeated blindly.\n\n```text\n{body.strip()}\n```"
    )


def language_page() -> str:
    """Return the page of the job language."""
    parts = [
        "# The job language",
        "A job is a YAML (or JSON) file. The same model is the form in the Prefect UI, the "
        "parameter of the API, and `smartops.jobs.spec.JobSpec` in Python. Unknown keys are "
        "refused. Durations are written `500ms`, `5s`, `2m` or `1h30m`.",
        *_model("Job", JobSpec),
        *_model("Parameter", Param),
        "## What every step has",
        *_fields(StepBase, StepBase.COMMON),
        *_model("Retry", Retry),
        *_model("Schedule", Schedule),
        *_model("Missed", Missed),
        *_model("Skip on", SkipOn),
        *_model("Between", Between),
        *_model("Alert", Alert),
    ]
    for kind, model in STEP_KINDS.items():
        own = tuple(name for name in model.model_fields if name not in StepBase.COMMON)
        parts += [f"## `{kind}`", (model.__doc__ or "").strip(), *_fields(model, own)]
    parts += ["## Parts of steps", *_model("Check of an `assert`", Check, level=3)]
    parts += _model("Tag condition of a `wait`", TagCondition, level=3)
    parts += _model("Message condition of a `wait`", MessageCondition, level=3)
    parts += _model("URL condition of a `wait`", UrlCondition, level=3)
    parts += ["## Actions of a `browser.run`"]
    for name, action in ACTIONS.items():
        parts += _model(f"`{name}`", action, level=3)
    parts += _model("Target of an action", Target, level=3)
    parts += _model("Column of a `table`", Column, level=3)
    return "\n\n".join(parts)


def tags_page() -> str:
    """Return the page of the tag map."""
    intro = (
        "A device's tag map gives names to its registers, coils or nodes. It stands in a YAML file "
        "(a list) or a CSV file (a header, a tag per line), or in the fields of the saved device."
    )
    own = [name for name in Tag.model_fields if name not in DeviceTag.model_fields]
    parts = [
        "# Tag maps",
        intro,
        "## What every tag has",
        *_fields(DeviceTag, tuple(DeviceTag.model_fields)),
    ]
    parts += _model("An interlock", Interlock, level=3)
    parts += ["## What a tag of a Modbus device has beside", *_fields(Tag, tuple(own))]
    parts += ["## What a tag of an OPC UA server has beside", *_fields(OpcTag, ("node",))]
    return "\n\n".join(parts)


def _model(title: str, model: type[BaseModel], level: int = 2) -> list[str]:
    doc = (model.__doc__ or "").strip()
    return [f"{'#' * level} {title}", doc, *_fields(model, tuple(model.model_fields))]


def _fields(model: type[BaseModel], names: tuple[str, ...]) -> Iterator[str]:
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        if name in {"kind", "do"} and field.default is not PydanticUndefined:
            rows.append(f"| `{name}` | | always `{field.default}` |")
            continue
        if field.is_required():
            default = "required" if name != "kind" else ""
        elif field.default_factory is not None:
            default = "see below" if name in _BELOW else "empty"
        else:
            default = _default(field.default)
        rows.append(f"| `{name}` | {default} | {field.description or 'which kind of step it is'} |")
    yield "\n".join(rows)


def _default(value: Any) -> str:
    if value is None or value in ((), ""):
        return "empty"
    if isinstance(value, Path):
        return f"`{value.relative_to(PROJECT_ROOT)}` in the project"
    if hasattr(value, "total_seconds"):
        return f"`{format_duration(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def alerts_page() -> str:
    """Return the page of the files of alerts."""
    parts = [
        "# Files of alerts",
        "`SMARTOPS_ALERTS` names a YAML file, or a folder whose files are taken together. Unknown "
        "keys are refused. How they are used: [Be alerted](../how-to/alerts.md).",
        *_model("The file", alert_policy.Policy),
    ]
    for kind in get_args(get_args(alert_rules.Rule)[0]):
        (name,) = get_args(kind.model_fields["on"].annotation)
        fields = tuple(field for field in kind.model_fields if field != "on")
        parts += [f"## Rule `on: {name}`", (kind.__doc__ or "").strip(), *_fields(kind, fields)]
    for title in ("Channel", "Throttle", "Route", "Escalation", "Calendar", "Shift", "Maintenance"):
        parts += _model(title, getattr(alert_policy, title))
    return "\n\n".join(parts)


def reports_page() -> str:
    """Return the page of the files of users' own reports."""
    parts = [
        "# Files of reports",
        "Each file of `deployments/reports` is a report. Unknown keys are refused; "
        "`smartops report check` says what is wrong with a file. How they are used: "
        "[Read and schedule reports](../how-to/reports.md).",
        *_model("The file", own_reports.OwnReport),
    ]
    for title, model in (
        ("Schedule", own_reports.ReportSchedule),
        ("Query", own_reports.Query),
        ("Column", own_reports.ShownColumn),
        ("Chart", own_reports.OwnChart),
    ):
        parts += _model(title, model)
    tables = ", ".join(f"`{name}`" for name in sorted(READABLE))
    parts += [
        "## Tables that may be read",
        f"{tables}. What is in them: [the record](../how-to/audit.md).",
    ]
    return "\n\n".join(parts)


def options_page() -> str:
    """Return the page that names the test of each option."""
    rows = [f"| `{option}` | `{test}` |" for option, test in OPTION_TESTS.items()]
    return "\n".join(
        [
            "# Options and their tests",
            "",
            "Every setting that the job language accepts is enforced: for each there is a test",
            "that fails when it has no effect. Run one with `make test ARGS=NAME`.",
            "",
            "| option | test |",
            "|---|---|",
            *rows,
            "",
            "## Connections to devices",
            "",
            "| option | test |",
            "|---|---|",
            *(f"| `{option}` | `{test}` |" for option, test in DEVICE_OPTION_TESTS.items()),
            "",
            "## Files of alerts",
            "",
            "| option | test |",
            "|---|---|",
            *(f"| `{option}` | `{test}` |" for option, test in ALERT_OPTION_TESTS.items()),
            "",
            "## Files of reports",
            "",
            "| option | test |",
            "|---|---|",
            *(f"| `{option}` | `{test}` |" for option, test in REPORT_OPTION_TESTS.items()),
        ]
    )


_FAULTS = """# Faults of devices

What a read and a write come to when the device, or the wire to it, fails. Every cell is tested,
and with it that no value is ever another's, that nothing is written, called, published or asked a
second time, and that each call ends within its timeouts.

| a cell says | what happened |
|---|---|
| value, confirmed, done | it went well; confirmed: what was written was read back |
| bad, uncertain | a reading of that quality; a bad one has no value |
| `DeviceRefused` | the device said no, and has surely not done it |
| `UnknownOutcome` | it may have been done or not; it is never repeated blindly |
| time limit | nothing happens until the step's time limit ends it |
| any other error | [what it means](errors.md), and whether it may be tried again |

Where a tag or a step says `effect: idempotent`, what is not acknowledged is a transient error in
place of `UnknownOutcome`, and may be tried again."""


def faults_page() -> str:
    """Return the page that says what each fault of a device or of its wire comes to."""
    return "\n\n".join([_FAULTS, *map(_matrix, MATRICES)])


def _matrix(matrix: Matrix) -> str:
    rows = [
        f"| {fault.name} | {fault.happens} | {' | '.join(map(_end, fault.ends))} |"
        for fault in matrix.faults
    ]
    head = f"| fault | what happens | {' | '.join(matrix.columns)} |"
    return "\n".join(
        [
            f"## {matrix.title}",
            "",
            f"{matrix.text} Tests: `{matrix.test}`.",
            "",
            head,
            "|---" * (len(matrix.columns) + 2) + "|",
            *rows,
        ]
    )


def _end(end: str) -> str:
    parts = end.split(" or ")
    return " or ".join(f"`{part}`" if part[:1].isupper() else part or "-" for part in parts)


def schema_file() -> str:
    """Return the JSON Schema of job files."""
    return json.dumps(job_schema(), indent=1, ensure_ascii=False)


PAGES = {
    "options.md": options_page,
    "faults.md": faults_page,
    "job.schema.json": schema_file,
    "settings.md": settings_page,
    "errors.md": errors_page,
    "job-language.md": language_page,
    "tag-maps.md": tags_page,
    "alerts.md": alerts_page,
    "reports.md": reports_page,
}


def main() -> int:
    """Write the pages, or say which differ."""
    stale: list[str] = []
    for name, page in PAGES.items():
        note = NOTE if name.endswith(".md") else ""
        text = note + page() + "\n"
        file = FOLDER / name
        if "--check" in sys.argv:
            if not file.is_file() or file.read_text("utf-8") != text:
                stale.append(name)
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(
            f"docs/reference: {', '.join(stale)} differ from the code; run `make docs`\n"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
