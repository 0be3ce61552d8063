"""One run, one exporter beside it and one real Prometheus that scrapes both, for all tests of this folder."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from harness.server.launch import free_port
from tests.cli.command import ROOT, ended, start_harness
from tests.fakes import nvml_library
from tests.fakes.nvml_library import Scenario
from tests.fakes.scripted_engine import Script
from tests.fakes.server_process import server_process
from tests.fakes.waiting import until
from tests.prometheus import real_prometheus
from tests.prometheus.real_prometheus import Prometheus
from tests.unit.harness.plans import constant_tps

GPUS, GPU_W, PUE = 2, 400.0, 1.25
CAPPED_AND_HOT = 0x4 | 0x40
SCRIPT = Script(tok_per_s=400, tick_s=0.01, max_num_seqs=4)
RUN_OPTIONS = (
    "--power", "nvml", "--workload", "fixed:100x40", "--multiplier", "3", "--concurrency", "8", "--budget", "7",
    "--min-window", "4", "--idle", "2", "--linger", "3", "--tps-model", "tps.json", "--pue", str(PUE), "--json",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What is left when the run has ended: Prometheus, a moment under the last cell's load, and what was said."""

    prometheus: Prometheus
    began_s: float
    loaded_s: float
    ended_s: float
    run: str
    node: str
    vllm: str
    run_text: str
    node_text: str
    result: dict[str, Any]
    prediction: dict[str, Any]
    exporter_log: str


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Measure a scripted server on two stand-in GPUs while an exporter watches it and Prometheus scrapes all."""
    if real_prometheus.PROMETHEUS is None:
        pytest.skip("no Prometheus is installed")
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler to build the stand-in driver with")
    home = tmp_path_factory.mktemp("prometheus")
    scenario = Scenario(gpus=GPUS, mean_w=GPU_W, clock_reasons=CAPPED_AND_HOT)
    driver = nvml_library.environment(nvml_library.build(home), scenario)
    env = {**os.environ, **driver, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    (home / "tps.json").write_text(constant_tps(gpus=GPUS).to_json())
    with ExitStack() as stack:
        vllm = stack.enter_context(server_process(SCRIPT))
        ports = {old: free_port("127.0.0.1") for old in ("9477", "9478", "9400", "9090")}
        configuration = real_prometheus.config(ports, home)
        prometheus = stack.enter_context(real_prometheus.prometheus(configuration, ports["9090"], home))
        began_s = time.time()

        def start(name: str, port: str, *words: str) -> Any:
            address = f"127.0.0.1:{ports[port]}"
            words = (name, "--url", vllm, "--metrics-address", address, *words)
            process = stack.enter_context(start_harness(*words, cwd=home, env=env))
            stack.callback(process.kill)
            return process, address

        exporter, node = start("exporter", "9478", "--pue", str(PUE))
        until(lambda: prometheus.query(f'harness_generated_tokens_total{{instance="{node}"}}'), "the exporter", 60)
        until(lambda: prometheus.query('up{job="vllm"} == 1'), "the server of the exporter", 30)
        run, run_address = start("stress", "9477", *RUN_OPTIONS)
        until(lambda: prometheus.query(f'cell:harness_query_energy:ratio{{instance="{run_address}"}}'), "a cell", 90)
        until(lambda: prometheus.query('instance:harness_cell_query_energy_watt_hours:rate1m{cell="3x"}'), "the other")
        time.sleep(3)
        loaded_s, run_text, node_text = time.time(), _text(run_address), _text(node)
        until(lambda: prometheus.query('harness_phase{phase="done"} == 1'), "the run's end", 60)
        done = ended(run)
        assert done.code == 0, done.err
        ended_s = time.time()
        time.sleep(2)
        exporter.send_signal(signal.SIGTERM)
        left = ended(exporter, 20)
        assert left.code == 0, left.err
        (folder,) = (home / "results" / "runs").iterdir()
        yield Scene(
            prometheus, began_s, loaded_s, ended_s, run_address, node, vllm, run_text,
            node_text, json.loads(done.out), json.loads((folder / "prediction.json").read_text()), left.err,
        )  # fmt: skip


def _text(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
