"""Pages, polling, files and webhooks of REST services, against the service with every habit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import rest, rest_download
from smartops.drivers.rest_connection import Signing
from smartops.drivers.rest_download import Downloaded, Wanted, safe_name
from smartops.drivers.rest_expect import Expectation
from smartops.drivers.rest_pages import Pages, Paging, Place, read_pages
from smartops.drivers.rest_polling import Polled, Polling, poll
from smartops.drivers.rest_signing import signature_headers
from tests import rest_zoo
from tests.rest_zoo import FILE, ITEMS, Zoo

SHA256 = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
async def zoo() -> AsyncIterator[Zoo]:
    async with rest_zoo.running() as running:
        yield running


def connection(zoo: Zoo, **options: Any) -> rest.Connection:
    return rest.Connection("zoo", zoo.url, timeout=timedelta(seconds=10), **options)


# --- pages ------------------------------------------------------------------------------------


async def pages(zoo: Zoo, way: str, **options: Any) -> Pages:
    """Read the list of a way of paging."""
    options.setdefault("style", way)
    if way != "link":
        options.setdefault("items", "data.items")
    async with rest.open_service(connection(zoo)) as client:
        return await read_pages(client, Place(f"/pages/{way}"), {}, Paging(**options))


@pytest.mark.parametrize(
    ("way", "options", "count"),
    [
        ("link", {}, 5),
        ("next", {}, 5),
        ("cursor", {"param": "after"}, 5),
        ("page", {}, 6),
        ("offset", {}, 6),
        ("offset", {"page_size": 10}, 4),
        ("flaky", {"style": "page"}, 6),
    ],
)
async def test_each_way_of_paging(zoo: Zoo, way: str, options: dict[str, Any], count: int) -> None:
    """All items in their order, each once."""
    read = await pages(zoo, way, **options)
    assert (read.items, read.complete) == (ITEMS, True)
    assert len([asked for asked in zoo.asked if asked.path]) == count + (way == "flaky")


async def test_where_a_list_begins(zoo: Zoo) -> None:
    """The first page and the first offset may be others."""
    assert (await pages(zoo, "page", first=4)).items == ITEMS[15:]
    assert (await pages(zoo, "offset", first=20)).items == ITEMS[20:]


@pytest.mark.parametrize(
    ("limit", "kept"), [({"max_pages": 2}, 10), ({"max_items": 7}, 7), ({"max_items": 23}, 23)]
)
async def test_limits_of_lists(zoo: Zoo, limit: dict[str, int], kept: int) -> None:
    """More than that is an error, or is left out where the job says so."""
    read = await pages(zoo, "link", stop_at_limit=True, **limit)
    assert (read.items, read.complete) == (ITEMS[:kept], kept == 23)
    if kept < 23:
        with pytest.raises(errors.ExpectationFailed, match="has more than"):
            await pages(zoo, "link", **limit)


async def test_pages_that_go_wrong(zoo: Zoo) -> None:
    """A circle, a list that is none, a page elsewhere, a page that is too large."""
    with pytest.raises(errors.BadAnswer, match="circle"):
        await pages(zoo, "loop", style="link")
    with pytest.raises(errors.BadAnswer, match="again and again"):
        await pages(zoo, "stuck", style="page")
    with pytest.raises(errors.ExpectationFailed, match=r"no list at 'data\.x'"):
        await pages(zoo, "page", items="data.x")
    with pytest.raises(errors.AddressRefused):
        await pages(zoo, "away", style="link")
    with pytest.raises(errors.BadAnswer, match="larger"):
        await pages(zoo, "page", max_bytes=10)


# --- polling ----------------------------------------------------------------------------------


async def polled(zoo: Zoo, path: str, **options: Any) -> Polled:
    """Poll, quickly."""
    quick: dict[str, Any] = {"every": timedelta(milliseconds=10), "within": timedelta(seconds=5)}
    async with rest.open_service(connection(zoo)) as client:

        async def look() -> rest.Answer:
            return await client.request("GET", path)

        return await poll("zoo", look, Polling(**{**quick, **options}))


async def test_an_api_that_takes_its_time(zoo: Zoo) -> None:
    """A job is started by 202 and asked for where its Location says."""
    async with rest.open_service(connection(zoo)) as client:
        started = await client.request("POST", "/jobs", repeatable=False)
    assert started.location == f"{zoo.url}/jobs/7?of=3"
    done = await polled(zoo, started.location)
    assert (done.answer.body, done.looks) == ({"state": "done", "looks": 3}, 3)


async def test_until_something_is_so(zoo: Zoo) -> None:
    """By JMESPath; a service that is away for a moment is asked again."""
    found = await polled(zoo, "/status/503?times=2", until="tries >= `3`")
    assert (found.answer.body, found.looks) == ({"tries": 3}, 3)


@pytest.mark.parametrize(
    ("path", "options", "error", "said"),
    [
        ("/jobs/7?of=2&fails=1", {"fails_when": "state == 'failed'"}, errors.ExpectationFailed,
         "it has failed"),
        ("/jobs/7?of=1", {"until": "state == 'shipped'", "within": timedelta(milliseconds=100)},
         errors.ExpectationFailed, "not as wanted within 100ms.*done"),
        ("/jobs/7?of=9&wait=60", {"within": timedelta(seconds=1)}, errors.ExpectationFailed,
         "after 1 looks"),
        ("/status/404", {}, errors.ExpectationFailed, "404"),
        ("/jobs/7?of=1", {"until": "abs(state)"}, errors.ExpectationFailed, "cannot be looked for"),
        ("/jobs/7?of=1", {"until": "[[["}, errors.BadInput, "no JMESPath"),
    ],
)  # fmt: skip
async def test_it_will_never_be_so(
    zoo: Zoo, path: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    """It says so as soon as that is known, with what was answered last."""
    with pytest.raises(error, match=said):
        await polled(zoo, path, **options)


# --- expectations -----------------------------------------------------------------------------

BODY = {"items": [{"id": 7, "name": "x"}], "zero": 0, "none": None}
SCHEMA = {
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "$defs": {"item": {"required": ["id"]}},
}


def test_what_is_expected_and_taken() -> None:
    """Headers by a part of them, the body by a schema, values by where they stand; 0 is a value."""
    expected = Expectation({"Content-Type": "JSON"}, SCHEMA, {"id": "items[0].id", "z": "zero"})
    headers = {"content-type": "application/json; charset=utf-8"}
    assert expected.check("zoo", headers, BODY) == {"id": 7, "z": 0}


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (Expectation({"X-A": ""}), "header X-A has none"),
        (Expectation({"x-b": "yes"}), "is 'no'"),
        (Expectation(schema={"required": ["nothing"]}), r"at \$: 'nothing' is a required"),
        (Expectation(schema={"properties": {"zero": {"minimum": 1}}}), r"at \$\.zero"),
        (Expectation(extract={"n": "none"}), "nothing stands at 'none'"),
    ],
)
def test_what_is_not_as_expected(expected: Expectation, said: str) -> None:
    """Where, and what is there."""
    with pytest.raises(errors.ExpectationFailed, match=said):
        expected.check("zoo", {"x-b": "no"}, BODY)


async def test_a_schema_fetches_nothing(zoo: Zoo) -> None:
    """What a schema refers to elsewhere is not asked for, whoever wrote it."""
    with pytest.raises(errors.BadInput, match="refers to what is not in it"):
        Expectation(schema={"$ref": f"{zoo.url}/echo"}).check("zoo", {}, BODY)
    assert zoo.asked == []


# --- files ------------------------------------------------------------------------------------


def files_in(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file()]


async def fetch(zoo: Zoo, folder: Path, path: str = "/file", **options: Any) -> Downloaded:
    """Download into a folder."""
    async with rest.open_service(connection(zoo)) as client:
        wanted = Wanted(
            client.url(path),
            {},
            folder / "step.part",
            folder / "of-attempt" / "file.bin",
            **{"max_bytes": 2_000_000, **options},
        )
        return await rest_download.download(client, wanted)


async def test_a_file(zoo: Zoo, tmp_path: Path) -> None:
    """Whole, with its checksum, and nothing else left behind."""
    for name in ("sha256", "md5", "sha1", "sha512"):
        checksum = f"{name}:{hashlib.new(name, FILE).hexdigest()}"
        found = await fetch(zoo, tmp_path, checksum=checksum)
        assert (found.size, found.sha256, found.resumed) == (len(FILE), SHA256, 0)
        assert (found.media_type, found.path.read_bytes() == FILE) == ("application/x-zoo", True)
    assert files_in(tmp_path) == ["file.bin"]


async def test_a_file_that_breaks_off(zoo: Zoo, tmp_path: Path) -> None:
    """It goes on where it was, as often as something comes."""
    found = await fetch(zoo, tmp_path, "/file?cut=150000&times=5")
    assert (found.sha256, found.resumed) == (SHA256, 5)
    ranges = [asked.headers.get("range") for asked in zoo.asked]
    assert ranges[0] is None
    assert ranges[-1] == "bytes=750000-"


@pytest.mark.parametrize("changed", [False, True])
async def test_a_file_that_an_earlier_attempt_began(
    zoo: Zoo, tmp_path: Path, changed: bool
) -> None:
    """The next attempt asks for the rest; of a file that has changed meanwhile it gets all."""
    path = "/file?cut=400000&then-down=1"
    with pytest.raises(errors.ServiceUnavailable):
        await fetch(zoo, tmp_path, path)
    assert (tmp_path / "step.part").stat().st_size == 400_000
    zoo.counts |= {"down": 0, "changed": int(changed)}
    found = await fetch(zoo, tmp_path, path)
    content = FILE[::-1] if changed else FILE
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert (found.resumed, found.media_type) == (int(not changed), "application/x-zoo")
    assert zoo.asked[-1].headers["range"] == "bytes=400000-"
    assert zoo.asked[-1].headers["if-range"] == rest_zoo.ETAG


@pytest.mark.parametrize(
    ("path", "options", "error", "said"),
    [
        ("/file", {"checksum": f"sha256:{'0' * 64}"}, errors.ExpectationFailed, "its checksum is"),
        ("/file", {"max_bytes": 999_999}, errors.BadAnswer, "larger than 999,999"),
        ("/endless", {}, errors.BadAnswer, "larger than 2,000,000"),
        ("/bomb?coding=gzip", {}, errors.BadAnswer, "larger than 2,000,000"),
        ("/file", {"reserve": 10**18}, errors.PermanentError, "cannot be kept"),
        ("/status/404", {}, errors.ExpectationFailed, "404"),
        ("/status/404?page=300000", {}, errors.ExpectationFailed, "answered 404"),
        ("/status/403", {}, errors.AuthenticationFailed, "403"),
    ],
)
async def test_files_that_are_refused(
    zoo: Zoo, tmp_path: Path, path: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    """Nothing of them is kept."""
    with pytest.raises(error, match=said):
        await fetch(zoo, tmp_path, path, **options)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a b.csv", "a_b.csv"), ("../../etc/passwd", "_.._etc_passwd"), ("", "download"),
     ("..", "download"), ("x" * 300, "x" * 150), ("grün.txt", "grün.txt")],
)  # fmt: skip
def test_names_of_files(name: str, safe: str) -> None:
    """Nothing leads out of the folder."""
    assert safe_name(name) == safe


# --- webhooks ---------------------------------------------------------------------------------


def test_signatures() -> None:
    """As the receiver makes them again; the example is the one of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    message = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    made = signature_headers(Signing(secret), message, 1614265330, body)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (made["webhook-id"], made["webhook-timestamp"]) == (message, "1614265330")
    plain = signature_headers(Signing("plain", "body"), message, 1, body)
    digest = hmac.new(b"plain", body, hashlib.sha256).hexdigest()
    assert plain["x-hub-signature-256"] == f"sha256={digest}"
    signed = hmac.new(b"plain", b"m.1." + body, hashlib.sha256).digest()
    own = signature_headers(Signing("plain"), "m", 1, body)
    assert own["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    with pytest.raises(errors.BadInput, match="base64"):
        signature_headers(Signing("whsec_?"), "m", 1, json.dumps({}).encode())
