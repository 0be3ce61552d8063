import json
import math
from dataclasses import replace

import numpy as np
import pytest

from estimator.lengths import fixed_lengths
from estimator.power.node_power import IndependentPower
from estimator.presets import get_preset
from estimator.queries.tasks import TaskEnergies
from harness.prediction import (
    CALIBRATED,
    PLUMBING_CHECK,
    PRESET,
    S1_ENGINE,
    TpsSource,
    calibrated_source,
    calibration_lengths,
    find_tps_source,
    make_prediction,
)
from results.schema import CellResult, StoredPrediction
from tests.unit.harness.plans import constant_tps, gpus, plan_of
from workloads.spec import load_workload
from workloads.tasks import load_task

FP8_405B = "meta-llama/Llama-3.1-405B-Instruct-FP8"


def cell(output_tok, tps, *, verdict="valid", workload="fixed:500x1", input_tok=500):
    return CellResult(
        name="c", role="calibration", workload=workload, multiplier=1, concurrency=1, mean_input_tok=input_tok,
        mean_output_tok=output_tok, median_output_tok=output_tok, capped_share=0, power_source="nvml", boundary="gpu",
        binding="", tps_tok_per_s=tps, requests={"completed": 1, "aborted": 0, "errors": 0},
        tokens={"counter_tok": 1, "usage_completed_tok": 1, "unfinished_limit_tok": 0, "consistent": True},
        verdict=verdict, reasons=(),
    )  # fmt: skip


def power_law(outputs=(100, 400, 1600, 6400)):
    """Cells of TPS = 5,000 x L_out^-0.3."""
    return tuple(cell(output, 5_000 * output**-0.3) for output in outputs)


def test_a_model_file_for_the_gpus_used_comes_first():
    model = constant_tps(gpus=8)
    plan = plan_of(gpus(8), profile="hgx-h100", tps_model=model)
    assert find_tps_source(plan, FP8_405B).model is model


def test_a_model_file_for_another_gpu_count_gives_no_prediction_instead_of_a_wrong_one():
    source = find_tps_source(plan_of(gpus(2), profile="hgx-h100", tps_model=constant_tps(gpus=8)), FP8_405B)
    assert (source.model, source.calibrate) == (None, False)
    assert "for 8 GPU(s), this run uses 2" in source.text


@pytest.mark.parametrize(
    ("devices", "profile", "model", "matches"),
    [
        (gpus(8), "hgx-h100", FP8_405B, True),
        (gpus(8), "hgx-h100", "meta-llama/Llama-3.1-405B-Instruct", False),
        (gpus(8), "hgx-h100", "Qwen/Qwen3-8B", False),
        (gpus(8), "hgx-h100", "deepseek-ai/DeepSeek-R1", False),
        (gpus(4), "hgx-h100", FP8_405B, False),
        ((), "simulated-node", FP8_405B, False),
    ],
    ids=["this node", "not FP8", "no rows", "rows are for 10 GPUs", "half the node", "another node"],
)
def test_supplemental_rows_serve_only_the_very_model_on_the_very_node(devices, profile, model, matches):
    source = find_tps_source(plan_of(devices, profile=profile), model)
    if matches:
        assert (source.model.model, source.model.gpus, source.label) == ("Llama 3.1 405B", 8, S1_ENGINE)
    else:
        assert (source.model, source.calibrate) == (None, True)


@pytest.mark.parametrize("tps_model", [None, constant_tps(gpus=8)])
def test_the_gpu_boundary_has_no_prediction(tps_model):
    source = find_tps_source(plan_of(gpus(8), profile="hgx-h100", boundary="gpu", tps_model=tps_model), FP8_405B)
    assert (source.model, source.calibrate) == (None, False)
    assert source.text.startswith("no prediction: Eq. 1 predicts a whole node")


def test_the_calibration_grid_is_half_and_twice_the_mean_output_of_each_cell():
    # The mean of an exponential of median 300 is 300 / ln 2 = 432.8.
    mean_tok = 300 / math.log(2)
    traditional = load_workload("traditional")
    grid = calibration_lengths({"1x": traditional.lengths(1), "15x": traditional.lengths(15)})
    assert [(input_tok, name) for input_tok, _, name in grid] == [(500, "1x")] * 2 + [(500, "15x")] * 2
    wanted = [mean_tok / 2, 2 * mean_tok, 15 * mean_tok / 2, 30 * mean_tok]
    assert [output for _, output, _ in grid] == pytest.approx(wanted, rel=0.005)


