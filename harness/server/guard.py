"""Run a server in this process's own group and end the whole group when the harness ends, however it ends.

``python -m harness.server.guard GRACE_S NICENESS -- COMMAND...`` starts COMMAND and watches standard input, whose
other end the harness holds. End of input, which also comes when the harness is killed, ends the group: SIGTERM, a
grace period of GRACE_S seconds, SIGKILL. The single word ``release`` before the end lets the server go on alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

GRACE_S = 20.0
RELEASE = b"release"


def main() -> int:
    """Run the command after ``--`` and return its exit code."""
    grace_s, niceness, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[sys.argv.index("--") + 1 :]
    # Handlers, not SIG_IGN: the server must not inherit that these signals are ignored.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    if niceness:
        _yield_cores(niceness)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_obey_harness, args=(grace_s,), daemon=True).start()
    exit_code = server.wait()
    _end(_others(), grace_s)
    return exit_code if exit_code >= 0 else 128 - exit_code


def _yield_cores(niceness: int) -> None:
    """Let other processes have the cores first, also under a kernel that weighs whole sessions (autogroup)."""
    os.nice(niceness)
    autogroup = Path("/proc/self/autogroup")
    if autogroup.exists():
        try:
            autogroup.write_text(str(niceness))
        except OSError as error:
            print(f"this session keeps its share of the cores, {autogroup} cannot be written: {error}", flush=True)


def _obey_harness(grace_s: float) -> None:
    # os.read, not sys.stdin: a thread blocked in a buffered read would abort this process at its exit.
    word = b""
    while chunk := os.read(0, 64):
        word += chunk
    if word == RELEASE:
        os._exit(0)
    _end(_others(), grace_s)


def _others() -> list[psutil.Process]:
    """Every process the server consists of: this group's members and all descendants."""
    me = psutil.Process()
    found = {process.pid: process for process in me.children(recursive=True)}
    found |= {process.pid: process for process in psutil.process_iter() if _group(process) == os.getpgrp()}
    found.pop(me.pid, None)
    return list(found.values())


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _end(processes: list[psutil.Process], grace_s: float) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        _signal(process, signal.SIGKILL)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main())
