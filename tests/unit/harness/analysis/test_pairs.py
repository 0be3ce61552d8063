"""Pairs, sweeps and limits in the analysis of runs made by hand."""

import math
from dataclasses import replace

import pytest

from harness.analysis.pairs import energy_ratio, pairs_of
from harness.analysis.run import analyse_run, open_run, power_model
from tests.unit.harness.synthetic_run import MULTIPLIED, PLAIN, SyntheticRun, power_rows

NODE_W = 0.25 * 1600 + 1.22 * 400


def wh(cell):
    """Energy of a query: the node's watts over the rate of both servers, times the output length; PUE cancels."""
    return NODE_W / (2 * cell.rate) * cell.output_tok


def analysed(folder, *cells, **definition):
    run = SyntheticRun(cells)
    for event in run.events:
        if event["event"] == "cell_start":
            event["definition"] |= definition
    return analyse_run(run.write(folder))


def abba():
    """A B B A, with the second visits 4% and 2% slower."""
    return (
        PLAIN,
        MULTIPLIED,
        replace(MULTIPLIED, name="8x-2", start_s=300.0, rate=MULTIPLIED.rate * 0.96),
        replace(PLAIN, name="1x-2", start_s=400.0, rate=PLAIN.rate * 0.98),
    )


def test_pairs_in_abba_are_the_nth_plain_with_the_nth_multiplied_cell(tmp_path):
    result = analysed(tmp_path / "run", *abba())
    assert [(a.name, b.name) for a, b in pairs_of(result.cells)] == [("1x", "8x"), ("1x-2", "8x-2")]


def test_the_ratio_of_abba_is_the_geometric_mean_with_students_t_of_its_two_pairs(tmp_path):
    ratio = analysed(tmp_path / "run", *abba()).energy_ratio
    first, second = (math.log(wh(b) / wh(a)) for a, b in ((abba()[0], abba()[1]), (abba()[3], abba()[2])))
    half = 12.7062 * abs(first - second) / 2
    mean = (first + second) / 2
    assert ratio.measured == pytest.approx(math.exp(mean), rel=1e-6)
    assert ratio.measured_ci95 == pytest.approx((math.exp(mean - half), math.exp(mean + half)), rel=1e-4)
    assert (ratio.pairs, ratio.interval_basis) == (2, "between_pairs")


def rising(folder, *cells, gain_rel_u=0.03):
    """A run whose GPUs draw 150 W together up to 195 s, so in the first cell, and 400 W from then on."""
    run = SyntheticRun(cells)
    run.power = power_rows(until_s=max(cell.start_s for cell in cells) + 45, loaded_from_s=195.0)
    run.manifest["power"] = run.manifest["power"] | {"gain_rel_u": gain_rel_u}
    return analyse_run(run.write(folder)).energy_ratio


def test_pairs_of_a_sensor_of_unknown_gain_have_no_interval_where_the_gain_does_not_cancel(tmp_path):
    known, unknown = rising(tmp_path / "a", *abba()), rising(tmp_path / "b", *abba(), gain_rel_u=None)
    assert (known.interval_basis, known.pairs) == ("between_pairs", 2)
    assert unknown.measured == pytest.approx(known.measured)
    assert (unknown.measured_ci95, unknown.exponent_ci95, unknown.interval_basis) == (None, None, "unknown")


def test_the_edges_of_each_window_are_part_of_a_ratios_error(tmp_path):
    ratio = analysed(tmp_path / "run", PLAIN, MULTIPLIED).energy_ratio
    # By hand: 16 requests in flight, half of them at each edge; 800 and 400 tok/s and a counter's step in 26 s.
    tokens = [8 * math.sqrt(2 / 3) / (rate * 26) for rate in (800, 400)]
    clock = 0.1 * math.sqrt(2 / 3) / 26
    half = math.log(ratio.measured_ci95[1] / ratio.measured)
    assert half == pytest.approx(1.959964 * math.hypot(*tokens, clock, clock), rel=1e-3)


def test_the_exponent_is_the_ratios_logarithm_to_the_base_of_the_lengths(tmp_path):
    ratio = analysed(tmp_path / "run", PLAIN, MULTIPLIED).energy_ratio
    assert ratio.measured == pytest.approx(16, rel=1e-6)  # 8 times the tokens at half the rate
    assert ratio.exponent == pytest.approx(math.log(16) / math.log(8), rel=1e-6)
    assert ratio.interval_basis == "within_windows"


def test_repeated_runs_give_the_interval_between_runs(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    results = [
        analysed(folders[0], PLAIN, MULTIPLIED),
        analysed(folders[1], PLAIN, replace(MULTIPLIED, rate=MULTIPLIED.rate / 1.1)),
    ]
    model = power_model(open_run(folders[0])[1])
    ratio = energy_ratio([result.cells for result in results], model)
    assert ratio.measured == pytest.approx(16 * math.sqrt(1.1), rel=1e-6)
    assert (ratio.pairs, ratio.interval_basis) == (2, "between_runs")


def test_cells_of_a_sweep_are_listed_but_make_no_pair(tmp_path):
    cells = (replace(PLAIN, role="ladder"), replace(MULTIPLIED, role="grid"))
    result = analysed(tmp_path / "run", *cells)
    assert [cell.role for cell in result.cells] == ["ladder", "grid"]
    assert result.energy_ratio is None


@pytest.mark.parametrize(("role", "unproven"), [("ladder", False), ("grid", True), ("compared", True)])
def test_only_a_ladder_may_be_unsaturated(tmp_path, role, unproven):
    result = analysed(tmp_path / "run", replace(PLAIN, role=role), plateau_tps_tok_per_s=None)
    assert ("saturation_unproven" in result.cells[0].reasons) is unproven


@pytest.mark.parametrize(
    ("binds", "gain", "suspect"),
    [("max_num_seqs", 0.2, True), ("max_num_seqs", 0.01, False), ("compute_or_bandwidth", None, False)],
)
def test_a_batch_limit_that_holds_throughput_down_makes_a_cell_suspect(tmp_path, binds, gain, suspect):
    result = analysed(tmp_path / "run", PLAIN, binds=binds, doubling_gain_rel=gain)
    (cell,) = result.cells
    assert ("config_limited" in cell.reasons, cell.verdict != "valid") == (suspect, suspect)


@pytest.mark.parametrize(("served", "exponent"), [((80.0, 160.0), 2.0), ((80.0, 80.2), None)])
def test_the_exponent_is_over_the_lengths_that_were_served_where_the_server_chose_them(tmp_path, served, exponent):
    result = analysed(tmp_path / "run", PLAIN, MULTIPLIED)
    cells = []
    for cell, tok, joules in zip(result.cells, served, (1.0, 2.0), strict=True):
        wh = joules * tok / 3600
        energy = cell.wh_per_query.model_copy(update={"mean": 1.5 * wh, "mean_without_pue": wh, "output_tok": tok})
        told = {
            "reasons": ("lengths_as_served",),
            "verdict": "suspect",
            "joules_per_tok": joules,
            "wh_per_query": energy,
        }
        cells.append(cell.model_copy(update=told))
    ratio = energy_ratio([cells], power_model(open_run(tmp_path / "run")[1]))
    assert ratio.exponent == (None if exponent is None else pytest.approx(exponent))
