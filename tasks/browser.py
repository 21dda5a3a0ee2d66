"""Steps that act on web pages, and the same for Python: a page with evidence and audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from blocks import BrowserProfile, load_connection
from smartops import evidence_store
from smartops.audit import recording
from smartops.audit.recording import StepRecord
from smartops.errors import ExpectationFailed, TransientError, UnknownOutcome
from smartops.page_actions import Action
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
