"""Every command on the pages that measures: run on a scripted server in the place of vLLM and on stand-ins for sensors.

Lines of ``stress`` and ``sweep`` go on side by side, since they mostly wait. Each is run with its own options, and with
more of them that shorten it, keep its ports free and simulate the power of GPUs.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from estimator.nodes import load_profile
from harness.cli import app
from harness.config import load_config
from harness.power.ipmi import IpmiSource
from harness.sweep_config import load_sweep_config
from results.store import RunReader
from tests.cli.command import Ended, ended, environment, stand_in_for_vllm, start_harness
from tests.docs.lines import COMMANDS, SENSED, SERVED, once, split
from tests.docs.pages import Line
from tests.fakes import importable_vllm
from tests.fakes.redfish_server import PASSWORD, USER, all_chassis, chassis, serve
from tests.fakes.scripted_engine import Script
from tests.fakes.server_process import server_process
from tests.unit.harness.plans import constant_tps
from tests.unit.workloads.traces.files import AZURE_2023

pytestmark = pytest.mark.timeout(300)

SCRIPT = Script(tok_per_s=10_000, tick_s=0.02, max_num_seqs=4, context_tok=1_000_000)
SERVER_ON_PAGES = "http://127.0.0.1:8000"
AT_ONCE, LIMIT_S = 4, 240
INVALID_CELLS = 8
"""Exit code of a run that was done with a cell that is invalid, as one of so few seconds may be."""

SHORTER = {
    "stress": ("--budget", "1.5", "--min-window", "1", "--idle", "0.5", "--linger", "0", "--metrics-address", "none"),
    "sweep": ("--budget", "2", "--min-window", "1", "--idle", "0.5", "--linger", "0", "--metrics-address", "none"),
    "measure": ("--seconds", "1"),
    "exporter": ("--seconds", "2", "--metrics-address", "127.0.0.1:0"),
    "calibrate-node": ("--levels", "2", "--seconds", "3", "--settle", "0"),
    "doctor": (),
}
"""Options that take the place of a line's own."""
UNLESS_GIVEN = {
    "stress": {"--power": "simulated", "--concurrency": "4", "--tps-model": "tps-model.json"},
    "sweep": {"--power": "simulated", "--concurrency": "4"},
    "measure": {"--power": "simulated"},
    "exporter": {"--power": "simulated"},
    "calibrate-node": {"--gpu-power": "replay:gpu.csv", "--gpu-name": "H100", "--gpu-count": "8", "--gpu-limit": "700"},
    "doctor": {},
}
"""Options for what a line leaves to the node."""
IPMITOOL = """#!/bin/sh
echo >> {calls}
echo "Instantaneous power reading: $((2000 + 5 * $(wc -l < {calls}))) Watts"
"""


@dataclass(frozen=True)
class Node:
    """A folder with the files that the lines name, and what stands in for servers and sensors."""

    folder: Path
    url: str
    env: dict[str, str]

    def words(self, line: Line) -> list[str]:
        """Return a line as it is run here, without ``harness``; the words of another program stay at the end."""
        name, words = split(line)
        words = [word.replace(SERVER_ON_PAGES, self.url) for word in words]
        own, dashes, program = _partition(words)
        if name == "calibrate-node":
            dashes, program = ["--"], ["sleep", "60"]
        more = [word for option, value in UNLESS_GIVEN[name].items() if option not in own for word in (option, value)]
        return [name, *own, *more, *SHORTER[name], *dashes, *program]


def _partition(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place : place + 1], words[place + 1 :]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "AzureLLMInferenceTrace_conv.csv").write_text(AZURE_2023)
    (folder / "tps-model.json").write_text(constant_tps().to_json())
    (folder / "node.yaml").write_text(load_profile("hgx-h100").to_yaml())
    (folder / "train.py").write_text("import time\ntime.sleep(0.5)\n")
    rows = "".join(f"{t / 10},GPU-r,{200 + 2 * t},,gpu,nvml\n" for t in range(600))
    (folder / "gpu.csv").write_text(f"t_s,uuid,power_w,energy_j,boundary,source\n{rows}")
    tools = folder / "bin"
    tools.mkdir()
    (tools / "ipmitool").write_text(IPMITOOL.format(calls=tools / "calls"))
    (tools / "ipmitool").chmod(stat.S_IRWXU)
    (tools / "python").symlink_to(sys.executable)
    with ExitStack() as stack:
        metrics = {"PowerWatts": {"Reading": 900.0}}
        controller = stack.enter_context(serve(all_chassis(chassis("1U", "RackMount", metrics=metrics))))
        own = {
            "HARNESS_REDFISH_URL": controller.url,
            "HARNESS_REDFISH_USER": USER,
            "HARNESS_REDFISH_PASSWORD": PASSWORD,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        }
        env = environment(stand_in_for_vllm(folder / "stand-in"), SCRIPT) | own
        yield Node(folder, stack.enter_context(server_process(SCRIPT)), env)


# Lines that load a server -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How a line of ``stress`` or ``sweep`` ended, and the folders that it left."""

    ended: Ended
    out: Path

    @property
    def readers(self) -> list[RunReader]:
        """The run folders, in the order of their names."""
        return [RunReader(path.parent) for path in sorted(self.out.rglob("manifest.json"))]


RESUMED = [line for line in once(SERVED) if "--resume" in line.words]
PLANNED = [line for line in once(SERVED) if "--dry-run" in line.words]
LOADED = [line for line in once(SERVED) if line not in (*RESUMED, *PLANNED)]
LADDER = next(line for line in LOADED if split(line)[0] == "sweep" and "auto" in line.words)


