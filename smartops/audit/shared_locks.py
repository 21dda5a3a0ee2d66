"""Locks across machines: behind a machine's own ticket, a named lock of the database server.

The server gives it to who has waited longest, and takes it back when the connection ends. A holder
speaks each second; who is silent for 5 s has lost it. Whoever gets a lock that was not given back
in order leaves its last holder 7 s to come back first: so a restart of the server, or a short cut
of the wire, ends no job.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from smartops.audit import database
from smartops.audit.lock_places import ALIVE, by_others, is_of, mine, placed, use_of
from smartops.audit.lock_tables import lock_place, lock_turn
from smartops.errors import BadInput, LockLost, LockTimeout, SmartOpsError
from smartops.locks import WITHIN, Actor, acting
from smartops.settings import get_settings

_BEAT_S = 1.0
_SILENCE_S = 5
_RETURN_S = 7.0
"""Longer than the silence after which a holder stops, and than that takes."""
_PATIENCE_S = 20
"""How long the server keeps the session of one that waits for a holder's return."""
_ANSWER_S = 2
_AGAIN_S = 0.2
_LONG_S = 3000  # below the connection's read timeout; then it queues up again
logger = logging.getLogger(__name__)


@asynccontextmanager
async def hold(
    resource: str, own: str, limit_s: float | None, kind: type[Holding] | None = None
) -> AsyncIterator[Callable[[], bool]]:
    """Hold a resource alone among all machines with the same database; ``own`` names this hold.

    Gives a function that says whether it is lost by now.

    Raises LockTimeout when it is not free within ``limit_s`` (None: for ever), and LockLost, in
    place of whatever went on meanwhile, when the database may have given it to another.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine
    before = task.cancelling()
    holding = (kind or Holding)(resource, own, acting.get(), task.cancel)
    holding.begin()
    try:
        await _granted(holding, limit_s)
        yield lambda: holding.lost
    except asyncio.CancelledError:
        if holding.stopped_it and task.uncancel() <= before:
            holding.stopped_it = False
            raise holding.loss() from None
        raise
    finally:
        await holding.end()
    if holding.lost:
        if holding.stopped_it:  # and whoever it was took no notice
            task.uncancel()
        raise holding.loss()


async def _granted(holding: Holding, limit_s: float | None) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.shield(holding.granted)
        holding.listen()
    except TimeoutError:
        why = holding.trouble or "another machine holds it"
        raise LockTimeout(
            f"{holding.resource} was not to be had for {limit_s:g} s: {why}"
        ) from None


class Holding:
    """One connection's claim. It has a thread, so that it lives while the program is busy."""

    def __init__(
        self, resource: str, own: str, actor: Actor, on_loss: Callable[[], object]
    ) -> None:
        self.resource = resource
        self.own = own
        self._row = resource
        """How its row is called."""
        self.trouble = ""
        """Why the database cannot be asked at the moment."""
        self.lost = False
        self.stopped_it = False
        """Whether what went on meanwhile was told to stop."""
        self._ends = False
        self._listening: asyncio.TimerHandle | None = None
        self._actor = actor
        self._on_loss = on_loss
        self._loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[None] = self._loop.create_future()
        self._url = database.parse(get_settings().store_url)
        if self._url.get_backend_name() not in database.SERVERS:
            raise BadInput(
                "SMARTOPS_LOCKS=database needs a database server, and SQLite is none",
                hint="Set SMARTOPS_DATABASE_URL to MySQL or MariaDB, or SMARTOPS_LOCKS to machine.",
            )
        digest = hashlib.sha256(f"{self._url.database} {resource}".encode()).hexdigest()
        self._name = f"smartops.{digest[:40]}"
        self._own_row = lock_turn.c.resource == resource
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name=f"lock {resource}", daemon=True)
        self._stop = threading.Event()
        self._turn = 0
        self._seen: tuple[int, float] = (-1, 0.0)
        """A turn that was not ended in order, and since when this knows of it."""
        self._spoke = 0.0

    def begin(self) -> None:
        """Begin to wait for it."""
        self._thread.start()

    def loss(self) -> LockLost:
        """Return the error that says what happened."""
        return LockLost(
            f"{self.resource} may have gone to another: the database was out of reach",
            hint="Look at what the step touches before the job is run again.",
        )

    async def end(self) -> None:
        """Give it back, or stop waiting for it."""
        self._ends = True
        if self._listening is not None:
            self._listening.cancel()
        self._stop.set()
        if not self.granted.done():
            self.granted.cancel()
            self._cut()
        await asyncio.to_thread(self._thread.join, _SILENCE_S)

    def listen(self) -> None:
        """Look again and again whether the server has answered lately: its thread may hang."""
        if time.monotonic() > self._spoke + _SILENCE_S:
            self._lose()
        if not self.lost:
            self._listening = self._loop.call_later(_AGAIN_S, self.listen)

    def _lose(self) -> None:
        self.lost = True
        if not (self._ends or self.stopped_it):
            self.stopped_it = True
            self._on_loss()

    def _cut(self) -> None:
        """End a wait of the thread: it waits for the server's answer."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(AttributeError, OSError, sa.exc.SQLAlchemyError):
                connection.connection.dbapi_connection._sock.shutdown(  # type: ignore[union-attr]
                    socket.SHUT_RDWR
                )

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        """Take the lock, keep it, give it back."""
        engine = database.connect(self._url, own=True)
        try:
            if self._take(engine):
                self._tell(self.granted.set_result, None)
                self._keep()
        except SmartOpsError as error:
            self._tell(self.granted.set_exception, error)
        except Exception as error:
            if not self._stop.is_set():  # a wait that is cut off ends in many ways
                logger.exception("the lock of %s cannot be asked for", self.resource)
            self._tell(self.granted.set_exception, LockTimeout(f"{self.resource}: {error}"))
            self.lost = not self._stop.is_set()
        finally:
            self._close()
            engine.dispose()

    def _tell(self, how: Callable[..., object], *what: object) -> None:
        def unless_given_up() -> None:
            if not self.granted.done():
                how(*what)

        with contextlib.suppress(RuntimeError):  # the program has ended
            self._loop.call_soon_threadsafe(unless_given_up)

    def _take(self, engine: sa.Engine) -> bool:
        """Wait for the lock; return whether it is there, and not that nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._connect(engine)
                while not self._stop.is_set():
                    if self._acquire():
                        self.trouble = ""
                        return True
            except DBAPIError as error:
                self.trouble = f"the database does not answer ({error.orig})"
                self._close()
                self._stop.wait(_AGAIN_S)
        return False

    def _acquire(self) -> bool:
        return self._get(_LONG_S) and self._begin_turn()

    def _connect(self, engine: sa.Engine) -> None:
        self._connection = engine.connect()
        self._do(sa.text(f"SET SESSION wait_timeout = {_PATIENCE_S}"))
        self._do(
            sa.delete(lock_place).where(
                is_of(self.resource),
                lock_place.c.connection.not_in(ALIVE),
            )
        )
        self._do(placed(self._row, self._actor))

    def _do(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        assert self._connection is not None  # noqa: S101 - only called when there is one
        result: sa.CursorResult[Any] = self._connection.execute(statement)
        return result

    def _get(self, seconds: int) -> bool:
        return bool(self._do(sa.select(sa.func.get_lock(self._name, seconds))).scalar_one() == 1)

    def _begin_turn(self) -> bool:
        """Begin a turn, unless the last holder may come back: then let go and wait for it."""
        turn, free = self._last_turn()
        if not free and not self._waited_for(turn):
            self._do(sa.select(sa.func.release_lock(self._name)))
            self._stop.wait(_RETURN_S)
            return False
        while self._do(by_others(self.resource).limit(1)).first() is not None:
            if self._stop.wait(_AGAIN_S):
                return False
        self._turn = turn + 1
        values = {"turn": self._turn, "free": False}
        if not self._do(sa.update(lock_turn).where(self._own_row).values(values)).rowcount:
            self._do(sa.insert(lock_turn).values(resource=self.resource, **values))
        self._note_held()
        return True

    def _last_turn(self) -> tuple[int, bool]:
        query = sa.select(lock_turn.c.turn, lock_turn.c.free)
        row = self._do(query.where(self._own_row)).one_or_none()
        return (0, True) if row is None else (int(row.turn), bool(row.free))

    def _waited_for(self, turn: int) -> bool:
        if self._seen[0] != turn:
            self._seen = (turn, time.monotonic())
        return time.monotonic() - self._seen[1] >= _RETURN_S

    def _note_held(self) -> None:
        self._do(sa.update(lock_place).where(mine()).values(held=True))
        self._do(placed(use_of(self.resource, self.own), self._actor))
        self._speak()

    def _speak(self) -> None:
        """Let the server take it back soon when this is silent, and notice soon when that is."""
        self._do(sa.text(f"SET SESSION wait_timeout = {_SILENCE_S}"))
        self._answer_soon()
        self._spoke = time.monotonic()

    def _answer_soon(self) -> None:
        """Wait no more than 2 s for an answer from now on; PyMySQL looks at this at each read."""
        assert self._connection is not None  # noqa: S101 - it was just used
        wire: Any = self._connection.connection.dbapi_connection
        wire._read_timeout = wire._write_timeout = _ANSWER_S

    def _keep(self) -> None:
        while not self._stop.wait(_BEAT_S):
            try:
                self._do(sa.text("SELECT 1"))
                self._spoke = time.monotonic()
            except DBAPIError as error:
                logger.warning("%s: the database is out of reach: %s", self.resource, error.orig)
                self._close()
                if not self._take_back():
                    return
        with contextlib.suppress(DBAPIError):
            self._give_back()

    def _give_back(self) -> None:
        own = self._own_row & (lock_turn.c.turn == self._turn)
        self._do(sa.update(lock_turn).where(own).values(free=True))
        if WITHIN in self.resource:  # nobody asks for it again
            self._do(sa.delete(lock_turn).where(self._own_row))
        self._do(sa.delete(lock_place).where(mine()))
        self._do(sa.select(sa.func.release_lock(self._name)))

    def _take_back(self) -> bool:
        """Take the lock again after the connection broke, unless it is too late.

        It is another turn then: who saw this loss must not count the next one from it.
        """
        engine = database.connect(self._url, own=True, limit_s=_ANSWER_S)
        while time.monotonic() < self._spoke + _SILENCE_S and not self._stop.is_set():
            try:
                self._connect(engine)
                is_back = self._return()
                if is_back is not None:
                    if is_back:
                        return True
                    break
            except DBAPIError:
                logger.debug("%s: not yet", self.resource)
            self._close()
            self._stop.wait(_AGAIN_S)
        self.lost = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._lose)
        return False

    def _return(self) -> bool | None:
        """Go on where the connection broke; return whether it does, None where it may soon."""
        if not self._get(0):
            return None
        if self._last_turn() != (self._turn, False):
            return False
        self._turn += 1
        self._do(sa.update(lock_turn).where(self._own_row).values(turn=self._turn))
        self._note_held()
        return True

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()
