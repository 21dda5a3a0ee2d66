"""The options of the REST steps, as a job says them, and their secrets, which are found nowhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from blocks import HttpService
from services.stack import Stack
from smartops.audit import models
from smartops.settings import get_settings
from tests import rest_zoo
from tests.acceptance.conftest import Cli, Run, states
from tests.conftest import PREFECT_LEAVES_SOCKETS
from tests.rest_zoo import FILE, ITEMS, SECRET, Zoo

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


async def save(name: str, zoo: Zoo, **fields: Any) -> None:
    await HttpService(base_url=zoo.url, **fields).asave(name, overwrite=True)


@pytest.fixture
async def zoo(in_stack: Stack) -> AsyncIterator[Zoo]:
    """A service with every habit, saved as ``zoo``."""
    async with rest_zoo.running() as running:
        await save("zoo", running)
        yield running


def asked(zoo: Zoo, path: str) -> list[rest_zoo.Asked]:
    """Return what was asked of a path; steps that need none of each other come in any order."""
    return [one for one in zoo.asked if one.path == path]


async def test_what_a_request_expects(run: Run, zoo: Zoo) -> None:
    """The form of the body, headers, schema, values, and the size of the answer."""
    detail = await run(
        """
name: request-expects
steps:
  - {id: form, kind: rest.request, service: zoo, method: PUT, path: /echo, body: {a: 1, b: x},
     body_format: form}
  - id: good
    kind: rest.request
    service: zoo
    path: /echo
    expect_headers: {X-Zoo: echo}
    expect_schema: {required: [method], properties: {body: {const: ""}}}
    extract: {how: method, host: headers.host}
  - {id: used, kind: assert, checks: [{left: "{{ steps.good.values.how }}", right: GET}]}
  - {id: header, kind: rest.request, service: zoo, path: /echo, expect_headers: {X-Zoo: lion},
     on_failure: continue}
  - {id: schema, kind: rest.request, service: zoo, path: /echo, expect_schema: {required: [x]},
     on_failure: continue}
  - {id: nothing, kind: rest.request, service: zoo, path: /echo, extract: {x: lion},
     on_failure: continue}
  - {id: large, kind: rest.request, service: zoo, path: /echo, max_bytes: 20, on_failure: continue}
"""
    )
    found = {step.id: step for step in detail.steps}
    assert found["form"].output["body"]["body"] == "a=1&b=x"
    assert found["good"].state == found["used"].state == "completed"
    wrong = [found[step].error_class for step in ("header", "schema", "nothing", "large")]
    assert wrong == ["ExpectationFailed"] * 3 + ["BadAnswer"]


async def test_each_option_of_pages(run: Run, zoo: Zoo) -> None:
    """Where the pages, the items and the next page are, and where it ends."""
    detail = await run(
        """
name: page-options
steps:
  - {id: link, kind: rest.paginate, service: zoo, path: /pages/link, query: {limit: 8},
     headers: {X-Line: line-1}}
  - {id: number, kind: rest.paginate, service: zoo, path: /pages/page, style: page, first: 2,
     items: data.items, page_size: 7}
  - {id: size, kind: rest.paginate, service: zoo, path: /pages/offset, style: offset,
     items: data.items, page_size: 9, size_param: many}
  - {id: cursor, kind: rest.paginate, service: zoo, path: /pages/cursor, style: cursor,
     items: data.items, next: cursor, param: after}
  - {id: url, kind: rest.paginate, service: zoo, path: /pages/next, style: next,
     items: "data.items[].id", next: "next || ''"}
  - {id: pages, kind: rest.paginate, service: zoo, path: /pages/link, max_pages: 2, on_limit: stop}
  - {id: items, kind: rest.paginate, service: zoo, path: /pages/link, max_items: 7, on_limit: stop}
  - {id: fail, kind: rest.paginate, service: zoo, path: /pages/link, max_items: 7,
     on_failure: continue}
  - {id: large, kind: rest.paginate, service: zoo, path: /pages/link, max_bytes: 9,
     on_failure: continue}
"""
    )
    found = {step.id: step for step in detail.steps}
    assert (found["link"].output["items"], found["link"].output["pages"]) == (ITEMS, 4)
    mine = [one for one in asked(zoo, "/pages/link") if "x-line" in one.headers]
    assert (len(mine), mine[0].query) == (4, {"limit": "8"})
    assert found["number"].output["items"] == ITEMS[7:]
    assert asked(zoo, "/pages/offset")[0].query == {"many": "9", "offset": "0"}
    assert found["cursor"].output["items"] == ITEMS
    assert found["url"].output["items"] == list(range(1, 24))
    limited = [(found[step].output["count"], found[step].output["complete"])
               for step in ("pages", "items")]  # fmt: skip
    assert limited == [(10, False), (7, False)]
    assert [found[s].error_class for s in ("fail", "large")] == ["ExpectationFailed", "BadAnswer"]


async def test_each_option_of_a_poll(run: Run, zoo: Zoo) -> None:
    """An API that takes its time, how often it is asked and for how long, and what it gives."""
    detail = await run(
        """
