"""Every action of a browser step, on the plant's page zoo, in real Chromium."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from pypdf import PdfReader

from smartops import errors
from smartops.drivers import browser, browser_warm
from smartops.drivers.browser_actions import Actor, Visit
from smartops.page_actions import Action
from smartops.plant import Plant
from smartops.plant.zoo import ROWS, table_row
from smartops.settings import get_settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
ACTIONS: TypeAdapter[tuple[Action, ...]] = TypeAdapter(tuple[Action, ...])
PICTURES = browser.Keeping(frozenset({"screenshot"}))


@dataclass
class Zoo:
    """The zoo, and how to act in it."""

    plant: Plant
    folder: Path
    allow_scripts: bool = False

    async def __call__(self, *actions: dict[str, Any], **changes: Any) -> Visit:
        """Perform actions on a fresh page; return what came of them."""
        fields: dict[str, Any] = {
            "name": "zoo",
            "base_url": self.plant.addresses.hmi_url,
            "timeout": timedelta(seconds=15),
            **changes,
        }
        connection = browser.Connection(**fields)
        async with browser.open_session(connection, PICTURES, self.folder) as session:
            actor = Actor(session, uploads=[self.folder / "files"])
            return await actor.perform(ACTIONS.validate_python(actions))

    async def fails(self, kind: type[Exception], *actions: dict[str, Any], **changes: Any) -> str:
        """Perform actions that fail; return what the error says."""
        with pytest.raises(kind) as error:
            await self(*actions, **changes)
        return str(error.value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_zoo(
    chromium: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Plant]:
    """A plant and a warm browser for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTOPS_HOME", str(tmp_path_factory.mktemp("zoo") / "home"))
        get_settings.cache_clear()
        async with Plant(seed=7, opcua=False) as plant, browser_warm.kept_warm():
            yield plant
    get_settings.cache_clear()


@pytest.fixture
def zoo(module_zoo: Plant, tmp_path: Path) -> Zoo:
    """The zoo, with a folder of the test's own."""
    return Zoo(module_zoo, tmp_path)


def to(path: str, **more: Any) -> dict[str, Any]:
    return {"do": "goto", "path": f"/zoo/{path}", **more}


def take(output: str, **target: Any) -> dict[str, Any]:
    return {"do": "extract", "target": target, "output": output}


FORM = to("pages/form")


async def test_a_form(zoo: Zoo) -> None:
    """Filled in, chosen, ticked and sent: what arrives is what the job says."""
    await zoo(
        FORM,
        {"do": "fill", "target": {"placeholder": "B-00000"}, "value": "B-7"},
        {"do": "select", "target": {"label": "Product"}, "options": "Water"},
        {"do": "select", "target": {"label": "Lines"}, "options": ["line-1", "line-3"]},
        {"do": "check", "target": {"label": "Urgent"}},
        {"do": "check", "target": {"role": "radio", "name": "Late"}},
        {"do": "fill", "target": {"label": "Note"}, "value": "two\nlines"},
        {"do": "expect", "target": {"label": "Urgent"}, "checked": True},
        {"do": "expect", "target": {"title": "The batch's number"}, "value": "B-7"},
        {"do": "expect", "target": {"role": "button", "name": "Delete"}, "enabled": False},
        {"do": "click", "target": {"role": "button", "name": "Send"}},
        {"do": "expect", "path": "/zoo/done", "page_title": "Done"},
        {"do": "expect", "target": {"test_id": "product"}, "equals": "w"},
    )
    sent = zoo.plant.log.entries("zoo.done")[-1]
    assert {name: sent[name] for name in ("batch", "product", "urgent", "shift")} == {
        "batch": "B-7",
        "product": "w",
        "urgent": "on",
        "shift": "late",
    }
    assert sent["note"].splitlines() == ["two", "lines"]


async def test_keys_and_the_mouse(zoo: Zoo) -> None:
    """Keys with and without a target, double and right clicks, hovering, taking a tick away."""
    area = {"test_id": "area"}
    visit = await zoo(
        FORM,
        {"do": "press", "keys": "Control+k"},
        take("keys", **area),
        {"do": "click", "target": area, "times": 2},
        take("double", **area),
        {"do": "click", "target": area, "button": "right"},
        take("right", **area),
        {"do": "hover", "target": {"test_id": "menu"}},
        {"do": "expect", "target": {"text": "Opened"}},
        {"do": "check", "target": {"label": "Urgent"}},
        {"do": "check", "target": {"label": "Urgent"}, "checked": False},
        {"do": "expect", "target": {"label": "Urgent"}, "checked": False},
        {"do": "fill", "target": {"label": "Batch"}, "value": "B-9"},
        {"do": "press", "keys": "Enter", "target": {"label": "Batch"}},
        take("batch", test_id="batch"),
    )
    assert visit.values == {"keys": "keys", "double": "double", "right": "right", "batch": "B-9"}
    assert visit.acted


