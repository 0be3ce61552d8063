"""What a cell's window needs, set against the window rule itself on records made for it."""

import numpy as np
import pytest

from harness.analysis.objections import STEADINESS_UNPROVEN
from harness.analysis.saturation import Rung, SearchResult
from harness.analysis.steady import WINDOW_TOO_SHORT, choose_window
from harness.budget import JOB_S, Need, Scatter, granted, scatter_of, tps_of
from harness.cell_budgets import cell_need
from harness.cell_plan import CellPlan
from harness.console.budget import budget_lines
from harness.load.arrival import Arrival
from harness.plan import Timing
from tests.unit.harness.synthetic_record import JOULES, PERIOD_S, TOK, record_of, rule
from workloads.spec import load_workload

WARMUP_S, MIN_WINDOW_S = 10.0, 60.0
TIMING = Timing(300.0, WARMUP_S, 60.0, 43.0, 60.0, 15.0, MIN_WINDOW_S, JOB_S)


def loaded(seconds, request_s, sd_rel, seed, ramp_s=0.0):
    """Return the rule's window of a cell loaded so long; its scatter has no memory from scrape to scrape."""
    noise = np.random.default_rng(seed).normal(1, sd_rel, (2, int(seconds / PERIOD_S)))
    started = 1 - 0.6 * np.exp(-np.arange(noise.shape[1]) * PERIOD_S / max(ramp_s, 1e-9))
    record = record_of(TOK * noise[0] * started, JOULES * noise[1])
    return choose_window(record, rule(request_s, min_window_s=MIN_WINDOW_S, earliest_s=WARMUP_S))


@pytest.mark.parametrize("request_s", [34.0, 195.0])
@pytest.mark.parametrize("ramp_s", [0.0, 3.0])
def test_with_the_seconds_a_window_needs_the_rule_finds_it_long_enough_and_with_fewer_not(request_s, ramp_s):
    need = Need(request_s, WARMUP_S, MIN_WINDOW_S)
    enough = [loaded(need.seconds, request_s, 0.01, seed, ramp_s) for seed in range(20)]
    assert sum(WINDOW_TOO_SHORT in window.reasons for window in enough) <= 1
    assert WINDOW_TOO_SHORT in loaded(0.7 * need.seconds, request_s, 0.01, 0, ramp_s).reasons


def test_the_window_that_six_requests_of_195_s_need_takes_nearly_half_an_hour():
    """10 s of warm-up, one request of ramp, six of them and a quarter more: 10 + 195 + 1.25 * 6 * 195."""
    need = Need(195.0, WARMUP_S, MIN_WINDOW_S)
    assert need.seconds == pytest.approx(1667.5)
    assert need.longest_request_s(need.seconds) == pytest.approx(195.0)


def test_the_seconds_that_showing_steadiness_takes_follow_from_the_scatter_that_was_seen():
    """White noise of 5% a scrape: a mean over 40 s is known to 5% / sqrt(80)."""
    seen = Scatter(0.05 / 80**0.5, 40.0)
    need = Need(2.0, WARMUP_S, MIN_WINDOW_S, seen)
    assert need.seconds_with_scatter > 2 * need.seconds
    shown = [loaded(need.seconds_with_scatter, 2.0, 0.05, seed) for seed in range(40)]
    hardly = [loaded(0.4 * need.seconds_with_scatter, 2.0, 0.05, seed) for seed in range(40)]
    unproven = [sum(STEADINESS_UNPROVEN in window.reasons for window in windows) for windows in (shown, hardly)]
    assert unproven[0] <= 20 < unproven[1]


def test_without_scatter_nothing_is_added_for_it():
    need = Need(2.0, WARMUP_S, MIN_WINDOW_S)
    assert need.seconds_with_scatter == need.seconds == 72.0


@pytest.mark.parametrize(
    ("needs", "left_s", "budgets"),
    [
        ((100.0, 1600.0), 3000.0, (300.0 + 550.0, 1600.0 + 550.0)),
        ((100.0, 1600.0), 1500.0, (300.0, 1200.0)),
        ((100.0, 1600.0), 100.0, (300.0, 300.0)),
        ((700.0, 900.0), 1500.0, (700.0, 800.0)),
        ((400.0, 4000.0), 3000.0, (400.0, 2600.0)),
    ],
    ids=[
        "room for both and to spare",
        "as far as the hour goes",
        "never below the least",
        "the smaller one first",
        "long",
    ],
)
def test_every_cell_gets_what_its_window_needs_as_far_as_the_job_goes(needs, left_s, budgets):
    asked = {str(number): Need(None, 0.0, seconds) for number, seconds in enumerate(needs)}
    assert tuple(granted(asked, 300.0, left_s).values()) == pytest.approx(budgets)


