"""``browser.run``: a list of actions on pages, in a real browser."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten, suggest
from smartops.vocabulary import Action


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

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what was extracted, and the pictures that were taken."""
        values = [f"{name} {value}" for name, value in output["values"].items()]
        pictures = [f"{picture['name']}.png" for picture in output["screenshots"]]
        return shorten(", ".join([*values, *pictures]) or output["url"])
