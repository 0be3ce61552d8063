import json
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from estimator.throughput.fit import fit_oviedo_preset
from estimator.throughput.s1 import rows_for
from harness.console.across import print_agreement
from harness.console.imports import print_import
from harness.errors import ConfigError, StoreError, WorkloadError
from harness.prediction import CALIBRATED
from harness.studies import imported_prediction
from harness.studies.across import agreement_document, compares_across, draw_agreement
from harness.studies.imports import import_document, write_cells
from tests.paths import S1_TABLE, SHARED
from tests.unit.harness.synthetic_run import Cell, SyntheticRun, server
from tests.unit.results.published_tables import LLAMA_405B, few_slots, mlenergy_row, table

QWEN = SHARED / "data/measured/mlenergy_v3_h100_qwen3.csv"
S1 = S1_TABLE
LIMIT_W, PRIOR_MEDIAN, PRIOR_SIGMA = 8 * 700, 0.6, math.log(0.9 / 0.4) / (2 * 1.6448536)
PRIOR_MEAN = PRIOR_MEDIAN * math.exp(PRIOR_SIGMA**2 / 2)


@pytest.fixture
def cells(tmp_path):
    def write(*rows, name="cells"):
        path = tmp_path / f"{name}.csv"
        path.write_text(table(*rows))
        return write_cells(import_document(path, None), tmp_path / f"{name}.json")

    return write


def compare(*paths, **options):
    document = agreement_document(paths, **({"assume_input_tok": 500} | options))
    json.dumps(document, allow_nan=False)
    return document


def only(entries):
    (entry,) = entries
    return entry


def saturated(document):
    return only([cell for cell in document["cells"] if cell["stands_for_saturation"]])


def test_a_known_model_is_predicted_from_its_own_rows_at_the_boundary_of_the_measurement(cells):
    document = compare(cells(mlenergy_row(), few_slots()))
    cell = saturated(document)
    tps = float(fit_oviedo_preset(rows_for("Llama 3.1 405B")).predict_tok_per_s(500, 367))
    predicted = cell["predicted"]
    assert predicted["tps_source"] == "Supplemental I rows of Llama 3.1 405B"
    assert predicted["tps_tok_per_s"] == pytest.approx(tps)
    assert predicted["power_kw"] == pytest.approx(PRIOR_MEAN * LIMIT_W / 1000, rel=1e-6)
    assert (predicted["pue"], predicted["output_tok"]) == (1.0, 367.0)
    assert predicted["wh_per_query"]["mean"] == pytest.approx(PRIOR_MEAN * LIMIT_W * 367 / tps / 3600, rel=1e-6)
    assert cell["boundary"] == "gpu"
    assert cell["measured"]["wh_per_query"] == pytest.approx(4875 * 367 / 2363 / 3600)


def test_the_terms_of_the_log_ratio_are_those_of_arithmetic(cells):
    terms = saturated(compare(cells(mlenergy_row(), few_slots())))["ln_ratio"]
    tps = float(fit_oviedo_preset(rows_for("Llama 3.1 405B")).predict_tok_per_s(500, 367))
    assert terms["power"] == pytest.approx(math.log(4875 / (PRIOR_MEAN * LIMIT_W)), rel=1e-6)
    assert terms["tps"] == pytest.approx(math.log(tps / 2363))
    assert (terms["length"], terms["pue"]) == (0.0, 0.0)
    assert terms["total"] == pytest.approx(terms["power"] + terms["tps"])


def test_few_slots_cost_what_arithmetic_says_and_enter_no_summary(cells):
    document = compare(cells(mlenergy_row(), few_slots()))
    ladder = only(document["ladders"])
    assert ladder["joules_per_tok"] == pytest.approx(2.063, abs=5e-4)
    assert ladder["smallest_cap_over_saturation"] == pytest.approx(6.78, abs=5e-3)
    assert (ladder["smallest_cap"], ladder["concurrency_cap"], ladder["saturation"]) == (8, 256, "unproven")
    ratios = document["energy_at_smallest_cap"]
    assert (ratios["below_claim"], ratios["inside_claim"]["k"], ratios["above_claim"]) == (0, 1, 0)
    assert "different comparison" in ratios["claim"]["note"]
    summary = only(document["summaries"])
    assert summary["largest_tps"]["coverage"]["n"] == 1
    assert summary["saturation_proven"]["coverage"]["n"] == 0
    shares = summary["largest_tps"]["gpu_power_share_of_limit"]
    assert shares["quantiles"]["p50"] == pytest.approx(4875 / 5600)


