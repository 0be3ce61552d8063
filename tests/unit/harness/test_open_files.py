"""Limits of open files hold for a whole process and cannot be raised again: each test has one of its own."""

import subprocess
import sys

import pytest

from tests.paths import ROOT


def outcome(limits, code):
    """Run code in a process with (soft, hard) limits of open files; return what it printed."""
    setup = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {limits})"
    done = subprocess.run([sys.executable, "-c", f"{setup}\n{code}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CHILD_TELLS = """
import subprocess, sys
from harness.open_files import make_room
make_room(1_024)
print(subprocess.check_output([sys.executable, "-c", "import resource; print(resource.getrlimit(7))"], text=True))
"""


@pytest.mark.parametrize(
    ("limits", "raised"), [((1_024, 20_000), 20_000), ((256, 2_000), 2_000), ((900, 1_500), 1_500)]
)
def test_a_measuring_process_and_its_children_may_open_as_many_files_as_the_hard_limit_allows(limits, raised):
    assert outcome(limits, CHILD_TELLS) == f"({raised}, {limits[1]})"


REFUSED = """
from harness.errors import NodeError
from harness.open_files import make_room
make_room(824)
try:
    make_room(825)
except NodeError as error:
    print(error)
"""


def test_more_requests_than_files_may_be_open_are_refused_before_they_are_sent():
    said = outcome((1_024, 1_024), REFUSED)
    assert said.startswith("825 requests in flight a client process need as many open files, and 1,024 are allowed")
    assert "--clients N" in said


LOAD_BEYOND_ROOM = """
import socket
import numpy as np, uvloop
from harness.errors import NodeError
from harness.load.closed_loop import ClosedLoop
from harness.load.request import Target
from harness.server.api import new_session
from tests.fakes.waiting import until_in_loop
from workloads.spec import load_workload

listener = socket.create_server(("127.0.0.1", 0), backlog=500)
url = f"http://127.0.0.1:{listener.getsockname()[1]}"
rows = []

async def main(streamed_share):
    async with new_session() as session:
        lengths = load_workload("fixed:5x5").lengths(1.0)
        rng = np.random.default_rng(0)
        load = ClosedLoop(session, Target((url,), "m"), lengths, cell="x", streamed_share=streamed_share, rng=rng,
                          sink=rows.append)
        load.grow_to(300)
        try:
            await until_in_loop(load.check, "nothing: a check fails", 20)
        except NodeError as error:
            print(error.what)
        try:
            await load.stop(drain=False)
        except NodeError:
            pass

for share in (0.0, 1.0):
    uvloop.run(main(share))
print({row.answer.outcome for row in rows})
"""


def test_a_load_that_runs_out_of_files_ends_and_names_the_limit():
    """A server that accepts and is silent holds every connection; beyond the limit no request counts as failed."""
    said = "a process of the harness has all the 200 files open that it may (ulimit -n)"
    assert outcome((200, 200), LOAD_BEYOND_ROOM).splitlines() == [said, said, "{'aborted'}"]


FLUSH_WITHOUT_FILES = """
import os, tempfile
from contextlib import suppress
from pathlib import Path
from harness.errors import HarnessError
from harness import instruments as module
from harness.live.state import LiveState
from harness.power.simulated import SimulatedSource
from results.store import RunWriter
from tests.fakes.waiting import until

module.FLUSH_PERIOD_S = 0.05
run = RunWriter(Path(tempfile.mkdtemp()) / "run")
run.add("client", [{"t_mono_s": 1.0, "client": 0, "lag_s": 0.0, "cpu_s": 0.0}])
run.flush()
held = []

def take_all_files():
    with suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))

with module.Instruments(run, LiveState(), SimulatedSource(lambda: 0.0)) as instruments:
    try:
        until(lambda: take_all_files() or instruments.check(), "nothing: a check fails")
    except HarnessError as error:
        found = error.what
    for file in held:
        os.close(file)
print(found)
"""


def test_a_run_that_cannot_be_written_for_want_of_files_is_not_blamed_on_the_disk():
    assert outcome((200, 200), FLUSH_WITHOUT_FILES).endswith("all the 200 files open that it may (ulimit -n)")
