"""Steps that act on web pages, and the same for Python: a page with evidence and audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect import get_run_logger

from blocks import BrowserProfile, load_connection
from smartops import evidence_store, locks, redact
from smartops.audit import recording
from smartops.audit.recording import StepRecord
from smartops.drivers import selenium_script
from smartops.drivers.browser_masking import Masker
from smartops.errors import ExpectationFailed, RehearsalRefused, TransientError, UnknownOutcome
from smartops.evidence_store import KeptFile, kept_file
from smartops.page_actions import Action
from smartops.rehearsal import rehearsing
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tasks.evidence import keep
from tasks.run_context import end_with_flow
from tasks.step import current_record, step

if TYPE_CHECKING:
    from smartops.drivers.browser import Page, Session

EVIDENCE = ("screenshot", "console", "trace", "har")


@step(effect=Effect.UNSAFE, kind="browser.run")
async def act(
    profile: BrowserProfile,
    actions: Sequence[Action],
    evidence: Sequence[str] = EVIDENCE,
    keep_evidence: str = "on_failure",
) -> dict[str, Any]:
    """Open a fresh page and perform the actions, one after the other.

    Returns ``values`` (output -> what was taken), ``screenshots`` (name, path, sha256, bytes; PDF
    files as well) and the ``url`` at the end. Raises PageNotReady, AuthenticationFailed,
    ServiceUnavailable, ExpectationFailed, MissingProgram, BrowserCrashed; UnknownOutcome when it
    failed after a click and the step may not be repeated.
    """
    # Playwright is slow to import, and most runs need no browser.
    from smartops.drivers.browser_actions import Actor  # noqa: PLC0415

    record = current_record()
    record.touched = False
    uploads = (*get_settings().upload_folders, get_settings().evidence_dir / str(record.run_id))
    places: dict[str, str] = {}
    async with _session(profile, record, evidence, keep_evidence, places) as session:
        actor = Actor(session, uploads)
        try:
            visit = await actor.perform(actions)
        except asyncio.CancelledError:
            record.touched = actor.visit.acted
            raise
        except (TransientError, ExpectationFailed) as error:
            if actor.visit.acted and record.effect is Effect.UNSAFE:
                raise UnknownOutcome(
                    f"{error}; it had clicked before, so the page may have done something",
                    hint="Look at the page, or declare the step's effect if it may be repeated.",
                ) from error
            raise
        url = session.page.url
    output = {"values": visit.values, "screenshots": visit.screenshots, "url": url}
    found: dict[str, Any] = _with_places(output, places)
    return found


@asynccontextmanager
async def _session(
    profile: BrowserProfile,
    record: StepRecord,
    evidence: Sequence[str],
    keep_evidence: str,
    places: dict[str, str],
) -> AsyncIterator[Session]:
    """Give a session whose evidence is kept when it is closed; its ``places`` are filled in."""
    from smartops.drivers import browser  # noqa: PLC0415 - Playwright is slow to import

    what: Any = frozenset(evidence)
    keeping = browser.Keeping(what, always=keep_evidence == "always")
    folder = evidence_store.folder_of(record.run_id, record.id)
    opened: Session | None = None
    try:
        async with browser.open_session(profile.connection, keeping, folder) as opened:
            yield opened
    finally:
        if opened is not None:
            places.update(await keep(record, opened.files))


def _with_places(value: Any, places: Mapping[str, str]) -> Any:
    """Return a value with the places of files where their paths stand."""
    if isinstance(value, dict):
        return {key: _with_places(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_places(item, places) for item in value]
    return places.get(value, value) if isinstance(value, str) else value


@asynccontextmanager
async def browser_page(
    profile: BrowserProfile | str,
    *,
    evidence: Sequence[str] = EVIDENCE,
    keep_evidence: str = "on_failure",
    effect: Effect = Effect.UNSAFE,
) -> AsyncIterator[Page]:
    """Give the real Playwright page of a profile, with the evidence and the audit of a step.

    Within a step it belongs to that step; elsewhere in a run it is on record as a step of its own,
    called ``browser_page``. What is raised within is raised on. Raises RuntimeError outside of a
    run, and what a browser step raises when it begins.
    """
    if isinstance(profile, str):
        profile = await load_connection(BrowserProfile, profile)
    within = recording.current_step.get()
    if within is not None:
        async with _session(profile, within, evidence, keep_evidence, {}) as session:
            yield session.page
        return
    record = _own_record(profile, effect)
    token = recording.current_step.set(record)
    try:
        async with _session(profile, record, evidence, keep_evidence, {}) as session:
            yield session.page
            url = session.page.url
        record.completed({"url": url})
    except BaseException as error:
        record.failed(error)
        raise
    finally:
        recording.current_step.reset(token)


def _own_record(profile: BrowserProfile, effect: Effect) -> StepRecord:
    info = recording.current_run()
    if info is None:
        raise RuntimeError("browser_page is used in a run: a Prefect flow, or what is @audited")
    if recording.explicit_run() is None:
        end_with_flow(info)
    return StepRecord(
        info,
        step="browser_page",
        kind="browser.page",
        effect=effect,
        attempt=1,
        inputs={"profile": {"connection": profile.connection_name}},
    )


@step(effect=Effect.UNSAFE, kind="browser.selenium")
async def run_selenium(
    script: str,
    runner: Literal["pytest", "python"] = "pytest",
    select: str = "",
    marks: str = "",
    args: Sequence[str] = (),
    profile: BrowserProfile | str | None = None,
) -> dict[str, Any]:
    """Run an existing Selenium script in a process that ends with this step, whatever it does.

    Returns ``passed``, ``failed``, ``errors``, ``skipped``, the exit ``status`` and the ``tests``.
    Raises BadInput, MissingProgram, RehearsalRefused; UnknownOutcome when a script failed that may
    not be repeated, else ExpectationFailed.
    """
    current_record().touched = False
    if rehearsing.get():
        raise RehearsalRefused("a script of one's own may reach anything")
    if isinstance(profile, str):
        profile = await load_connection(BrowserProfile, profile)
    found = selenium_script.find_script(script)
    await selenium_script.check_python(runner)
    chosen = [*(["-k", select] if select else []), *(["-m", marks] if marks else []), *args]
    told = _told(profile) if profile else {}
    return await _run(selenium_script.Script(found, runner, tuple(chosen), told), profile)


async def _run(script: selenium_script.Script, profile: BrowserProfile | None) -> dict[str, Any]:
    """Run a script, keep what it leaves, and say how it went."""
    record = current_record()
    folder = evidence_store.folder_of(record.run_id, record.id)
    logger = get_run_logger()
    site = profile.connection if profile else None
    turn = nullcontext() if site is None or site.shared else locks.exclusive(site.resource)
    try:
        async with turn:
            record.touched = True
            status = await selenium_script.run(script, folder, lambda line: logger.info("%s", line))
    finally:
        left = await asyncio.to_thread(_left_in, folder, profile)
        tests = selenium_script.read_report(folder)  # without secrets now
        await keep(record, left)
    problem = selenium_script.problem(script, tests, status)
    if isinstance(problem, ExpectationFailed) and record.effect is Effect.UNSAFE:
        raise UnknownOutcome(
            f"{problem}; the script may have done something before",
            hint="Look at its report, or declare the step's effect if it may be repeated.",
        )
    if problem is not None:
        raise problem
    return selenium_script.output(tests, status)


def _told(profile: BrowserProfile) -> dict[str, str]:
    """Return what a script is told of a profile."""
    from smartops.drivers.browser import find_executable  # noqa: PLC0415 - as above

    site = profile.connection
    told = {"BASE_URL": site.base_url, "USERNAME": site.username, "PASSWORD": site.password}
    told["BROWSER"] = str(find_executable(site.executable) or "")
    told |= {f"SECRET_{name.upper()}": secret for name, secret in site.secrets.items()}
    return {f"SMARTOPS_{name}": value for name, value in told.items() if value}


def _left_in(folder: Path, profile: BrowserProfile | None) -> list[KeptFile]:
    """Return what a script has left, its texts without secrets."""
    secrets = profile.connection.all_secrets() if profile else set()
    masker = Masker(redact.secrets() | secrets)
    kept = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            path.write_bytes(masker.data(path.read_bytes()))
            kept.append(kept_file(path))
    return kept