async def test_which_element(zoo: Zoo) -> None:
    """Each way of saying it; several matches are refused unless the job says which."""
    item: dict[str, Any] = {"role": "listitem"}
    visit = await zoo(
        FORM,
        take("has_text", **item, has_text="tw"),
        take("last", **item, nth=-1),
        take("css", css="li.odd"),
        {**take("data", css="li.odd"), "attribute": "data-n"},
        {**take("alt", alt="the line's logo"), "attribute": "alt"},
        {**take("exact", text="two", exact=True), "every": True},
        {**take("every", **item), "every": True},
        {**take("every_n", css="li"), "every": True, "attribute": "data-n"},
        {**take("typed", label="Batch"), "attribute": "value"},
        {"do": "expect", "target": item, "count": 3},
    )
    assert visit.values == {
        "has_text": "two",
        "last": "three",
        "css": "two",
        "data": "2",
        "alt": "The line's logo",
        "exact": ["two"],
        "every": ["one", "two", "three"],
        "every_n": [None, "2", None],
        "typed": "",
    }
    assert "several elements match" in await zoo.fails(
        errors.ExpectationFailed, FORM, take("x", **item)
    )
    said = await zoo.fails(
        errors.PageNotReady,
        FORM,
        {"do": "expect", "target": item, "count": 4, "within": "300ms"},
    )
    assert "not there after 0.3 s on /zoo/pages/form (it is '3')" in said
    exact = {"do": "expect", "target": {"text": "TWO", "exact": True}, "within": "300ms"}
    assert "not there" in await zoo.fails(errors.PageNotReady, FORM, exact)


async def test_what_is_not_as_expected(zoo: Zoo) -> None:
    """Each expectation fails where it is not met, in its time, and the error says what is there."""
    form, box, short = {"label": "Batch"}, {"label": "Urgent"}, {"within": "300ms"}
    expectations: Sequence[dict[str, Any]] = (
        {"target": form, "value": "x"},
        {"target": box, "checked": True},
        {"target": form, "enabled": False},
        {"target": {"text": "Opened"}},
        {"target": form, "visible": False},
        {"target": {"css": "li.odd"}, "equals": "tw"},
        {"target": {"css": "li.odd"}, "contains": "three"},
        {"path": "/elsewhere"},
        {"page_title": "Elsewhere"},
    )
    for expectation in expectations:
        failing = {"do": "expect", **short, **expectation}
        said = await zoo.fails(errors.PageNotReady, FORM, failing)
        assert "not there after 0.3 s" in said, expectation
    assert "it is 'two'" in await zoo.fails(
        errors.PageNotReady, FORM, {"do": "expect", **short, **expectations[5]}
    )


async def test_late_loading(zoo: Zoo) -> None:
    """Elements, addresses, answers and quiet are waited for."""
    late = to("pages/late", until="domcontentloaded")
    visit = await zoo(
        late,
        {"do": "wait_for", "target": {"text": "Loading"}, "state": "detached"},
        {**take("orders", role="listitem"), "every": True},
        {"do": "click", "target": {"role": "button", "name": "More"}},
        {"do": "wait_for", "target": {"text": "That is all"}},
    )
    assert visit.values["orders"][0] == "A-1: 100 l"
    await zoo(to("pages/late", until="commit"), {"do": "wait_for", "path": "/zoo/*/orders"})
    await zoo(late, {"do": "wait_for", "answer": "/zoo/ord*"})
    await zoo(late, {"do": "wait_for", "load": "networkidle"}, take("done", role="heading"))
    await zoo(to("pages/late", until="networkidle"), {"do": "expect", "page_title": "Orders"})
    never = {"do": "wait_for", "answer": "/never", "within": "400ms"}
    assert "not there after 0.4 s" in await zoo.fails(errors.PageNotReady, late, never)


async def test_frames_and_shadow_roots(zoo: Zoo) -> None:
    """A frame in a frame by its frames, an open shadow root without a word."""
    frames = {"frame": ["#outer", "[name=inner]"]}
    visit = await zoo(
        to("pages/frames"),
        take("outer", role="heading", name="Outer", frame="#outer"),
        {"do": "fill", "target": {"label": "Depth", **frames}, "value": "40"},
        {"do": "click", "target": {"role": "button", "name": "Say", **frames}},
        take("said", css="#said", **frames),
        to("pages/shadow"),
        {"do": "fill", "target": {"label": "Setpoint"}, "value": "33"},
        {"do": "click", "target": {"role": "button", "name": "Apply"}},
        take("level", test_id="level"),
    )
    assert visit.values == {"outer": "Outer", "said": "depth 40", "level": "33"}