def test_a_single_cap_enters_no_summary_and_says_why(cells):
    summary = only(compare(cells(few_slots()))["summaries"])
    assert summary["largest_tps"]["n_groups"] == 0
    assert "only cap" in only(summary["ladders_left_out"].values())


def test_the_assumed_gpu_and_input_length_are_stated_with_their_effect(cells):
    cell = saturated(compare(cells(mlenergy_row()), assume_input_tok=1000))
    notes = " ".join(cell["notes"])
    assert "says only 'H100': taken to be the SXM5 module with 80 GB and a limit of 700 W" in notes
    assert "input length is not published: 1000 tok assumed" in notes
    slope = fit_oviedo_preset(rows_for("Llama 3.1 405B")).coef[1]
    assert f"{slope * math.log(0.25):+.2f} at 250 tok, {slope * math.log(4):+.2f} at 4000 tok" in notes


def test_a_regime_stated_for_a_task_makes_the_length_a_term(cells):
    path = cells(mlenergy_row(), mlenergy_row(task="gpqa", avg_output_len=8000.0))
    chat, gpqa = compare(path, regimes=["lm-arena-chat=traditional", "gpqa=test-time"])["cells"]
    assert chat["ln_ratio"]["length"] == pytest.approx(math.log(367 / (300 / math.log(2))), abs=1e-4)
    assert gpqa["ln_ratio"]["length"] == pytest.approx(math.log(8000 / (5000 / math.log(2))), abs=1e-4)
    everywhere = compare(path, regimes=["traditional"])["cells"]
    assert everywhere[1]["predicted"]["output_tok"] == pytest.approx(300 / math.log(2), rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "term", "said"),
    [
        ({"num_gpus": 4, "total_params_billions": ""}, "tps", "on 8 GPUs, this server has 4"),
        ({"gpu_model": "B200"}, "tps", "every shipped throughput row is of H100 GPUs"),
        ({"gpu_model": "B200"}, "power", "no node profile gives the power limit of B200"),
        ({"weight_precision": "bfloat16", "total_params_billions": ""}, "tps", "without the size of its weights"),
    ],
)
def test_a_term_without_a_prediction_says_why_and_the_others_remain(cells, changed, term, said):
    document = compare(cells(mlenergy_row(**changed), few_slots(**changed)))
    cell = saturated(document)
    assert (cell["ln_ratio"][term], cell["ln_ratio"]["total"], cell["inside_p5_p95"]) == (None, None, None)
    assert cell["not_in_summary"][term]
    tally = only(document["summaries"])["largest_tps"]
    assert tally["coverage"]["n"] == 0
    assert tally["ln_ratio"][term]["n"] == 0
    assert re.search(said, only(tally["ln_ratio"][term]["ladders_left_out"]))


def test_a_model_without_rows_is_predicted_by_the_population_at_the_size_of_its_weights(cells, monkeypatch):
    asked = []

    def population(weight_gb, gpus):
        asked.append((weight_gb, gpus))
        return fit_oviedo_preset(rows_for("Llama 3.1 70B"))

    monkeypatch.setattr(imported_prediction, "_population_model", population)
    rows = (
        mlenergy_row(model_id="a/model", total_params_billions=22.0, weight_precision="bfloat16", num_gpus=2),
        few_slots(num_gpus=2),
    )
    cell = compare(cells(*rows))["cells"][0]
    tps = float(fit_oviedo_preset(rows_for("Llama 3.1 70B")).predict_tok_per_s(500, 367))
    assert cell["predicted"]["tps_tok_per_s"] == pytest.approx(tps)
    assert "44 GB of weights on 2 GPU(s)" in cell["predicted"]["tps_source"]
    assert (44.0, 2) in asked


def test_the_population_model_predicts_a_model_of_any_size(cells):
    document = compare(cells(mlenergy_row(model_id="a/model", total_params_billions=22.0), few_slots()))
    cell = next(cell for cell in document["cells"] if "a/model" in cell["cell"])
    energy = cell["predicted"]["wh_per_query"]
    assert 0 < energy["p5"] < energy["p95"]
    assert cell["ln_ratio"]["total"] == pytest.approx(math.log(cell["measured"]["wh_per_query"] / energy["mean"]))


def test_a_model_file_is_used_before_everything_else_and_only_for_its_gpus(cells, tmp_path):
    fit_oviedo_preset(rows_for("Llama 3.1 70B")).save(tmp_path / "model.json")
    cell, other = compare(cells(mlenergy_row(), mlenergy_row(num_gpus=4)), tps_model=tmp_path / "model.json")["cells"]
    assert cell["predicted"]["tps_source"] == "TPS model file of Llama 3.1 70B"
    assert "the TPS model file is for 8 GPU(s), this server has 4" in other["not_in_summary"]["tps"]


