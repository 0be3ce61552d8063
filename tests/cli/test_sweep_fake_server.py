"""Sweeps, repeats and levers from the command line to their folders, with a scripted server in the place of vLLM.

One sweep is interrupted in its second cell and resumed; the two groups of repeats go on beside it.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest

from estimator.throughput.tps import TpsModel
from results.store import RunReader
from tests.cli.command import Ended, ended, environment, run_harness, start_harness
from tests.cli.test_stress_fake_server import tps_model
from tests.fakes.scripted_engine import Script
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(480)

SCRIPT = Script(tok_per_s=800, tick_s=0.005, most_tok_per_s=2_400, max_num_seqs=64, kv_slots=1_000, context_tok=600)
QUICK = ("--budget", "5", "--idle", "1", "--linger", "0", "--power", "simulated", "--metrics-address", "none")
SWEEP = ("--workload", "fixed:16x40", "--ladder", "1,3,8", "--grid", "500x40,200", "--concurrency", "8")
REPEATS = ("--workload", "fixed:16x40", "--multiplier", "3", "--concurrency", "8", "--repeats", "2")
START_S = 120


@dataclass(frozen=True)
class Sweep:
    """A sweep that was interrupted: how it ended, what refused to go on with it, and how it ended when it did."""

    interrupted: Ended
    refused: Ended
    resumed: Ended
    again: Ended
    folder: Path

    def document(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.resumed.out)
        return parsed

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Studies:
    sweep: Sweep
    repeats: Ended
    faster: Ended
    out: Path


def only_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


@pytest.fixture(scope="module")
def studies(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    folder = tmp_path_factory.mktemp("studies")
    env = environment(vllm, SCRIPT)
    twice = environment(vllm, Script(**{**vars(SCRIPT), "most_tok_per_s": 4_800}))
    model = ("--tps-model", str(tps_model(folder)))
    with ExitStack() as stack:

        def start(out: str, environ: dict[str, str], *words: str) -> Any:
            process = stack.enter_context(
                start_harness(*words, *QUICK, "--out", str(folder / out), cwd=folder, env=environ)
            )
            stack.callback(process.kill)
            return process

        sweep = start("sweep", env, "sweep", *SWEEP)
        before = start("before", env, "stress", *REPEATS, *model, "--order", "abba", "--json")
        after = start(
            "after", twice, "stress", *REPEATS, *model, "--order", "abba", "--server-arg=--kv-cache-dtype=fp8"
        )
        until(lambda: cells_begun(folder / "sweep") == 2, "the second cell", START_S)
        sweep.send_signal(signal.SIGINT)
        cut = ended(sweep)
        run = only_folder(folder / "sweep")
        changed = run_harness("sweep", "--resume", str(run), "--budget", "6", cwd=folder, env=env)
        resumed = run_harness("sweep", "--resume", str(run), *SWEEP, *QUICK, "--json", cwd=folder, env=env)
        again = run_harness("sweep", "--resume", str(run), "--json", cwd=folder, env=env)
        yield Studies(Sweep(cut, changed, resumed, again, run), ended(before, START_S), ended(after, START_S), folder)


def cells_begun(out: Path) -> int:
    logs = list(out.glob("*/events.jsonl"))
    return logs[0].read_text().count('"event": "filled"') if logs else 0


def counted_tps(run: Path, cell: str) -> float:
    """Return the rate at which the server's counter rose in a cell's window: on a busy machine less than scripted."""
    window = RunReader(run).json(f"cells/{cell}.json")["window"]
    rows = RunReader(run).table("server")
    rows = rows[rows["t_mono_s"].between(window["start_mono_s"], window["end_mono_s"])]
    rise, seconds = (rows[column].iloc[-1] - rows[column].iloc[0] for column in ("generation_tok", "t_mono_s"))
    return float(rise / seconds)


def test_an_interrupted_sweep_says_how_to_go_on(studies: Studies) -> None:
    cut = studies.sweep.interrupted
    assert cut.code == 130, cut.err
    assert f"go on with harness sweep --resume {studies.sweep.folder}" in cut.out
    assert "cut short: ladder-3" in cut.out


def test_a_changed_configuration_is_refused_with_the_difference(studies: Studies) -> None:
    refused = studies.sweep.refused
    assert refused.code == 2
    assert "the sweep cannot be resumed: budget: 5.0 became 6.0" in refused.err


def test_a_resumed_sweep_keeps_what_was_finished_and_measures_the_rest(studies: Studies) -> None:
    assert studies.sweep.resumed.code == 0, studies.sweep.resumed.err
    starts = [event["cell"] for event in studies.sweep.events() if event["event"] == "cell_start"]
    assert starts == ["ladder-1", "ladder-3", "ladder-3-2", "ladder-8", "grid-500x40"]
    document = studies.sweep.document()
    assert [cell["cell"] for cell in document["ladder"]["cells"]] == ["ladder-1", "ladder-3-2", "ladder-8"]
    assert (document["server_starts"], document["cut_short"]) == (2, ["ladder-3"])


def test_a_finished_sweep_has_nothing_left_to_measure(studies: Studies) -> None:
    again = json.loads(studies.sweep.again.out)
    assert again["ladder"]["cells"] == studies.sweep.document()["ladder"]["cells"]
    assert again["grid"]["cells"] == studies.sweep.document()["grid"]["cells"]


def test_compare_makes_the_sweeps_document_again(studies: Studies, vllm: Path, tmp_path: Path) -> None:
    shown = run_harness("compare", str(studies.sweep.folder), "--json", cwd=tmp_path, env=environment(vllm))
    assert json.loads(shown.out) == json.loads(studies.sweep.again.out)


def test_the_ladder_rises_as_scripted_and_shows_what_one_request_at_a_time_costs(studies: Studies) -> None:
    ladder = studies.sweep.document()["ladder"]
    for cell, rate in zip(ladder["cells"], (800, 2_400, 2_400), strict=True):
        assert cell["tps_tok_per_s"] == pytest.approx(counted_tps(studies.sweep.folder, cell["cell"]), rel=0.02)
        assert 0.4 * rate <= cell["tps_tok_per_s"] <= 1.03 * rate
    cost = ladder["unsaturated_cost"]
    watts = {cell["concurrency"]: cell["watts"] for cell in ladder["cells"]}
    tps = {cell["concurrency"]: cell["tps_tok_per_s"] for cell in ladder["cells"]}
    best = cost["saturated_concurrency"]
    assert cost["joules_per_tok_ratio"] == pytest.approx(watts[1] / tps[1] * tps[best] / watts[best], rel=0.02)
    assert "different comparison" in cost["reference"]["note"]
    assert cost["power_source"] == "simulated"


def test_lengths_beyond_the_context_are_skipped_with_the_reason(studies: Studies) -> None:
    grid = studies.sweep.document()["grid"]
    assert [cell["workload"] for cell in grid["cells"]] == ["fixed:500x40"]
    assert grid["skipped"] == [{"cell": "grid-500x200", "why": "500 + 200 tokens exceed the server's context of 600"}]


def test_a_refit_takes_the_grid_and_leaves_the_ladder(studies: Studies, vllm: Path, tmp_path: Path) -> None:
    words = ("refit", str(studies.sweep.folder), "--form", "oviedo", "--out", "tps.json")
    refit = run_harness(*words, cwd=tmp_path, env=environment(vllm))
    assert refit.code == 0, refit.err
    model = TpsModel.load(tmp_path / "tps.json")
    assert (model.n_rows, model.input_range_tok, model.output_range_tok) == (1, (500, 500), (40, 40))


def test_repeats_are_complete_runs_of_their_own_with_one_prediction(studies: Studies) -> None:
    assert studies.repeats.code == 0, studies.repeats.err
    document = json.loads(studies.repeats.out)
    group = only_folder(studies.out / "before")
    runs = [group / run["folder"] for run in document["runs"]]
    assert [run.is_dir() for run in runs] == [True, True]
    assert json.loads((group / "repeats.json").read_text()) == document
    first, second = (json.loads((run / "prediction.json").read_text()) for run in runs)
    assert first == second


def test_abba_visits_each_cell_twice_and_the_second_repeat_goes_backwards(studies: Studies) -> None:
    group = only_folder(studies.out / "before")
    orders = []
    for run in sorted(path for path in group.iterdir() if path.is_dir()):
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        orders.append([event["cell"] for event in events if event["event"] == "cell_start"])
    assert orders == [["1x", "3x", "3x-2", "1x-2"], ["1x-2", "3x-2", "3x", "1x"]]


def test_repeats_report_spread_ratio_and_exponent(studies: Studies) -> None:
    document = json.loads(studies.repeats.out)
    plain = document["cells"][0]
    assert (plain["cell"], plain["n"], plain["wh_per_query"]["n"]) == ("1x", 2, 2)
    assert plain["standard_uncertainty_of_one_run_rel"] >= plain["wh_per_query"]["u_run_rel"]
    ratio = document["energy_ratio"]
    assert (ratio["pairs"], ratio["interval_basis"]) == (4, "between_runs")
    low, high = ratio["measured_ci95"]
    assert low <= ratio["measured"] <= high
    assert ratio["measured"] == pytest.approx(3, rel=0.25)  # a token costs the same at both lengths
    assert ratio["exponent"] == pytest.approx(1, abs=0.25)


def test_compare_makes_the_repeats_document_again(studies: Studies, vllm: Path, tmp_path: Path) -> None:
    group = only_folder(studies.out / "before")
    again = run_harness("compare", str(group), "--json", cwd=tmp_path, env=environment(vllm))
    assert json.loads(again.out) == json.loads(studies.repeats.out)


def test_repeats_on_a_running_server_are_refused(vllm: Path, tmp_path: Path) -> None:
    words = ("stress", "--url", "http://127.0.0.1:1", "--repeats", "2", "--power", "simulated")
    refused = run_harness(*words, cwd=tmp_path, env=environment(vllm))
    assert refused.code == 2
    assert "repeats and url exclude each other" in refused.err


def test_a_lever_between_two_groups_of_repeats_has_its_gain_and_interval(
    studies: Studies, vllm: Path, tmp_path: Path
) -> None:
    sides = [str(only_folder(studies.out / name)) for name in ("before", "after")]
    shown = run_harness("compare", *sides, "--lever", "kv-dtype", "--json", cwd=tmp_path, env=environment(vllm))
    assert shown.code == 0, shown.err
    document = json.loads(shown.out)
    assert document["settings"] == [{"key": "server.--kv-cache-dtype", "before": "absent", "after": "fp8"}]
    for cell, visits in zip(document["cells"], (("1x", "1x-2"), ("3x", "3x-2")), strict=True):
        before, after = (
            geometric_mean(counted_tps(run, visit) for run in Path(side).glob("*-repeat-*") for visit in visits)
            for side in sides
        )
        assert cell["alpha_tps"]["value"] == pytest.approx(after / before, rel=0.02)
        assert 1.3 <= cell["alpha_tps"]["value"] <= 2.5
        assert cell["alpha_tps"]["interval_basis"] == "between_runs"
    printed = run_harness("compare", *sides, "--lever", "kv-dtype", cwd=tmp_path, env=environment(vllm))
    assert printed.out.startswith("! simulated power")
    assert "over 1.7" in printed.out


def test_a_lever_needs_two_runs(vllm: Path, tmp_path: Path) -> None:
    refused = run_harness("compare", str(tmp_path), "--lever", "any", cwd=tmp_path, env=environment(vllm))
    assert (refused.code, "two runs, not 1" in refused.err) == (2, True)
