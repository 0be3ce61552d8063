from dataclasses import dataclass

import pytest

from harness.analysis.run import analyse_run
from harness.tps_rows import row_notes, tps_rows
from results.schema import ChangeResult, QueryEnergy, WindowResult
from tests.unit.harness.synthetic_run import GENERATING_S, Cell, SyntheticRun
from tests.unit.harness.test_prediction import cell


def changed(**fields):
    return cell(100, 50.0, verdict="suspect").model_copy(update=fields)


def window(change):
    throughput = ChangeResult(change=change, half_width_95=9.0, unit="of_mean")
    return WindowResult(
        start_mono_s=0, end_mono_s=60, duration_s=60, mean_requests=2, ended="budget_spent",
        changes={"throughput": throughput}, autocorrelation_s=1, batches=2,
    )  # fmt: skip


def test_only_sound_cells_of_fixed_length_become_rows():
    cells = (
        cell(100, 50.0),
        cell(100, 60.0, verdict="suspect"),
        cell(100, 70.0, verdict="invalid"),
        cell(100, None),
        cell(100, 90.0, workload="traditional"),
        changed(role="ladder"),
    )
    rows = tps_rows("m", 2, cells, "s")
    assert [(row.tps_tok_per_s, row.gpus, row.input_tok, row.output_tok) for row in rows] == [
        (50.0, 2, 500, 100), (60.0, 2, 500, 100),
    ]  # fmt: skip
    assert row_notes(cells) == ()


def test_a_row_has_the_length_that_was_served_where_the_server_chose_it():
    energy = QueryEnergy(
        mean=0.03, p50=0.03, p50_rule="r", boundary="gpu", pue=1.5, pue_source="s", mean_without_pue=0.02, ci95=None,
        standard_uncertainty_rel=None, uncertainty_parts_rel={}, output_tok=80.0,
    )  # fmt: skip
    told = {"verdict": "suspect", "reasons": ("lengths_as_served",), "joules_per_tok": 0.9, "wh_per_query": energy}
    (row,) = tps_rows("m", 2, (cell(100, 9.0).model_copy(update=told),), "s")
    assert row.output_tok == 80  # 0.02 Wh of 0.9 J a token


@pytest.mark.parametrize(("known", "row_s"), [(0.03, 0.03), (0.0, None), (None, None)])
def test_a_row_carries_the_error_of_its_cell_where_one_is_known(known, row_s):
    (row,) = tps_rows("m", 2, (changed(tps_standard_uncertainty_rel=known),), "s")
    assert row.tps_sd_log == row_s


def test_an_open_loop_is_no_row_however_near_saturation_it_came():
    cells = (changed(arrival="poisson:12", name="1x"), changed())
    assert len(tps_rows("m", 2, cells, "s")) == 1
    (note,) = row_notes(cells)
    assert note.startswith("1x is left out: its load is an open loop (poisson:12)")


@pytest.mark.parametrize(
    ("reasons", "change", "rows"),
    [
        (("window_too_short", "steadiness_unproven", "precision_not_reached"), 1.2, 1),
        (("window_too_short", "ramp_not_over"), -0.38, 1),
        (("window_too_short", "ramp_not_over"), 1.5, 0),
        (("window_too_short", "drift"), 0.08, 1),
        (("window_too_short", "drift"), -0.13, 0),
        (("window_too_short", "level_shift"), 0.3, 1),
        (("window_too_short", "level_shift", "drift"), 0.3, 0),
        (("window_too_short", "ramp_not_over"), None, 0),
    ],
)
def test_a_cell_whose_throughput_was_still_on_its_way_is_no_row(reasons, change, rows):
    """Reasons of a ramp count where throughput itself moved: power or a nearly full cache may give them too."""
    cells = (changed(reasons=reasons, window=None if change is None else window(change)),)
    assert len(tps_rows("m", 2, cells, "s")) == rows
    assert [note.startswith("c is left out: its throughput was not yet steady") for note in row_notes(cells)] == (
        [] if rows else [True]
    )


def test_rows_of_unproven_saturation_are_kept_and_named():
    unproven = changed(name="grid-500x100", role="grid", concurrency=4, reasons=("saturation_unproven",))
    cells = (unproven, changed(role="grid", concurrency=64))
    assert len(tps_rows("m", 2, cells, "s")) == 2
    (note,) = row_notes(cells)
    assert note.startswith("saturation is not proven for 1 of 2 cells (grid-500x100 at 4 in flight)")


def test_a_calibration_cell_is_as_saturated_as_the_compared_cell_whose_concurrency_it_has():
    calibration = (changed(name="calibration-0", concurrency=8), changed(name="calibration-1", concurrency=64))
    compared = changed(workload="traditional", role="compared", concurrency=8, reasons=("saturation_unproven",))
    (note,) = row_notes((*calibration, compared))
    assert "1 of 2 cells (calibration-0 at 8 in flight)" in note


@dataclass(frozen=True)
class Ramp(Cell):
    """A cell that prefills all the way: its rate rises from 0 to twice its mean, too soon for six mean requests."""

    def _server_row(self, t_s, server, base_tok):
        row, loaded_s = super()._server_row(t_s, server, base_tok), min(max(t_s - self.start_s - 1, 0.0), GENERATING_S)
        return row | {"generation_tok": base_tok + self.rate * loaded_s**2 / GENERATING_S}


def test_a_measured_ramp_that_is_too_short_to_be_invalid_is_no_row(tmp_path):
    fixed = {"role": "calibration", "workload": "fixed:50x3200", "output_tok": 3200, "median_tok": 3200.0}
    run = SyntheticRun((Ramp("calibration-0", **fixed), Cell("calibration-1", start_s=160.0, **fixed)))
    ramp, steady = analyse_run(run.write(tmp_path / "run")).calibration_cells
    assert ramp.verdict == steady.verdict == "suspect"
    assert [row.tps_tok_per_s for row in tps_rows("m", 2, (ramp, steady), "s")] == pytest.approx([800.0])
    (note,) = row_notes((ramp, steady))
    assert note.startswith("calibration-0 is left out: its throughput was not yet steady: it changed by +")