def test_the_paper_s_own_rows_are_in_sample_and_prove_nothing(tmp_path):
    document = compare(write_cells(import_document(S1, None), tmp_path / "s1.json"))
    tally = only(document["summaries"])["largest_tps"]
    assert (tally["n_ladders"], tally["coverage"]["n"], tally["ln_ratio"]["tps"]["n"]) == (38, 0, 0)
    assert tally["ln_ratio"]["tps"]["ladders_left_out"] == {"the prediction's TPS was fitted to this very row": 38}


def two_models():
    return [
        row(model_id=name, activated_params_billions=405.0, task=task, avg_power_watts=watts)
        for name, task, watts in (
            (LLAMA_405B, "chat", 4875.0), (LLAMA_405B, "code", 2000.0),
            ("meta-llama/Llama-3.1-70B-FP8", "chat", 5400.0),
        )
        for row in (mlenergy_row, few_slots)
    ]  # fmt: skip


def summaries(document):
    return document["summaries"], document["energy_at_smallest_cap"], document["ladders"]


def test_the_order_of_cells_changes_nothing(cells):
    rows = two_models()
    plain = compare(cells(*rows))
    assert summaries(compare(cells(*rows[::-1], name="turned"))) == summaries(plain)
    assert summaries(compare(cells(*rows[::2], *rows[1::2], name="dealt"))) == summaries(plain)


def test_a_cell_given_twice_changes_no_count(cells):
    path, again = cells(*two_models()), cells(*two_models()[:3], name="again")
    once, twice = compare(path), compare(path, again)
    assert summaries(once) == summaries(twice)
    assert once["summaries"][0]["largest_tps"]["n_groups"] == 2


def test_runs_bring_their_stored_prediction_at_their_own_boundary(tmp_path, cells):
    run = SyntheticRun().write(tmp_path / "run")
    document = compare(run, cells(mlenergy_row(), few_slots()))
    assert [summary["boundary"] for summary in document["summaries"]] == ["gpu", "node_modelled x PUE"]
    cell = next(cell for cell in document["cells"] if cell["cell"] == "made-up/1x")
    watts = 0.25 * 1600 + 1.22 * 400
    measured_wh = 1.25 * watts * 100 / 800 / 3600
    predicted_wh = 1.2 * 2.0 * 110 / 1000 / 3.6
    assert cell["measured"]["wh_per_query"] == pytest.approx(measured_wh, rel=1e-3)
    assert cell["measured"]["output_tok"] == pytest.approx(100, rel=1e-6)
    assert cell["ln_ratio"]["total"] == pytest.approx(math.log(measured_wh / predicted_wh), abs=1e-3)
    assert cell["ln_ratio"]["pue"] == pytest.approx(math.log(1.25 / 1.2))
    assert cell["predicted"]["wh_per_query"]["p95"] == pytest.approx(2 * predicted_wh)


def test_the_limit_of_a_run_s_gpus_is_the_driver_s(tmp_path):
    run = SyntheticRun()
    for device in run.manifest["devices"]:
        device["power_limit_w"] = 400.0
    document = compare(run.write(tmp_path / "a"), SyntheticRun().write(tmp_path / "b"))
    first, *_, last = document["cells"]
    assert (first["gpu_limit_w"], last["gpu_limit_w"]) == (800.0, None)
    assert first["gpu_power_share_of_limit"] == pytest.approx(400 / 800, rel=1e-3)


def test_simulated_power_and_a_calibrated_tps_prove_nothing(tmp_path):
    simulated, calibrated = SyntheticRun(), SyntheticRun()
    simulated.manifest["power"]["name"] = "simulated"
    calibrated.prediction["label"] = CALIBRATED
    document = compare(simulated.write(tmp_path / "a"), calibrated.write(tmp_path / "b"))
    assert "simulated" in document["cells"][0]["left_out"]
    tally = only(document["summaries"])["largest_tps"]
    assert (tally["ln_ratio"]["power"]["n"], tally["ln_ratio"]["tps"]["n"], tally["coverage"]["n"]) == (1, 0, 0)


def test_a_run_of_the_gpus_alone_has_no_prediction_and_says_so(tmp_path):
    run = SyntheticRun()
    run.manifest |= {"boundary": "gpu", "node_profile": None}
    run.prediction |= {"cells": {}, "tps_source": "no prediction: the boundary here is the GPUs alone"}
    document = compare(run.write(tmp_path / "run"), SyntheticRun().write(tmp_path / "other"))
    assert document["cells"][0]["not_in_summary"]["power"] == "no prediction: the boundary here is the GPUs alone"
    assert document["summaries"][0]["largest_tps"]["coverage"]["n"] == 0


