"""The node as the doctor sees it: files, environment and commands, all of which a test can replace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.power.nvml_state import sees_host_pids
from harness.stress_options import STRESS_OPTIONS

_KILLED_S = 1.0


class NoAnswerError(Exception):
    """A command could not be asked: it is not there, or did not end in time. The message says which."""


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Node:
    """Where facts come from. ``root`` stands before every absolute path; ``out`` is where run folders would go."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    host_pids: Callable[[], bool] = sees_host_pids
    out: Path = STRESS_OPTIONS["out"].default
    server_port: int = 8000
    metrics_address: str = STRESS_OPTIONS["metrics_address"].default

    def path(self, absolute: str) -> Path:
        """Return a path below ``root``."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Return the stripped text of a file, or None where there is none that may be read."""
        try:
            return self.path(absolute).read_text(errors="replace").strip()
        except OSError:
            return None

    def which(self, command: str) -> str | None:
        """Return the path of a command, or None."""
        return shutil.which(command, path=self.environ.get("PATH"))

    def run(self, argv: Sequence[str], limit_s: float) -> Answer:
        """Run a command for at most ``limit_s``; raises ``NoAnswerError``. It gets no input and no terminal."""
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**self.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise NoAnswerError(f"{argv[0]}: {error.strerror or error}") from error
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise NoAnswerError(f"no answer within {limit_s:g} s") from None
        return Answer(process.returncode, out, err)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a command and all it started; one that a driver holds in the kernel is left to end by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_KILLED_S)
