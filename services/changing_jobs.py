"""Changes of jobs: each makes a revision that is on record, and none is lost to another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from services import deployed_jobs
from services.deployed_jobs import DeployedJob
from services.prefect_api import TEMPLATE, prefect
from services.prefect_schedules import check_schedules
from smartops import locks
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.revisions import OUTSIDE, JobChange, changes_of, find_revision, spec_on_record
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.revision import canonical_job, revision_of
from smartops.jobs.spec import JobSpec

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

Action = Literal["created", "updated", "unchanged", "deleted", "rolled-back", "paused", "resumed"]
_BY_FILE = "file "
"""How the source of a job from a file begins."""


class Conflict(BadInput):
    """A job was changed by somebody else meanwhile."""


@dataclass(frozen=True)
class Wanted:
    """A job as it is to be."""

    spec: JobSpec
    source: str
    base: str | None = None
    """The revision that it was made from, where that is known."""


@dataclass(frozen=True)
class Change:
    """What becomes of a job."""

    job: str
    action: Action
    revision: str | None
    before: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def plan_changes(
    wanted: Iterable[Wanted],
    deployed: Mapping[str, DeployedJob],
    last_known: Mapping[str, str | None],
    *,
    prunable: Collection[str] = (),
    force: bool = False,
) -> list[Change]:
    """Return what has to be changed, by name. Pure.

    ``last_known`` has the revision that our own last change of a job gave it. Raises Conflict when
    a job is not what it was then, or not what ``base`` says, unless ``force`` is given.
    """
    changes: dict[str, Change] = {}
    for want in wanted:
        name = want.spec.name
        if name in changes:
            raise BadInput(f"two files hold a job {name!r}")
        now = deployed[name].revision if name in deployed else None
        new = revision_of(want.spec)
        if name == TEMPLATE:
            raise BadInput(f"a job cannot be called {name}: the template has that name")
        if now is None and want.base is not None and name in last_known and not force:
            raise Conflict(
                f"job {name} was deleted meanwhile", hint="Give --force to make it again."
            )
        drifted = name in deployed and deployed[name].drifted
        if now not in {None, new} and not force:
            _check(name, now or "", want.base, last_known.get(name))
        if drifted and not force:
            _check_drift(deployed[name])
        same = now == new and not drifted
        action: Action = "created" if now is None else "unchanged" if same else "updated"
        changes[name] = Change(name, action, new, now)
    for name in sorted(set(prunable) - set(changes)):
        if name in deployed:
            now = deployed[name].revision
            if not force:
                _check(name, now, None, last_known.get(name))
                _check_drift(deployed[name])
            changes[name] = Change(name, "deleted", None, now)
    return list(changes.values())


def _check(name: str, now: str, base: str | None, last_known: str | None) -> None:
    hint = (
        f"Look at `smartops job diff {name}`, take it over with `smartops job export {name}`, or "
        "give --force."
    )
    if base is not None and base != now:
        raise Conflict(
            f"job {name} is at revision {now[:12]} by now, and the file began from {base[:12]}",
            hint=hint,
        )
    if base is None and last_known is not None and last_known != now:
        raise Conflict(
            f"job {name} was changed outside of `smartops job apply`: it was {last_known[:12]}, "
            f"and is {now[:12]}",
            hint=hint,
        )


def _check_drift(job: DeployedJob) -> None:
    if job.drifted:
        raise Conflict(
            f"the schedules or parameters of {job.name} were changed outside of its file",
            hint="They would be lost: write them into the file, or give --force.",
        )


async def apply(
    store: Store,
    wanted: list[Wanted],
    person: str,
    *,
    prune: Sequence[Path] = (),
    dry_run: bool = False,
    force: bool = False,
) -> list[Change]:
    """Make jobs as they are wanted; return what was changed. Raises Conflict, PrefectUnavailable.

    ``prune`` names folders: jobs that came from files there which are gone are deleted. All is
    planned before anything is changed.
    """
    for want in wanted:
        await check_schedules(want.spec)
    history = changes_of(store, limit=100_000)
    held = {(want.source, want.spec.name) for want in wanted}
    prunable = _from_files_gone(history, prune, held)
    specs = {want.spec.name: want for want in wanted}
    async with prefect() as client:
        deployed = await deployed_jobs.deployed_jobs(client)
        known = _last_known(history)
        changes = plan_changes(wanted, deployed, known, prunable=prunable, force=force)
        if dry_run:
            return changes
        for change in changes:
            async with locks.exclusive(f"job {change.job}"):
                await _make(client, change, specs.get(change.job), person)
    return changes


async def _make(client: PrefectClient, change: Change, want: Wanted | None, person: str) -> None:
    """Make one change, unless somebody else has changed the job since it was planned."""
    if change.action == "unchanged":
        return
    now = await deployed_jobs.find_job(client, change.job)
    if (now.revision if now else None) != change.before:
        raise Conflict(f"job {change.job} was changed by somebody else just now", hint="Try again.")
    if want is not None:
        await deployed_jobs.deploy(client, want.spec)
        record(change, person, want.source, want.spec)
    elif now is not None:
        await deployed_jobs.delete(client, now)
        record(change, person, "pruned")


def _last_known(history: Iterable[JobChange]) -> dict[str, str | None]:
    """Return the revision that our last change gave each job; None where it was deleted."""
    known: dict[str, str | None] = {}
    for change in history:  # the newest first
        if change.action not in {"paused", "resumed"} and change.source != OUTSIDE:
            known.setdefault(change.job, change.revision)
    return known


def _from_files_gone(
    history: Iterable[JobChange], folders: Sequence[Path], held: Collection[tuple[str, str]]
) -> set[str]:
    """Return the jobs that came from a file of these folders which does not hold them any more.

    ``held`` has what is in the files that were read: source and job.
    """
    sources: dict[str, str | None] = {}
    for change in history:  # the newest first
        if change.action == "deleted" or change.source.startswith(_BY_FILE):
            made = None if change.action == "deleted" else change.source
            sources.setdefault(change.job, made)
    within = [folder.resolve() for folder in folders]
    read = {source for source, _ in held}

    def is_gone(job: str, source: str) -> bool:
        file = Path(source.removeprefix(_BY_FILE))
        if not any(file.is_relative_to(folder) for folder in within):
            return False
        return not file.exists() or (source in read and (source, job) not in held)

    return {job for job, source in sources.items() if source and is_gone(job, source)}


def record(change: Change, person: str, source: str, spec: JobSpec | None = None) -> None:
    """Put a change on record, with the revision that it makes."""
    events: list[Event] = []
    if spec is not None:
        body = {
            "revision": change.revision,
            "job": spec.name,
            "spec": canonical_job(spec),
            "author": person,
            "source": source,
        }
        events.append(Event("revision", NO_RUN, body))
    events.append(
        Event("job.changed", NO_RUN, {**asdict(change), "person": person, "source": source})
    )
    get_journal().append(*events)


async def rollback(
    store: Store, name: str, revision: str, person: str, *, force: bool = False
) -> Change:
    """Give a job an earlier revision again, byte for byte.

    Raises BadInput; Conflict when it was changed elsewhere, unless ``force`` is given.
    """
    whole = find_revision(store, name, revision)
    spec = spec_on_record(store, whole)
    if spec is None:
        raise BadInput(f"revision {whole[:12]} is not on record as it was: a secret stood in it")
    async with prefect() as client, locks.exclusive(f"job {name}"):
        now = await deployed_jobs.find_job(client, name)
        before = now.revision if now else None
        if now is not None and not force:
            known = _last_known(changes_of(store, name, limit=100_000))
            _check(name, now.revision, None, known.get(name))
            _check_drift(now)
        if now is not None and before == whole and not now.drifted:
            return Change(name, "unchanged", whole, before)
        await deployed_jobs.deploy(client, spec)
        change = Change(name, "rolled-back", whole, before)
        record(change, person, "cli", spec)
        return change


async def set_paused(name: str, person: str, *, paused: bool) -> Change:
    """Pause a job's schedules, or let them go on. Raises BadInput."""
    async with prefect() as client:
        job = await deployed_jobs.deployed_job(client, name)
        if job.paused == paused:
            return Change(name, "unchanged", job.revision, job.revision)
        await deployed_jobs.set_paused(client, job, paused=paused)
        change = Change(name, "paused" if paused else "resumed", job.revision, job.revision)
        record(change, person, "cli")
        return change


async def delete(name: str, person: str) -> Change:
    """Delete a job. What is on record of it stays. Raises BadInput."""
    async with prefect() as client, locks.exclusive(f"job {name}"):
        job = await deployed_jobs.deployed_job(client, name)
        await deployed_jobs.delete(client, job)
        change = Change(name, "deleted", None, job.revision)
        record(change, person, "cli")
        return change
