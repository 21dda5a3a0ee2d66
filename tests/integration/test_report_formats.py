"""Reports as people get them: the page in a real browser, the PDF, the mail, what is kept."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, sync_playwright
from pypdf import PdfReader

from benchmarks.year import Plant, load
from flows import reporting
from reports import as_html, as_pdf, catalogue, charts, mail
from reports.document import Bars, Column, Document, Lines, Section, Series, Span, Table, Timeline
from reports.period import whole
from smartops import errors
from smartops.audit import kept_reports, models, schema, shipping
from smartops.audit.report_tables import report_part
from smartops.audit.store import Store
from smartops.settings import get_settings
from tests.alert_sinks import MailSink

START = datetime(2026, 3, 27, tzinfo=UTC)
DAY = whole("day", START + timedelta(hours=12), "Europe/Berlin")
HOSTILE = "<script>alert(1)</script> & 'x' | y"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The operations report of a day, with a hostile name in it."""
    folder = tmp_path_factory.mktemp("page")
    store = Store(f"sqlite:///{folder / 'audit.sqlite'}")
    schema.migrate(store)
    load(store, Plant(start=START, length=timedelta(days=1), density=0.5, faults=20))
    with store.transaction() as connection:
        run = models.job_run
        connection.execute(sa.update(run).where(run.c.job == "weigh-sample").values(job=HOSTILE))
    document = catalogue.build(store, catalogue.find("operations"), DAY, {})
    store.close()
    return document