def test_a_calibration_cell_is_never_longer_than_its_workload():
    assert calibration_lengths({"1x": fixed_lengths(10, 7)}) == [(10, 4, "1x"), (10, 7, "1x")]


@pytest.mark.parametrize(("devices", "label"), [((), PLUMBING_CHECK), (gpus(8), CALIBRATED)])
def test_calibration_recovers_the_throughput_of_its_cells_and_labels_itself(devices, label):
    source = calibrated_source(plan_of(devices, profile="hgx-h100"), "m", power_law())
    assert source.label == label
    assert source.model.gpus == max(1, len(devices))
    assert float(source.model.predict_tok_per_s(500, 900)) == pytest.approx(5_000 * 900**-0.3)


def test_calibration_never_predicts_more_than_it_saw():
    source = calibrated_source(plan_of(), "m", power_law())
    assert float(source.model.predict_tok_per_s(500, 10)) == pytest.approx(5_000 * 100**-0.3)


@pytest.mark.parametrize("cells", [(), (cell(100, 50.0, verdict="invalid"),)])
def test_too_few_usable_calibration_cells_give_no_prediction_and_say_so(cells):
    source = calibrated_source(plan_of(), "m", cells)
    assert source.model is None
    assert "calibration gave too few usable cells" in source.text


LENGTHS = {"1x": fixed_lengths(500, 300), "15x": fixed_lengths(500, 4_500)}


def log_normal_mean(p5, p95):
    sigma = math.log(p95 / p5) / (2 * 1.6448536)
    return math.sqrt(p5 * p95) * math.exp(sigma**2 / 2)


def test_the_prediction_is_equation_1_of_the_assumed_node_and_the_given_throughput():
    plan = plan_of(gpus(2), profile="hgx-h100")
    made = make_prediction(plan, TpsSource(constant_tps(1_000.0, 2), "a file"), LENGTHS)
    node_kw = 11.3 / 4 * log_normal_mean(0.4, 0.9)
    pue = log_normal_mean(1.05, 1.40)
    for name, output_tok in (("1x", 300), ("15x", 4_500)):
        cell = made.cells[name]
        assert cell["mean_wh"] == pytest.approx(pue * node_kw * output_tok / 1_000 / 3.6, rel=1e-6)
        assert cell["reference"] == {
            "pue": pytest.approx(pue, rel=1e-6), "node_power_kw": pytest.approx(node_kw, rel=1e-6),
            "output_tok": output_tok, "tps_tok_per_s": pytest.approx(1_000),
        }  # fmt: skip
        assert cell["p5_wh"] < cell["mean_wh"] < cell["p95_wh"]


@pytest.mark.parametrize(
    ("allocation", "idle_kw"), [("share", 0.0), ("whole", 7 / 8 * 2.55), ("marginal", -1 / 8 * 2.55)]
)
def test_idle_power_that_an_allocation_adds_is_not_a_part_of_what_the_load_scales(allocation, idle_kw):
    """One of 8 GPUs: 0.4 to 0.9 of an eighth of 11.3 kW, and the idle power as the allocation has it."""
    plan = plan_of(gpus(1), profile="hgx-h100", allocation=allocation)
    cell = make_prediction(plan, TpsSource(constant_tps(), "a file"), LENGTHS).cells["1x"]
    node_kw = 11.3 / 8 * log_normal_mean(0.4, 0.9) + idle_kw
    assert cell["reference"]["node_power_kw"] == pytest.approx(node_kw, rel=1e-6)
    assert cell["node_power_kw"] == {"p5": pytest.approx(0.4 * 11.3 / 8), "p95": pytest.approx(0.9 * 11.3 / 8)}
    assert cell["constant_power_kw"] == pytest.approx(idle_kw)
    assert cell["p50_wh"] / cell["mean_wh"] == pytest.approx(
        (0.6 * 11.3 / 8 + idle_kw) / node_kw * math.sqrt(1.05 * 1.40) / log_normal_mean(1.05, 1.40), rel=0.01
    )


def test_a_node_that_idles_above_its_predicted_power_has_no_prediction_of_what_is_above_idle():
    plan = plan_of(allocation="marginal")
    idle = plan.profile.model_copy(update={"p_idle_kw": plan.profile.p_max_kw})
    made = make_prediction(replace(plan, profile=idle), TpsSource(constant_tps(), "a file"), LENGTHS)
    assert made.cells == {}
    assert made.tps_source.startswith("no prediction: P_max of the node profile simulated-node leaves no power above")


