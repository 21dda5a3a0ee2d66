"""The page zoo of the HMI, below /zoo: what makes pages hard, each on a page of its own.

Late loading, frames, shadow DOM, files, dialogs, tabs, sessions that expire, slow and failing
answers, a table of 10,000 rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.security.utils import get_authorization_scheme_param
from jinja2 import Environment, FileSystemLoader, select_autoescape

from smartops.plant.faults import Faults, PlantLog

PIN = 'zoo-pin-73/+&"ü'
"""What the zoo's second login asks for: a secret with signs that are escaped in many ways."""
SESSION_S = 3600.0
ROWS = 10_000
_LATE_MS, _SLOWEST_S = 300, 60.0
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("pages") / "zoo"),
    autoescape=select_autoescape(),
)


def add_zoo(app: FastAPI, faults: Faults, log: PlantLog) -> None:
    """Add the zoo to the HMI."""
    router = APIRouter(prefix="/zoo")
    _add_pages(router, log)
    _add_files(router, log)
    _add_faults(router)
    _add_sessions(router, faults, log)
    app.include_router(router)


def _page(name: str, status: int = 200, **values: object) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(f"{name}.html").render(**values), status_code=status)


def table_row(number: int) -> tuple[str, str, str, str, str]:
    """Return the cells of a row of the table, from 1: batch, day, litres, price, released."""
    day = f"{number % 28 + 1:02}.{number % 12 + 1:02}.2026"
    litres = f"{number * 37 % 90_000:,}".replace(",", ".")
    price = f"{number * 1.25:.2f}".replace(".", ",")
    return f"B-{number:05}", day, litres, f"{price} €", "yes" if number % 3 else "no"


def _add_pages(router: APIRouter, log: PlantLog) -> None:
    """Add what is just a page."""

    @router.get("/")
    def overview() -> Response:
        return _page("overview")

    @router.get("/pages/{name}")
    def page(name: str) -> Response:
        if not (Path(__file__).with_name("pages") / "zoo" / f"{name}.html").is_file():
            raise HTTPException(404, "there is no such page")
        return _page(name, late_ms=_LATE_MS)

    @router.get("/orders")
    async def orders() -> list[dict[str, object]]:
        await asyncio.sleep(_LATE_MS / 1000)
        return [{"id": f"A-{n}", "litres": n * 100} for n in range(1, 6)]

    @router.get("/table")
    def table(rows: int = ROWS) -> Response:
        return _page("table", rows=[table_row(n) for n in range(1, min(rows, ROWS) + 1)])

    @router.post("/done")
    async def done(request: Request) -> Response:
        form = await request.form()
        log.add("zoo.done", **{name: str(value) for name, value in form.items()})
        return _page("done", said=dict(form))


def _add_files(router: APIRouter, log: PlantLog) -> None:
    """Add what gives and takes files."""

    @router.post("/upload")
    async def upload(files: list[UploadFile]) -> Response:
        taken = []
        for file in files:
            content = await file.read()
            digest = hashlib.sha256(content).hexdigest()
            taken.append({"name": file.filename, "bytes": len(content), "sha256": digest})
            log.add("zoo.upload", **taken[-1])
        return _page("uploaded", files=taken)

    @router.get("/report.csv")
    def report(lines: int = 3) -> Response:
        text = "batch;litres\n" + "".join(f"B-{n};{n * 100}\n" for n in range(1, lines + 1))
        headers = {"content-disposition": 'attachment; filename="report.csv"'}
        return Response(text, media_type="text/csv", headers=headers)

    @router.get("/empty.csv")
    def empty() -> Response:
        headers = {"content-disposition": 'attachment; filename="empty.csv"'}
        return Response("", media_type="text/csv", headers=headers)


def _add_faults(router: APIRouter) -> None:
    """Add what is slow, and what fails."""

    @router.get("/status/{code}")
    def status(code: int) -> Response:
        return HTMLResponse(f"<h1>Status {code}</h1>", status_code=code)

    @router.get("/slow")
    async def slow(seconds: float = 1.0) -> Response:
        await asyncio.sleep(min(seconds, _SLOWEST_S))
        return HTMLResponse("<h1>At last</h1>")

    @router.get("/cut")
    def cut() -> Response:
        # Less comes than was announced, and the connection ends.
        return Response("<h1>Half", headers={"content-length": "1000"}, media_type="text/html")

    @router.get("/basic")
    def basic(request: Request) -> Response:
        scheme, given = get_authorization_scheme_param(request.headers.get("authorization"))
        if scheme.lower() != "basic":
            headers = {"www-authenticate": 'Basic realm="zoo"'}
            return HTMLResponse("<h1>Who are you?</h1>", status_code=401, headers=headers)
        return HTMLResponse(f"<h1>Welcome</h1><p>{len(given)} characters</p>")


def _add_sessions(router: APIRouter, faults: Faults, log: PlantLog) -> None:
    """Add sessions that end: after a while, or all of them by the fault zoo-session-expired."""
    sessions: dict[str, float] = {}

    def is_in(request: Request) -> bool:
        if "zoo-session-expired" in faults:
            sessions.clear()
            faults.switch_off("zoo-session-expired")
        return sessions.get(request.cookies.get("zoo", ""), 0.0) > time.monotonic()

    @router.get("/enter")
    def form() -> Response:
        return _page("enter")

    @router.post("/enter")
    def enter(user: Annotated[str, Form()], pin: Annotated[str, Form()]) -> Response:
        right = secrets.compare_digest(pin.encode(), PIN.encode())
        log.add("zoo.login", user=user, accepted=right)
        if not right:
            return _page("enter", 401)
        session = secrets.token_urlsafe(24)
        sessions[session] = time.monotonic() + SESSION_S
        answer = RedirectResponse("/zoo/account", status_code=303)
        answer.set_cookie("zoo", session, httponly=True, samesite="strict", max_age=int(SESSION_S))
        return answer

    @router.get("/account")
    def account(request: Request) -> Response:
        if not is_in(request):
            return RedirectResponse("/zoo/enter", status_code=303)
        return _page("account")

    @router.get("/late-account")
    def late_account() -> Response:
        return _page("late_account", late_ms=_LATE_MS)

    @router.get("/who")
    def who(request: Request) -> Response:
        return JSONResponse({"in": is_in(request)})

    @router.post("/echo")
    async def echo(request: Request) -> Response:
        form = await request.form()
        return _page("echo", said={name: str(value) for name, value in form.items()})