@contextmanager
def open_browser(executable: Path) -> Iterator[Browser]:
    """Give a browser; its own loop runs in this thread for as long as it is open."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


def all_charts() -> Document:
    """Return a report with each kind of chart, of which the operations report has not all."""
    labels = tuple(f"{day:02d} Nov" for day in range(1, 31))
    values = tuple(None if day == 7 else float(day) for day in range(30))
    series = (Series("good", values, "good"), Series("bad", values, "bad"))
    spans = (
        Span("read", 0.0, 0.4, "failed", "1"),
        Span("read", 1.4, 1.9, "completed"),
        Span("write", 2.0, 9.0, "skipped"),
    )
    charts = (
        Bars("bars", "Bars", "says", labels, series, "runs"),
        Bars("lying", "Lying", "says", labels[:5], (Series("a", values[:5], "other"),), lying=True),
        Lines("lines", "Lines", "says", labels, series, "%", limit=20.0),
        Timeline("time", "Time", "says", START, spans),
    )
    many = tuple((f"row {number}", number) for number in range(300))
    table = Table("many", "Many", (Column("a", "A"), Column("b", "B", "count")), many)
    return Document("charts", "Charts", DAY, sections=(Section("All", (*charts, table)),))


# --- the page ---------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_page_is_accessible(page: Document, chromium: Path) -> None:
    """No violation that axe knows of: each chart, light and dark, on a desk and on a phone."""
    pages = [as_html.as_html(document).decode() for document in (page, all_charts())]
    screens: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 360)]
    with open_browser(chromium) as browser:
        for html, (scheme, width) in itertools.product(pages, screens):
            opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            opened.set_content(html)
            found = Axe().run(opened)
            assert found.violations_count == 0, found.generate_report()
            # On a phone the tables scroll, and not the page.
            assert opened.evaluate("document.documentElement.scrollWidth") == width
            opened.close()


@pytest.mark.browser
def test_the_page_needs_no_network_and_runs_no_foreign_script(
    page: Document, chromium: Path
) -> None:
    """What a job is called is text; nothing is fetched; the charts are SVG with text in them."""
    asked: list[str] = []
    with open_browser(chromium) as browser:
        opened = browser.new_page()
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("dialog", lambda dialog: asked.append("dialog"))
        opened.set_content(as_html.as_html(page).decode())
        assert HOSTILE in opened.locator("table").first.inner_text()
        labels = [label.strip() for label in opened.locator("svg text").all_text_contents()]
        ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert asked == []
    assert "tank-guard" in labels
    assert len(labels) > 20
    assert len(ids) == len(set(ids))


def test_a_timeline_says_when_things_were() -> None:
    """To the hundredth of a second, to the second, or with the day: whatever tells them apart."""
    for end_s, said in ((9.0, "01:00:01.80"), (9000.0, "01:30:00"), (600_000.0, "28 Mar 10:20")):
        drawn = charts.svg(Timeline("t", "T", "s", START, (Span("r", 0, end_s, "failed"),)), "CET")
        assert f">{said}<" in drawn


def test_bars_of_nothing_begin_at_zero() -> None:
    """Where all is well there is nothing below it."""
    for lying in (False, True):
        bars = Bars("b", "B", "s", ("x", "y"), (Series("n", (0.0, None)),), lying=lying)
        assert not re.search(r">[-\N{MINUS SIGN}]\d", charts.svg(bars, "UTC"))


def test_a_heading_stands_once() -> None:
    """A table that is called as its section is has its heading for those alone who do not see."""
    parts = tuple(Table(name, title, (), ()) for name, title in (("a", "All"), ("b", "Some")))
    html = as_html.as_html(Document("x", "X", DAY, sections=(Section("All", parts),))).decode()
    assert '<h3 id="a" class="same">All</h3>' in html
    assert '<h3 id="b">Some</h3>' in html


def test_a_long_table_says_that_there_is_more() -> None:
    """People are shown 200 rows and told of the rest; the data has all."""
    html = as_html.as_html(all_charts()).decode()
    assert "row 199" in html
    assert "row 200" not in html
    assert "The first 200 of 300" in html
    assert b"row 299" in catalogue.rendered(all_charts(), "csv")


# --- the PDF ----------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_pdf_is_the_page_and_the_same_bytes_each_time(page: Document, chromium: Path) -> None:
    """Text that can be searched, tags for readers, A4; no moment of its making."""
    first, second = as_pdf.as_pdf(page), as_pdf.as_pdf(page)
    assert first == second
    read = PdfReader(io.BytesIO(first))
    text = "\n".join(sheet.extract_text() for sheet in read.pages)
    assert "Operations report" in text
    assert "tank-guard" in text
    assert read.metadata is not None
    assert read.metadata.creation_date == DAY.end
    assert [round(float(side)) for side in read.pages[0].mediabox[2:]] == [595, 842]
    assert "/StructTreeRoot" in str(read.trailer["/Root"])


# --- what is kept -----------------------------------------------------------------------------


def test_a_kept_report_is_given_back_as_it_was(store: Store, home: Path) -> None:
    """By its hash, the same bytes once; an altered one is refused."""
    content = bytes(range(256)) * 40 + bytes(1_000_000)
    times = (START, START + timedelta(days=1))
    digest = kept_reports.keep(store, "operations", times, "text/html", content)
    assert kept_reports.keep(store, "operations", times, "text/html", content) == digest
    shipping.ship_all(store, get_settings().journal_dir)
    found = kept_reports.kept(store, "operations")
    assert [(one.sha256, one.bytes, one.period_from) for one in found] == [
        (digest, len(content), START)
    ] * 2
    assert kept_reports.content_of(store, digest[:10]) == content
    with store.transaction() as connection:
        assert connection.execute(sa.select(sa.func.count(report_part.c.number))).scalar() == 1
        kept_reports.delete_unused(connection)
    assert kept_reports.content_of(store, digest) == content
    with store.transaction() as connection:
        connection.execute(sa.update(report_part).values(data=b"altered"))
    with pytest.raises(errors.BadInput, match="was altered"):
        kept_reports.content_of(store, digest)
    with store.transaction() as connection:
        connection.execute(sa.delete(models.report))
        kept_reports.delete_unused(connection)
    with pytest.raises(errors.BadInput, match="no reports with the hash"):
        kept_reports.content_of(store, digest)


# --- the mail ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["starttls", "tls"])
def test_a_report_is_mailed_with_its_page(
    tmp_path: Path, home: Path, store: Store, tls: bool
) -> None:
    """A real server, which wants TLS and a login, gets the summary as text, and each file."""
    made = reporting.make("operations", DAY, {}, store=store, pdf=False)
    with MailSink(tmp_path, tls=tls).running() as sink:
        reporting.send(made, ["shift@example.com", "lead@example.com"], sink.block())
    (found,) = sink.mails
    assert (found["to"], found["from"]) == (
        "shift@example.com, lead@example.com",
        "smartops@plant.example",
    )
    assert found["subject"] == "Operations report, Friday, 27 March 2026"
    assert found["message-id"].endswith("@plant.example>")
    assert found["date"] is not None
    body = found.get_body(("plain",))
    assert body is not None
    assert "0 runs of 0 jobs" in body.get_content()
    (attached,) = found.iter_attachments()
    assert isinstance(attached, EmailMessage)
    assert attached.get_filename() == "operations-2026-03-27-day.html"
    assert attached.get_content().encode().strip() == made.files["html"].strip()
    assert made.page is not None
    assert made.page.read_bytes() == made.files["html"]
    assert kept_reports.content_of(store, made.hashes["html"]) == made.files["html"]


def test_a_mail_that_is_not_taken_is_told(tmp_path: Path, home: Path, store: Store) -> None:
    """The report is kept all the same, and the error says where the mail did not go, and why."""
    made = reporting.make("operations", DAY, {}, store=store, pdf=False)
    sink = MailSink(tmp_path)
    with pytest.raises(errors.ServiceUnavailable, match="was kept, and not mailed by alert-mail/"):
        reporting.send(made, ["shift@example.com"], sink.block())
    with sink.running():
        sink.refuse["nobody@example.com"] = "550 no such person"
        with pytest.raises(errors.BadInput, match=r"not mailed by .*550 no such person"):
            reporting.send(made, ["nobody@example.com"], sink.block())
        wrong = sink.block(password="not-it")
        with pytest.raises(errors.AuthenticationFailed, match=r"not mailed by .*535"):
            reporting.send(made, ["shift@example.com"], wrong)
    assert sink.mails == []
    assert kept_reports.content_of(store, made.hashes["json"]) == made.files["json"]


def test_messages_are_no_markup_in_the_artifact(page: Document) -> None:
    """What a device says cannot make links or tags on Prefect's page."""
    hostile = Document("x", "X", DAY, summary=("[a](http://evil) <img src=x> **b** `c`",))
    text = mail.as_markdown(hostile)
    assert "<img" not in text
    assert "\\[a\\](http" in text
    assert re.search(r"\| Runs \| \d", mail.as_markdown(page))