def test_the_quantiles_of_the_mean_are_those_of_power_and_pue():
    made = make_prediction(plan_of(), TpsSource(constant_tps(), "a file"), LENGTHS)
    sigma = np.hypot(*(math.log(p95 / p5) / (2 * 1.6448536) for p5, p95 in ((0.4, 0.9), (1.05, 1.40))))
    cell = made.cells["1x"]
    assert math.log(cell["p95_wh"] / cell["p5_wh"]) == pytest.approx(2 * 1.6448536 * sigma, rel=0.02)


def test_a_measured_pue_does_not_change_what_was_predicted():
    made = make_prediction(plan_of(pue=1.1), TpsSource(constant_tps(), "a file"), LENGTHS)
    assert made.cells["1x"]["reference"]["pue"] == pytest.approx(log_normal_mean(1.05, 1.40), rel=1e-6)


def test_the_stored_prediction_holds_all_its_inputs_and_survives_json():
    source = TpsSource(constant_tps(), "a file", "a label")
    made = make_prediction(plan_of(), source, LENGTHS)
    stored = StoredPrediction.model_validate_json(json.dumps(made.model_dump(mode="json", by_alias=True)))
    assert stored.tps_model == json.loads(source.model.to_json())
    assert (stored.preset, stored.tps_source, stored.label) == ("oviedo2026-v2", "a file", "a label")
    assert set(stored.cells) == {"1x", "15x"}
    assert {"mean_wh", "p5_wh", "p95_wh", "reference", "per_query", "node_power_kw", "pue", "seed", "notes"} <= set(
        stored.cells["1x"]
    )
    assert stored.created_wall_s > 1.5e9


def test_the_same_plan_predicts_the_same():
    first, second = (make_prediction(plan_of(), TpsSource(constant_tps(), ""), LENGTHS).cells for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("plan", "source"),
    [
        (plan_of(), TpsSource(None, "no prediction: because")),
        (plan_of(gpus(1), profile=None), TpsSource(constant_tps(), "no prediction: because")),
    ],
    ids=["no throughput", "no node profile"],
)
def test_without_throughput_or_node_there_is_no_predicted_figure_but_the_reason(plan, source):
    made = make_prediction(plan, source, LENGTHS)
    assert (made.cells, made.tps_source) == ({}, "no prediction: because")


@pytest.mark.parametrize("context_tok", [None, 6_000])
def test_tasks_are_calibrated_at_a_short_and_a_long_context_and_never_beyond_their_own(context_tok):
    lengths = load_workload("task:agentic-coding").lengths(1.0)
    if context_tok is not None:
        lengths, _ = lengths.capped(context_tok)
    grid = calibration_lengths({"1x": lengths})
    inputs = sorted({input_tok for input_tok, _, _ in grid})
    assert len(inputs) == 2
    assert inputs == [round(float(np.quantile(lengths.input_tok, share))) for share in (0.1, 0.9)]
    longest = int((lengths.input_tok + lengths.output_tok).max())
    assert all(output_tok >= 1 and input_tok + output_tok <= longest for input_tok, output_tok, _ in grid)


def test_the_prediction_of_tasks_weighs_each_steps_throughput_by_its_output():
    """TPS_pred = E[L] / E[L / TPS(L_in, L_out)] over the requests of all steps, by a scalar loop."""
    model = calibrated_source(plan_of(), "m", power_law()).model
    lengths = load_workload("task:agentic-coding").lengths(1.0)
    prediction = make_prediction(plan_of(), TpsSource(model, "made up"), {"1x": lengths})
    made_tok = seconds = 0.0
    for input_tok, output_tok in zip(lengths.input_tok.tolist(), lengths.output_tok.tolist(), strict=True):
        made_tok += output_tok
        seconds += output_tok / model.predict_tok_per_s(input_tok, output_tok)
    assert prediction.cells["1x"]["reference"]["tps_tok_per_s"] == pytest.approx(made_tok / seconds, rel=1e-9)


def test_the_prediction_of_a_whole_task_is_that_of_the_estimate_of_tasks():
    """Requests of a task times Wh of a request against the Monte Carlo over whole tasks."""
    plan, task = plan_of(), load_task("agentic-coding")
    model = calibrated_source(plan, "m", power_law()).model
    lengths = load_workload("task:agentic-coding").lengths(1.0)
    prediction = make_prediction(plan, TpsSource(model, "made up"), {"1x": lengths})
    preset = get_preset(PRESET)
    node_power_kw = preset.power_share().scaled(plan.profile.p_max_share_kw(plan.node_share, "share"))
    estimate = TaskEnergies(task.shape, model, IndependentPower(node_power_kw), preset.pue())
    assert 20 * prediction.cells["1x"]["mean_wh"] == pytest.approx(estimate.mean_wh, rel=0.005)
