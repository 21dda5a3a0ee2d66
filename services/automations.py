"""Makes Prefect's automations what their files say, and tells where somebody else changed them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import yaml
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from services.automation_files import ACTION_LISTS, NAMES, AutomationFile, parsed
from services.bridge_check import check_start
from services.prefect_api import deployment_named, prefect
from smartops.errors import BadInput
from smartops.jobs.event_sources import Start

Action = Literal["created", "updated", "unchanged", "deleted"]
_FILE, _CONTENT = "smartops-file:", "smartops-content:"
"""Tags: where an automation came from, and what it was when it was applied."""
_PAGE = 200


@dataclass(frozen=True)
class Change:
    """What becomes of an automation."""

    name: str
    action: Action
    enabled: bool
    diff: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Known:
    """An automation as Prefect has it."""

    name: str
    enabled: bool
    file: str
    """Where it came from; empty: it was made by hand."""
    changed: bool
    """Whether somebody has changed it since."""
    trigger: str
    actions: tuple[str, ...]


async def apply(
    files: Sequence[AutomationFile],
    *,
    prune: Collection[Path] = (),
    dry_run: bool = False,
    force: bool = False,
) -> list[Change]:
    """Make automations as their files say; return what becomes of each.

    ``prune`` names folders: automations that came from files there which are gone are deleted.
    Nothing is changed where anything is wrong. Raises BadInput, PrefectUnavailable.
    """
    async with prefect() as client:
        found = await _all(client)
        wanted = {file.name: file for file in files}
        if len(wanted) < len(files):
            raise BadInput("two files hold an automation of the same name")
        changes = [
            await _planned(client, file, found.get(name, []), force=force)
            for name, file in wanted.items()
        ]
        gone = [
            automation
            for automation in chain.from_iterable(found.values())
            if _is_gone(automation, prune) and automation.name not in wanted
        ]
        if not dry_run:
            for change, automation_id, core in changes:
                await _make(client, change, automation_id, core)
            for automation in gone:
                await client.delete_automation(automation.id)
    deleted = [Change(automation.name, "deleted", automation.enabled) for automation in gone]
    return [*(change for change, _, _ in changes), *deleted]


async def known() -> list[Known]:
    """Return all automations that Prefect has, by name. Raises PrefectUnavailable."""
    async with prefect() as client:
        found = await _all(client)
    return [
        Known(
            automation.name,
            automation.enabled,
            _tag(automation, _FILE),
            bool(_tag(automation, _CONTENT)) and _has_changed(automation),
            " ".join(automation.trigger.describe_for_cli().split()),
            tuple(action.describe_for_cli() for action in automation.actions),
        )
        for name in sorted(found)
        for automation in found[name]
    ]


async def _all(client: PrefectClient) -> dict[str, list[Automation]]:
    found: dict[str, list[Automation]] = {}
    count = 0
    while page := await client.read_automations(limit=_PAGE, offset=count):
        count += len(page)
        for automation in page:
            found.setdefault(automation.name, []).append(automation)
    return found


async def _planned(
    client: PrefectClient, file: AutomationFile, found: list[Automation], *, force: bool
) -> tuple[Change, UUID | None, AutomationCore]:
    if len(found) > 1:
        raise file.wrong("name", f"Prefect has {len(found)} automations called {file.name!r}")
    before = found[0] if found else None
    core = parsed(file, await _resolved(client, file))
    if before is not None and not file.says_enabled:
        core.enabled = before.enabled  # somebody may have paused it
    core.tags = [f"{_FILE}{file.path.resolve()}", f"{_CONTENT}{_digest(core)}"]
    if before is None:
        return Change(core.name, "created", core.enabled, _difference(None, core)), None, core
    text = _difference(before, core)
    if text and not force and _has_changed(before):
        by_hand = "was changed" if _tag(before, _CONTENT) else "was not made from a file, but"
        raise BadInput(
            f"{file.path}: automation {core.name!r} {by_hand} in Prefect",
            hint="Look at `smartops automation diff`; --force overwrites it.",
        )
    same = not text and before.enabled == core.enabled and set(before.tags) == set(core.tags)
    return (
        Change(core.name, "unchanged" if same else "updated", core.enabled, text),
        before.id,
        core,
    )


async def _resolved(client: PrefectClient, file: AutomationFile) -> dict[str, Any]:
    """Return the file's document with ids in the places of names. Raises BadInput."""
    document = dict(file.document)
    for part in ACTION_LISTS:
        actions = []
        for number, action in enumerate(document.get(part, [])):
            try:
                actions.append(await _with_id(client, action))
            except BadInput as error:
                raise file.wrong(f"{part}.{number}", error.one_line) from None
        document[part] = actions
    return document


