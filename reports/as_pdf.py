"""Reports as PDF: the page as Chromium prints it, with the moment of its making taken out."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime

from reports.as_html import as_html
from reports.document import Document
from smartops.errors import BrowserCrashed, MissingProgram


def as_pdf(document: Document) -> bytes:
    """Return the report as a tagged PDF on A4. Not for use on an event loop. Needs Playwright.

    Raises MissingProgram where there is no browser, BrowserCrashed.
    """
    return _without_moment(asyncio.run(_printed(as_html(document).decode())), document.period.end)


async def _printed(html: str) -> bytes:
    from playwright.async_api import Error  # noqa: PLC0415

    from smartops.drivers.browser import find_executable  # noqa: PLC0415
    from smartops.drivers.browser_process import Launch, running  # noqa: PLC0415

    launch = Launch(executable=find_executable())
    try:
        async with running(launch, "the printing of the report") as browser:
            context = await browser.new_context(java_script_enabled=False, offline=True)
            page = await context.new_page()
            await page.set_content(html)
            return await page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)
    except MissingProgram:
        hint = "Install Chromium, or ask for --format html."
        raise MissingProgram("no browser is installed to print the report", hint=hint) from None
    except Error as error:
        raise _crashed(error) from error


def _crashed(error: Exception) -> BrowserCrashed:
    return BrowserCrashed(f"the report cannot be printed: {str(error).strip().splitlines()[0]}")


def _without_moment(pdf: bytes, moment: datetime) -> bytes:
    """Return the file with the moment of its making replaced, byte for byte, by the period's end.

    Every object stays where the file's own table says that it is.
    """
    made = moment.strftime("D:%Y%m%d%H%M%S+00'00'").encode()

    def replaced(found: re.Match[bytes]) -> bytes:
        room = len(found[2])
        return found[1] + made[:room].ljust(room) + found[3]

    return re.sub(rb"(/(?:CreationDate|ModDate) ?\()([^)]*)(\))", replaced, pdf)
