"""What the studies on real vLLM share: the command line with its progress shown, and one server of the tiny model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.commands.stress import INVALID_RESULT_EXIT
from harness.config import load_config
from harness.plan import make_plan
from harness.server.api import new_session
from harness.server.launch import LaunchedServer
from harness.serving import server_specs

Say = Callable[[str], None]
Harness = Callable[..., dict[str, Any]]

READY_TIMEOUT_S = 300.0


def needs_vllm() -> None:
    """Skip what asks for a real server where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; make setup installs it")


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Print a line of progress at once, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    began_s = time.monotonic()

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{time.monotonic() - began_s:7.0f} s  {text}", end="", flush=True)

    return line


@pytest.fixture(scope="session")
def harness(say: Say) -> Harness:
    """Run the command line with ``--json`` in a folder and return its document; a cell may be invalid."""
    needs_vllm()

    def run(folder: Path, *words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "harness.cli", *words, "--json"]
        output, said = folder / "stdout.json", list[str]()
        with (
            output.open("w") as stdout,
            subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True) as process,
        ):
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if " measuring " in line or " serving " in line:
                    say(line.strip())
        assert process.returncode in (0, INVALID_RESULT_EXIT), "".join(said)
        document: dict[str, Any] = json.loads(output.read_text())
        return document

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, say: Say) -> Iterator[str]:
    """The address of one server of the tiny model, launched as the harness launches it."""
    needs_vllm()
    folder = tmp_path_factory.mktemp("server")
    (spec,) = server_specs(make_plan(load_config({"model": "tiny", "power": "simulated"}, None)), folder)
    say("starting a server")
    launched = LaunchedServer(spec, folder / "server.log")
    try:
        asyncio.run(_wait_ready(launched))
        yield launched.url
    finally:
        launched.stop()


async def _wait_ready(server: LaunchedServer) -> None:
    async with new_session() as session:
        await server.wait_ready(session, READY_TIMEOUT_S)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