async def _with_id(client: PrefectClient, action: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in action.items() if key not in {*NAMES, "params"}}
    if "job" in action:
        deployment = await deployment_named(client, action["job"])
        made["deployment_id"] = str(deployment.id)
        if action["type"] == "run-deployment":
            params = action.get("params", {})
            check_start(Start(job=action["job"], params=params), deployment, may_be_paused=True)
            made["parameters"] = {"params": params}
    if "deployment" in action:
        made["deployment_id"] = await _deployment_id(client, action["deployment"])
    if "block" in action:
        made["block_document_id"] = await _block_id(client, action["block"])
    return made


async def _deployment_id(client: PrefectClient, name: str) -> str:
    try:
        return str((await client.read_deployment_by_name(name)).id)
    except (ObjectNotFound, ValueError):
        raise BadInput(f"there is no deployment {name!r}; its name is FLOW/DEPLOYMENT") from None


async def _block_id(client: PrefectClient, name: str) -> str:
    kind, _slash, own = name.partition("/")
    try:
        return str((await client.read_block_document_by_name(own, kind)).id)
    except ObjectNotFound:
        raise BadInput(f"there is no block {name!r}; its name is TYPE/NAME") from None


async def _make(
    client: PrefectClient, change: Change, automation_id: UUID | None, core: AutomationCore
) -> None:
    if automation_id is None:
        await client.create_automation(core)
    elif change.action == "updated":
        # What the client takes for unset it leaves out, and Prefect takes no owner here.
        everything = core.model_dump(mode="json", exclude={"owner_resource"})
        await client.update_automation(automation_id, AutomationCore.model_validate(everything))


def _is_gone(automation: Automation, folders: Collection[Path]) -> bool:
    file = _tag(automation, _FILE)
    if not file:
        return False
    return any(Path(file).parent == folder.resolve() for folder in folders)


def _tag(automation: AutomationCore, begins: str) -> str:
    return next((t.removeprefix(begins) for t in automation.tags if t.startswith(begins)), "")


def _has_changed(automation: Automation) -> bool:
    """Return whether it is not what it was when its file was applied."""
    return _tag(automation, _CONTENT) != _digest(automation)


def _digest(core: AutomationCore) -> str:
    return hashlib.sha256(json.dumps(_content(core), sort_keys=True).encode()).hexdigest()[:16]


def _content(core: AutomationCore) -> dict[str, Any]:
    """Return what counts of an automation: whether it is paused does not."""
    fields = {"name", "description", "trigger", *ACTION_LISTS}
    found = core.model_dump(mode="json", include=fields)
    found["trigger"] = _in_order(found["trigger"])
    return found


def _in_order(value: Any) -> Any:
    """Return a part of a trigger whose sets have an order."""
    if isinstance(value, dict):
        return {key: _in_order(item) for key, item in value.items()}
    if isinstance(value, list):
        inner = [_in_order(item) for item in value]
        return sorted(inner) if all(isinstance(item, str) for item in inner) else inner
    return value


def _difference(before: AutomationCore | None, after: AutomationCore) -> str:
    name = "in Prefect" if before else "nothing"
    return "".join(difflib.unified_diff(_lines(before), _lines(after), name, "the file"))


def _lines(core: AutomationCore | None) -> list[str]:
    if core is None:
        return []
    return yaml.safe_dump(_content(core), allow_unicode=True).splitlines(keepends=True)
