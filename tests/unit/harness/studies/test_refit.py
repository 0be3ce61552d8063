import math

import numpy as np
import pytest

from estimator.tps import TpsModel
from harness.errors import ConfigError, StoreError, WorkloadError
from harness.studies.refit import refit, refit_to_file, rows_from_runs
from tests.unit.harness.synthetic_run import PLAIN, Cell, SyntheticRun, server

COEF = (9.0, -0.2, -0.3)
LENGTHS = [(100, 200), (100, 800), (400, 200), (400, 800), (200, 400), (800, 100)]


def tps(input_tok, output_tok):
    return math.exp(COEF[0]) * input_tok ** COEF[1] * output_tok ** COEF[2]


def fixed_cells(lengths):
    return tuple(
        Cell(
            f"calibration-{number}", start_s=100.0 + 60 * number, rate=tps(input_tok, output_tok) / 2,
            output_tok=output_tok, input_tok=input_tok, role="calibration", workload=f"fixed:{input_tok}x{output_tok}",
        )
        for number, (input_tok, output_tok) in enumerate(lengths)
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def write(name, lengths, **manifest):
        made = SyntheticRun(fixed_cells(lengths))
        made.manifest |= {"id": name, **manifest}
        return made.write(tmp_path / name)

    return write


def test_the_coefficients_that_made_the_runs_are_found_again(run):
    model = refit([run("a", LENGTHS[:3]), run("b", LENGTHS[3:])], "oviedo")
    assert model.coef == pytest.approx(COEF, rel=1e-4)
    assert model.residual_sd_log == pytest.approx(0, abs=1e-6)
    assert (model.model, model.gpus, model.n_rows, model.dof) == ("test/model", 2, 6, 3)
    assert (model.input_range_tok, model.output_range_tok) == ((100, 800), (100, 800))
    assert model.cap_tok_per_s is None
    assert model.source == "run a; run b"


def test_the_constant_form_is_the_largest_throughput_seen(run):
    model = refit([run("a", LENGTHS[:3])], "constant")
    assert float(model.predict_tok_per_s(1, 1)) == pytest.approx(max(tps(*lengths) for lengths in LENGTHS[:3]))


def test_each_row_is_a_cell_with_its_lengths_and_its_run(run):
    rows = rows_from_runs([run("a", LENGTHS[:2])])
    assert [(row.input_tok, row.output_tok, row.source) for row in rows] == [(100, 200, "run a"), (100, 800, "run a")]
    assert [row.tps_tok_per_s for row in rows] == pytest.approx([tps(100, 200), tps(100, 800)])


def test_mixed_workloads_and_invalid_cells_are_left_out(tmp_path):
    made = SyntheticRun((PLAIN, *(cell for cell in fixed_cells([(1, 1), *LENGTHS[:2]]) if cell.start_s > 100)))
    made.events = [event for event in made.events if not (event["event"] == "cell_end" and event["t_mono_s"] < 210)]
    rows = rows_from_runs([made.write(tmp_path / "run")])
    assert [(row.input_tok, row.output_tok) for row in rows] == [(100, 800)]


@pytest.mark.parametrize(
    ("manifest", "listed"),
    [
        ({"model": "another/model"}, "another/model on 2 device(s); test/model on 2 device(s)"),
        ({"servers": [server(["gpu-a"])]}, "test/model on 1 device(s); test/model on 2 device(s)"),
    ],
    ids=["models", "node sizes"],
)
def test_runs_of_different_models_or_node_sizes_are_refused(run, manifest, listed):
    with pytest.raises(WorkloadError, match="cannot share one TPS model") as error:
        refit([run("a", LENGTHS[:3]), run("b", LENGTHS[3:], **manifest)], "oviedo")
    assert error.value.why == listed


def test_too_few_cells_are_refused_with_their_number_and_what_to_do(run):
    with pytest.raises(WorkloadError, match=r"2 usable fixed-length cell\(s\) in 1 run\(s\) are too few") as error:
        refit([run("a", [(100, 200), (200, 400)])], "oviedo")
    assert "fixed:500x2000" in error.value.fix


def test_a_run_without_any_cell_is_refused(run):
    folder = run("a", [(100, 200)])
    (folder / "events.jsonl").write_text("")
    with pytest.raises(WorkloadError, match="0 usable"):
        refit([folder], "oviedo")


def test_a_single_cell_gives_a_model_that_says_it_holds_only_there(run):
    model = refit([run("a", [(100, 200)])], "oviedo")
    assert float(model.predict_tok_per_s(100, 200)) == pytest.approx(tps(100, 200))
    assert len([note for note in model.notes if "only at that" in note]) == 2


def test_the_model_is_written_for_a_later_prediction(run, tmp_path):
    out = tmp_path / "tps.json"
    model = refit_to_file([run("a", LENGTHS)], "oviedo", out)
    assert TpsModel.load(out) == model
    assert np.isfinite(model.predictive_sd_log(300, 300))


def test_an_unknown_form_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="unknown form 'cubic'") as error:
        refit_to_file([tmp_path / "none"], "cubic", tmp_path / "out")
    assert "oviedo" in error.value.fix


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        refit([tmp_path], "oviedo")


def test_a_place_that_cannot_be_written_is_refused(run, tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        refit_to_file([run("a", LENGTHS)], "oviedo", tmp_path / "none" / "tps.json")
