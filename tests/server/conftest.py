"""One real run of each kind, shared by the tests that look at it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.server.launch import free_port

RUN_LIMIT_S = 480.0


@dataclass
class RealRun:
    """A finished ``harness stress`` on real vLLM: what it printed, what it left, and what was scraped meanwhile."""

    exit_code: int
    document: dict[str, Any]
    stderr: str
    folder: Path
    scrapes: list[str] = field(default_factory=list)


def _scrape_until(done: threading.Event, port: int, scrapes: list[str]) -> None:
    while not done.wait(1.0):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                scrapes.append(answer.read().decode())
        except (urllib.error.URLError, OSError):
            continue


@pytest.fixture(scope="session")
def real_stress(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RealRun]:
    """Run ``harness stress`` on the tiny model with the given options and return what came of it."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; make setup installs it")

    def run(*options: str) -> RealRun:
        home, port = tmp_path_factory.mktemp("run"), free_port()
        command = [sys.executable, "-m", "harness.cli", "stress", "--json", "--metrics-address", f"127.0.0.1:{port}"]
        done, scrapes = threading.Event(), list[str]()
        scraper = threading.Thread(target=_scrape_until, args=(done, port, scrapes))
        scraper.start()
        try:
            ended = subprocess.run(
                [*command, "--power", "simulated", *options],
                cwd=home, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=RUN_LIMIT_S,
            )  # fmt: skip
        finally:
            done.set()
            scraper.join()
        assert ended.returncode == 0, ended.stderr
        (folder,) = (home / "results" / "runs").iterdir()
        return RealRun(ended.returncode, json.loads(ended.stdout), ended.stderr, folder, scrapes)

    return run
