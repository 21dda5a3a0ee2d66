"""What is kept of a browser step, and that no secret stands in it."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pypdf import PdfReader

from smartops import errors
from smartops.drivers import browser, browser_warm
from smartops.drivers.browser_actions import Actor
from smartops.drivers.browser_masking import Masker
from smartops.page_actions import Action
from smartops.plant import Plant
from smartops.plant.zoo import PIN

ACTIONS: TypeAdapter[tuple[Action, ...]] = TypeAdapter(tuple[Action, ...])
ALL: Any = frozenset({"screenshot", "console", "trace", "har"})
SAY_IT: list[dict[str, Any]] = [
    {"do": "goto", "path": "/zoo/enter"},
    {"do": "fill", "target": {"label": "PIN", "exact": True}, "credential": "pin"},
    {"do": "fill", "target": {"label": "Spoken PIN"}, "credential": "pin"},
    {"do": "screenshot", "name": "typed"},
    {"do": "click", "target": {"role": "button", "name": "Say it aloud"}},
    {"do": "expect", "target": {"role": "heading", "name": "Echo"}},
    {"do": "screenshot", "name": "shown"},
    {"do": "pdf", "name": "shown"},
    {"do": "wait_for", "load": "networkidle"},
]
NEVER = {"do": "wait_for", "target": {"text": "never"}, "within": "200ms"}


async def perform(
    plant: Plant, keeping: browser.Keeping, folder: Path, *actions: dict[str, Any]
) -> list[browser.KeptFile]:
    """Perform actions, and return what is kept, whether they fail or not."""
    connection = browser.Connection(
        "zoo",
        plant.addresses.hmi_url,
        secrets={"pin": PIN},
        timeout=timedelta(seconds=20),
    )
    kept: list[browser.KeptFile] = []
    try:
        async with browser.open_session(connection, keeping, folder) as session:
            kept = session.files
            await Actor(session).perform(ACTIONS.validate_python(actions))
    except errors.PageNotReady:
        if NEVER not in actions:
            raise
    return kept


@pytest.fixture
async def _warm(chromium: Path) -> AsyncIterator[None]:
    """One browser for a test."""
    async with browser_warm.kept_warm():
        yield


def forms(secret: str) -> list[bytes]:
    """The forms in which pages and protocols write a secret."""
    texts = [secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]]
    texts += [json.dumps(secret, ensure_ascii=False)[1:-1], secret.replace("&", "&amp;")]
    texts += [secret.replace("&", "&amp;").replace('"', "&quot;"), texts[1].lower()]
    return [text.encode() for text in texts]


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """What stands in a file; of an archive, in each of its files."""
    if path.suffix != ".zip":
        yield path.name, path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def holds(content: bytes, secret: str) -> bool:
    """Whether a secret stands in some content, also within base64 and percent signs."""
    if any(form in content for form in forms(secret)):
        return True
    if secret.encode() in unquote_to_bytes(content):
        return True
    for run in re.findall(rb"[A-Za-z0-9+/_-]{12,}", content):
        plain = run.translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            part = plain[start : start + (len(plain) - start) // 4 * 4]
            if secret.encode()[:-3] in base64.b64decode(part):
                return True
    return False


def leaks(folders: list[Path]) -> list[str]:
    """The files that hold the canary."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    parts = [(f"{file.name}: {name}", part) for file in files for name, part in contents(file)]
    assert len(parts) > 10
    assert sum(b"********" in part for _, part in parts) >= 4, "it has been there"
    return [name for name, part in parts if holds(part, PIN)]


@pytest.mark.browser
async def test_the_canary_is_found_nowhere(plant: Plant, home: Path, tmp_path: Path) -> None:
    """A page says the secret in its text, console, storage, addresses, headers, JSON and base64."""
    kept = await perform(plant, browser.Keeping(ALL), tmp_path / "kept", *SAY_IT, NEVER)
    names = {file.name for file in kept}
    assert names == {
        "typed.png",
        "shown.png",
        "shown.pdf",
        "failure.png",
        "trace.zip",
        "network.har",
        "console.txt",
    }
    assert [e for e in plant.log.entries() if e["what"].startswith("zoo")] == []
    assert leaks([tmp_path, home]) == []
    printed = PdfReader(tmp_path / "kept" / "shown.pdf").pages[0].extract_text()
    assert "Echo" in printed
    assert "********" in printed
    assert PIN not in printed
    console = (tmp_path / "kept" / "console.txt").read_text()
    assert "the pin is ********" in console


