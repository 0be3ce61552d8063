"""Run the scripted server as a process on a free port, for commands that are given its address."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from harness.server.launch import free_port
from tests.fakes.scripted_engine import Script
from tests.fakes.waiting import until


@contextmanager
def server_process(script: Script, port: int | None = None) -> Iterator[str]:
    """Serve until the end of the block, on a given port or a free one; yields the address."""
    port = port or free_port("127.0.0.1")
    argv = [sys.executable, "-m", "tests.fakes.scripted_server", "--port", str(port), "--script", script.to_json()]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), "the scripted server")
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health") as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
