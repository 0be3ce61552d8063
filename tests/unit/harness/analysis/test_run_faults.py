"""What goes wrong in a run, and what its analysis must say of it."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from harness.analysis.run import analyse_run
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun

MIDDLE_S = 120.0


def analysed(folder, spoil):
    """Analyse a run of one cell that ``spoil`` changed; the result must be storable as JSON."""
    run = SyntheticRun((PLAIN,))
    spoil(run)
    result = analyse_run(run.write(folder / "run"))
    json.dumps(result.to_json(), allow_nan=False)
    return result


def cell_of(folder, spoil):
    return analysed(folder, spoil).cells[0]


def power_of(run, uuid, from_s=0.0):
    return [row for row in run.power if row["uuid"] == uuid and row["t_mono_s"] >= from_s]


def test_a_counter_that_was_reset_invalidates_and_integrated_power_stands_in(tmp_path):
    def reset(run):
        for number, row in enumerate(power_of(run, "gpu-a")):
            row["energy_j"] -= 9e5 if row["t_mono_s"] >= MIDDLE_S else 0.0
            row["power_w"] += 0.001 * (-1) ** number

    cell = cell_of(tmp_path, reset)
    assert (cell.verdict, cell.reasons) == ("invalid", ("counter_reset",))
    assert cell.energy_method == "counter and integral"
    assert cell.gpu_watts == pytest.approx(400)
    assert cell.joules_per_tok == pytest.approx((400 + 1.22 * 400) / 800)


def test_without_counters_integrated_power_gives_the_same_energy(tmp_path):
    def uncounted(run):
        for number, row in enumerate(run.power):
            row["energy_j"] = None
            row["power_w"] += 0.001 * (-1) ** (number // 2)

    cell = cell_of(tmp_path, uncounted)
    assert (cell.verdict, cell.energy_method) == ("valid", "integral")
    assert cell.joules_per_tok == pytest.approx((400 + 1.22 * 400) / 800)


def test_without_counters_a_loaded_gpus_power_that_stands_still_to_the_mw_is_a_stuck_sensor(tmp_path):
    def stuck(run):
        for row in run.power:
            row["energy_j"] = None

    cell = cell_of(tmp_path, stuck)
    assert (cell.verdict, cell.reasons) == ("invalid", ("sensor_stuck",))


def test_other_sources_than_nvml_may_repeat_themselves_and_so_may_an_idle_gpu(tmp_path):
    def repeated(run):
        run.manifest["power"]["name"] = "replay of trace.csv"
        for row in run.power:
            row |= {"energy_j": None, "source": "replay of trace.csv"}

    result = analysed(tmp_path, repeated)
    assert (result.cells[0].verdict, result.idle.reasons) == ("valid", ())


def test_a_lost_gpu_leaves_no_joules_but_the_throughput_as_measured(tmp_path):
    def lose(run):
        for row in power_of(run, "gpu-b", MIDDLE_S):
            row.update(power_w=None, energy_j=None, utilization_ratio=None, error="gpu_lost")

    cell = cell_of(tmp_path, lose)
    assert cell.verdict == "invalid"
    assert {"gpu_lost", "window_not_covered"} <= set(cell.reasons)
    assert (cell.watts, cell.gpu_watts, cell.joules_per_tok, cell.wh_per_query, cell.ratio) == (None,) * 5
    assert cell.tps_tok_per_s == pytest.approx(800)
    assert cell.predicted_wh_per_query is not None


def test_a_device_without_any_reading_is_never_taken_for_zero_watts(tmp_path):
    def silence(run):
        run.power = power_of(run, "gpu-a")

    result = analysed(tmp_path, silence)
    assert (result.cells[0].verdict, result.cells[0].gpu_watts) == ("invalid", None)
    assert "window_not_covered" in result.cells[0].reasons
    assert (result.idle.gpu_watts, result.idle.watts) == (None, None)


def test_a_sensor_that_reads_zero_watts_is_stuck_and_gives_no_energy_per_query(tmp_path):
    def zero(run):
        run.manifest |= {"boundary": "gpu", "node_profile": None}
        for row in run.power:
            row.update(power_w=0.0, energy_j=5.0)

    cell = cell_of(tmp_path, zero)
    assert (cell.verdict, cell.wh_per_query) == ("invalid", None)
    assert "sensor_stuck" in cell.reasons


def test_a_gap_in_the_readings_makes_the_cell_suspect(tmp_path):
    def pause(run):
        run.power = [row for row in run.power if not MIDDLE_S < row["t_mono_s"] < MIDDLE_S + 3]

    cell = cell_of(tmp_path, pause)
    assert (cell.verdict, cell.reasons) == ("suspect", ("power_gap",))


def without(run, *kinds):
    run.events = [event for event in run.events if event["event"] not in kinds]


def test_a_cell_cut_off_while_draining_is_invalid_and_its_tokens_are_not_judged(tmp_path):
    cell = cell_of(tmp_path, lambda run: without(run, "cell_end"))
    assert (cell.verdict, cell.reasons) == ("invalid", ("interrupted",))
    assert (cell.tokens.counter_tok, cell.tokens.consistent) == (None, None)
    assert cell.joules_per_tok is not None


def test_a_cell_cut_off_by_a_crash_goes_up_to_the_last_scrape(tmp_path):
    def crash(run):
        without(run, "cell_end", "load_stop")
        run.server = [row for row in run.server if row["t_mono_s"] < MIDDLE_S]
        run.power = [row for row in run.power if row["t_mono_s"] < MIDDLE_S]

    cell = cell_of(tmp_path, crash)
    assert cell.verdict == "invalid"
    assert "interrupted" in cell.reasons
    assert cell.window.end_mono_s == pytest.approx(MIDDLE_S - 0.5)


def test_a_cell_that_was_never_filled_counts_its_warm_up_from_its_start(tmp_path):
    cell = cell_of(tmp_path, lambda run: without(run, "filled"))
    assert cell.window.start_mono_s == 104.5


def test_a_lost_server_invalidates(tmp_path):
    def lose(run):
        without(run, "cell_end")
        run.events.insert(-1, {"event": "server_lost", "t_mono_s": 131.0, "why": "it died"})

    cell = cell_of(tmp_path, lose)
    assert (cell.verdict, cell.reasons) == ("invalid", ("interrupted", "server_lost"))


@pytest.mark.parametrize(("errors", "verdict", "reasons"), [(2, "valid", ()), (3, "invalid", ("too_many_errors",))])
def test_more_than_one_error_in_a_hundred_requests_invalidates(tmp_path, errors, verdict, reasons):
    def fail(run):  # of 256 requests
        for row in run.requests[100 : 100 + errors]:
            row.update(outcome="error", output_tok=None, prompt_tok=None, error="HTTP 500")

    cell = cell_of(tmp_path, fail)
    assert (cell.verdict, cell.reasons) == (verdict, reasons)
    assert cell.requests.model_dump() == {"completed": 240 - errors, "aborted": 0, "errors": errors}
    assert (cell.tokens.unfinished_limit_tok, cell.tokens.consistent) == (100 * errors, True)


def test_answers_shorter_than_asked_invalidate_and_the_energy_is_that_of_the_length_served(tmp_path):
    def shorten(run):
        for row in run.requests:
            row["output_tok_asked"] = 125

    cell = cell_of(tmp_path, shorten)
    assert (cell.verdict, cell.reasons) == ("invalid", ("lengths_not_forced",))
    assert cell.wh_per_query.mean_without_pue == pytest.approx(cell.joules_per_tok * 0.8 * 100 / 3600)


def test_requests_that_served_nothing_give_no_energy_per_query(tmp_path):
    def nothing(run):
        for row in run.requests:
            row["output_tok"] = 0

    cell = cell_of(tmp_path, nothing)
    assert (cell.verdict, cell.wh_per_query) == ("invalid", None)


@pytest.mark.parametrize("missing", [1, -1], ids=["usage above the counter", "usage below the counter"])
def test_a_single_token_too_many_or_too_few_is_a_mismatch_when_drained(tmp_path, missing):
    def miscount(run):
        for key in ("output_tok", "output_tok_asked"):
            run.requests[99][key] += missing

    cell = cell_of(tmp_path, miscount)
    assert (cell.verdict, cell.reasons) == ("invalid", ("token_count_mismatch",))
    assert (cell.tokens.usage_completed_tok, cell.tokens.consistent) == (25_600 + missing, False)


@pytest.mark.parametrize(("asked", "consistent"), [(400, True), (399, False)])
def test_aborted_requests_can_have_had_at_most_the_tokens_they_asked_for(tmp_path, asked, consistent):
    def abort(run):
        del run.requests[252:]  # four requests of 100 tokens
        run.requests.append(run.requests[-1] | {"outcome": "aborted", "output_tok": None, "output_tok_asked": asked})

    tokens = cell_of(tmp_path, abort).tokens
    assert (tokens.usage_completed_tok, tokens.unfinished_limit_tok) == (25_200, asked)
    assert tokens.consistent == consistent


def test_too_short_a_load_has_no_window_and_no_figures(tmp_path):
    def stop_early(run):
        run.events[-2]["t_mono_s"] = 106.5

    cell = cell_of(tmp_path, stop_early)
    assert (cell.verdict, cell.reasons, cell.window) == ("invalid", ("no_window",), None)
    assert (cell.tps_tok_per_s, cell.watts, cell.wh_per_query) == (None, None, None)
    assert cell.requests.completed == 240


def test_three_scrapes_are_a_window_whose_drift_is_unknown(tmp_path):
    def stop_early(run):
        run.events[-2]["t_mono_s"] = 107.0

    cell = cell_of(tmp_path, stop_early)
    assert (cell.verdict, cell.reasons) == ("suspect", ("window_too_short", "steadiness_unproven"))
    assert cell.window.changes == {}


def test_a_server_that_generates_nothing_in_the_window_is_named_so(tmp_path):
    def stall(run):
        for row in run.server:
            row["generation_tok"] = 7.0

    cell = cell_of(tmp_path, stall)
    assert cell.verdict == "invalid"
    assert "no_tokens" in cell.reasons
    assert (cell.joules_per_tok, cell.wh_per_query) == (None, None)
    assert cell.watts == pytest.approx(400 + 1.22 * 400)


def test_failed_scrapes_are_left_out_and_their_tokens_are_not_lost(tmp_path):
    def fail(run):
        for row in run.server:
            if MIDDLE_S < row["t_mono_s"] < MIDDLE_S + 2:
                numbers = [name for name in row if name not in ("t_mono_s", "t_wall_s", "server")]
                row.update(dict.fromkeys(numbers), error="URLError: refused")

    cell = cell_of(tmp_path, fail)
    assert (cell.verdict, cell.tps_tok_per_s) == ("valid", pytest.approx(800))


def test_a_server_that_never_answers_leaves_no_window(tmp_path):
    def deaf(run):
        for row in run.server:
            if row["server"] == 1:
                row["generation_tok"] = None

    assert "no_window" in cell_of(tmp_path, deaf).reasons


def test_throughput_that_rises_in_the_window_is_a_drift(tmp_path):
    def rise(run):
        for row in run.server:
            seconds = row["t_mono_s"] - 106
            row["generation_tok"] = 1e6 + 400 * seconds + 2 * seconds**2

    cell = cell_of(tmp_path, rise)
    # From 400 to 504 tok/s on each server: 104 over the mean of 452.
    assert "drift" in cell.reasons
    assert "no_steady_state" in cell.reasons
    # The rule leaves out what it can, the first half; in the rest throughput rises from 452 to 504 tok/s.
    assert cell.window.start_mono_s == 119
    change = cell.window.changes["throughput"]
    assert (change.change, change.unit) == (pytest.approx(52 / 478, rel=0.01), "of_mean")


@pytest.mark.parametrize(("points", "drifts"), [(5.0, False), (10.0, True)])
def test_a_change_of_kv_usage_is_in_points_of_the_capacity_of_all_servers_together(tmp_path, points, drifts):
    def fill(run):
        for row in run.server:
            if row["server"] == 1:
                row["kv_usage_ratio"] = 0.3 + points / 100 * (row["t_mono_s"] - 106) / 26

    cell = cell_of(tmp_path, fill)
    assert ("drift" in cell.reasons) == drifts
    change = cell.window.changes["kv_usage"]
    share = cell.window.duration_s / 26  # of the rise, the rule leaves out what it can: the first half
    assert (change.change, change.unit) == (pytest.approx(points / 100 / 2 * share, rel=0.05), "of_capacity")


def test_a_run_without_a_prediction_has_its_measured_figures_and_says_why_no_others(tmp_path):
    def unpredicted(run):
        run.prediction = None

    result = analysed(tmp_path, unpredicted)
    cell = result.cells[0]
    assert (cell.verdict, cell.ratio, cell.split, cell.predicted_wh_per_query) == ("valid", None, None, None)
    assert cell.wh_per_query.mean > 0
    assert result.run.prediction == "none"
    assert "ended before its prediction" in result.run.labels[-1]


def test_a_run_that_ended_before_its_first_cell_has_none(tmp_path):
    def nothing(run):
        run.events, run.server, run.requests, run.prediction = [], [], [], None

    result = analysed(tmp_path, nothing)
    assert (result.cells, result.idle, result.energy_ratio) == ((), None, None)


def test_the_random_error_is_that_of_the_batches_of_power_that_varies(tmp_path):
    rng = np.random.default_rng(1)
    power_w = rng.uniform(180, 220, 100)  # of each device, for one scrape interval each

    def vary(run):
        for uuid in ("gpu-a", "gpu-b"):
            joules = 1e6
            for row in power_of(run, uuid):
                row["power_w"] = power_w[int((row["t_mono_s"] - 99) / 0.5 + 1e-6) % 100]
                row["energy_j"] = joules
                joules += row["power_w"] * 0.1

    cell = cell_of(tmp_path, vary)
    window = cell.window
    first, last = (round((t_s - 99) / 0.5) for t_s in (window.start_mono_s, window.end_mono_s))
    batches, remainder = divmod(last - first, window.batches)
    sizes = [batches + (number < remainder) for number in range(window.batches)]
    node_w = [400 + 1.22 * 2 * watts for watts in power_w[first:last]]
    mean_w, squares, done = sum(node_w) / len(node_w), 0.0, 0
    for size in sizes:
        squares += sum(watts - mean_w for watts in node_w[done : done + size]) ** 2
        done += size
    error = math.sqrt(window.batches / (window.batches - 1) * squares) / (mean_w * len(node_w))
    low, high = cell.joules_per_tok_ci95
    assert cell.joules_per_tok == pytest.approx(mean_w / 800, rel=1e-6)
    assert cell.wh_per_query.uncertainty_parts_rel["random"] == pytest.approx(error, rel=1e-3)
    quantile = scipy.stats.t(window.batches - 1).ppf(0.975)
    assert high - cell.joules_per_tok == pytest.approx(quantile * error * mean_w / 800, rel=1e-3)
    assert cell.joules_per_tok - low == pytest.approx(high - cell.joules_per_tok)
