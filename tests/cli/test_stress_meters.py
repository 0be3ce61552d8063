"""A run from the command line with a replayed GPU trace and two meters beside it."""

import json
import os
from pathlib import Path

import pytest

from results.store import RunReader
from tests.cli.command import environment, run_harness
from tests.fakes.scripted_engine import Script
from tests.unit.harness.plans import constant_tps

pytestmark = pytest.mark.timeout(300)

GPU_W, NODE_W, OTHER_W = 150.0, 900.0, 880.0


def write_traces(folder: Path) -> tuple[Path, Path]:
    gpu, node = folder / "gpu.csv", folder / "node.csv"
    header, ticks = "t_s,uuid,power_w,energy_j,boundary,source\n", range(4000)
    gpu.write_text(header + "".join(f"{t / 10},GPU-r,{GPU_W},{GPU_W * t / 10},gpu,nvml\n" for t in ticks))
    node.write_text(header + "".join(f"{t / 2},psu,{OTHER_W + t % 2},,node,hwmon\n" for t in range(800)))
    return gpu, node


def test_a_run_has_every_meter_at_its_own_boundary(tmp_path: Path, vllm: Path) -> None:
    gpu, node = write_traces(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    script = tools / "ipmitool"
    calls = f"echo >> {tools}/calls; n=$(wc -l < {tools}/calls)"
    script.write_text(f'#!/bin/sh\n{calls}\necho "Instantaneous power reading: $(({NODE_W:.0f} + n % 2)) Watts"\n')
    script.chmod(0o755)
    env = environment(vllm, Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4))
    env["PATH"] = f"{tools}{os.pathsep}{env['PATH']}"
    (tmp_path / "tps.json").write_text(constant_tps().to_json())
    words = [
        "stress", "--json", "--concurrency", "8", "--multiplier", "3", "--linger", "2", "--metrics-address", "none",
        "--budget", "10", "--idle", "4", "--workload", "fixed:8x16", "--power", f"replay:{gpu}",
        "--tps-model", "tps.json", "--node-profile", "simulated-node", "--node-meter", f"replay:{node}",
        "--node-meter", "ipmi", "--out", "runs",
    ]  # fmt: skip
    ended = run_harness(*words, cwd=tmp_path, env=env)
    assert ended.out, ended.err
    result = json.loads(ended.out)
    assert (result["run"]["boundary"], result["run"]["power_source"]) == ("node", "ipmi")
    assert result["bare_idle"]["watts"] == pytest.approx(NODE_W, abs=2)
    assert any("replayed power" in label for label in result["run"]["labels"])
    for cell in result["cells"]:
        assert cell["watts"] == pytest.approx(NODE_W, abs=2), ended.err
        assert cell["gpu_watts"] == pytest.approx(GPU_W, rel=0.02)
        assert "meter_stale" not in cell["reasons"]
        replayed, ipmi = cell["meters"]
        assert replayed["watts"] == pytest.approx(OTHER_W, abs=2)
        assert (replayed["boundary"], ipmi["boundary"]) == ("node", "node")
        assert ipmi["modelled_watts"] == pytest.approx(40 + 1.2 * GPU_W, rel=0.02)
        assert ipmi["difference_rel"] == pytest.approx(ipmi["watts"] / ipmi["modelled_watts"] - 1)
        assert cell["wh_per_query"]["boundary"] == "node x PUE"
        assert cell["wh_per_query"]["uncertainty_parts_rel"]["meter_gain"] is None
    (folder,) = (tmp_path / "runs").iterdir()
    power = RunReader(folder).table("power")
    sources = power.groupby(["source", "boundary"]).size()
    assert set(sources.index) == {
        ("replay of nvml and gpu.csv", "gpu"), ("replay of hwmon and node.csv", "node"), ("ipmi", "node")
    }  # fmt: skip
    assert sources["ipmi", "node"] < sources["replay of nvml and gpu.csv", "gpu"] / 5


def test_a_node_is_calibrated_from_a_record(tmp_path: Path, vllm: Path) -> None:
    lines = ["t_s,gpu_w,node_w,level"]
    for level, gpu_w in enumerate((600, 2000, 3500, 5200)):
        lines += [f"{60 * level + t},{gpu_w + t % 3},{1600 + 1.2 * gpu_w + t % 2},{level}" for t in range(60)]
    (tmp_path / "record.csv").write_text("\n".join(lines) + "\n")
    words = ["calibrate-node", "--from", "record.csv", "--gpu-name", "G", "--gpu-count", "8", "--gpu-limit", "700"]
    ended = run_harness(*words, "--out", "node.yaml", "--json", cwd=tmp_path, env=environment(vllm))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["slope"] == pytest.approx(1.2, abs=0.01)
    assert (tmp_path / "node.yaml").is_file()
    refused = run_harness(*words, "--settle", "58", "--out", "no.yaml", cwd=tmp_path, env=environment(vllm))
    assert refused.code == 7
    assert "settled meter" in refused.err
    assert not (tmp_path / "no.yaml").exists()