def test_requests_come_before_steadiness():
    noisy = Need(1.0, 0.0, 60.0, Scatter(0.05, 40.0))
    long = Need(100.0, 0.0, 60.0)
    assert noisy.seconds_with_scatter > 5_000
    budgets = granted({"1x": noisy, "15x": long}, 300.0, 1500.0)
    assert budgets == {"1x": pytest.approx(650.0), "15x": pytest.approx(850.0)}


def test_what_a_job_has_to_spare_goes_where_it_is_not_known_what_showing_steadiness_takes():
    calm, unknown = Need(1.0, 0.0, 60.0, Scatter(0.001, 40.0)), Need(1.0, 0.0, 60.0)
    assert granted({"1x": calm, "15x": unknown}, 300.0, 1500.0) == {"1x": 300.0, "15x": 1200.0}
    assert granted({"1x": calm, "15x": calm}, 300.0, 1500.0) == {"1x": 300.0, "15x": 300.0}


def found(*rungs, concurrency=64, plateau=None):
    return SearchResult(concurrency, plateau, "", rungs)


def test_what_the_search_saw_at_the_chosen_concurrency_tells_how_long_requests_take():
    rung = Rung(64, 2000.0, 0.0, tps_u_tok_per_s=20.0, seconds=43.0)
    assert tps_of(found(Rung(32, 1500.0, 0.0), rung, plateau=2050.0)) == 2000.0
    assert tps_of(found(plateau=2050.0)) == 2050.0
    assert scatter_of(found(rung)) == (0.01, 43.0)
    assert scatter_of(found(Rung(64, 2000.0, 0.0, seconds=43.0))) is None
    assert scatter_of(found(plateau=2050.0)) is None


def cell(result, **changes):
    workload = load_workload("fixed:100x500")
    return CellPlan("1x", "compared", workload, 1.0, workload.lengths(), 0.0, 500.0, result, **changes)


def test_a_cells_need_is_by_the_search_else_by_the_prediction_else_unknown():
    assert cell_need(cell(found(plateau=1000.0)), TIMING, 500.0).request_s == 32.0
    assert cell_need(cell(found()), TIMING, 500.0).request_s == 64.0
    assert cell_need(cell(found()), TIMING, None).request_s is None


def test_how_long_requests_take_in_an_open_loop_is_not_known_from_what_saturates():
    open_loop = cell(found(plateau=1000.0), arrival=Arrival("poisson:2", rate_per_s=2.0))
    assert cell_need(open_loop, TIMING, None).request_s is None


def test_a_budget_that_cannot_give_a_valid_window_is_said_before_the_cell_starts_with_the_seconds_needed():
    (line,) = budget_lines("15x", Need(195.0, WARMUP_S, MIN_WINDOW_S), 300.0, 0.02)
    assert "a mean request takes 195 s" in line
    assert line.endswith("TOO SHORT, expect window_too_short; --budget 1668 gives enough")
    (line,) = budget_lines("15x", Need(195.0, WARMUP_S, MIN_WINDOW_S), 1700.0, 0.02)
    assert line.endswith("budget 1700 s")
    (line,) = budget_lines("15x", Need(None, WARMUP_S, MIN_WINDOW_S), 300.0, 0.02)
    assert "is not known" in line


def test_precision_is_said_by_the_scatter_that_was_measured_and_by_no_other():
    need = Need(2.0, WARMUP_S, MIN_WINDOW_S, Scatter(0.01, 40.0))
    _, line = budget_lines("1x", need, 172.0, 0.02)
    assert "known to about +-1.0% (95%, random part)" in line  # 1.96 * 1% * sqrt(40 / 160)
    assert "expect steadiness_unproven" in line
    _, line = budget_lines("1x", need, 5_000.0, 0.02)
    assert "unproven" not in line
