"""A stretch of time to measure: the life of a command, a number of seconds, or until interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.signals import signals_to


@dataclass(frozen=True)
class Stretch:
    """When it began and ended (monotonic seconds), the command's exit code, and the signal that cut it short."""

    start_s: float
    end_s: float
    start_wall_s: float
    exit_code: int | None
    interrupted_by: int | None


def wait_seconds(seconds: float | None) -> Stretch:
    """Wait so long, or (None) until a signal asks to end."""
    asked = threading.Event()
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        asked.set()

    start_s, start_wall_s = time.monotonic(), time.time()
    with signals_to(end):
        asked.wait(seconds)
    return Stretch(start_s, time.monotonic(), start_wall_s, None, received[0] if received else None)


def run_command(argv: Sequence[str], *, seconds: float | None, stdout_to_stderr: bool) -> Stretch:
    """Run a command to its end; the stretch is its life, or at most its first ``seconds``.

    The command leads a session of its own, and signals that reach this process are passed on to all of it. Its exit
    code is 128 plus the signal's number where a signal ended it. Raises ``ConfigError`` if it cannot be started.
    """
    received: list[int] = []
    start_s, start_wall_s = time.monotonic(), time.time()
    try:
        process = subprocess.Popen(
            argv, stdout=sys.stderr.fileno() if stdout_to_stderr else None, start_new_session=True
        )
    except OSError as error:
        raise ConfigError(
            f"cannot run {argv[0]}", why=error.strerror or str(error), fix="give a program and its arguments after --"
        ) from error

    def pass_on(number: int) -> None:
        received.append(number)
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return  # it has just ended by itself

    with signals_to(pass_on):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            end_s = time.monotonic()
            process.wait()
        else:
            end_s = time.monotonic()
    exit_code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Stretch(start_s, end_s, start_wall_s, exit_code, received[0] if received else None)
