"""From a target to Playwright's locator, and from a table on a page to its cells."""

from __future__ import annotations

from typing import Any

from playwright.async_api import FrameLocator, Locator, Page

from smartops.page_actions import Target

CELLS = """(table, most) => {
  const text = cell => (cell.innerText ?? cell.textContent).trim();
  const of = row => row.cells ? [...row.cells] :
    [...row.querySelectorAll("[role=columnheader],[role=rowheader],[role=cell],[role=gridcell]")];
  const isHead = cell => cell.tagName === "TH" || cell.getAttribute("role") === "columnheader";
  const all = table.rows ? [...table.rows] : [...table.querySelectorAll("[role=row]")];
  const carried = [], head = [], rows = [];
  for (const row of all) {
    if (row.parentElement.tagName === "TFOOT") continue;
    const cells = of(row), line = [];
    const carry = () => {
      while (carried[line.length]?.left > 0) {
        carried[line.length].left--;
        line.push(carried[line.length].text);
      }
    };
    for (const cell of cells) {
      carry();
      const said = text(cell);
      for (let n = 0; n < (cell.colSpan ?? 1); n++) {
        carried[line.length] = {left: (cell.rowSpan ?? 1) - 1, text: said};
        line.push(said);
      }
    }
    carry();
    if (cells.length && cells.every(isHead)) { if (!rows.length) head.splice(0, 99, ...line); }
    else if (cells.length && rows.push(line) > most) break;
  }
  return {head, rows};
}"""
"""Gives the headings and the rows of a table or an ARIA grid, one row more than wanted at most."""


def locate(page: Page, target: Target) -> Locator:
    """Return the locator of what is meant."""
    found = _found(_root(page, target), target)
    if target.has_text is not None:
        found = found.filter(has_text=target.has_text)
    return found if target.nth is None else found.nth(target.nth)


def _root(page: Page, target: Target) -> Page | FrameLocator:
    root: Page | FrameLocator = page
    for css in target.frame:
        root = root.frame_locator(css)
    return root


def _found(root: Page | FrameLocator, target: Target) -> Locator:
    for way in ("label", "text", "placeholder", "alt", "title"):
        if (text := getattr(target, way)) is not None:
            name = "alt_text" if way == "alt" else way
            found: Locator = getattr(root, f"get_by_{name}")(text, exact=target.exact)
            return found
    if target.role is not None:
        role: Any = target.role
        exact = target.exact if target.name is not None else None
        return root.get_by_role(role, name=target.name, exact=exact)
    if target.test_id is not None:
        return root.get_by_test_id(target.test_id)
    return root.locator(target.css or "")
