"""``smartops run cancel | resume | decide | explain`` and ``smartops approve``."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.text import Text

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.options import AsJson, read_params
from smartops.cli.output import local_time, out, print_json, say, table
from smartops.errors import BadInput
from smartops.people import who_is_here

if TYPE_CHECKING:
    from smartops.jobs.answers import Answer

app = typer.Typer(help="Approvals that runs wait for.", no_args_is_help=True)
RunId = Annotated[str, typer.Argument(help="The run's id, or the first part of it.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; it stands on record.")]


def cancel(run: RunId, as_json: AsJson = False) -> None:
    """Cancel a run: what is under way ends, what can be undone is, and the end is in order."""
    run_id = _open_run(run)
    use_prefect()
    from services import run_control  # noqa: PLC0415 - Prefect reads its settings on import

    done = asyncio.run(run_control.cancel(run_id, who_is_here()))
    _tell(f"run {run_id}: {done}", as_json, run_id=str(run_id), said=done)


def _open_run(text: str) -> UUID:
    """Return an open run's id from the first part of it; from the whole where it has not begun."""
    from reports.runs import get_run  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        try:
            run = get_run(store, text).run
        except BadInput:
            try:
                return UUID(text)
            except ValueError:
                pass
            raise
    if run.ended_at is not None:
        raise BadInput(f"run {run.run_id} has ended: it is {run.state}")
    return run.run_id


def _tell(text: str, as_json: bool, **facts: str) -> None:
    if as_json:
        print_json(facts)
    else:
        say(text)


def resume(
    run: RunId,
    from_step: Annotated[
        str | None, typer.Option("--from", help="Make this step again, and what depends on it.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another value of a parameter: key=value.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the new run until it has ended.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Take up a run that has ended: a new run keeps what succeeded, and makes the rest again."""
    from reports.runs import get_run  # noqa: PLC0415 - slow to import

    use_prefect()
    from services import run_control  # noqa: PLC0415 - Prefect reads its settings on import
    from smartops.audit.revisions import spec_on_record  # noqa: PLC0415
    from smartops.cli.running import report_on  # noqa: PLC0415

    with audit_store() as store:
        detail = get_run(store, run)
        params = read_params(set_ or [], "--set")
        run_id = asyncio.run(run_control.resume(store, detail, from_step, params))
        spec = spec_on_record(store, detail.run.revision or "")
    assert spec is not None  # noqa: S101 - it was just started
    return asyncio.run(report_on(run_id, spec, wait=wait, as_json=as_json))


def decide(
    run: RunId,
    step: Annotated[str, typer.Argument(help="The step whose outcome is in doubt.")],
    verdict: Annotated[str, typer.Argument(help="done, not-done or retry.")],
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Say what became of an effect that may or may not have happened."""
    from reports.runs import get_run  # noqa: PLC0415 - slow to import
    from smartops.jobs.answers import VERDICTS, Decision  # noqa: PLC0415

    found = next((known for known in VERDICTS if known == verdict), None)
    if found is None:
        raise BadInput(f"{verdict!r} is no verdict; write one of {', '.join(VERDICTS)}")
    use_prefect()
    from services import run_control  # noqa: PLC0415 - Prefect reads its settings on import

    decision = Decision(found, who_is_here(), comment)
    with audit_store() as store:
        detail = get_run(store, run)
        next_ = asyncio.run(run_control.decide(store, detail, step, decision))
    run_id = str(detail.run.run_id)
    text = f"step {step} of run {run_id}: {verdict}; {next_}"
    _tell(text, as_json, run_id=run_id, step=step, verdict=verdict, said=next_)


def explain(run: RunId, as_json: AsJson = False) -> None:
    """Say in words why a run waits, is stuck, did not start, or failed, and what to do."""
    use_prefect()
    from services import explaining  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        lines = asyncio.run(explaining.explain(store, run))
    if as_json:
        print_json(lines)
    else:
        for line in lines:
            out.print(Text(line))


# --- approvals --------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List what runs wait for people to approve."""
    from reports.approvals import open_approvals  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        waiting = open_approvals(store)
    if as_json:
        print_json([entry.as_json() for entry in waiting])
        return
    rows = [(str(e.run_id)[:8], e.job, e.step, local_time(e.asked_at), e.text) for e in waiting]
    titles = ["run", "job", "step", "asked", "question"]
    out.print(table(titles, rows) if rows else "nothing waits for an approval")


@app.command()
def show(run: RunId, as_json: AsJson = False) -> None:
    """Show what a run waits for: the question, who may answer, and the form."""
    from reports.approvals import open_approval  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        waiting = open_approval(store, run)
    if as_json:
        print_json(waiting.as_json())
        return
    out.print(Text.assemble((waiting.job, "bold"), f", step {waiting.step}, run {waiting.run_id}"))
    out.print(Text(waiting.text))
    for name, param in waiting.form.items():
        default = (
            "" if param["default"] is None else f", {json.dumps(param['default'])} if not given"
        )
        out.print(Text(f"  -p {name}=...  {param['type']}{default}  {param['description']}"))


@app.command()
def grant(
    run: RunId,
    value: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="A value of the form: key=value.")
    ] = None,
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Answer yes: the run goes on."""
    from smartops.jobs.answers import Answer  # noqa: PLC0415 - loads plugins

    answer = Answer(True, who_is_here(), comment, read_params(value or [], "-p"))
    _answer(run, answer, as_json)


@app.command()
def deny(run: RunId, comment: Comment = "", as_json: AsJson = False) -> None:
    """Answer no: the step fails."""
    from smartops.jobs.answers import Answer  # noqa: PLC0415 - loads plugins

    _answer(run, Answer(False, who_is_here(), comment), as_json)


def _answer(run: str, answer: Answer, as_json: bool) -> None:
    from reports.runs import get_run  # noqa: PLC0415 - slow to import

    use_prefect()
    from services import run_control  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        detail = get_run(store, run)
        step = asyncio.run(run_control.answer_approval(store, detail, answer))
    word = "granted" if answer.granted else "denied"
    run_id = str(detail.run.run_id)
    text = f"step {step} of run {run_id}: {word} by {answer.person}"
    _tell(text, as_json, run_id=run_id, step=step, answer=word, person=answer.person)


def add_to(runs: typer.Typer) -> None:
    """Add the commands to those that are about runs."""
    for command in (cancel, resume, decide, explain):
        runs.command()(command)