@pytest.fixture(scope="module")
def runs(node: Node) -> Iterator[Callable[[Line], Run]]:
    """Start every line that loads a server, the longest first; gives the run of a line once it has ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lines = sorted(LOADED, key=lambda line: ("--repeats" not in line.words, split(line)[0] == "stress"))
        started = {line.text: pool.submit(_run, node, line, node.folder / f"out-{i}") for i, line in enumerate(lines)}
        try:
            yield lambda line: started[line.text].result(LIMIT_S)
        finally:
            for future in started.values():
                future.cancel()


def _run(node: Node, line: Line, out: Path) -> Run:
    process = start_harness(*node.words(line), "--out", str(out), cwd=node.folder, env=node.env)
    return Run(ended(process, LIMIT_S), out)


def asked_for(line: Line, node: Node) -> dict[str, Any]:
    """Return what a line itself asks for and is run with, as a manifest has it."""
    name, words = split(line)
    words = [word.replace(SERVER_ON_PAGES, node.url) for word in words]
    given = COMMANDS[name].make_context(name, list(words)).params
    stated = {word.partition("=")[0] for word in words} - {*SHORTER[name]}
    own = {option.name for option in COMMANDS[name].params if stated & {*option.opts}}
    flags = {key: value for key, value in given.items() if key in own}
    if name == "stress":
        whole = load_config(flags, None).model_dump(mode="json")
    else:
        whole = load_sweep_config(flags, None).document()
    return {key: whole[key] for key in own}


@pytest.mark.parametrize("line", LOADED, ids=str)
def test_a_run_takes_the_options_of_its_line_and_comes_to_its_end(line: Line, runs: Callable[[Line], Run], node: Node):
    run = runs(line)
    assert run.ended.code in (0, INVALID_CELLS), run.ended.err
    assert "TPS" in run.ended.out
    asked = asked_for(line, node)
    repeats = asked.get("repeats", 1)
    assert len(run.readers) == repeats
    for reader in run.readers:
        manifest = reader.json("manifest.json")
        assert manifest["status"] == "complete"
        assert {key: manifest["config"][key] for key in asked} == asked
        started = [word for server in manifest["servers"] for word in server.get("argv") or ()]
        assert set(told_the_server(asked)) <= set(started)
        begun = [event["cell"] for event in reader.events() if event["event"] == "cell_start"]
        assert set(cells_of(line, asked)) <= set(begun)
        assert all((reader.folder / "cells" / f"{cell}.json").is_file() for cell in cells_of(line, asked))
        assert reader.table("server")["generation_tok"].max() > 0


def told_the_server(asked: dict[str, Any]) -> list[str]:
    """Return the words that a server must be started with."""
    width = {"tensor_parallel": "--tensor-parallel-size"}
    words = [str(asked[key]) for key in ("model", *width) if key in asked]
    return [*words, *(width[key] for key in width if key in asked), *asked.get("server_arg", ())]


def cells_of(line: Line, asked: dict[str, Any]) -> list[str]:
    """Return the cells that a line must measure at least."""
    if split(line)[0] == "stress":
        once = ["1x", f"{asked.get('multiplier', 15):g}x"]
        return once + [f"{name}-2" for name in once if asked.get("order") == "abba"]
    return [f"grid-{lengths}" for lengths in asked.get("grid", ())] or ["ladder-1", "ladder-2"]


@pytest.fixture
def here(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """The node as this very process meets it."""
    monkeypatch.chdir(node.folder)
    for name in node.env.keys() - {"PYTHONPATH"}:
        monkeypatch.setenv(name, node.env[name])
    monkeypatch.setenv("PYTHONPATH", str(importable_vllm.write(node.folder / "importable", cuda=None)))
    return node


Told = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    """Runs a command in this process; returns its exit code and what it said."""

    def run(words: list[str]) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            app(words)
        return (int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.mark.parametrize("line", PLANNED, ids=str)
def test_a_dry_run_prints_the_plan_and_starts_nothing(line: Line, here: Node, told: Told):
    code, _, plan = told(here.words(line))
    assert code == 0
    assert all(words in plan for words in ("workload", "power", "1x", "15x")), plan
    assert not (here.folder / "results" / "runs").exists()


@pytest.mark.parametrize("line", RESUMED, ids=str)
def test_a_sweep_is_resumed_and_keeps_what_was_measured(line: Line, runs: Callable[[Line], Run], node: Node):
    (reader,) = runs(LADDER).readers
    stored = {path.name: path.read_text() for path in (reader.folder / "cells").iterdir()}
    words = [word.replace("results/runs/RUN", str(reader.folder)) for word in line.words[1:]]
    again = ended(start_harness(*words, cwd=node.folder, env=node.env), LIMIT_S)
    assert again.code in (0, INVALID_CELLS), again.err
    assert str(reader.folder) in again.out
    assert stored.items() <= {path.name: path.read_text() for path in (reader.folder / "cells").iterdir()}.items()
    assert len(runs(LADDER).readers) == 1


# Lines that read sensors --------------------------------------------------------------------------------

SAID = {
    "measure": "SIMULATED: these joules are invented",
    "exporter": "metrics: http://127.0.0.1:",
    "calibrate-node": "ipmi",
    "doctor": "joules of the GPUs",
}


@pytest.mark.parametrize("line", once(SENSED), ids=str)
def test_a_command_that_reads_sensors_runs_on_stand_ins(
    line: Line, here: Node, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(IpmiSource, "period_s", 0.2)
    words = here.words(line)
    code, out, err = told(words)
    assert code == 0, err
    assert SAID[words[0]] in out + err
    assert all(meter in out + err for meter in ("ipmi", "redfish") if meter in words)