def test_one_run_folder_alone_is_no_comparison_across(tmp_path, cells):
    assert not compares_across([tmp_path])
    assert compares_across([tmp_path, tmp_path])
    assert compares_across([cells(mlenergy_row())])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"assume_input_tok": 0}, ConfigError, "at least 1 token"),
        ({"regimes": ["gpqua=test-time"]}, ConfigError, "unknown task 'gpqua'"),
        ({"regimes": ["=test-time"]}, ConfigError, "names no task"),
        ({"regimes": ["gpqa=tst-time"]}, ConfigError, "did you mean 'test-time'"),
        ({"tps_model": Path("none.json")}, WorkloadError, "cannot read the TPS model none.json"),
    ],
)
def test_wrong_options_are_explained(cells, options, error, said):
    with pytest.raises(error, match=said):
        compare(cells(mlenergy_row()), **options)


def test_a_path_that_is_not_there_or_there_twice_is_refused_before_any_is_read(tmp_path):
    (tmp_path / "cells.json").write_text("not read")
    with pytest.raises(WorkloadError, match=r"there is no .*none\.json"):
        compare(tmp_path / "cells.json", tmp_path / "none.json")
    with pytest.raises(ConfigError, match="given twice"):
        compare(tmp_path / "cells.json", tmp_path / "." / "cells.json")


def test_a_file_that_holds_no_cells_is_explained(tmp_path):
    (tmp_path / "table.csv").write_text(table(mlenergy_row()))
    with pytest.raises(WorkloadError, match=r"(?s)holds no imported cells.*harness import"):
        compare(tmp_path / "table.csv")