name: poll-options
steps:
  - {id: start, kind: rest.request, service: zoo, method: POST, path: /jobs, body: {}}
  - {id: wait, kind: rest.poll, service: zoo, path: "{{ steps.start.location }}", every: 200ms,
     headers: {X-Line: line-1}, extract: {state: state}, expect_schema: {required: [looks]}}
  - {id: so, kind: rest.poll, needs: [wait], service: zoo, path: /status/503, query: {times: 1},
     until: "tries >= `2`", every: 10ms}
  - {id: never, kind: rest.poll, needs: [wait], service: zoo, path: /jobs/7, query: {of: 1},
     until: "state == 'shipped'", within: 100ms, every: 10ms, on_failure: continue}
  - {id: failed, kind: rest.poll, needs: [wait], service: zoo, path: /jobs/7,
     query: {of: 1, fails: 1}, fails_when: "state == 'failed'", on_failure: continue}
  - {id: schema, kind: rest.poll, needs: [wait], service: zoo, path: /echo,
     expect_schema: {required: [x]}, on_failure: continue}
  - {id: large, kind: rest.poll, needs: [wait], service: zoo, path: /echo, max_bytes: 9,
     on_failure: continue}
"""
    )
    found = {step.id: step for step in detail.steps}
    assert found["wait"].output["values"] == {"state": "done"}
    assert (found["wait"].output["looks"], found["so"].output["looks"]) == (3, 2)
    assert found["wait"].output["waited_s"] >= 0.4
    assert asked(zoo, "/jobs/7")[0].headers["x-line"] == "line-1"
    assert "not as wanted within 100ms" in (found["never"].error or "")
    assert "it has failed" in (found["failed"].error or "")
    wrong = [found[step].error_class for step in ("schema", "large")]
    assert wrong == ["ExpectationFailed", "BadAnswer"]


def content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_each_option_of_files(
    run: Run, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched, checked, named, on record; and sent on, as a form's part or as the body."""
    monkeypatch.setenv("SMARTOPS_UPLOADS", str(tmp_path))
    get_settings.cache_clear()
    (tmp_path / "own.txt").write_text("mine")
    sha256 = hashlib.sha256(FILE).hexdigest()
    detail = await run(
        f"""
name: file-options
steps:
  - {{id: fetch, kind: rest.download, service: zoo, path: /file, query: {{x: 1}}, name: recipe.bin,
     headers: {{X-Line: line-1}}, checksum: "sha256:{sha256}"}}
  - {{id: large, kind: rest.download, service: zoo, path: /file, max_bytes: 9,
     on_failure: continue}}
  - {{id: wrong, kind: rest.download, service: zoo, path: /file, checksum: "md5:{"0" * 32}",
     on_failure: continue}}
  - id: part
    kind: rest.upload
    service: zoo
    path: /upload
    query: {{y: 2}}
    headers: {{X-Line: line-2}}
    file: "{{{{ steps.fetch.path }}}}"
    field: recipe
    fields: {{line: line-1}}
    file_name: other.bin
    media_type: application/x-recipe
    idempotency_key: true
  - {{id: body, kind: rest.upload, service: zoo, method: PUT, path: /upload,
     file: "{tmp_path}/own.txt", field: "", media_type: text/plain, expect_status: [201]}}
  - {{id: strict, kind: rest.upload, service: zoo, method: PUT, path: /upload,
     file: "{tmp_path}/own.txt", expect_status: [200], on_failure: continue}}
  - {{id: secret, kind: rest.upload, service: zoo, path: /upload, file: /etc/hostname,
     on_failure: continue}}
"""
    )
    found = {step.id: step for step in detail.steps}
    fetched = found["fetch"].output
    assert (fetched["name"], fetched["bytes"], fetched["sha256"]) == (
        "recipe.bin",
        10**6 + 24000,
        sha256,
    )
    assert content(fetched["path"]) == FILE
    [get] = [one for one in asked(zoo, "/file") if one.query]
    assert (get.query, get.headers["x-line"]) == ({"x": "1"}, "line-1")
    assert (found["large"].error_class, found["wrong"].error_class) == (
        "BadAnswer",
        "ExpectationFailed",
    )
    [part] = [one for one in asked(zoo, "/upload") if one.method == "POST"]
    [body] = [one for one in asked(zoo, "/upload") if one.body == b"mine"]
    assert (part.query, part.headers["x-line"]) == ({"y": "2"}, "line-2")
    assert part.headers["idempotency-key"]
    assert b'name="recipe"; filename="other.bin"\r\nContent-Type: application/x-recipe' in part.body
    assert b'name="line"\r\n\r\nline-1' in part.body
    assert FILE in part.body
    assert (body.method, body.body, body.headers["content-type"]) == ("PUT", b"mine", "text/plain")
    assert found["strict"].error_class == "ExpectationFailed"
    assert "SMARTOPS_UPLOADS" in (found["secret"].error or "")
    engine = sa.create_engine(get_settings().store_url)
    with engine.connect() as db:
        kept = db.execute(sa.select(models.artifact.c.name, models.artifact.c.sha256)).all()
    engine.dispose()
    assert ("recipe.bin", sha256) in [tuple(row) for row in kept]