@pytest.mark.usefixtures("_warm")
@pytest.mark.browser
async def test_errors_say_no_secret(plant: Plant, tmp_path: Path) -> None:
    """What a page shows in place of what is expected may be what was typed."""
    wrong = {"do": "expect", "target": {"test_id": "pin"}, "equals": "x", "within": "200ms"}
    with pytest.raises(errors.PageNotReady, match=r"it is '\*{8}'") as error:
        await perform(plant, browser.Keeping(), tmp_path, SAY_IT[0], *SAY_IT[2:3], SAY_IT[4], wrong)
    assert PIN not in error.value.one_line


@pytest.mark.usefixtures("_warm")
@pytest.mark.browser
async def test_what_is_kept_of_a_failure(plant: Plant, tmp_path: Path) -> None:
    """What the step names and nothing else, whole and readable; its checksums are right."""
    kept = await perform(plant, browser.Keeping(ALL), tmp_path / "all", SAY_IT[0], NEVER)
    files = {file.name: file for file in kept}
    with zipfile.ZipFile(files["trace.zip"].path) as trace:
        assert trace.testzip() is None
        lines = trace.read("trace.trace").decode().splitlines()
    assert any(json.loads(line).get("type") == "frame-snapshot" for line in lines)
    har = json.loads(files["network.har"].path.read_bytes())
    assert har["log"]["entries"][0]["request"]["url"].endswith("/zoo/enter")
    assert files["failure.png"].media_type == "image/png"
    for file in kept:
        assert file.size == file.path.stat().st_size
    only = browser.Keeping(frozenset({"console"}))
    kept = await perform(plant, only, tmp_path / "console", SAY_IT[0], NEVER)
    assert [file.name for file in kept] == ["console.txt"]
    kept = await perform(plant, browser.Keeping(), tmp_path / "none", SAY_IT[0], NEVER)
    assert kept == []


@pytest.mark.usefixtures("_warm")
@pytest.mark.browser
async def test_evidence_of_what_went_well(plant: Plant, tmp_path: Path) -> None:
    """None, unless it is always wanted; nothing is left where it was made."""
    kept = await perform(plant, browser.Keeping(ALL), tmp_path / "on", SAY_IT[0])
    assert kept == []
    always = browser.Keeping(ALL, always=True)
    kept = await perform(plant, always, tmp_path / "always", SAY_IT[0])
    names = {"end.png", "trace.zip", "network.har", "console.txt"}
    assert {file.name for file in kept} == names


@pytest.mark.usefixtures("_warm")
@pytest.mark.browser
async def test_a_video_needs_its_program(plant: Plant, tmp_path: Path) -> None:
    """With Playwright's ffmpeg there is a video; without it, the error says how to get it."""
    keeping = browser.Keeping(frozenset({"video"}), always=True)
    missing: list[str] = []
    kept: list[browser.KeptFile] = []
    try:
        kept = await perform(plant, keeping, tmp_path, SAY_IT[0])
    except errors.MissingProgram as error:
        missing.append(error.hint)
    assert [file.name for file in kept] == ([] if missing else ["video.webm"])
    assert not missing or "playwright install ffmpeg" in missing[0]


@settings(max_examples=200)
@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=6, max_size=30),
    before=st.text(max_size=5),
    behind=st.text(max_size=5),
)
def test_any_secret_in_any_form(secret: str, before: str, behind: str) -> None:
    """Whatever its signs are, and whatever stands around it."""
    masker = Masker([secret])
    whole = before + secret + behind
    for text in (whole, json.dumps(whole), quote(whole, safe=""), json.dumps(quote_plus(whole))):
        masked = masker.data(text.encode())
        for form in forms(secret)[:4]:
            assert form not in masked or form in masker.data(form)
    encoded = masker.data(base64.b64encode(whole.encode()))
    assert secret.encode() not in base64.b64decode(encoded)


def test_what_is_secret_by_its_name(tmp_path: Path) -> None:
    """Cookies and headers such as authorization are masked in a network log, values unknown."""
    headers = [{"name": "Authorization", "value": "Bearer abc"}, {"name": "Accept", "value": "a/b"}]
    request = {"headers": headers, "cookies": [{"name": "sid", "value": "s-1"}]}
    log = {"log": {"entries": [{"request": request, "response": {"headers": []}}]}}
    path = tmp_path / "network.har"
    path.write_text(json.dumps(log))
    Masker([]).har(path)
    masked = json.loads(path.read_text())["log"]["entries"][0]["request"]
    assert [header["value"] for header in masked["headers"]] == ["********", "a/b"]
    assert masked["cookies"][0]["value"] == "********"