def test_the_figure_is_drawn_and_a_wrong_place_or_suffix_is_explained(cells, tmp_path):
    document = compare(cells(*two_models()))
    draw_agreement(document, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "<svg" in drawn
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        draw_agreement(document, tmp_path / "figure.pdf")
    with pytest.raises(StoreError, match="cannot write"):
        draw_agreement(document, tmp_path / "nowhere" / "figure.png")


def test_a_person_reads_the_summary_first_then_the_ladders(cells, tmp_path, capsys):
    path = tmp_path / "cells.csv"
    document = compare(cells(*two_models()))
    print_import(import_document(path, None), None)
    assert "not written: give --out" in capsys.readouterr().out
    print_agreement(document)
    said = capsys.readouterr().out
    assert said.index("covers") < said.index("J/token at the smallest cap") < said.index("group 1: meta-llama")
    assert "0 by construction" in said


@pytest.mark.skipif(not QWEN.is_file(), reason=f"{QWEN} is not here")
def test_the_published_qwen3_cells_give_the_shares_and_ratios_that_a_plain_loop_finds(tmp_path):
    document = compare(write_cells(import_document(QWEN, None), tmp_path / "qwen.json"))
    lines = QWEN.read_text().splitlines()
    header = lines[0].split(",")
    best, low = {}, {}
    for line in lines[1:]:
        row = dict(zip(header, line.split(","), strict=True))
        ladder = tuple(row[name] for name in ("model_id", "num_gpus", "tensor_parallel", "task"))
        tps, watts = float(row["output_throughput_tokens_per_sec"]), float(row["avg_power_watts"])
        if ladder not in best or tps > best[ladder][0]:
            best[ladder] = tps, watts
        if row["max_num_seqs"] == "8":
            low[ladder] = watts / tps
    ratios = [low[ladder] / (watts / tps) for ladder, (tps, watts) in best.items()]
    found = document["energy_at_smallest_cap"]
    assert (found["n_ladders"], found["median"]) == (17, pytest.approx(statistics.median(ratios)))
    assert found["inside_claim"]["k"] == sum(4 <= ratio <= 20 for ratio in ratios)
    logs = {}
    for (model, gpus, tensor_parallel, _), (_, watts) in best.items():
        logs.setdefault((model, gpus, tensor_parallel), []).append(math.log(watts / (700 * int(gpus))))
    shares = [math.exp(sum(values) / len(values)) for values in logs.values()]
    tally = only(document["summaries"])["largest_tps"]
    assert (tally["n_groups"], tally["n_ladders"], tally["coverage"]["n"]) == (14, 17, 14)
    assert tally["gpu_power_share_of_limit"]["quantiles"]["p50"] == pytest.approx(float(np.median(shares)))
    assert tally["gpu_power_share_of_limit"]["inside_prior_p5_p95"]["k"] == sum(0.4 <= s <= 0.9 for s in shares)
    bias = sum(math.log(share / PRIOR_MEAN) for share in shares) / 14
    assert tally["ln_ratio"]["power"]["mean"] == pytest.approx(bias, abs=1e-6)


@dataclass(frozen=True)
class Step(Cell):
    """A cell with so many requests in flight, by given arrivals."""

    in_flight: int = 16
    arrival: str = "closed"

    def definition(self):
        return super().definition() | {
            "concurrency": self.in_flight, "arrival": self.arrival, "plateau_tps_tok_per_s": None,
        }  # fmt: skip


def steps(folder, rates, *, role="ladder", argv=("vllm", "--x"), **manifest):
    """Write a run with cells at so many tok/s of each of its servers, by requests in flight."""
    run = SyntheticRun(
        tuple(
            Step(f"{role}-{slots}", start_s=100.0 + 60 * n, rate=rate, role=role, in_flight=slots)
            for n, (slots, rate) in enumerate(rates.items())
        )
    )
    run.manifest |= {"id": folder.name, **manifest}
    for each in run.manifest["servers"]:
        each["argv"] = list(argv)
    return run.write(folder)


def test_joules_of_two_boundaries_make_two_ladders_and_no_ratio(tmp_path):
    gpu = {"boundary": "gpu", "node_profile": None}
    document = compare(steps(tmp_path / "a", {64: 400.0}, **gpu), steps(tmp_path / "b", {4: 50.0}))
    assert [(ladder["boundary"], ladder["concurrency_cap"]) for ladder in document["ladders"]] == [
        ("gpu", 64), ("node_modelled x PUE", 4),
    ]  # fmt: skip
    assert document["energy_at_smallest_cap"]["n_ladders"] == 0
    assert len({ladder["group"] for ladder in document["ladders"]}) == 1
    left_out = [only(summary["ladders_left_out"]) for summary in document["summaries"]]
    assert left_out == ["a/ladder-64", "b/ladder-4"]


@pytest.mark.parametrize(
    "other",
    [
        {"argv": ("vllm", "--x", "--max-num-seqs", "8")},
        {"argv": ("vllm", "--x", "-tp", "2")},
        {"servers": [server(("gpu-a",)), server(("gpu-b",))]},
    ],
    ids=["arguments", "tensor parallel", "replicas"],
)
def test_servers_with_other_settings_are_another_group(tmp_path, other):
    document = compare(steps(tmp_path / "a", {64: 400.0}), steps(tmp_path / "b", {4: 50.0}, **other))
    assert len({cell["group"] for cell in document["cells"]}) == len(document["ladders"]) == 2
    assert document["energy_at_smallest_cap"]["n_ladders"] == 0


def test_port_and_order_of_arguments_make_no_other_group(tmp_path):
    one = steps(tmp_path / "a", {64: 400.0}, argv=("vllm", "--port", "1", "--x", "--y=2"))
    two = steps(tmp_path / "b", {4: 50.0}, argv=("vllm", "--port", "2", "--y", "2", "--x"))
    ladder = only(compare(one, two)["ladders"])
    # 0.25 of 1.6 kW and 1.22 times 400 W, over 800 and over 100 tok/s
    assert ladder["smallest_cap_over_saturation"] == pytest.approx(8, rel=1e-2)


@pytest.mark.parametrize(
    ("rates", "saturation"),
    [({1: 50.0, 2: 98.0, 4: 190.0}, "unproven"), ({1: 50.0, 2: 98.0, 4: 100.0}, "proven"), ({4: 190.0}, "unknown")],
)
def test_a_sweep_s_ladder_is_saturated_where_its_own_steps_show_it(tmp_path, cells, rates, saturation):
    document = compare(steps(tmp_path / "a", rates), cells(mlenergy_row()))
    ladder = only([each for each in document["ladders"] if "test/model" in each["group"]])
    assert ladder["saturation"] == saturation


def test_an_open_loop_is_on_no_ladder_and_says_so(tmp_path):
    run = SyntheticRun((Step("1x", in_flight=512, rate=10.0, arrival="poisson:3"),)).write(tmp_path / "open")
    document = compare(run, steps(tmp_path / "closed", {64: 400.0}, role="compared"))
    assert only(document["ladders"])["cell"] == "closed/compared-64"
    assert only([cell["left_out"] for cell in document["cells"] if cell["left_out"]]).startswith("its load is an open")
