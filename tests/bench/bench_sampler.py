"""How late NVML is read at 10 Hz on eight GPUs beside a load client that never rests: on a thread, and in a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.record import record
from tests.fakes.nvml_library import Scenario, build, compiler, environment
from tests.fakes.stepping_stub import stepping_stub

GPUS, SECONDS = 8, 20.0
STEPS_PER_S = 200  # 256 requests of one token at each step are far more than one core can send
LIMIT_S = 0.020


def sampled(library: Path, how: str, seconds: float = SECONDS) -> dict[str, Any]:
    with stepping_stub(STEPS_PER_S) as url:
        words = [sys.executable, "-m", "tests.bench.drive_sampler", how, url, str(seconds)]
        env = environment(library, Scenario(gpus=GPUS))
        done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_eight_gpus_are_read_ten_times_a_second_beside_a_busy_client(tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("no C compiler (gcc or cc) to build the stand-in for the NVIDIA driver")
    library = build(tmp_path)
    results = {how: sampled(library, how) for how in ("thread", "process")}
    lines = [
        f"beside a load client that never rests, {SECONDS:g} s each; p99 at most {1e3 * LIMIT_S:g} ms in a process"
    ]
    for how, result in results.items():
        p50_ms, p99_ms, largest_ms = (1e3 * result["lateness_s"][name] for name in ("p50", "p99", "p100"))
        lines.append(
            f"{how}: {result['gpus']} GPUs, {result['rounds']} rounds, {result['missed']} missed, "
            f"late by {p50_ms:.1f} ms (p50), {p99_ms:.1f} ms (p99), at most {largest_ms:.1f} ms, "
            f"{result['cpu_share']:.1%} of a core; "
            f"client {result['client_cpu_share']:.0%} of a core, {result['client_requests_per_s']:,.0f} requests/s"
        )
    print("", *lines, sep="\n")
    chosen = results["process"]
    assert chosen["gpus"] == GPUS
    assert chosen["missed"] == 0
    assert chosen["client_cpu_share"] > 0.5, "the client was not busy"
    assert chosen["lateness_s"]["p99"] < LIMIT_S
    record("Power sampler: eight GPUs at 10 Hz", lines)
