"""Steps that act on web pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocks import BrowserProfile
from smartops.errors import ExpectationFailed, TransientError, UnknownOutcome
from smartops.settings import get_settings
from smartops.vocabulary import Action, Effect
from tasks.step import current_record, step


@step(effect=Effect.UNSAFE, kind="browser.run")
async def act(profile: BrowserProfile, actions: Sequence[Action]) -> dict[str, Any]:
    """Open a fresh browser and perform the actions, one after the other.

    Returns ``values`` (output -> text), ``screenshots`` (name, path, sha256, bytes) and the ``url``
    at the end. Raises PageNotReady, AuthenticationFailed, ServiceUnavailable, MissingProgram,
    BrowserCrashed; UnknownOutcome when it failed after a click and the step may not be repeated.
    """
    # Playwright is slow to import, and most runs need no browser.
    from smartops.drivers.browser_actions import Actor  # noqa: PLC0415

    record = current_record()
    evidence = get_settings().evidence_dir / str(record.run_id) / str(record.id)
    record.touched = False
    async with profile.open() as page:
        actor = Actor(page, profile.connection, evidence)
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
        finally:
            for shot in actor.visit.screenshots:
                path = Path(shot["path"])
                record.artifact(
                    path.name, path, "image/png", sha256=shot["sha256"], size=shot["bytes"]
                )
        return {"values": visit.values, "screenshots": visit.screenshots, "url": page.url}
