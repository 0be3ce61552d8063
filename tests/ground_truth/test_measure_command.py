"""``harness measure`` on the stand-in driver, as a user runs it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.nvml_library import GPU_IS_LOST, Failure, Scenario, environment, uuid
from tests.fakes.waiting import until

TIMEOUT_S = 180
CONSTANT = Scenario(mean_w=500.0, gpus=2, clock_reasons=0x4)
COUNT = "import sys, time; print('counted'); time.sleep(1.5); sys.exit(3)"


def start(library: Path, scenario: Scenario, *words: str, **own: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "harness.cli", "measure", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, env=environment(library, scenario) | own, text=True, **pipes)


RUNS = {
    "command": (CONSTANT, ("--json", "--", sys.executable, "-c", COUNT)),
    "stretch": (CONSTANT.but(pids=(4321,)), ("--json", "--seconds", "2")),
    "first second": (CONSTANT, ("--json", "--seconds", "1", "--", sys.executable, "-c", COUNT)),
    "one gpu": (CONSTANT, ("--json", "--seconds", "1", "--gpu", "1")),
    "table": (CONSTANT, ("--seconds", "1")),
    "shared": (CONSTANT.but(pids=(4321,)), ("--json", "--", "true")),
    "lost": (CONSTANT.but(failures=(Failure("*", GPU_IS_LOST, 2.0, gpu=1),)), ("--json", "--seconds", "4")),
    "missing": (CONSTANT, ("--json", "--", "no-such-program")),
    "visible": (CONSTANT, ("--json", "--seconds", "1")),
}
VISIBLE = {"visible": {"CUDA_VISIBLE_DEVICES": "1"}}


@pytest.fixture(scope="module")
def done(nvml: Path) -> dict[str, tuple[int, str, str]]:
    outcomes = {}
    for names in (list(RUNS)[:4], list(RUNS)[4:]):
        processes = {name: start(nvml, RUNS[name][0], *RUNS[name][1], **VISIBLE.get(name, {})) for name in names}
        for name, process in processes.items():
            out, err = process.communicate(timeout=TIMEOUT_S)
            outcomes[name] = (process.returncode, out, err)
    return outcomes


def document(done, name: str) -> dict:
    return json.loads(done[name][1])


def test_a_command_is_measured_its_exit_code_passed_on_and_its_output_kept_out_of_the_document(done):
    status, _, err = done["command"]
    measured = document(done, "command")
    assert (status, measured["exit_code"]) == (3, 3)
    assert "counted" in err
    assert 1.5 < measured["window_s"] < 10
    assert measured["command"][-1] == COUNT


def test_joules_of_every_gpu_are_told_by_counter_and_by_integral(done):
    measured = document(done, "command")
    true_j = 500.0 * measured["window_s"]
    assert [gpu["uuid"] for gpu in measured["gpus"]] == [uuid(0), uuid(1)]
    for gpu in measured["gpus"]:
        assert gpu["joules_integral"] == pytest.approx(true_j, rel=0.001)
        assert abs(gpu["joules_counter"] - true_j) < gpu["edge_bound_j"] + 0.01 * true_j
        assert gpu["mean_w"] == pytest.approx(500.0, rel=0.1)
        assert gpu["throttling"]["by_cause"] == {"sw_power_cap": 1.0}
    assert (measured["schema"], measured["boundary"]) == ("inference-energy/measure/1", "gpu")
    assert (measured["source"], measured["simulated"]) == ("nvml", False)
    assert (measured["verdict"], measured["reasons"]) == ("valid", [])
    assert measured["joules"] == pytest.approx(sum(gpu["joules"] for gpu in measured["gpus"]))


def test_the_uncertainty_is_of_the_gain_and_of_the_edges(done):
    uncertainty = document(done, "command")["uncertainty"]
    assert uncertainty["sensor_gain_rel_u"] == pytest.approx(0.05 / 3**0.5)
    assert 0 < uncertainty["edges_rel_u"] < 0.1
    assert uncertainty["combined_rel_u"] == pytest.approx(
        (uncertainty["sensor_gain_rel_u"] ** 2 + uncertainty["edges_rel_u"] ** 2) ** 0.5
    )


def test_the_node_is_modelled_from_its_profile_and_says_so(done):
    measured = document(done, "command")
    node = measured["node"]
    assert (node["boundary"], node["profile"], node["node_share"]) == ("node_modelled", "hgx-h100", 0.25)
    assert node["mean_w"] == pytest.approx(1600.0 / 4 + 1.22 * measured["mean_w"])
    assert node["joules"] == pytest.approx(node["mean_w"] * measured["window_s"])
    gpu_part = 1.22 * measured["mean_w"] / node["mean_w"]
    known, gpus = node["uncertainty"], measured["uncertainty"]
    assert known["sensor_gain_rel_u"] == pytest.approx(gpu_part * gpus["sensor_gain_rel_u"])
    assert known["edges_rel_u"] == pytest.approx(gpu_part * gpus["edges_rel_u"])
    parts = (known[f"{name}_rel_u"] for name in ("node_model", "sensor_gain", "edges"))
    assert known["combined_rel_u"] == pytest.approx(math.hypot(*parts))


def test_a_stretch_of_time_needs_no_command(done):
    status, _, _ = done["stretch"]
    measured = document(done, "stretch")
    assert (status, measured["command"], measured["exit_code"]) == (0, None, None)
    assert 2.0 <= measured["window_s"] < 4.0
    assert measured["gpus"][0]["processes"]["foreign"] is None


def test_with_seconds_only_the_beginning_of_a_command_is_measured_but_it_runs_to_its_end(done):
    assert done["first second"][0] == 3
    assert 1.0 <= document(done, "first second")["window_s"] < 1.5


def test_only_the_gpu_asked_for_is_measured(done):
    assert [gpu["uuid"] for gpu in document(done, "one gpu")["gpus"]] == [uuid(1)]


def test_gpus_that_nobody_names_are_those_that_a_command_may_use(done):
    assert [gpu["uuid"] for gpu in document(done, "visible")["gpus"]] == [uuid(1)]


def test_a_person_gets_a_table_with_units_boundary_and_verdict(done):
    status, out, _ = done["table"]
    assert status == 0
    for words in ("counter J", "boundary gpu", uuid(1), "node_modelled", "Wh", "verdict: valid"):
        assert words in out


def test_a_gpu_that_somebody_used_before_the_command_is_doubtful(done):
    measured = document(done, "shared")
    assert "foreign_processes" in measured["reasons"]
    assert measured["gpus"][0]["processes"] == {"foreign": True, "why": "there before: 4321"}


def test_a_lost_gpu_makes_the_measurement_invalid_and_its_total_unknown(done):
    status, _, _ = done["lost"]
    measured = document(done, "lost")
    assert (status, measured["verdict"], measured["joules"], measured["node"]) == (7, "invalid", None, None)
    assert "gpu_lost" in measured["reasons"]


def test_a_command_that_cannot_be_started_is_one_clear_error(done):
    status, out, err = done["missing"]
    assert (status, out) == (2, "")
    assert "cannot run no-such-program" in err


def begun(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Return whether a process handles a signal, which the command does in the stretch that it measures alone."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


WAIT = "import sys, time; print('begun', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_signal_reaches_the_command_and_what_was_measured_until_then_is_told(nvml, number, status):
    waiter = f"import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); {WAIT}"
    process = start(nvml, CONSTANT, "--json", "--", sys.executable, "-c", waiter)
    begun(process)
    until(lambda: catches(process, signal.SIGTERM), "the stretch to begin", 60)
    time.sleep(0.5)
    os.kill(process.pid, number)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    measured = json.loads(out)
    assert (process.returncode, measured["exit_code"], measured["interrupted_by"]) == (status, status, number)
    assert (measured["verdict"], measured["reasons"]) == ("suspect", ["stopped_early"])
    assert measured["joules"] > 0


def test_an_interrupt_gives_the_part_of_a_stretch_that_was_measured(nvml):
    process = start(nvml, CONSTANT, "--json", "--seconds", "60")
    until(lambda: catches(process, signal.SIGTERM), "the stretch to begin", 60)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    measured = json.loads(out)
    assert process.returncode == 128 + signal.SIGINT
    assert measured["reasons"] == ["stopped_early"]
    assert measured["joules"] == pytest.approx(2 * 500.0 * measured["window_s"], rel=0.2)