async def test_uploads(zoo: Zoo) -> None:
    """Several files at once, from the folders that are allowed and from nowhere else."""
    folder = zoo.folder / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("recipe a")
    (folder / "b.txt").write_text("recipe b")
    (zoo.folder / "secret.txt").write_text("no")
    (folder / "link.txt").symlink_to(zoo.folder / "secret.txt")
    give: dict[str, Any] = {"do": "upload", "target": {"label": "Recipes"}}
    visit = await zoo(
        to("pages/files"),
        {**give, "files": ["a.txt", str(folder / "b.txt")]},
        {"do": "click", "target": {"role": "button", "name": "Upload"}},
        {**take("taken", role="listitem"), "every": True},
    )
    digest = hashlib.sha256(b"recipe b").hexdigest()
    assert visit.values["taken"][1] == f"b.txt 8 {digest}"
    for outside in ("../secret.txt", str(zoo.folder / "secret.txt"), "link.txt", "none.txt"):
        bad = {**give, "files": outside}
        assert "SMARTOPS_UPLOADS" not in await zoo.fails(errors.BadInput, to("pages/files"), bad)


async def test_downloads(zoo: Zoo) -> None:
    """By a click, by a path, made by the page itself; each check of a file has its effect."""
    link: dict[str, Any] = {"do": "download", "target": {"role": "link", "name": "Report"}}
    link["target"]["exact"] = True
    visit = await zoo(
        to("pages/files"),
        {**link, "output": "linked"},
        {"do": "download", "path": "/zoo/report.csv?lines=100", "output": "asked"},
        {"do": "download", "target": {"text": "Make a file"}, "output": "made"},
    )
    linked, asked, made = (visit.values[name] for name in ("linked", "asked", "made"))
    content = b"batch;litres\nB-1;100\nB-2;200\nB-3;300\n"
    assert (zoo.folder / "report.csv").read_bytes() == content
    digest = hashlib.sha256(content).hexdigest()
    assert (linked["bytes"], linked["sha256"]) == (len(content), digest)
    assert (asked["name"], made["name"]) == ("report-2.csv", "made.txt")
    files = to("pages/files")
    await zoo(files, {**link, "sha256": digest, "file_name": "*.csv", "max_bytes": "1KB"})
    for check, said in (
        ({"sha256": "0" * 64}, "SHA-256 is"),
        ({"file_name": "*.txt"}, "is called 'report.csv'"),
        ({"max_bytes": 10}, "37 bytes"),
        ({"min_bytes": "1KB"}, "37 bytes"),
    ):
        assert said in await zoo.fails(errors.ExpectationFailed, files, {**link, **check})
    empty = {"do": "download", "target": {"text": "Empty report"}}
    assert "0 bytes" in await zoo.fails(errors.ExpectationFailed, files, empty)
    await zoo(files, {**empty, "min_bytes": 0})
    for path, kind in (
        ("/zoo/pages/form", errors.ExpectationFailed),
        ("/zoo/status/404", errors.ExpectationFailed),
        ("/zoo/status/503", errors.ServiceUnavailable),
        ("/zoo/status/403", errors.AuthenticationFailed),
        ("http://elsewhere/", errors.BadInput),
    ):
        await zoo.fails(kind, files, {"do": "download", "path": path})


async def test_dialogs(zoo: Zoo) -> None:
    """Answered as the job says; one that asks and is not answered for fails the step."""
    page, said = to("pages/dialogs"), {"role": "status"}
    delete = {"do": "click", "target": {"role": "button", "name": "Delete"}}
    visit = await zoo(
        page,
        {"do": "dialog", "contains": "A-1"},
        delete,
        take("accepted", **said),
        {"do": "dialog", "answer": "dismiss"},
        delete,
        take("dismissed", **said),
        {"do": "dialog", "text": "a leak"},
        {"do": "click", "target": {"role": "button", "name": "Reason"}},
        take("typed", **said),
        {"do": "click", "target": {"role": "button", "name": "Tell"}},
        take("told", **said),
    )
    assert visit.values == {
        "accepted": "deleted",
        "dismissed": "kept",
        "typed": "reason: a leak",
        "told": "told",
    }
    assert "does not say what to answer" in await zoo.fails(
        errors.ExpectationFailed, page, delete, take("x", **said)
    )
    wrong = {"do": "dialog", "contains": "A-2"}
    assert "does not contain 'A-2'" in await zoo.fails(
        errors.ExpectationFailed,
        page,
        wrong,
        delete,
        take("x", **said),
    )
    assert "did not come" in await zoo.fails(errors.ExpectationFailed, page, {"do": "dialog"})


