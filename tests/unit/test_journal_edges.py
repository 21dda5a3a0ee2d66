"""What nobody expects of a journal: signals in the middle, odd bodies, used-up files."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from smartops import errors
from smartops.audit import chain, liveness
from smartops.audit import journal as module
from smartops.audit.events import Event
from smartops.audit.journal import Journal, get_journal
from smartops.audit.journal_reader import JournalReader, Record, journal_files
from smartops.settings import get_settings


def records(path: Path) -> list[Record]:
    reader = JournalReader(path)
    try:
        return reader.after(0, 10**9)
    finally:
        reader.close()


def everything() -> list[Record]:
    return [r for path in journal_files(get_settings().journal_dir) for r in records(path)]


def an_event(**body: Any) -> Event:
    return Event("run.ended", uuid7(), body)


INTERRUPTED = """
import signal, sys, time
from uuid6 import uuid7
from smartops.audit.events import Event
from smartops.audit.journal import get_journal

class Stop(BaseException): pass

def stop(number, frame): raise Stop

signal.signal(signal.SIGALRM, stop)
acknowledged, broken = [], 0
for number in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.00002)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            event = Event("run.ended", uuid7(), {})
            get_journal().append(event)
            acknowledged.append(event.id.hex)
    except Stop:
        broken += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    event = Event("run.ended", uuid7(), {"after": number})
    get_journal().append(event)
    acknowledged.append(event.id.hex)
print(broken, *acknowledged)
"""


def test_a_signal_in_the_middle_breaks_nothing(home: Path) -> None:
    """However a write is broken off: what follows is recorded, and each chain stays whole."""
    # In a process of its own, and not measured: coverage runs code of its own where a signal falls.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**environment, "SMARTOPS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    broken, *acknowledged = done.stdout.split()
    assert int(broken) > 100
    assert set(acknowledged) <= {record.id.hex() for record in everything()}
    for path in journal_files(get_settings().journal_dir):
        numbers = [record.seq for record in records(path)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_no_other_event_suffers_for_a_bad_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shares a commit with an event that cannot be written is told so, and not "done"."""
    own = get_journal()
    failing = threading.Event()
    original = chain.link

    def bad_link(*arguments: Any) -> bytes:
        if failing.is_set():
            raise ValueError("cannot be linked")
        return original(*arguments)

    monkeypatch.setattr(module, "link", bad_link)
    results: list[str] = []

    def write() -> None:
        try:
            own.append(an_event())
            results.append("written")
        except (errors.JournalUnavailable, ValueError):
            results.append("told")

    failing.set()
    with own._writer:  # so that all of them are in one batch
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    failing.clear()
    assert results == ["told"] * 4
    get_journal().append(an_event())
    assert len(everything()) == 1


def test_times_before_1970_are_recorded(home: Path) -> None:
    """A clock that was never set is no reason to lose a record."""
    old = Event("run.ended", uuid7(), {}, at=datetime(1969, 7, 20, tzinfo=UTC))
    get_journal().append(old)
    assert everything()[0].at == old.at


def test_threads_go_on_over_a_used_up_journal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is closed while others hold it: they write to the next one."""
    monkeypatch.setattr(module, "_MOST_RECORDS", 5)
    failures: list[Exception] = []

    def write() -> None:
        for _ in range(60):
            try:
                get_journal().append(an_event())
            except Exception as error:  # noqa: BLE001 - every one is counted
                failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(everything()) == 360


def test_a_journal_that_cannot_be_begun_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the one before, which still works, is used on."""
    monkeypatch.setattr(module, "_MOST_RECORDS", 1)
    first = get_journal()
    first.append(an_event())
    monkeypatch.setattr(module, "_SCHEMA", "THIS IS NO SQL")
    assert get_journal() is first
    assert journal_files(get_settings().journal_dir) == [first.path]
    with pytest.raises(errors.JournalUnavailable):
        Journal(home / "other")
    assert journal_files(home / "other") == []


def test_a_sign_of_life_is_deleted_only_while_it_is_nobodys(tmp_path: Path) -> None:
    """Another process looks between the making of the file and its lock: a new one is made."""
    real = fcntl.flock
    looked = False

    def look_first(fd: Any, how: int) -> None:
        nonlocal looked
        if how == fcntl.LOCK_EX and not looked:
            looked = True
            liveness.forget_the_dead(tmp_path, set())
        real(fd, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", look_first)
        process = liveness.this_process(tmp_path)
    assert looked
    assert not liveness.is_dead(tmp_path, process)
    assert liveness.alive_path(tmp_path, process).exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("caf\udce9", "caf\\udce9"),
        ({"k\udce9": "v\ud800"}, {"k\\udce9": "v\\ud800"}),
        (10**400, hex(10**400)),
        (-(1 << 63), hex(-(1 << 63))),
        ((1 << 63) - 1, (1 << 63) - 1),
        (10**5000, hex(10**5000)),
        ("nul\x00inside", "nul\x00inside"),
    ],
    ids=[
        "surrogate",
        "surrogates in a mapping",
        "huge",
        "just too low",
        "just fits",
        "too long",
        "nul",
    ],
)
def test_odd_values_become_text_that_every_store_takes(value: Any, expected: Any) -> None:
    """A body can always be written, read again, and be UTF-8."""
    text = Event("run.ended", uuid7(), {"value": value}).body_text()
    text.encode()
    assert json.loads(text)["value"] == expected
    assert os.fsencode(text)
