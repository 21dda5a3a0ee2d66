"""Browser profiles: what pages see of them, proxies, certificates, and sessions that are kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr, TypeAdapter, ValidationError

from blocks import BrowserProfile
from smartops import errors, redact
from smartops.drivers import browser, browser_state, browser_warm
from smartops.drivers.browser_actions import Actor, Visit
from smartops.page_actions import Action
from smartops.plant import Plant
from smartops.plant.zoo import PIN
from smartops.settings import get_settings

pytestmark = pytest.mark.browser
ACTIONS: TypeAdapter[tuple[Action, ...]] = TypeAdapter(tuple[Action, ...])
LOGIN: list[dict[str, Any]] = [
    {"do": "goto", "path": "/zoo/enter"},
    {"do": "fill", "target": {"label": "User"}, "value": "operator"},
    {"do": "fill", "target": {"label": "PIN", "exact": True}, "credential": "pin"},
    {"do": "click", "target": {"role": "button", "name": "Enter"}},
    {"do": "expect", "target": {"role": "heading", "name": "Account"}},
]
BALANCE = {"do": "extract", "target": {"test_id": "balance"}, "output": "balance"}


def profile(plant: Plant, **fields: Any) -> BrowserProfile:
    """A profile as a person saves it."""
    given = {"base_url": plant.addresses.hmi_url, "timeout": "20s", **fields}
    return BrowserProfile.model_validate(given)


async def perform(saved: BrowserProfile, *actions: dict[str, Any]) -> Visit:
    """Perform actions with a profile."""
    folder = get_settings().evidence_dir
    async with browser.open_session(saved.connection, browser.Keeping(), folder) as session:
        return await Actor(session).perform(ACTIONS.validate_python(actions))


@pytest.fixture(autouse=True)
async def _warm(chromium: Path) -> AsyncIterator[None]:
    """One browser for a test."""
    async with browser_warm.kept_warm():
        yield


def goto(path: str) -> dict[str, Any]:
    return {"do": "goto", "path": path}


async def test_what_pages_see(plant: Plant) -> None:
    """Language, time zone, user agent, size."""
    saved = profile(
        plant, locale="de-AT", timezone="Asia/Tokyo", user_agent="Panel/1.0", width=640, height=480
    )
    async with saved.open() as page:
        await page.goto("/zoo/")
        seen = await page.evaluate(
            "[navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone,"
            " navigator.userAgent, innerWidth, innerHeight]"
        )
    assert seen == ["de-AT", "Asia/Tokyo", "Panel/1.0", 640, 480]


async def test_which_browser(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there is asked for by name; a window needs a display."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(get_settings().home))
    for kind in ("firefox", "webkit"):
        with pytest.raises(errors.MissingProgram, match=kind) as missing:
            await perform(profile(plant, browser=kind), goto("/zoo/"))
        assert f"playwright install {kind}" in missing.value.one_line
    with pytest.raises(errors.MissingProgram, match="no display"):
        await perform(profile(plant, headless=False), goto("/zoo/"))


@contextlib.asynccontextmanager
async def proxy_server(seen: list[str]) -> AsyncIterator[int]:
    """A proxy for plain HTTP that wants a user, and notes what it is asked for."""
    wanted = b"Basic " + base64.b64encode(b"worker:through-the-proxy")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *fields = head.split(b"\r\n")
            given = [f.split(b": ", 1)[1] for f in fields if f.lower().startswith(b"proxy-auth")]
            if given != [wanted]:
                answer = b"407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x"
            else:
                seen.append(line.split()[1].decode())
                answer = b"200 OK\r\nContent-Type: text/html"
            body = b"<title>proxied</title>"
            writer.write(b"HTTP/1.1 " + answer + b"\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_through_a_proxy(plant: Plant) -> None:
    """With the proxy's own login; hosts that are excepted are asked without it."""
    seen: list[str] = []
    async with proxy_server(seen) as port:
        through = {
            "base_url": "http://panel.test",
            "proxy": f"http://127.0.0.1:{port}",
            "proxy_username": "worker",
            "proxy_password": "through-the-proxy",
        }
        await perform(profile(plant, **through), goto("/a"), {"do": "expect", "page_title": "prox"})
        assert seen[0] == "http://panel.test/a"
        around = {**through, "base_url": plant.addresses.hmi_url, "proxy_bypass": "127.0.0.1"}
        await perform(
            profile(plant, **around), goto("/zoo/"), {"do": "expect", "page_title": "Zoo"}
        )
        assert not any(plant.addresses.hmi_url in url for url in seen)
    with pytest.raises(errors.ServiceUnavailable):
        await perform(profile(plant, **through), goto("/a"))