async def test_tabs(zoo: Zoo) -> None:
    """A click that opens a tab gives it a name; the job goes from tab to tab."""
    visit = await zoo(
        to("pages/tabs"),
        {"do": "click", "target": {"role": "link"}, "opens": "form"},
        take("form", role="heading"),
        {"do": "tab"},
        take("first", role="heading"),
        {"do": "click", "target": {"role": "button"}, "opens": "table"},
        take("table", role="heading"),
        {"do": "tab", "name": "form"},
        take("again", role="heading"),
        {"do": "tab", "name": "table", "close": True},
        take("back", role="heading"),
    )
    assert list(visit.values.values()) == ["Form", "Tabs", "Batches", "Form", "Tabs"]
    said = await zoo.fails(errors.BadInput, to("pages/tabs"), {"do": "tab", "name": "x"})
    assert "there is no tab 'x'; there are: main" in said


COLUMNS = [
    {"name": "batch"},
    {"name": "day", "type": "date", "format": "%d.%m.%Y"},
    {"name": "litres", "type": "integer", "thousands": "."},
    {"name": "price", "header": "unit  PRICE", "type": "number", "decimal": ",", "unit": "€"},
    {"name": "released", "index": 4, "type": "boolean"},
]


async def test_a_table_of_ten_thousand_rows(zoo: Zoo) -> None:
    """Each row, each value of its type; a grid as well; what does not fit is refused."""
    table: dict[str, Any] = {"do": "table", "target": {"label": "Batches"}, "columns": COLUMNS}
    grid = {
        "do": "table",
        "target": {"role": "grid"},
        "output": "lines",
        "columns": [
            {"name": "line"},
            {"name": "speed", "type": "integer", "unit": "1/min", "optional": True},
        ],
    }
    visit = await zoo(to("table"), {**table, "keep": True, "within": "60s"}, grid)
    rows = visit.values["rows"]
    assert len(rows) == ROWS
    cells = table_row(9_999)
    assert cells == ("B-09999", "04.04.2026", "9.963", "12498,75 €", "no")
    assert rows[9_998] == {
        "batch": "B-09999",
        "day": "2026-04-04",
        "litres": 9963,
        "price": 12498.75,
        "released": False,
    }
    assert visit.values["lines"] == [
        {"line": "line-1", "speed": 120},
        {"line": "line-2", "speed": None},
    ]
    assert len((zoo.folder / "rows.csv").read_text().splitlines()) == ROWS + 1
    few = to("table?rows=3")
    for change, said in (
        ({"max_rows": 2}, "the table has 3 rows"),
        ({"min_rows": 4}, "the table has 3 rows"),
        ({"columns": [{"name": "colour"}]}, "no column is headed 'colour'"),
        ({"columns": [{"name": "day", "type": "integer"}]}, "row 1, column day"),
    ):
        assert said in await zoo.fails(errors.ExpectationFailed, few, {**table, **change})


async def test_pictures_and_prints(zoo: Zoo) -> None:
    """The window, the whole page, one element, with something covered; PDF in its format."""
    covered = {"do": "screenshot", "name": "covered", "cover": [{"role": "heading"}]}
    visit = await zoo(
        to("table?rows=100"),
        {"do": "screenshot", "name": "window"},
        {"do": "screenshot", "name": "whole", "full_page": True},
        {"do": "screenshot", "name": "head", "target": {"role": "heading"}},
        {**covered, "target": {"role": "heading"}},
        {"do": "pdf", "name": "wide", "landscape": True, "paper": "A5"},
        {"do": "pdf"},
    )
    taken = {shot["name"]: Path(shot["path"]) for shot in visit.screenshots}
    sizes = {}
    for name in ("window", "whole", "head", "covered"):
        with Image.open(taken[name]) as picture:
            sizes[name] = picture.size
            if name == "covered":
                assert picture.getpixel((5, 5))[:3] == (255, 0, 255)  # type: ignore[index]
    assert sizes["window"] == (1280, 800)
    assert sizes["whole"][1] > 2000
    assert sizes["head"][1] < 100
    wide, plain = PdfReader(taken["wide"]), PdfReader(taken["page"])
    assert "B-00001" in wide.pages[0].extract_text()
    paper = [[float(side) for side in one.pages[0].mediabox[2:]] for one in (wide, plain)]
    assert paper[0] == pytest.approx([595, 420], abs=2), "A5 on its side"
    assert paper[1] == pytest.approx([595, 842], abs=2), "A4"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in taken.values()]
    assert digests == [shot["sha256"] for shot in visit.screenshots]


