"""``browser.run``: a list of actions on pages, in a real browser."""

from __future__ import annotations

from pathlib import PurePath as Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten, suggest
from smartops.page_actions import Action


@register
class BrowserRun(StepBase):
    """Act on web pages in a real browser."""

    model_config = ConfigDict(title="Browser")

    kind: Literal["browser.run"] = "browser.run"
    profile: str = Field(
        min_length=1, title="Profile", description="Name of the saved Browser Profile connection."
    )
    actions: tuple[Action, ...] = Field(
        min_length=1,
        title="Actions",
        description="What to do, one after the other.",
        json_schema_extra=suggest([]),
    )
    evidence: tuple[Literal["screenshot", "console", "trace", "har", "video"], ...] = Field(
        default=("screenshot", "console", "trace", "har"),
        title="Evidence",
        description="What is kept: a screenshot at the end, the console, Playwright's trace, the "
        "network log (har), a video.",
    )
    keep_evidence: Literal["on_failure", "always"] = Field(
        default="on_failure",
        title="Keep evidence",
        description="Whether it is kept only of a step that failed.",
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what was extracted, and the pictures that were taken."""
        values = [f"{name} {_in_short(value)}" for name, value in output["values"].items()]
        pictures = [Path(picture["path"]).name for picture in output["screenshots"]]
        return shorten(", ".join([*values, *pictures]) or output["url"])


def _in_short(value: Any) -> str:
    """Return a value in few words: how long a list is, what a file is called."""
    if isinstance(value, list):
        return f"({len(value)} rows)" if value and isinstance(value[0], dict) else f"({len(value)})"
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)
