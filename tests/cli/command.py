"""Run the real command line as a process, with a stand-in for vLLM in front of the installed one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import SCRIPT_VARIABLE

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180
"""Runs of several cells took half of it beside the other tests on two cores."""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def stand_in_for_vllm(folder: Path) -> Path:
    """Write a package ``vllm`` whose API server is the scripted one; returns what to put on PYTHONPATH."""
    package = folder / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for parent in (package, package.parent, package.parent.parent):
        (parent / "__init__.py").touch()
    (package / "api_server.py").write_text("from tests.fakes.scripted_server import main\n\nmain()\n")
    return folder


def environment(vllm: Path, script: Script | None = None, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which ``vllm`` shadows the installed one and follows ``script``."""
    own = {
        "PYTHONPATH": os.pathsep.join([str(vllm), str(ROOT)]),
        SCRIPT_VARIABLE: (script or Script()).to_json(),
    }
    return {**(os.environ if base is None else base), **own, "NO_COLOR": "1", "COLUMNS": "300"}


def start_harness(*words: str, cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start the command line; a group of its own keeps signals away from the tests."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> Ended:
    """Wait for a command to end; one that does not end is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command did not end within {timeout_s:g} s\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def run_harness(*words: str, cwd: Path, env: dict[str, str]) -> Ended:
    """Run the command line to its end."""
    return ended(start_harness(*words, cwd=cwd, env=env))


def processes_naming(text: Path | str) -> list[int]:
    """Return the living processes whose command line names ``text``."""
    found = psutil.process_iter(["pid", "cmdline", "status"])
    return [
        process.info["pid"]
        for process in found
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(text) in word for word in process.info["cmdline"] or ())
    ]