async def test_http_login(plant: Plant) -> None:
    """User name and password for HTTP's own login; without them it is refused."""
    given = {"username": "operator", "password": "never-typed-anywhere"}
    welcome = {"do": "expect", "target": {"role": "heading", "name": "Welcome"}}
    await perform(profile(plant, http_login=True, **given), goto("/zoo/basic"), welcome)
    with pytest.raises(errors.AuthenticationFailed):
        await perform(profile(plant, **given), goto("/zoo/basic"))


async def test_certificates_of_panels(plant: Plant, chromium: Path) -> None:
    """One that nobody vouches for is refused, unless the profile takes any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await perform(profile(plant, base_url=url, accept_any_certificate=True), goto("/"))
        with pytest.raises(errors.ExpectationFailed, match="ERR_CERT_AUTHORITY_INVALID"):
            await perform(profile(plant, base_url=url), goto("/"))


def with_login(plant: Plant, **fields: Any) -> BrowserProfile:
    """A profile that knows how to log in."""
    given = {"secrets": {"pin": PIN}, "login": LOGIN, "logged_out_path": "/zoo/enter*", **fields}
    return profile(plant, **given)


async def test_a_session_begins_by_itself(plant: Plant) -> None:
    """Where a page lands at the login, the recipe is made, and the page is opened again."""
    visit = await perform(with_login(plant), goto("/zoo/account"), BALANCE)
    assert visit.values == {"balance": "12 crates"}
    assert not visit.acted, "a login is nothing that a step did"
    await perform(with_login(plant), goto("/zoo/account"), BALANCE)
    assert len(plant.log.entries("zoo.login")) == 2, "nothing was kept"
    wrong = with_login(plant, secrets={"pin": "the-wrong-pin"})
    with pytest.raises(errors.AuthenticationFailed):
        await perform(wrong, goto("/zoo/account"), BALANCE)


async def test_a_session_is_kept(plant: Plant, home: Path) -> None:
    """Encrypted, for its owner alone; the next step goes on with it; an expired one is renewed."""
    saved = with_login(plant, keep_session=True)
    for _ in range(2):
        await perform(saved, goto("/zoo/account"), BALANCE)
    assert len(plant.log.entries("zoo.login")) == 1
    plant.faults.switch_on("zoo-session-expired")
    await perform(saved, goto("/zoo/account"), BALANCE)
    assert len(plant.log.entries("zoo.login")) == 2
    (state,) = (home / "browser-sessions").iterdir()
    for file in (state, home / "browser.key"):
        assert file.stat().st_mode & 0o777 == 0o600
    assert b"cookies" not in state.read_bytes()
    kept = browser_state.load("BrowserProfile")
    assert kept is not None
    assert [cookie["name"] for cookie in kept["cookies"]] == ["zoo"]


async def test_a_session_that_ends_under_way(plant: Plant) -> None:
    """Before anything was done, the step begins again, as if anew; after a click, it does not."""
    saved = with_login(plant, keep_session=True)
    again = {"do": "goto", "path": "/zoo/account"}
    await perform(saved, again, BALANCE)
    link = {"do": "click", "target": {"role": "link", "name": "Again"}}

    async def end_it(session: browser.Session) -> None:
        plant.faults.switch_on("zoo-session-expired")
        await session.page.reload()

    short = {**BALANCE, "within": "2s"}
    delete = {"do": "click", "target": {"role": "button", "name": "Delete"}}
    asked = [{"do": "dialog"}, short, goto("/zoo/pages/dialogs"), delete]
    folder = get_settings().evidence_dir
    async with browser.open_session(saved.connection, browser.Keeping(), folder) as session:
        await session.page.goto("/zoo/account")
        await end_it(session)
        visit = await Actor(session).perform(ACTIONS.validate_python(asked))
        assert visit.values == {"balance": "12 crates"}
    async with browser.open_session(saved.connection, browser.Keeping(), folder) as session:
        await session.page.goto("/zoo/account")
        plant.faults.switch_on("zoo-session-expired")
        with pytest.raises(errors.PageNotReady):
            await Actor(session).perform(ACTIONS.validate_python([link, short]))
    assert len(plant.log.entries("zoo.login")) == 2


async def test_a_page_that_says_late_that_one_is_out(plant: Plant) -> None:
    """One of the two signs is waited for, in a page that builds up slowly."""
    saved = with_login(
        plant,
        logged_out_path=None,
        logged_out={"role": "link", "name": "Please enter"},
        logged_in={"test_id": "balance"},
        keep_session=True,
    )
    for _ in range(2):
        visit = await perform(saved, goto("/zoo/late-account"), BALANCE)
        assert visit.values == {"balance": "12 crates"}
    assert len(plant.log.entries("zoo.login")) == 1


async def test_one_step_at_a_time(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile waits for whoever has it, unless it is shared."""
    monkeypatch.setenv("SMARTOPS_LOCK_TIMEOUT", "100ms")
    get_settings.cache_clear()
    saved = profile(plant)
    async with saved.open():
        other_step = asyncio.create_task(perform(saved), context=contextvars.Context())
        with pytest.raises(errors.LockTimeout):
            await other_step
    shared = profile(plant, shared=True)
    async with shared.open() as one, shared.open() as other:
        assert one is not other