async def test_each_option_of_a_webhook(run: Run, zoo: Zoo) -> None:
    """Signed as the receiver can check, with an id that stays the same over its attempts."""
    await save("hook", zoo, signing_secret=SECRET)
    detail = await run(
        """
name: hook-options
steps:
  - {id: tell, kind: rest.webhook, service: hook, path: "/status/503?times=1", event: shift.closed,
     data: {line: line-1}, retry: {attempts: 2, delay: 10ms}}
  - {id: unsigned, kind: rest.webhook, service: zoo, event: x, on_failure: continue}
"""
    )
    first, second = zoo.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    message = json.loads(second.body)
    assert (message["type"], message["data"]) == ("shift.closed", {"line": "line-1"})
    signed = f"{second.headers['webhook-id']}.{second.headers['webhook-timestamp']}."
    digest = hmac.new(SECRET.encode(), signed.encode() + second.body, hashlib.sha256).digest()
    assert second.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert states(detail) == {"tell": "completed", "unsigned": "failed"}
    (unsigned,) = (step for step in detail.steps if step.id == "unsigned")
    assert "signing secret" in (unsigned.error or "")


LOGINS: dict[str, dict[str, Any]] = {
    "bearer": {"token": SECRET},
    "basic": {"username": "me", "password": SECRET},
    "header": {"api_key": SECRET, "api_key_name": "X-Zoo-Key"},
    "query": {"api_key": SECRET, "api_key_name": "key", "api_key_in": "query"},
    "oauth": {"oauth_client_id": "zoo-client", "oauth_client_secret": SECRET},
}


async def test_secrets_are_found_nowhere(
    run: Run, zoo: Zoo, in_stack: Stack, quick: Cli, tmp_path: Path
) -> None:
    """Each login, right and refused, by services that say our secrets back to us."""
    steps, lost = [], []
    for way, login in LOGINS.items():
        token = {"oauth_url": f"{zoo.url}/token"} if way == "oauth" else {}
        await save(f"zoo-{way}", zoo, **login, **token, signing_secret=f"hook-{SECRET}")
        lost += [
            f"{{id: bad_{way}, kind: rest.request, service: zoo-{way}, on_failure: continue, "
            f"method: POST, path: /commit, query: {{name: x, then: drop, key: 1}}}}"
        ]
        steps += [
            f"{{id: in_{way}, kind: rest.request, service: zoo-{way}, path: /private/{way}}}",
            f"{{id: echo_{way}, kind: rest.request, service: zoo-{way}, path: /echo}}",
            f"{{id: no_{way}, kind: rest.request, service: zoo-{way}, on_failure: continue, "
            f"path: /private/{'basic' if way != 'basic' else 'bearer'}}}",
        ]
    await save("zoo-wrong", zoo, oauth_url=f"{zoo.url}/token", oauth_client_id="nobody",
               oauth_client_secret=SECRET)  # fmt: skip
    steps.append("{id: no_token, kind: rest.request, service: zoo-wrong, path: /echo, "
                 "on_failure: continue}")  # fmt: skip
    detail = await run("name: rest-canary\nsteps:\n" + "".join(f"  - {s}\n" for s in steps))
    shown = states(detail)
    assert {shown[f"in_{way}"] for way in LOGINS} == {"completed"}
    assert {shown[f"no_{way}"] for way in LOGINS} == {"failed"}
    in_doubt = await run("name: rest-canary-lost\nsteps:\n" + "".join(f"  - {s}\n" for s in lost))
    assert set(states(in_doubt).values()) == {"unknown_outcome"}
    places = [(f"{detail}", "the record")]
    places += [
        (json.dumps(_prefect(in_stack, what)), what)
        for what in ("flow_runs", "task_runs", "logs", "artifacts")
    ]
    for form in ("html", "json"):
        about, file = f"run={detail.run.run_id}", tmp_path / f"report.{form}"
        asked = ("report", "job", "-p", about, "--format", form, "-o", str(file))
        made = await asyncio.to_thread(quick, *asked)
        assert made.returncode == 0, made.stderr
        assert "rest-canary" in file.read_text("utf-8")
        places.append((file.read_text("utf-8"), file.name))
    home = in_stack.settings.home
    for file in (file for file in home.rglob("*") if file.is_file()):
        places.append((file.read_bytes().decode("latin-1"), str(file)))
    secrets = (SECRET, base64.b64encode(f"me:{SECRET}".encode()).decode()[:20])
    found = [(secret, place) for text, place in places for secret in secrets if secret in text]
    assert found == []
    assert len(places) > 10


def _prefect(stack: Stack, what: str) -> Any:
    """Return the newest of what Prefect's API knows."""
    order = {"logs": "TIMESTAMP_DESC", "artifacts": "UPDATED_DESC"}.get(
        what, "EXPECTED_START_TIME_DESC"
    )
    body = json.dumps({"limit": 200, "sort": order}).encode()
    request = urllib.request.Request(
        f"{stack.api_url}/{what}/filter", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