async def test_scripts_need_leave(zoo: Zoo) -> None:
    """Refused before anything is done, unless the profile allows them."""
    page = {"do": "eval", "script": "({sum: 1 + 2})", "output": "sum"}
    count = {"do": "eval", "script": "list => list.children.length", "output": "items"}
    script = [FORM, page, {**count, "target": {"css": "ul"}}, {"do": "eval", "script": "1"}]
    visit = await zoo(*script, allow_scripts=True)
    assert visit.values == {"sum": {"sum": 3}, "items": 3}
    assert "does not allow scripts" in await zoo.fails(errors.BadInput, *script)
    wrong = {"do": "eval", "script": "nothing.at.all"}
    said = await zoo.fails(errors.ExpectationFailed, FORM, wrong, allow_scripts=True)
    assert "nothing is not defined" in said


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("status/500", errors.ServiceUnavailable),
        ("status/503", errors.ServiceUnavailable),
        ("status/404", errors.ExpectationFailed),
        ("status/401", errors.AuthenticationFailed),
        ("status/403", errors.AuthenticationFailed),
        ("slow?seconds=5", errors.PageNotReady),
        ("cut", errors.TransientError),
    ],
)
async def test_slow_and_failing_answers(zoo: Zoo, path: str, kind: type[Exception]) -> None:
    """Each means one thing, and is told in its time."""
    await zoo.fails(kind, to(path, within="15s" if path.startswith("status") else "1s"))


MISSING = {"css": "#missing"}


@pytest.mark.parametrize(
    "action",
    [
        {"do": "click", "target": MISSING},
        {"do": "hover", "target": MISSING},
        {"do": "fill", "target": MISSING, "value": "a"},
        {"do": "select", "target": MISSING, "options": "a"},
        {"do": "check", "target": MISSING},
        {"do": "press", "target": MISSING, "keys": "a"},
        {"do": "upload", "target": MISSING, "files": "a.txt"},
        {"do": "download", "target": MISSING},
        {"do": "extract", "target": MISSING},
        {"do": "table", "target": MISSING, "columns": [{"name": "a"}]},
        {"do": "screenshot", "target": MISSING},
        {"do": "eval", "target": MISSING, "script": "1"},
    ],
    ids=lambda action: str(action["do"]),
)
async def test_each_action_keeps_its_time(zoo: Zoo, action: dict[str, Any]) -> None:
    """What waits for the page waits as long as the action says."""
    (zoo.folder / "files").mkdir()
    (zoo.folder / "files" / "a.txt").write_text("a")
    said = await zoo.fails(
        errors.PageNotReady, FORM, {**action, "within": "200ms"}, allow_scripts=True
    )
    assert "not there after 0.2 s on /zoo/pages/form" in said


@pytest.mark.parametrize(
    "action",
    [
        {"do": "click", "target": {"text": "a", "css": "b"}},
        {"do": "click", "target": {"css": "a", "exact": True}},
        {"do": "click", "target": {"role": "button", "exact": True}},
        {"do": "click", "target": {"text": "a", "name": "b"}},
        {"do": "fill", "target": {"text": "a"}, "value": "a", "credential": "password"},
        {"do": "download"},
        {"do": "download", "path": "/", "min_bytes": 2, "max_bytes": 1},
        {"do": "wait_for"},
        {"do": "wait_for", "path": "/", "state": "hidden"},
        {"do": "wait_for", "path": "/", "load": "load"},
        {"do": "expect"},
        {"do": "expect", "contains": "a", "path": "/"},
        {"do": "expect", "target": {"css": "a"}, "visible": False, "contains": "a"},
        {"do": "screenshot", "full_page": True, "target": {"css": "a"}},
        {"do": "dialog", "answer": "dismiss", "text": "a"},
        {"do": "tab", "close": True},
        {"do": "table", "target": {"css": "a"}, "columns": [{"name": "a"}, {"name": "a"}]},
        {"do": "table", "target": {"css": "a"}, "columns": [{"name": "a", "unit": "l"}]},
        {"do": "table", "target": {"css": "a"}, "columns": [{"name": "a", "format": "%d"}]},
        {"do": "goto", "path": "/", "nonsense": 1},
    ],
)
async def test_what_has_no_meaning_is_refused(action: dict[str, Any]) -> None:
    """An option that would have no effect is an error, and is not ignored."""
    with pytest.raises(ValidationError):
        ACTIONS.validate_python([action])