async def test_keys_of_sessions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another key, or damaged: the session is left out; a key that others may read is none."""
    browser_state.save("hmi", {"cookies": []})
    assert browser_state.load("hmi") == {"cookies": []}
    assert browser_state.load("other") is None
    (home / "browser.key").chmod(0o640)
    with pytest.raises(errors.BadInput, match="may be read by others"):
        browser_state.load("hmi")
    own = base64.urlsafe_b64encode(bytes(range(32))).decode()
    for key, found in ((own, None), ("short", errors.BadInput)):
        monkeypatch.setenv("SMARTOPS_BROWSER_KEY", key)
        get_settings.cache_clear()
        if found is None:
            assert browser_state.load("hmi") is None
            browser_state.save("hmi", {"cookies": [1]})
            assert browser_state.load("hmi") == {"cookies": [1]}
        else:
            with pytest.raises(found, match="SMARTOPS_BROWSER_KEY"):
                browser_state.load("hmi")
    browser_state.forget("hmi")
    assert list((home / "browser-sessions").iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"keep_session": True, "shared": True}, "one step at a time"),
        ({"login": LOGIN}, "login goes with"),
        ({"logged_out_path": "/login"}, "login goes with"),
        ({"login": LOGIN, "logged_out_path": "/x", "logged_in": {"css": "a"}}, "logged_in goes"),
        ({"http_login": True}, "needs a username"),
        ({"proxy_bypass": "a"}, "go with proxy"),
        ({"proxy": "http://user:pw@proxy:1"}, "match pattern"),
        ({"timezone": "Mars/Base"}, "no time zone"),
    ],
)
def test_what_has_no_meaning(fields: dict[str, Any], said: str) -> None:
    """An option of a profile that would have no effect is refused."""
    with pytest.raises(ValidationError, match=said):
        BrowserProfile.model_validate({"base_url": "http://h", **fields})


def test_further_secrets_are_secrets() -> None:
    """Known to the redactor, and shown nowhere."""
    saved = BrowserProfile.model_validate(
        {"base_url": "http://h", "secrets": {"pin": "pin-4711-of-the-panel"}}
    )
    assert "pin-4711" not in redact.text("pin-4711-of-the-panel")
    assert "pin-4711" not in repr(saved)
    assert "pin-4711" not in saved.model_dump_json()
    assert "pin-4711" not in repr(saved.connection)
    assert saved.password is None or isinstance(saved.password, SecretStr)
    assert saved.connection.credential("pin") == "pin-4711-of-the-panel"
    with pytest.raises(errors.BadInput, match="has no code to type"):
        saved.connection.credential("code")


async def test_a_rehearsal_stays_here(plant: Plant) -> None:
    """Not to another host by its pages, its proxy, or its sockets."""
    from smartops.rehearsal import rehearsing

    token = rehearsing.set(True)
    try:
        with pytest.raises(errors.RehearsalRefused):
            await perform(profile(plant, base_url="http://panel.test"), goto("/"))
        with pytest.raises(errors.RehearsalRefused, match="proxy"):
            await perform(profile(plant, proxy="http://proxy.test:1"), goto("/"))
        async with profile(plant).open() as page:
            await page.goto("/zoo/")
            closed = await page.evaluate(
                "new Promise(end => { const s = new WebSocket('ws://panel.test/');"
                " s.onclose = event => end(event.code) })"
            )
            assert closed == 1008
            asked = "fetch('http://panel.test/').then(() => 'went', () => 'refused')"
            assert await page.evaluate(asked) == "refused"
    finally:
        rehearsing.reset(token)
    assert timedelta(seconds=20) == profile(plant).timeout
