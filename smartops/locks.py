"""One thing at a time on one wire: a lock per physical resource, across processes, in order.

On several machines, with ``SMARTOPS_LOCKS=database``, the database's lock comes behind the ticket.

Who wants a resource draws a ticket: a file in the resource's folder, numbered in order, on which it
holds the operating system's own lock. The lowest ticket whose owner lives is next, and takes the
lock on the one file that stands for the resource: both are free again the moment their owner dies,
however it dies, and who waits for whom can be read. Who is in a hurry, such as a write among reads,
may go before a few who came earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from smartops import lock_waits
from smartops.deadline import STANDARD, Deadline
from smartops.errors import LockTimeout
from smartops.file_names import file_name
from smartops.settings import get_settings

WITHIN = " within "
_POLL_S = 0.02
_HOLDER = "holder"
"""The file that stands for the resource; in it, the ticket whose owner has it, and its hold."""
_HOLDER_SIZE, _MOST_HOLDS = 400, 20
_OUTER, _INSIDE = "outer", "inside"
"""In the folder of a hold: whose hold it is, and what everybody who uses it has a lock on."""
_folders: dict[str, Path] = {}
"""Where what this process holds is held, by hold."""
_TICKET = re.compile(r"(\d{12})(\.urgent)?\.ticket")
OVERTAKES = 8
"""How many who came earlier an urgent one may go before, at the most: nobody waits for ever."""


@dataclass(frozen=True)
class Actor:
    """Who holds or wants something."""

    run: str = ""
    """The run's id; empty outside of one."""
    job: str = ""
    step: str = ""


@dataclass(frozen=True)
class Ticket:
    """Somebody who holds a resource or waits for it."""

    resource: str
    actor: Actor
    host: str
    pid: int
    since: float
    """When it was drawn, in seconds since 1970."""


_NOBODY = Actor()
acting: ContextVar[Actor] = ContextVar("smartops_actor", default=_NOBODY)
"""On whose behalf this code asks for locks."""
urgent: ContextVar[bool] = ContextVar("smartops_urgent", default=False)
"""Whether what this code wants to do should not wait for what was only asked for earlier."""
_NONE: Mapping[str, str] = {}
_mine: ContextVar[Mapping[str, str]] = ContextVar("smartops_locks_held", default=_NONE)
"""What the code around this holds, and by which hold."""
_losses: ContextVar[tuple[Callable[[], bool], ...]] = ContextVar("smartops_losses", default=())
"""What says of each of them whether it is lost."""


def lock_path(resource: str) -> Path:
    """Return the folder of a resource's tickets, such as of ``modbus://10.0.0.5:502``."""
    return get_settings().locks_dir / file_name(resource)


@asynccontextmanager
async def exclusive(resource: str, limit: timedelta | None = STANDARD) -> AsyncIterator[None]:
    """Hold a resource alone; who is ``urgent`` may go before OVERTAKES others on this machine.

    What the code around this holds already, only others within the same hold have to be waited for:
    the steps of a job that holds line-3 take turns with it, and nobody else is let in between.
    Raises LockTimeout when it is not free within ``limit`` (default: the setting; None: for ever).
    """
    outer = _mine.get().get(resource)
    name = resource if outer is None else f"{resource}{WITHIN}{outer}"
    hold = uuid4().hex[:16]
    deadline = Deadline(limit)
    with lock_waits.waiting(resource) as wait:
        async with (
            _on_this_machine(name, resource, hold, deadline.left_s()),
            _on_all_machines(name, hold, deadline.left_s()) as is_lost,
        ):
            wait.over()
            mine = _mine.set({**_mine.get(), resource: hold})
            losses = _losses.set((*_losses.get(), is_lost))
            _folders[hold] = lock_path(name)
            try:
                yield
            finally:
                del _folders[hold]
                _losses.reset(losses)
                _mine.reset(mine)
                _is_used_within(resource, hold)


def lost() -> bool:
    """Return whether something that the code around this holds may have gone to another."""
    return any(is_lost() for is_lost in _losses.get())


def held_here() -> Mapping[str, str]:
    """Return what the code around this holds, and by which hold, for :func:`inherited`."""
    for resource, hold in _mine.get().items():
        if hold in _folders:
            inner = lock_path(f"{resource}{WITHIN}{hold}")
            inner.mkdir(parents=True, exist_ok=True)
            (inner / _OUTER).write_text(str(_folders[hold]), "utf-8")
    return _mine.get()


