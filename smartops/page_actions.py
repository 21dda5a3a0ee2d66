"""What a browser step can do on a page: frozen models, one for each action, no behaviour."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import ByteSize, Field, model_validator

from smartops.page_table import ReadTable
from smartops.page_target import OutputName, PageAction, Target, Texts
from smartops.vocabulary import OneTabPerMember, Strict

__all__ = ["ACTIONS", "Action", "OutputName", "ReadTable", "Target"]
_PATH = "Glob of the page's path, such as /orders/*."


class Goto(PageAction):
    """Open a page."""

    do: Literal["goto"] = "goto"
    path: str = Field(
        default="/",
        min_length=1,
        title="Path",
        description="Path below the profile's base URL, such as /login.",
    )
    until: Literal["load", "domcontentloaded", "networkidle", "commit"] = Field(
        default="load",
        title="Until",
        description="What counts as open: `commit` (the answer has begun), `domcontentloaded`, "
        "`load`, or `networkidle` (no request for half a second).",
    )


class Click(PageAction):
    """Click an element."""

    do: Literal["click"] = "click"
    target: Target = Field(title="Target", description="What to click.")
    times: int = Field(
        default=1, ge=1, le=3, title="Times", description="How often; 2 is a double click."
    )
    button: Literal["left", "right", "middle"] = Field(
        default="left", title="Button", description="The button of the mouse."
    )
    opens: OutputName | None = Field(
        default=None,
        title="Opens",
        description="A name for the tab that the click opens; the next actions are done in it.",
    )


class Hover(PageAction):
    """Move the mouse over an element."""

    do: Literal["hover"] = "hover"
    target: Target = Field(title="Target", description="Which element.")


class Fill(PageAction):
    """Type into a form field."""

    do: Literal["fill"] = "fill"
    target: Target = Field(title="Target", description="The form field.")
    value: str | None = Field(default=None, title="Value", description="The text to type.")
    credential: OutputName | None = Field(
        default=None,
        title="Credential",
        description="Type the profile's `username` or `password`, or one of its further secrets by "
        "name, in place of a value.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Fill:
        if (self.value is None) == (self.credential is None):
            raise ValueError("give either a value or a credential")
        return self


class Select(PageAction):
    """Choose from a list."""

    do: Literal["select"] = "select"
    target: Target = Field(title="Target", description="The list.")
    options: Texts = Field(
        min_length=1, title="Options", description="What to choose, by value or by label."
    )


class SetChecked(PageAction):
    """Tick a box or a radio button, or take the tick away."""

    do: Literal["check"] = "check"
    target: Target = Field(title="Target", description="The box.")
    checked: bool = Field(
        default=True, title="Checked", description="Whether it is ticked afterwards."
    )


class Press(PageAction):
    """Press a key, or several at once."""

    do: Literal["press"] = "press"
    keys: str = Field(
        min_length=1, title="Keys", description="Such as Enter, ArrowDown or Control+s."
    )
    target: Target | None = Field(
        default=None, title="Target", description="What has the focus. Empty: what has it already."
    )


class Upload(PageAction):
    """Give files to a form."""

    do: Literal["upload"] = "upload"
    target: Target = Field(title="Target", description="The field for files.")
    files: Texts = Field(
        min_length=1,
        title="Files",
        description="Paths on the worker, below SMARTOPS_UPLOADS; relative ones begin there.",
    )


class Download(PageAction):
    """Take a file from the page, check it, and keep it as evidence."""

    do: Literal["download"] = "download"
    target: Target | None = Field(
        default=None, title="Target", description="What to click so that the download begins."
    )
    path: str | None = Field(
        default=None, title="Path", description="In place of a target: the file's path."
    )
    output: OutputName = Field(
        default="file",
        title="Output",
        description="Name of the output: steps.<id>.values.<output> has name, bytes, sha256 and "
        "place.",
    )
    file_name: str | None = Field(
        default=None, title="File name", description="Glob that its name has to fit, as *.csv."
    )
    min_bytes: ByteSize = Field(
        default=ByteSize(1), title="At least", description="The least that it may have, as 1KB."
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(100_000_000),
        title="At most",
        description="The most that it may have, such as 100MB.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        title="SHA-256",
        description="The checksum that it has to have.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Download:
        if (self.target is None) == (self.path is None):
            raise ValueError("give either a target to click or a path")
        if self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes is more than max_bytes")
        return self


class WaitFor(PageAction):
    """Wait for an element, an address, a quiet page or an answer."""

    do: Literal["wait_for"] = "wait_for"
    target: Target | None = Field(default=None, title="Target", description="Which element.")
    state: Literal["visible", "hidden", "attached", "detached"] = Field(
        default="visible", title="State", description="What it has to be."
    )
    path: str | None = Field(default=None, title="Path", description=_PATH)
    load: Literal["load", "domcontentloaded", "networkidle"] | None = Field(
        default=None, title="Load", description="How far the page has to be loaded."
    )
    answer: str | None = Field(
        default=None,
        title="Answer",
        description="Glob of a path that the page asks for in the background, such as /api/*: "
        "wait for the next answer from it that is no error.",
    )

    @model_validator(mode="after")
    def _one_thing(self) -> WaitFor:
        given = [thing for thing in (self.target, self.path, self.load, self.answer) if thing]
        if len(given) != 1:
            raise ValueError("give exactly one of target, path, load and answer")
        if self.state != "visible" and self.target is None:
            raise ValueError("state goes with target")
        return self


class Expect(PageAction):
    """Wait until the page is as it should be; otherwise the step fails."""

    do: Literal["expect"] = "expect"
    target: Target | None = Field(
        default=None, title="Target", description="Which element. Empty: the page itself."
    )
    visible: bool = Field(
        default=True, title="Visible", description="Whether it must be visible, or must not be."
    )
    contains: str | None = Field(
        default=None, title="Contains", description="A text that it must contain."
    )
    equals: str | None = Field(
        default=None, title="Equals", description="The text that it must be, but for blanks."
    )
    value: str | None = Field(
        default=None, title="Value", description="What must stand in the form field."
    )
    checked: bool | None = Field(
        default=None, title="Checked", description="Whether the box must be ticked."
    )
    enabled: bool | None = Field(
        default=None, title="Enabled", description="Whether it must be enabled."
    )
    count: int | None = Field(
        default=None, ge=0, title="Count", description="How many elements there must be."
    )
    path: str | None = Field(default=None, title="Path", description=_PATH)
    page_title: str | None = Field(
        default=None, title="Page title", description="A text that the page's title must contain."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Expect:
        about = ("contains", "equals", "value", "checked", "enabled", "count")
        given = [name for name in about if getattr(self, name) is not None]
        if given and not self.visible:
            raise ValueError(f"{given[0]} goes with visible")
        if self.target is None and (given or not self.visible):
            raise ValueError(f"{(given or ['visible'])[0]} goes with target")
        if self.target is None and self.path is None and self.page_title is None:
            raise ValueError("give a target, a path or a page_title")
        return self


class Extract(PageAction):
    """Take an element's text, or one of its attributes, as an output of the step."""

    do: Literal["extract"] = "extract"
    target: Target = Field(title="Target", description="The element whose text to take.")
    output: OutputName = Field(
        default="text",
        title="Output",
        description="Name of the output: steps.<id>.values.<output>.",
    )
    attribute: str | None = Field(
        default=None,
        min_length=1,
        title="Attribute",
        description="The attribute to take in place of the text, such as href; `value` is what "
        "stands in a form field.",
    )
    every: bool = Field(
        default=False,
        title="Every",
        description="A list of all elements that match, in place of the only one.",
    )


