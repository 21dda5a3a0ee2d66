"""``browser.run``: a list of actions on pages, in a real browser."""

from __future__ import annotations

from pathlib import PurePath as Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

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


@register
class BrowserSelenium(StepBase):
    """Run an existing Selenium script as it is, with its report as evidence."""

    model_config = ConfigDict(title="Selenium")

    kind: Literal["browser.selenium"] = "browser.selenium"
    script: str = Field(
        min_length=1,
        title="Script",
        description="A file, or a folder with tests, below SMARTOPS_SELENIUM_SCRIPTS.",
        json_schema_extra=suggest(""),
    )
    runner: Literal["pytest", "python"] = Field(
        default="pytest",
        title="Runner",
        description="`pytest`, or `python` for a plain program; 0 as its exit status is success.",
    )
    select: str = Field(
        default="",
        title="Select",
        description="pytest's -k: only tests whose names fit, such as login and not slow.",
    )
    marks: str = Field(
        default="", title="Marks", description="pytest's -m: only tests with these marks."
    )
    args: tuple[str, ...] = Field(
        default=(), title="Arguments", description="Arguments of a plain program."
    )
    profile: str | None = Field(
        default=None,
        title="Profile",
        description="A Browser Profile that the script is told of, in SMARTOPS_BASE_URL, "
        "SMARTOPS_USERNAME, SMARTOPS_PASSWORD, SMARTOPS_SECRET_NAME and SMARTOPS_BROWSER.",
    )

    @model_validator(mode="after")
    def _fits_its_runner(self) -> BrowserSelenium:
        if self.runner == "pytest" and self.args:
            raise ValueError("args go with the runner python; pytest takes select and marks")
        if self.runner == "python" and (self.select or self.marks):
            raise ValueError("select and marks go with the runner pytest")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how many tests there were."""
        if not output["tests"]:
            return f"exit status {output['status']}"
        names = ("passed", "failed", "errors", "skipped")
        return ", ".join(f"{output[name]} {name}" for name in names if output[name])


def _in_short(value: Any) -> str:
    """Return a value in few words: how long a list is, what a file is called."""
    if isinstance(value, list):
        return f"({len(value)} rows)" if value and isinstance(value[0], dict) else f"({len(value)})"
    return str(value.get("name", "")) if isinstance(value, dict) else str(value)
