import csv
import json
import math

import pytest

from harness.analysis.run import analyse_run, look_at_window
from harness.console.run import result_text
from harness.errors import StoreError
from results.export import cells_csv
from tests.unit.harness.synthetic_run import MULTIPLIED, PLAIN, PUE, SyntheticRun

GPU_W = 2 * 200.0
NODE_W = 0.25 * 1600 + 1.22 * GPU_W  # two of eight GPUs bear a quarter of the offset
TPS = 2 * 400.0
PREDICTED_WH = 1.2 * 2.0 * 110 / 1000 / 3.6


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return analyse_run(SyntheticRun().write(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def cell(result):
    return result.cells[0]


@pytest.fixture(scope="module")
def gpu_result(tmp_path_factory):
    run = SyntheticRun()
    run.manifest |= {"boundary": "gpu", "node_profile": None, "node_share": 1.0}
    run.prediction["cells"] = {}
    return analyse_run(run.write(tmp_path_factory.mktemp("runs") / "gpu"))


def test_a_sound_cell_is_valid_and_one_shorter_than_its_requests_is_suspect(result):
    # Little's law: 16 requests of 800 tokens at 400 tok/s take 32 s each, and the window is 26 s.
    assert [(cell.name, cell.verdict, cell.reasons) for cell in result.cells] == [
        ("1x", "valid", ()),
        ("8x", "suspect", ("window_too_short",)),
    ]


def test_the_window_goes_from_the_end_of_the_warm_up_to_the_end_of_the_load(cell):
    assert (cell.window.start_mono_s, cell.window.end_mono_s, cell.window.duration_s) == (106.0, 132.0, 26.0)
    assert cell.window.ended == "precision_reached"
    assert set(cell.window.changes) == {"throughput", "power", "kv_usage"}
    assert all(change.change == pytest.approx(0, abs=1e-6) for change in cell.window.changes.values())
    # Little's law: 16 requests of 100 tokens at 800 tok/s take 2 s each.
    assert cell.window.mean_requests == pytest.approx(26 / 2)


def test_throughput_and_power_are_those_of_both_servers_and_both_devices(cell):
    assert cell.tps_tok_per_s == pytest.approx(TPS, rel=1e-9)
    assert cell.gpu_watts == pytest.approx(GPU_W, rel=1e-9)
    assert cell.watts == pytest.approx(NODE_W, rel=1e-9)
    assert (cell.energy_method, cell.power_source, cell.boundary) == ("counter", "nvml", "node_modelled")


def test_energy_per_token_is_power_over_throughput(cell):
    assert cell.joules_per_tok == pytest.approx(NODE_W / TPS, rel=1e-9)
    low, high = cell.joules_per_tok_ci95
    assert low <= cell.joules_per_tok <= high
    assert high - low == pytest.approx(0, abs=1e-6)


def test_energy_per_query_is_energy_per_token_times_mean_length_times_pue(cell):
    energy = cell.wh_per_query
    assert energy.mean_without_pue == pytest.approx(NODE_W / TPS * 100 / 3600)
    assert energy.mean == pytest.approx(PUE * NODE_W / TPS * 100 / 3600)
    assert (energy.pue, energy.pue_source) == (PUE, "measured, given with --pue")
    assert energy.boundary == "node_modelled x PUE"


def test_the_median_query_is_the_median_length_at_the_mean_energy_per_token(cell):
    assert cell.wh_per_query.p50 == pytest.approx(cell.wh_per_query.mean * 80 / 100)
    assert cell.wh_per_query.p50_rule.startswith("allocated")


def test_the_uncertainty_is_that_of_the_sensor_and_of_the_node_model(cell):
    parts = cell.wh_per_query.uncertainty_parts_rel
    offset_w, slope_w = 0.25 * 170, GPU_W * 0.05
    node_w = math.sqrt(offset_w**2 + slope_w**2 - 2 * 0.8 * offset_w * slope_w)
    assert set(parts) == {"random", "sensor_gain", "node_model", "clock_edges", "token_count"}
    assert parts["random"] == pytest.approx(0, abs=1e-6)
    assert parts["sensor_gain"] == pytest.approx(0.03 * 1.22 * GPU_W / NODE_W)
    assert parts["node_model"] == pytest.approx(node_w / NODE_W)
    assert cell.wh_per_query.standard_uncertainty_rel == pytest.approx(
        math.hypot(parts["sensor_gain"], parts["node_model"], parts["clock_edges"], parts["token_count"])
    )


def test_the_edges_of_the_window_are_known_to_a_step_of_each_counter(cell):
    # The difference of two rectangular errors of half width h has the variance 2 h^2 / 3.
    parts = cell.wh_per_query.uncertainty_parts_rel
    assert parts["clock_edges"] == pytest.approx(math.sqrt(2 * 0.1**2 / 3) / 26)
    assert parts["token_count"] == pytest.approx(math.sqrt(2 * 8**2 / 3) / (800 * 26))


def test_the_interval_of_a_querys_energy_holds_all_errors_together(cell):
    energy = cell.wh_per_query
    low, high = energy.ci95
    assert low < energy.mean < high
    # A rectangular gain is narrower than a Gaussian of its standard uncertainty; the node's part is Gaussian.
    assert (high - low) / 2 / energy.mean == pytest.approx(1.96 * energy.standard_uncertainty_rel, rel=0.05)


def test_at_the_gpu_boundary_there_is_neither_node_nor_pue(gpu_result):
    cell = gpu_result.cells[0]
    assert cell.watts == cell.gpu_watts == pytest.approx(GPU_W)
    assert cell.wh_per_query.mean == pytest.approx(GPU_W / TPS * 100 / 3600)
    assert cell.wh_per_query.mean == cell.wh_per_query.mean_without_pue
    assert (cell.wh_per_query.boundary, cell.wh_per_query.pue) == ("gpu", 1.0)
    assert set(cell.wh_per_query.uncertainty_parts_rel) == {"random", "sensor_gain", "clock_edges", "token_count"}
    assert cell.wh_per_query.uncertainty_parts_rel["sensor_gain"] == pytest.approx(0.03)
    assert (cell.ratio, cell.split, cell.predicted_wh_per_query) == (None, None, None)


def test_the_ratio_splits_into_the_terms_of_equation_1(cell):
    assert cell.predicted_wh_per_query.mean == pytest.approx(PREDICTED_WH)
    assert cell.ratio == pytest.approx(cell.wh_per_query.mean / PREDICTED_WH)
    split = cell.split
    assert split.power == pytest.approx(math.log(NODE_W / 2000))
    assert split.length == pytest.approx(math.log(100 / 110))
    assert split.tps == pytest.approx(math.log(1000 / TPS))
    assert split.pue == pytest.approx(math.log(PUE / 1.2))
    assert split.power + split.length + split.tps + split.pue == pytest.approx(math.log(cell.ratio))
    assert split.total == pytest.approx(math.log(cell.ratio))


def test_the_multiplied_cell_over_the_plain_one_is_the_energy_ratio(result):
    # Half the throughput and eight times the length: sixteen times the energy; predicted were twice.
    assert (MULTIPLIED.rate, MULTIPLIED.output_tok) == (PLAIN.rate / 2, 8 * PLAIN.output_tok)
    ratio = result.energy_ratio
    assert (ratio.multiplier, ratio.measured, ratio.eq1) == (8.0, pytest.approx(16), pytest.approx(2))
    edges = [cell.wh_per_query.uncertainty_parts_rel[name] for cell in result.cells for name in EDGES]
    # The record is without noise and the power the same, so that only the edges of the windows are uncertain.
    half = math.log(ratio.measured_ci95[1] / 16)
    assert half == pytest.approx(1.959964 * math.hypot(*edges), rel=1e-3)
    assert half > 0.005


EDGES = ("clock_edges", "token_count")


def test_throughput_is_known_to_the_tokens_at_the_windows_edges(cell):
    edges = cell.wh_per_query.uncertainty_parts_rel["token_count"]
    assert cell.tps_standard_uncertainty_rel == pytest.approx(edges, rel=1e-3)
    expected = [TPS * (1 + sign * 1.959964 * edges) for sign in (-1, 1)]
    assert cell.tps_ci95 == pytest.approx(expected, rel=1e-6)


def test_the_table_says_how_well_throughput_and_idle_watts_are_known(result):
    text = result_text(result)
    edges = result.cells[0].wh_per_query.uncertainty_parts_rel["token_count"]
    assert f"{TPS:,.0f} ± {1.959964 * edges:.1%} (95%)" in text
    assert (
        f"loaded idle: 583.0 W (u = {result.idle.standard_uncertainty_rel:.1%}, systematic alone; node_modelled, nvml)"
        in text
    )


def test_a_csv_of_cells_has_the_interval_of_their_throughput(result):
    header, first, *_ = cells_csv(result).splitlines()
    row = next(csv.DictReader([header, first]))
    assert json.loads(row["tps_ci95"]) == list(result.cells[0].tps_ci95)
    assert float(row["tps_standard_uncertainty_rel"]) == result.cells[0].tps_standard_uncertainty_rel


def test_the_gain_of_the_gpus_that_a_node_was_calibrated_with_is_not_counted_twice(tmp_path):
    """P = a + (b / g) (g P_gpu): what a slope fitted against a sensor says of its own readings holds no gain."""
    run = SyntheticRun((PLAIN,))
    run.manifest["node_profile"] = run.manifest["node_profile"] | {"calibrated_gpu_uuids": ["gpu-b", "gpu-a"]}
    energy = analyse_run(run.write(tmp_path / "run")).cells[0].wh_per_query
    assert energy.uncertainty_parts_rel["sensor_gain"] == 0
    offset_w, slope_w = 0.25 * 170, GPU_W * 0.05
    node_w = math.sqrt(offset_w**2 + slope_w**2 - 2 * 0.8 * offset_w * slope_w)
    edges = [energy.uncertainty_parts_rel[name] for name in EDGES]
    assert energy.standard_uncertainty_rel == pytest.approx(math.hypot(node_w / NODE_W, *edges), rel=1e-3)
    assert energy.ci95 is not None


def test_a_node_model_of_unknown_accuracy_leaves_the_energys_uncertainty_unknown(tmp_path):
    run = SyntheticRun()
    unknown = {"u_offset_kw": None, "u_slope": None, "correlation": None}
    run.manifest["node_profile"] = run.manifest["node_profile"] | unknown
    result = analyse_run(run.write(tmp_path / "run"))
    energy = result.cells[0].wh_per_query
    assert energy.uncertainty_parts_rel["node_model"] is None
    assert (energy.standard_uncertainty_rel, energy.ci95) == (None, None)
    assert (result.idle.uncertainty_parts_rel["node_model"], result.idle.standard_uncertainty_rel) == (None, None)
    assert (result.energy_ratio.measured_ci95, result.energy_ratio.interval_basis) == (None, "unknown")


def test_a_run_of_one_cell_has_no_energy_ratio(tmp_path):
    assert analyse_run(SyntheticRun((PLAIN,)).write(tmp_path / "run")).energy_ratio is None


def test_latencies_are_those_of_the_probes_sent_in_the_window(cell):
    assert (cell.ttft_s.p50_s, cell.ttft_s.probes) == (pytest.approx(0.3), 5)
    assert (cell.itl_s.p50_s, cell.itl_s.probes) == (pytest.approx(0.03), 5)


def test_the_servers_own_latencies_are_differences_over_the_window(cell):
    # Over the whole cell the mean time to first token would be (3 x 1 + 29 x 0.25) / 32 s.
    assert cell.ttft_s.server_mean_s == pytest.approx(0.25)
    assert cell.itl_s.server_mean_s == pytest.approx(0.02)


def test_gauges_are_means_over_the_window_and_counters_grow_over_all_of_it(cell):
    assert cell.gpu_utilization_ratio == pytest.approx(0.8)
    assert cell.kv_usage_ratio == pytest.approx(0.5, abs=0.002)
    assert cell.preemptions == pytest.approx(2 * 26)
    assert cell.queue_share == 0


def test_requests_are_counted_without_first_fills(cell):
    assert PLAIN.generated_tok == 25_600
    assert cell.requests.model_dump() == {"completed": 256 - 16, "aborted": 0, "errors": 0}


def test_the_token_check_is_exact_when_everything_drained(cell):
    assert cell.tokens.model_dump() == {
        "counter_tok": 25_600, "usage_completed_tok": 25_600, "unfinished_limit_tok": 0, "consistent": True,
    }  # fmt: skip


def test_loaded_idle_is_the_mean_power_between_its_events(result):
    idle = result.idle
    assert (idle.duration_s, idle.gpu_watts, idle.reasons) == (20.0, pytest.approx(150), ())
    assert idle.watts == pytest.approx(400 + 1.22 * 150)
    assert (idle.boundary, idle.power_source) == ("node_modelled", "nvml")
    idle_w, offset_w, slope_w = 400 + 1.22 * 150, 0.25 * 170, 150 * 0.05
    parts = [
        0.03 * 1.22 * 150 / idle_w,
        math.sqrt(offset_w**2 + slope_w**2 - 2 * 0.8 * offset_w * slope_w) / idle_w,
        math.sqrt(2 * 0.1**2 / 3) / 20,
    ]
    assert idle.uncertainty_parts_rel == pytest.approx(
        dict(zip(("sensor_gain", "node_model", "clock_edges"), parts, strict=True))
    )
    assert idle.standard_uncertainty_rel == pytest.approx(math.hypot(*parts))


def test_bare_idle_is_the_mean_power_before_launch(tmp_path):
    run = SyntheticRun((PLAIN,))
    run.events[:0] = [{"event": "bare_idle_start", "t_mono_s": 66.0}, {"event": "bare_idle_end", "t_mono_s": 69.0}]
    found = analyse_run(run.write(tmp_path / "run"))
    assert (found.bare_idle.duration_s, found.bare_idle.watts) == (3.0, pytest.approx(400 + 1.22 * 150))
    assert found.bare_idle_unknown is None


def test_a_run_without_bare_idle_says_why(tmp_path, result):
    run = SyntheticRun((PLAIN,))
    run.events.insert(0, {"event": "bare_idle_unknown", "t_mono_s": 66.0, "why": "the servers ran before"})
    found = analyse_run(run.write(tmp_path / "run"))
    assert (found.bare_idle, found.bare_idle_unknown) == (None, "the servers ran before")
    assert (result.bare_idle, result.bare_idle_unknown) == (None, "the run has no record of it")


def test_the_summary_says_which_run_this_is_and_what_to_know_before_using_it(result):
    assert (result.run.id, result.run.model, result.run.node_profile) == ("made-up", "test/model", "eight-gpus")
    assert result.run.prediction == "a made-up model"
    assert result.run.labels == ("made by hand", "a label of the prediction")


def test_analysing_twice_gives_the_same_document(tmp_path):
    folder = SyntheticRun().write(tmp_path / "run")
    first, second = (json.dumps(analyse_run(folder).to_json(), allow_nan=False) for _ in range(2))
    assert first == second


def test_calibration_cells_are_kept_apart_and_need_no_proof_of_saturation(tmp_path):
    run = SyntheticRun(
        (PLAIN, type(PLAIN)("calibration-0", start_s=200.0, role="calibration", workload="fixed:50x100"))
    )
    for event in run.events:
        event.get("definition", {})["plateau_tps_tok_per_s"] = None
    found = analyse_run(run.write(tmp_path / "run"))
    assert [(cell.name, cell.verdict) for cell in found.calibration_cells] == [("calibration-0", "valid")]
    assert [(cell.name, cell.reasons) for cell in found.cells] == [("1x", ("saturation_unproven",))]


def test_a_queue_that_never_empties_proves_saturation(tmp_path):
    run = SyntheticRun((PLAIN,))
    run.events[2]["definition"]["plateau_tps_tok_per_s"] = None
    for row in run.server:
        row["waiting"] = 3.0
    found = analyse_run(run.write(tmp_path / "run")).cells[0]
    assert (found.queue_share, found.verdict) == (1.0, "valid")


def test_a_run_of_another_version_is_refused(tmp_path):
    run = SyntheticRun((PLAIN,))
    run.manifest["schema"] = "inference-energy/manifest/2"
    with pytest.raises(StoreError, match="manifest/1"):
        analyse_run(run.write(tmp_path / "run"))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("prediction.json", "{"),
        ("prediction.json", '{"schema": "inference-energy/prediction/2"}'),
        ("events.jsonl", '{"event": broken}\n'),
        ("events.jsonl", "[]\n"),
        ("events.jsonl", "\xff\n"),
        ("manifest.json", json.dumps(SyntheticRun((PLAIN,)).manifest | {"node_profile": {}})),
        ("power/part-00000.parquet", "PAR1"),
    ],
)
def test_a_damaged_run_is_refused_with_the_file_that_is_damaged(tmp_path, file, content):
    folder = SyntheticRun((PLAIN,)).write(tmp_path / "run")
    (folder / file).write_text(content, encoding="latin-1")
    with pytest.raises(StoreError, match="cannot read the run"):
        analyse_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        analyse_run(tmp_path)


def test_a_look_at_a_cell_under_load_tells_energy_per_token_and_what_still_stands_against_its_end(tmp_path):
    folder = SyntheticRun().write(tmp_path / "run")
    plain, multiplied = (look_at_window(folder, cell.name) for cell in (PLAIN, MULTIPLIED))
    assert (plain.ended, plain.reasons, multiplied.ended) == (True, (), False)
    assert plain.after_s == pytest.approx(26, abs=0.5)
    assert plain.joules_per_tok == pytest.approx(NODE_W / TPS, rel=1e-3)
    assert "window_too_short" in multiplied.reasons
