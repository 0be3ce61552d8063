import pytest

from results.report.fleet import measured_totals, paper_totals
from results.schema import CellResult, QueryEnergy, RequestCount, TokenCheck

BETA = (2.7 + (11.3 - 2.7) * 0.75) / (0.75 * 11.3) * 1.10 * 1.12


def cell(name="1x", wh=0.4, *, boundary="node_modelled", verdict="valid", multiplier=1.0, ci95=(0.3, 0.5)):
    energy = QueryEnergy(
        mean=wh, p50=wh, p50_rule="", boundary=f"{boundary} x PUE", pue=1.2, pue_source="", mean_without_pue=wh / 1.2,
        ci95=ci95, standard_uncertainty_rel=0.1, uncertainty_parts_rel={},
    )  # fmt: skip
    return CellResult(
        name=name, role="compared", workload="traditional", multiplier=multiplier, concurrency=8, mean_input_tok=500,
        mean_output_tok=400, median_output_tok=300, capped_share=0, power_source="nvml", boundary=boundary, binding="",
        wh_per_query=energy, requests=RequestCount(completed=1, aborted=0, errors=0),
        tokens=TokenCheck(counter_tok=None, usage_completed_tok=1, unfinished_limit_tok=0, consistent=None),
        verdict=verdict, reasons=(),
    )  # fmt: skip


def test_a_billion_queries_cost_beta_times_their_mean_energy():
    (total,) = measured_totals([cell(wh=0.4)])
    assert total.gwh_per_day == pytest.approx(BETA * 0.4)
    assert total.interval == pytest.approx((BETA * 0.3, BETA * 0.5))


def test_a_tenth_of_the_queries_may_be_long():
    *_, mix = measured_totals([cell(wh=0.4), cell("15x", 6.0, multiplier=15.0)])
    assert mix.gwh_per_day == pytest.approx(BETA * (0.9 * 0.4 + 0.1 * 6.0))


@pytest.mark.parametrize("unfit", [{"boundary": "gpu"}, {"verdict": "invalid"}])
def test_joules_of_the_gpus_alone_and_invalid_cells_make_no_fleet(unfit):
    assert measured_totals([cell(**unfit)]) == ()


def test_an_energy_without_an_interval_makes_a_total_without_one():
    assert measured_totals([cell(ci95=None)])[0].interval is None


def test_the_papers_fleets_are_those_it_states():
    short, mixed = paper_totals()
    assert short.gwh_per_day == pytest.approx(0.7, abs=0.05)
    assert mixed.gwh_per_day == pytest.approx(1.7, abs=0.05)
