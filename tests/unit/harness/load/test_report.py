import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from harness.load.report import goodput, latency_statistics, mean_in_flight, streamed_requests, wilson_interval

ROW = {
    "streamed": True, "first_fill": False, "outcome": "completed", "output_tok": 11, "scheduled_mono_s": np.nan,
    "send_mono_s": 10.0, "first_mono_s": 10.5, "end_mono_s": 12.5,
}  # fmt: skip


def requests(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **change} for change in changes], columns=list(ROW))


def test_times_count_from_sending_in_closed_loop_and_from_being_due_in_open_loop() -> None:
    rows = streamed_requests(requests({}, {"scheduled_mono_s": 9.0}), 0, 100)
    assert rows["ttft_s"].tolist() == pytest.approx([0.5, 1.5])
    assert rows["e2e_s"].tolist() == pytest.approx([2.5, 3.5])
    assert rows["itl_s"].tolist() == pytest.approx([0.2, 0.2])


def test_only_streamed_requests_due_in_the_window_count_and_no_first_fill() -> None:
    rows = requests(
        {}, {"streamed": False}, {"first_fill": True}, {"send_mono_s": 1.0}, {"scheduled_mono_s": 1.0},
        {"scheduled_mono_s": 9.0, "send_mono_s": 200.0},
    )  # fmt: skip
    assert streamed_requests(rows, 5, 100).index.tolist() == [0, 5]


@pytest.mark.parametrize(
    ("n", "p90", "p99"),
    [(1, False, False), (29, False, False), (30, True, False), (299, True, False), (300, True, True)],
)
def test_a_percentile_needs_three_requests_beyond_it(n: int, p90: bool, p99: bool) -> None:
    values_s = np.arange(n, dtype=float)
    statistics = latency_statistics(np.append(values_s, np.nan))
    assert (statistics.n, statistics.mean_s, statistics.p50_s) == (n, (n - 1) / 2, (n - 1) / 2)
    assert (statistics.p90_s is not None, statistics.p99_s is not None) == (p90, p99)
    if p99:
        assert statistics.p99_s == pytest.approx(0.99 * (n - 1))


def test_the_mean_in_flight_is_request_time_inside_over_the_time() -> None:
    rows = requests(
        {"send_mono_s": 0.0, "end_mono_s": 15.0},
        {"send_mono_s": 12.0, "end_mono_s": 14.0},
        {"send_mono_s": 18.0, "end_mono_s": 90.0},
        {"send_mono_s": 30.0, "end_mono_s": 40.0},
        {"send_mono_s": None, "end_mono_s": 20.0},
    )
    assert mean_in_flight(rows, 10.0, 20.0) == pytest.approx((5 + 2 + 2) / 10)


def test_no_request_has_no_latency() -> None:
    statistics = latency_statistics([np.nan])
    assert (statistics.n, statistics.mean_s, statistics.p50_s) == (0, None, None)


MIXED = requests(
    {},
    {"first_mono_s": 11.5, "end_mono_s": 12.5},
    {"end_mono_s": 20.5},
    {"output_tok": 1, "end_mono_s": 10.5},
    {"outcome": "error", "first_mono_s": np.nan, "output_tok": np.nan},
    {"outcome": "aborted", "first_mono_s": np.nan, "output_tok": np.nan},
)


@pytest.mark.parametrize(
    ("ttft_s", "itl_s", "met"),
    [(1.0, 0.5, 2), (1.0, None, 3), (None, 0.5, 3), (None, None, 4), (0.5, 0.2, 2), (0.4, 9, 0)],
)
def test_goodput_counts_the_requests_within_every_limit(ttft_s: float | None, itl_s: float | None, met: int) -> None:
    result = goodput(MIXED, 0, 100, ttft_limit_s=ttft_s, itl_limit_s=itl_s)
    assert (result.met, result.n, result.failed, result.unfinished) == (met, 5, 1, 1)
    assert result.share == met / 5


def test_goodput_of_no_request_is_not_known() -> None:
    result = goodput(MIXED, 500, 600, ttft_limit_s=1, itl_limit_s=1)
    assert (result.share, result.ci95, result.n) == (None, None, 0)


@pytest.mark.parametrize(("met", "n"), [(0, 5), (5, 5), (3, 5), (170, 200), (1, 1)])
def test_the_interval_is_wilsons(met: int, n: int) -> None:
    assert wilson_interval(met, n) == pytest.approx(proportion_confint(met, n, method="wilson"), abs=1e-6)