class Screenshot(PageAction):
    """Take a picture of the page as evidence."""

    do: Literal["screenshot"] = "screenshot"
    name: OutputName = Field(default="page", title="Name", description="Name of the picture.")
    full_page: bool = Field(
        default=False, title="Full page", description="The whole page, not what fits the window."
    )
    target: Target | None = Field(
        default=None, title="Target", description="One element in place of the page."
    )
    cover: tuple[Target, ...] = Field(
        default=(), title="Cover", description="Elements that are covered in the picture."
    )

    @model_validator(mode="after")
    def _one_part(self) -> Screenshot:
        if self.full_page and self.target is not None:
            raise ValueError("full_page and target do not go together")
        return self


class Pdf(Strict):
    """Print the page to a PDF file as evidence."""

    do: Literal["pdf"] = "pdf"
    name: OutputName = Field(default="page", title="Name", description="Name of the file.")
    paper: Literal["A3", "A4", "A5", "Letter", "Legal"] = Field(
        default="A4", title="Paper", description="The size of the paper."
    )
    landscape: bool = Field(
        default=False, title="Landscape", description="Whether the paper lies on its long side."
    )


class Evaluate(PageAction):
    """Run JavaScript in the page, where the profile allows it."""

    do: Literal["eval"] = "eval"
    script: str = Field(
        min_length=1,
        title="Script",
        description="An expression or a function; with a target it is called with the element.",
    )
    target: Target | None = Field(default=None, title="Target", description="Which element.")
    output: OutputName | None = Field(
        default=None, title="Output", description="Keep what it gives under this name."
    )


class Dialog(Strict):
    """Say what to answer to the next dialog; a dialog that nobody answers fails the step."""

    do: Literal["dialog"] = "dialog"
    answer: Literal["accept", "dismiss"] = Field(
        default="accept", title="Answer", description="OK, or Cancel."
    )
    text: str | None = Field(
        default=None, title="Text", description="What to type where the dialog asks for a text."
    )
    contains: str | None = Field(
        default=None, title="Contains", description="A text that the dialog must contain."
    )

    @model_validator(mode="after")
    def _typed_and_accepted(self) -> Dialog:
        if self.text is not None and self.answer != "accept":
            raise ValueError("text goes with accept")
        return self


class Tab(Strict):
    """Go on in another tab, or close one."""

    do: Literal["tab"] = "tab"
    name: OutputName = Field(
        default="main", title="Name", description="The tab's name; the first one is `main`."
    )
    close: bool = Field(
        default=False, title="Close", description="Close that tab, and go on in `main`."
    )

    @model_validator(mode="after")
    def _main_stays(self) -> Tab:
        if self.close and self.name == "main":
            raise ValueError("the tab main stays open")
        return self


Action = Annotated[
    Goto
    | Click
    | Hover
    | Fill
    | Select
    | SetChecked
    | Press
    | Upload
    | Download
    | WaitFor
    | Expect
    | Extract
    | ReadTable
    | Screenshot
    | Pdf
    | Evaluate
    | Dialog
    | Tab,
    Field(discriminator="do"),
    OneTabPerMember(),
]

ACTIONS: dict[str, type[Strict]] = {
    model.model_fields["do"].default: model for model in get_args(get_args(Action)[0])
}
"""The actions by what jobs call them."""
