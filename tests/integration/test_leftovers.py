"""What runs leave running is found and ended, in a process that is given their orphans."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_AS_A_WORKER = """
import asyncio, json, os, subprocess, sys, time
from uuid import uuid4
from services import leftovers
from services.leftovers import Strays, children, sweep
from services.warm import adopt_orphans
from services.zygote import RUN_ID

adopt_orphans()
run, other = uuid4(), uuid4()

def program(of, seconds=600, **options):
    return subprocess.Popen(["sleep", str(seconds)], env={**os.environ, RUN_ID: str(of)}, **options)

def over(of):
    # A Popen would take its exit status when it is collected: this one's is left to who comes.
    pid = os.posix_spawnp("true", ["true"], {**os.environ, RUN_ID: str(of)}, setsid=True)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

def leader(work):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        work()
        os._exit(0)
    os.waitpid(pid, 0)
    return pid

def fork_below(work):
    if os.fork() == 0:
        os.setsid()
        work()
        time.sleep(600)
        os._exit(0)

def names(found):
    # What was killed is named again as long as it is not gone.
    return sorted(one.split()[0] for one in set(found))
"""


def as_a_worker(code: str) -> list[Any]:
    """Run code in a process of its own, which is given orphans; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_A_WORKER + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_all_that_a_run_left_is_ended() -> None:
    """In its session or in one of its own; not what another run has started."""
    found = as_a_worker("""
def work():
    program(run, preexec_fn=None)
    program(run, start_new_session=True)
    subprocess.Popen(["sleep", "600"], env={})
    over(run)

beside = program(other, start_new_session=True)
pid = leader(work)
swept = asyncio.run(sweep(run, pid, {beside.pid}))
again = asyncio.run(sweep(run, pid, {beside.pid}))
lives = beside.poll() is None
beside.kill(); beside.wait()
print(json.dumps([names(swept.left_behind), swept.still_alive, again.left_behind, lives]))
""")
    left, still, again, lives = found
    assert left == ["sleep", "sleep", "sleep"]
    assert (still, again, lives) == ([], [], True)


def test_what_comes_to_light_late() -> None:
    """An orphan of a run that is over is ended; one of a run under way is not; none is a zombie."""
    found = as_a_worker("""
leader(lambda: program(run, start_new_session=True))
leader(lambda: program(other, start_new_session=True))
leader(lambda: over(run))
leader(lambda: fork_below(lambda: None))  # it shows no run, like any fork
strays, under_way, ended = Strays(["-c"]), {other: time.time() + 1}, []
while len(children()) > 1:
    ended += strays.tidy(set(), under_way)
    time.sleep(0.01)
last = []
while children():
    last += strays.tidy(set(), {})
    time.sleep(0.01)
print(json.dumps([names(ended), names(last)]))
""")
    ended, last = found
    assert len(ended) == 2
    assert ended[-1] == "sleep"
    assert last == ["sleep"]


def test_what_ends_by_itself_was_not_left() -> None:
    """A browser sees that its run has gone, and needs a moment."""
    found = as_a_worker("""
leftovers._BY_THEMSELVES_S = 3.0  # a loaded machine is slow
pid = leader(lambda: program(run, start_new_session=True, seconds=0.5))
swept = asyncio.run(sweep(run, pid, set()))
print(json.dumps([swept.left_behind, swept.still_alive, children()]))
""")
    assert found == [[], [], []]
