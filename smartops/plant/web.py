"""The plant's two web servers: the orders service (REST) and the operator's HMI (pages)."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Header, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smartops.plant.faults import FAULTS, Faults, PlantLog
from smartops.plant.line import Line
from smartops.plant.zoo import add_zoo

TOKEN = "plant-token-1234"  # noqa: S105 - the simulated plant's; it guards nothing
USERNAME, PASSWORD = "operator", "bottles-and-caps"
ORDERS = (
    {"id": "A-1001", "line": "line-1", "product": "Cola 0.5 l", "quantity": 6000, "speed": 140},
    {"id": "A-1002", "line": "line-1", "product": "Water 1.0 l", "quantity": 4000, "speed": 110},
    {"id": "A-2001", "line": "line-2", "product": "Juice 0.7 l", "quantity": 2500, "speed": 90},
)
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("pages")), autoescape=select_autoescape()
)


class LogEntry(BaseModel):
    """One entry of the shift log."""

    model_config = ConfigDict(extra="forbid")

    line: str = Field(min_length=1)
    text: str = Field(min_length=1, max_length=500)
    good: int = Field(ge=0)
    scrap: int = Field(ge=0)


def orders_app(faults: Faults, log: PlantLog) -> FastAPI:
    """Return the orders service: orders and the shift log behind a bearer token."""
    app = FastAPI(title="Orders", docs_url=None, redoc_url=None)
    entries: list[dict[str, Any]] = []
    by_key: dict[str, dict[str, Any]] = {}

    def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if not secrets.compare_digest(authorization.encode(), f"Bearer {TOKEN}".encode()):
            raise HTTPException(401, "a valid token is needed")
        if "orders-down" in faults:
            raise HTTPException(503, "the database is being serviced")

    guarded = [Depends(authorised)]

    @app.get("/orders", dependencies=guarded)
    def orders(line: str | None = None) -> dict[str, Any]:
        found = [order for order in ORDERS if line in {None, order["line"]}]
        return {"items": found, "count": len(found)}

    @app.get("/shift-log", dependencies=guarded)
    def shift_log() -> dict[str, Any]:
        return {"items": entries, "count": len(entries)}

    @app.post("/shift-log", dependencies=guarded, status_code=201)
    def add_to_shift_log(
        entry: LogEntry, idempotency_key: Annotated[str, Header()] = ""
    ) -> dict[str, Any]:
        if idempotency_key in by_key:
            return by_key[idempotency_key]
        made = {"id": len(entries) + 1, **entry.model_dump()}
        entries.append(made)
        log.add("shift-log.post", **made)
        if idempotency_key:
            by_key[idempotency_key] = made
        return made

    _add_other_forms(app, guarded, entries)
    app.add_middleware(_DropAfterCommit, faults=faults)
    _add_controls(app, faults, log)
    return app


def _add_other_forms(app: FastAPI, guarded: list[Any], entries: list[dict[str, Any]]) -> None:
    """Add the same in other forms: orders page by page, the shift log as a file."""

    @app.get("/orders-by-page", dependencies=guarded)
    def orders_by_page(
        line: str | None = None,
        page: Annotated[int, Query(ge=1)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 2,
    ) -> dict[str, Any]:
        found = [order for order in ORDERS if line in {None, order["line"]}]
        return {"items": found[(page - 1) * limit : page * limit], "page": page}

    @app.get("/shift-log.csv", dependencies=guarded)
    def shift_log_file() -> Response:
        lines = io.StringIO()
        table = csv.writer(lines)
        table.writerow(("id", *LogEntry.model_fields))
        table.writerows(entry.values() for entry in entries)
        return Response(lines.getvalue(), media_type="text/csv")


class _DropAfterCommit:
    """Lets a POST through to its commit, then breaks the connection in the middle of the answer."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app, self._faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST" or "orders-commit-then-drop" not in self._faults:
            await self._app(scope, receive, send)
            return

        async def swallow(_message: Message) -> None:
            return

        await self._app(scope, receive, swallow)
        length = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 201, "headers": length})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _add_controls(app: FastAPI, faults: Faults, log: PlantLog) -> None:
    """Add what a test or a demonstration uses to make the plant fail and to see what it saw."""

    @app.get("/_plant/log")
    def plant_log(what: str | None = None) -> list[dict[str, Any]]:
        return log.entries(what)

    @app.get("/_plant/faults")
    def known_faults() -> dict[str, Any]:
        return {"on": faults.names(), "known": FAULTS}

    @app.put("/_plant/faults/{name}", status_code=204)
    def switch_on(name: str) -> None:
        if name not in FAULTS:
            raise HTTPException(404, f"unknown fault; known: {', '.join(FAULTS)}")
        faults.switch_on(name)

    @app.delete("/_plant/faults/{name}", status_code=204)
    def switch_off(name: str) -> None:
        faults.switch_off(name)


def hmi_app(line: Line, faults: Faults, log: PlantLog) -> FastAPI:
    """Return the HMI: a login, a page with live values, a form to confirm the shift."""
    app = FastAPI(title="HMI", docs_url=None, redoc_url=None, openapi_url=None)
    sessions: set[str] = set()

    def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(_pages.get_template(name).render(**values), status_code=status)

    def logged_in(request: Request) -> bool:
        return request.cookies.get("session") in sessions

    @app.middleware("http")
    async def maybe_down(request: Request, call_next: Any) -> Response:
        if "hmi-down" in faults:
            return HTMLResponse("<h1>Service unavailable</h1>", status_code=503)
        response: Response = await call_next(request)
        return response

    _add_login(app, page, faults, log, sessions)

    @app.get("/")
    def home() -> RedirectResponse:
        return RedirectResponse("/line", status_code=303)

    @app.get("/line")
    def line_page(request: Request, confirmed: str = "") -> Response:
        if not logged_in(request):
            return RedirectResponse("/login", status_code=303)
        return page("line.html", now=line.snapshot(), batch=line.batch, confirmed=confirmed)

    @app.get("/live")
    def live(request: Request) -> Response:
        if not logged_in(request):
            return JSONResponse({"detail": "log in first"}, status_code=401)
        return JSONResponse(vars(line.snapshot()))

    _add_shift_form(app, logged_in, log)
    add_zoo(app, faults, log)
    return app


def _add_shift_form(app: FastAPI, logged_in: Callable[[Request], bool], log: PlantLog) -> None:
    """Add what the form for the end of a shift is sent to."""

    @app.post("/shift")
    def confirm_shift(request: Request, shift: Annotated[str, Form()]) -> Response:
        if not logged_in(request):
            return RedirectResponse("/login", status_code=303)
        log.add("hmi.shift-confirmed", shift=shift)
        return RedirectResponse(f"/line?confirmed={shift}", status_code=303)


def _add_login(
    app: FastAPI, page: Callable[..., Response], faults: Faults, log: PlantLog, sessions: set[str]
) -> None:
    """Add the form that a session begins with."""

    @app.get("/login")
    def login_form() -> Response:
        return page("login.html")

    @app.post("/login")
    def login(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        right = username == USERNAME and secrets.compare_digest(
            password.encode(), PASSWORD.encode()
        )
        log.add("hmi.login", username=username, accepted=right)
        if not right or "hmi-password-changed" in faults:
            return page("login.html", status=401, error="Wrong user name or password.")
        session = secrets.token_urlsafe()
        sessions.add(session)
        response = RedirectResponse("/line", status_code=303)
        response.set_cookie("session", session, httponly=True, samesite="strict")
        return response
