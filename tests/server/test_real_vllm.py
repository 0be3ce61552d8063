"""The main job on a real vLLM on the CPU, launched by the harness itself."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import RealRun

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def one(real_stress: Callable[..., RealRun]) -> RealRun:
    """One server with everything on: search, calibration, prediction, drained cells, metrics."""
    return real_stress("--multiplier", "5", "--budget", "18", "--drain", "--linger", "4")


@pytest.fixture(scope="module")
def two(real_stress: Callable[..., RealRun]) -> RealRun:
    """Two servers that share the load, at a given concurrency; the boundary gpu has no prediction to calibrate for."""
    return real_stress(
        "--replicas", "2", "--multiplier", "3", "--budget", "8", "--concurrency", "16", "--drain", "--linger", "0",
        "--boundary", "gpu",
    )  # fmt: skip


def events(run: RealRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]


def cell_span(run: RealRun, cell: str) -> tuple[float, float]:
    """From the last quiet scrape before a cell to the note that the servers were quiet after it."""
    mine = {event["event"]: event for event in events(run) if event.get("cell") == cell}
    return mine["cell_start"]["quiet_mono_s"], mine["cell_end"]["t_mono_s"]


def counter_growth(run: RealRun, column: str, span: tuple[float, float]) -> float:
    """How much a server counter grew over a span, summed over the servers, from the raw scrapes."""
    rows = pd.read_parquet(run.folder / "server")
    rows = rows[rows["t_mono_s"].between(*span)].sort_values("t_mono_s")
    return float(sum(group[column].iloc[-1] - group[column].iloc[0] for _, group in rows.groupby("server")))


@pytest.mark.parametrize("kind", ["one", "two"])
def test_drained_cells_count_exactly_the_tokens_the_servers_counted(kind: str, request: pytest.FixtureRequest) -> None:
    run: RealRun = request.getfixturevalue(kind)
    requests = pd.read_parquet(run.folder / "requests")
    cells = run.document["cells"] + run.document["calibration_cells"]
    drained = [cell for cell in cells if cell["role"] == "compared"]
    assert len(drained) == 2
    for cell in drained:
        mine = requests[requests["cell"] == cell["name"]]
        assert set(mine["outcome"]) == {"completed"}
        span = cell_span(run, cell["name"])
        assert mine["output_tok"].sum() == counter_growth(run, "generation_tok", span)
        assert mine["prompt_tok"].sum() == counter_growth(run, "prompt_tok", span)
        assert cell["tokens"]["counter_tok"] == cell["tokens"]["usage_completed_tok"] == mine["output_tok"].sum()


def test_every_request_got_exactly_the_tokens_it_asked_for(one: RealRun) -> None:
    requests = pd.read_parquet(one.folder / "requests")
    completed = requests[requests["outcome"] == "completed"]
    assert (completed["output_tok"] == completed["output_tok_asked"]).all()
    assert (completed["prompt_tok"] == completed["input_tok_sent"]).all()


def test_throughput_is_the_servers_own_count_over_the_window(one: RealRun) -> None:
    for cell in one.document["cells"]:
        span = (cell["window"]["start_mono_s"], cell["window"]["end_mono_s"])
        rate = counter_growth(one, "generation_tok", span) / (span[1] - span[0])
        assert cell["tps_tok_per_s"] == pytest.approx(rate, rel=1e-9)


def test_joules_per_token_follows_from_the_raw_power_samples(one: RealRun) -> None:
    power = pd.read_parquet(one.folder / "power").sort_values("t_mono_s")
    profile = json.loads((one.folder / "manifest.json").read_text())["node_profile"]
    for cell in one.document["cells"]:
        edges_s = (cell["window"]["start_mono_s"], cell["window"]["end_mono_s"])
        start_j, end_j = np.interp(edges_s, power["t_mono_s"], power["energy_j"])
        mean_gpu_w = (end_j - start_j) / (edges_s[1] - edges_s[0])
        node_w = 1000 * profile["offset_kw"] + profile["slope"] * mean_gpu_w
        assert cell["watts"] == pytest.approx(node_w, rel=1e-9)
        assert cell["joules_per_tok"] == pytest.approx(node_w / cell["tps_tok_per_s"], rel=1e-9)
        wh = cell["wh_per_query"]
        without_pue = cell["joules_per_tok"] * cell["mean_output_tok"] / 3600
        assert wh["mean"] == pytest.approx(wh["pue"] * without_pue, rel=1e-6)


def test_the_split_adds_up_to_the_ratio(one: RealRun) -> None:
    for cell in one.document["cells"]:
        split = cell["split"]
        terms = split["power"] + split["length"] + split["tps"] + split["pue"]
        assert terms == pytest.approx(math.log(cell["ratio"]), abs=1e-9)


@pytest.mark.parametrize("kind", ["one", "two"])
def test_the_stored_run_gives_the_same_numbers_again(kind: str, request: pytest.FixtureRequest) -> None:
    run: RealRun = request.getfixturevalue(kind)
    again = subprocess.run(
        [sys.executable, "-m", "harness.cli", "compare", str(run.folder), "--json"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    repeated = json.loads(again.stdout)
    assert repeated["run"].pop("path") and run.document["run"].pop("path", True)
    assert repeated == run.document


def test_the_prediction_was_stored_before_the_first_compared_cell(one: RealRun) -> None:
    names = [
        f"{event['event']} {event['definition']['role']}" if event["event"] == "cell_start" else event["event"]
        for event in events(one)
    ]
    assert names.index("cell_start calibration") < names.index("prediction_stored") < names.index("cell_start compared")
    first_compared = next(
        event for event in events(one)
        if event["event"] == "cell_start" and event["definition"]["role"] == "compared"
    )  # fmt: skip
    assert (one.folder / "prediction.json").stat().st_mtime <= first_compared["t_wall_s"]


def test_simulated_power_is_named_wherever_joules_are(one: RealRun) -> None:
    assert "simulated" in (one.folder / "summary.txt").read_text()
    assert "simulated" in (one.folder / "cells.csv").read_text()
    assert set(pd.read_parquet(one.folder / "power")["source"]) == {"simulated"}
    assert all(cell["power_source"] == "simulated" for cell in one.document["cells"])
    assert any("simulated" in label for label in one.document["run"]["labels"])
    assert any("plumbing check" in label for label in one.document["run"]["labels"])
    joules = [line for line in one.scrapes[-1].splitlines() if re.match(r"harness_\w*(joules|watts)\w*{", line)]
    assert joules
    assert all("simulated" in line or 'source="eq1"' in line for line in joules)


def test_metrics_were_served_while_the_run_went_on(one: RealRun) -> None:
    families = {family.name: family for text in one.scrapes for family in text_string_to_metric_families(text)}
    expected = {"harness_power_watts", "harness_energy_joules", "harness_generated_tokens", "harness_requests"}
    assert expected <= set(families)
    phases = {
        sample.labels["phase"]
        for text in one.scrapes
        for family in text_string_to_metric_families(text)
        if family.name == "harness_phase"
        for sample in family.samples
        if sample.value == 1
    }
    assert {"launch", "idle", "search", "calibrate", "measure", "done"} <= phases
    last = {
        (sample.labels["cell"], sample.labels["kind"], sample.labels["stat"]): sample.value
        for family in text_string_to_metric_families(one.scrapes[-1])
        if family.name == "harness_query_energy_joules"
        for sample in family.samples
    }
    for cell in one.document["cells"]:
        assert last[cell["name"], "measured", "mean"] == pytest.approx(3600 * cell["wh_per_query"]["mean"])
        assert last[cell["name"], "predicted", "mean"] == pytest.approx(3600 * cell["predicted_wh_per_query"]["mean"])


def test_both_replicas_carried_the_load_on_cores_of_their_own(two: RealRun) -> None:
    requests = pd.read_parquet(two.folder / "requests")
    cell = requests[requests["cell"] == "1x"]
    slots = cell.groupby("server")["slot"].nunique()
    assert set(slots.index) == {0, 1}
    assert slots[0] == slots[1]
    assert (cell.groupby("server")["output_tok"].sum() > 0).all()
    servers = json.loads((two.folder / "manifest.json").read_text())["servers"]
    cores = [set(server["env"]["VLLM_CPU_OMP_THREADS_BIND"].split(",")) for server in servers]
    assert len(os.sched_getaffinity(0)) < 2 or not cores[0] & cores[1]


@pytest.mark.parametrize("kind", ["one", "two"])
def test_no_process_of_the_servers_survives(kind: str, request: pytest.FixtureRequest) -> None:
    run: RealRun = request.getfixturevalue(kind)
    servers = json.loads((run.folder / "manifest.json").read_text())["servers"]
    ports = {server["url"].rsplit(":", 1)[1] for server in servers}
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        assert not (ports & set(command) and "vllm.entrypoints.openai.api_server" in command)
    assert not [process for process in psutil.process_iter() if process.name().startswith("VLLM::")]


def test_refit_reads_the_run_and_the_model_serves_the_next_prediction(one: RealRun, tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    for command in (
        ["refit", str(one.folder), "--out", str(model)],
        ["estimate", "--tps-model", str(model), "--node-profile", "simulated-node", "--json", "--samples", "1000"],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "harness.cli", *command], capture_output=True, text=True, timeout=60
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["estimates"][0]["wh_per_query"]["p50"] > 0


def test_a_model_that_does_not_exist_is_named_as_the_cause(real_stress: Callable[..., RealRun], tmp_path: Path) -> None:
    folder = tmp_path / "empty-model"
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "harness.cli", "stress", "--model", str(folder), "--power", "simulated",
         "--metrics-address", "none", "--out", str(tmp_path / "runs")],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 4
    assert "why: bad model" in ended.stderr
    assert "Fatal Python error" not in ended.stderr