@asynccontextmanager
async def inherited(holds: Mapping[str, str]) -> AsyncIterator[None]:
    """Take what whoever waits for this code holds as held here: it would wait for itself.

    Others have to wait for it, also when the one who waited has gone. What is held no more when
    this begins, is not held here either. Raises LockTimeout and LockLost with
    ``SMARTOPS_LOCKS=database``, as a lock itself does.
    """
    mine: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for resource, hold in holds.items():
            if get_settings().locks == "machine":
                is_entered = _is_entered(resource, hold, stack)
            else:
                uses = importlib.import_module("smartops.audit.shared_uses")
                is_lost = await stack.enter_async_context(uses.use(resource, hold))
                is_entered = is_lost is not None
                if is_entered:
                    stack.callback(_losses.reset, _losses.set((*_losses.get(), is_lost)))
            if is_entered:
                mine[resource] = hold
        stack.callback(_mine.reset, _mine.set({**_mine.get(), **mine}))
        yield


def _is_entered(resource: str, hold: str, files: AsyncExitStack) -> bool:
    """Mark a hold as used by this process; return False where it has ended."""
    inner = lock_path(f"{resource}{WITHIN}{hold}")
    try:
        outer = Path((inner / _OUTER).read_text("utf-8"))
        inside = os.open(inner / _INSIDE, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return False
    files.callback(_free, inside)
    fcntl.flock(inside, fcntl.LOCK_SH)
    # Who wants it next writes its own name first, and looks for this mark then.
    return _read_holder(outer)[1:2] == [hold]


def _is_used_within(resource: str, hold: str) -> bool:
    """Return whether somebody uses a hold whose owner is done with it; tidy up where not."""
    inner = lock_path(f"{resource}{WITHIN}{hold}")
    try:
        inside = os.open(inner / _INSIDE, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return False  # it was never handed on, nor used
    try:
        if not _lock(inside):
            return True
        shutil.rmtree(inner, ignore_errors=True)
        return False
    finally:
        _free(inside)


@asynccontextmanager
async def held(names: Sequence[str], *, limit: timedelta | None = STANDARD) -> AsyncIterator[None]:
    """Hold several named things at once, always in the same order, so that no two wait in a circle.

    A name stands for itself, such as ``line-3``. Raises LockTimeout; with no ``limit``, never.
    """
    deadline = Deadline(limit)
    async with AsyncExitStack() as stack:
        for name in sorted(set(names)):
            await stack.enter_async_context(exclusive(name, deadline.left()))
        yield


def _on_all_machines(
    resource: str, own: str, limit_s: float | None
) -> AbstractAsyncContextManager[Callable[[], bool]]:
    if get_settings().locks == "machine":
        return nullcontext(lambda: False)
    # By its name: the store stands above the locks.
    hold = importlib.import_module("smartops.audit.shared_locks").hold
    shared: AbstractAsyncContextManager[Callable[[], bool]] = hold(resource, own, limit_s)
    return shared


@asynccontextmanager
async def _on_this_machine(
    name: str, resource: str, hold: str, limit_s: float | None
) -> AsyncIterator[None]:
    folder = lock_path(name)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = None if limit_s is None else time.monotonic() + limit_s
    holder = os.open(folder / _HOLDER, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        path, file = await _draw(folder, name, deadline, urgent=urgent.get())
        try:
            while (ahead := _first(folder, path)) is not None or not _lock(holder):
                _check(name, deadline, limit_s, _holding(folder) or ahead)
                await asyncio.sleep(_POLL_S)
            before = _read_holder(folder)[1:]
            _write_holder(holder, path.name, hold, *before)
            while any(_is_used_within(resource, earlier) for earlier in before):
                _check(name, deadline, limit_s, None)
                await asyncio.sleep(_POLL_S)
            _write_holder(holder, path.name, hold)
            yield
        finally:
            path.unlink(missing_ok=True)
            _free(file)
    finally:
        _free(holder)


async def _draw(
    folder: Path, resource: str, deadline: float | None, *, urgent: bool
) -> tuple[Path, int]:
    """Return a new ticket and its open file, which is locked."""
    gate = os.open(folder / "gate", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _lock(gate):  # held for the moment in which another one draws
            _check(resource, deadline, None, None)
            await asyncio.sleep(_POLL_S / 4)
        # Numbers are never used again: who clears a dead owner's ticket away must not hit another.
        number = _last_number(gate, folder) + 1
        os.pwrite(gate, str(number).encode(), 0)
        ticket = Ticket(resource, acting.get(), socket.gethostname(), os.getpid(), time.time())
        hidden = folder / f"{number}.new"  # seen by others only when it is locked
        file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        _lock(file)
        os.write(file, json.dumps(asdict(ticket)).encode())
        path = folder / f"{number:012}{'.urgent' if urgent else ''}.ticket"
        hidden.rename(path)
        return path, file
    finally:
        os.close(gate)


def _last_number(gate: int, folder: Path) -> int:
    """Return the last number that was drawn, also when a power cut has damaged the gate's file."""
    try:
        return int(os.read(gate, 20) or b"0")
    except ValueError:
        found = (re.match(r"\d+", path.name) for path in folder.iterdir())
        return max((int(match[0]) for match in found if match), default=0) + 1000


def _check(
    resource: str, deadline: float | None, limit_s: float | None, ahead: Ticket | None
) -> None:
    if ahead is not None:
        lock_waits.behind(describe(ahead))
    if deadline is None or time.monotonic() < deadline:
        return
    who = f" by {describe(ahead)}" if ahead else " by another job"
    limit = f" for more than {limit_s:g} s" if limit_s is not None else ""
    raise LockTimeout(f"{resource} was held{who}{limit}")


def describe(ticket: Ticket) -> str:
    """Return who holds a ticket, in words."""
    if not ticket.actor.run:
        return f"process {ticket.pid}"
    step = f", step {ticket.actor.step}" if ticket.actor.step else ""
    return f"job {ticket.actor.job}{step} (run {ticket.actor.run[:8]})"


def _place(path: Path) -> tuple[int, int] | None:
    """Return where a ticket stands in the queue, None for another file."""
    match = _TICKET.fullmatch(path.name)
    if match is None:
        return None
    number = int(match[1])
    return (number - OVERTAKES if match[2] else number), number


def _tickets(folder: Path) -> list[Path]:
    """Return all tickets in the order of the queue; whoever holds the resource is among them."""
    places = {path: place for path in folder.iterdir() if (place := _place(path)) is not None}
    return sorted(places, key=lambda path: places[path])


def _read_holder(folder: Path) -> list[str]:
    """Return the ticket of who holds the resource, its hold, and those that may be used still."""
    try:
        return (folder / _HOLDER).read_text("utf-8").split()
    except FileNotFoundError:
        return []


def _write_holder(holder: int, *words: str) -> None:
    text = " ".join(words[:_MOST_HOLDS])
    os.pwrite(holder, text.ljust(_HOLDER_SIZE).encode(), 0)


def _holding(folder: Path) -> Ticket | None:
    """Return who holds the resource, None where it is free or just being given on."""
    words = _read_holder(folder)
    return _owner(folder / words[0]) if words else None


def _lock(file: int) -> bool:
    """Take the lock on an open file, unless another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(file: int) -> None:
    """Give up a lock and close its file; a copy that a forked child has must not keep it."""
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def _first(folder: Path, own: Path) -> Ticket | None:
    """Return who is next, None where it is the owner of this ticket."""
    for path in _tickets(folder):
        if path == own:
            return None
        if (ticket := _owner(path)) is not None:
            return ticket
    return None


def _owner(path: Path) -> Ticket | None:
    """Return a ticket whose owner lives; clear away that of a dead one."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None  # given back meanwhile
    try:
        if _lock(file):
            path.unlink(missing_ok=True)
            return None
        return _parsed(os.read(file, 10_000))
    finally:
        os.close(file)


def _parsed(content: bytes) -> Ticket:
    try:
        fields = json.loads(content)
        return Ticket(**{**fields, "actor": Actor(**fields["actor"])})
    except (ValueError, TypeError, KeyError):
        return Ticket("", Actor(), "", 0, 0.0)  # of another version


def queues() -> Iterator[list[Ticket]]:
    """Yield for each resource that is held its holder and those who wait for it, in their order."""
    folder = get_settings().locks_dir
    for resource in sorted(folder.iterdir()) if folder.is_dir() else ():
        tickets: list[Ticket] = []
        with contextlib.suppress(NotADirectoryError, FileNotFoundError):
            held = _holding(resource)
            waiting = [t for path in _tickets(resource) if (t := _owner(path)) and t != held]
            tickets = [*([held] if held else []), *waiting]
        if tickets:
            yield tickets
