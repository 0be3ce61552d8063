import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from harness.load.report import (
    goodput,
    inter_token_s,
    latency_statistics,
    mean_in_flight,
    streamed_requests,
    wilson_interval,
)

ROW = {
    "streamed": True, "first_fill": False, "outcome": "completed", "output_tok": 11, "scheduled_mono_s": np.nan,
    "send_mono_s": 10.0, "first_mono_s": 10.5, "end_mono_s": 12.5,
}  # fmt: skip


def requests(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, **change} for change in changes], columns=list(ROW))


def test_times_count_from_sending_in_closed_loop_and_from_being_due_in_open_loop() -> None:
    rows = streamed_requests(requests({}, {"scheduled_mono_s": 9.0}), 0, 100)
    assert rows["ttft_s"].tolist() == pytest.approx([0.5, 1.5])
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


WAITING = {"outcome": "aborted", "first_mono_s": np.nan, "output_tok": np.nan}
BEGUN = {"outcome": "aborted", "output_tok": np.nan}


def test_the_first_token_of_what_was_cut_off_later_counts_and_the_wait_of_what_never_got_one() -> None:
    rows = streamed_requests(requests({}, BEGUN, WAITING, {**WAITING, "outcome": "error"}), 0, 100)
    assert rows["ttft_s"].tolist() == pytest.approx([0.5, 0.5, np.nan, np.nan], nan_ok=True)
    assert rows["waited_s"].tolist() == pytest.approx([np.nan, np.nan, 2.5, np.nan], nan_ok=True)


def test_the_time_between_tokens_is_that_of_answers_that_ended_in_the_window() -> None:
    rows = requests(
        {}, {"send_mono_s": 1.0}, {"end_mono_s": 21.0}, {"output_tok": 1}, BEGUN, {"first_fill": True},
        {"streamed": False},
    )  # fmt: skip
    assert inter_token_s(rows, 5, 20).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("n", [3, 40, 301])
def test_a_percentile_stands_only_if_no_length_of_the_unknown_waits_could_move_it(n: int) -> None:
    """Every censored latency is tried at its least and far out; what differs is not known."""
    rng = np.random.default_rng(n)
    for _ in range(40):
        true_s = rng.exponential(1.0, n)
        waited = rng.random(n) < rng.choice([0.01, 0.1, 0.5])
        waited_s = true_s[waited] * rng.random(waited.sum())
        seen = latency_statistics(true_s[~waited], waited_s)
        for percent, given in ((50, seen.p50_s), (90, seen.p90_s), (99, seen.p99_s)):
            least, most = (
                np.percentile(np.append(true_s[~waited], unknown), percent)
                for unknown in (waited_s, np.full(waited.sum(), 1e6))
            )
            enough = percent == 50 or n * (100 - percent) >= 300
            if least == most and enough:
                assert given == pytest.approx(np.percentile(true_s, percent))
            else:
                assert given is None
        assert (seen.mean_s is None) == bool(waited.any())


def rising_open_loop() -> pd.DataFrame:
    """Ten requests a second over 60 s; the first token takes 20% longer each second, the answer 20 s more.

    The load ends after 62 s, so that of 600 requests 66.8% had their first token within 8 s.
    """
    due_s = np.arange(0, 60, 0.1)
    first_s = 1.2 * due_s
    outcome = np.where(first_s + 20 < 62, "completed", "aborted")
    return pd.DataFrame({
        "streamed": True, "first_fill": False, "outcome": outcome, "scheduled_mono_s": due_s, "send_mono_s": due_s,
        "first_mono_s": np.where(first_s < 62, first_s, np.nan), "end_mono_s": np.minimum(first_s + 20, 62),
        "output_tok": np.where(outcome == "completed", 100, np.nan),
    })  # fmt: skip


def test_goodput_and_tails_are_the_true_ones_though_the_end_of_the_load_cuts_the_slow_requests_off() -> None:
    rows, true_s = rising_open_loop(), 0.2 * np.arange(0, 60, 0.1)
    met = goodput(rows, 0, 60, ttft_limit_s=8, itl_limit_s=None)
    low, high = met.bounds or (0.0, 0.0)
    assert low <= np.mean(true_s <= 8) <= high
    assert high - low < 0.1
    assert met.unfinished == round(600 * (high - low)) > 0
    probes = streamed_requests(rows, 0, 60)
    seen = latency_statistics(probes["ttft_s"], probes["waited_s"])
    assert seen.n == 600
    assert (seen.mean_s, seen.p50_s, seen.p90_s, seen.p99_s) == (None, None, None, None)


MIXED = requests(
    {},
    {"first_mono_s": 11.5, "end_mono_s": 12.5},
    {"end_mono_s": 20.5},
    {"output_tok": 1, "end_mono_s": 10.5},
    {"outcome": "error", "first_mono_s": np.nan, "output_tok": np.nan},
    WAITING,
    BEGUN,
)


@pytest.mark.parametrize(
    ("ttft_s", "itl_s", "met", "unfinished"),
    [
        (1.0, 0.5, 2, 1), (1.0, None, 4, 0), (None, 0.5, 3, 2), (3.0, None, 5, 1), (0.5, 0.2, 2, 1), (0.4, 9, 0, 0),
        (2.4, None, 5, 0), (2.4, 0.5, 3, 1),
    ],
)  # fmt: skip
def test_goodput_counts_the_requests_within_every_limit(
    ttft_s: float | None, itl_s: float | None, met: int, unfinished: int
) -> None:
    result = goodput(MIXED, 0, 100, ttft_limit_s=ttft_s, itl_limit_s=itl_s)
    assert (result.met, result.n, result.failed, result.unfinished) == (met, 7, 1, unfinished)
    assert result.share == (None if unfinished else met / 7)
    assert result.bounds == (met / 7, (met + unfinished) / 7)


def test_goodput_of_no_request_is_not_known() -> None:
    result = goodput(MIXED, 500, 600, ttft_limit_s=1, itl_limit_s=1)
    assert (result.share, result.bounds, result.ci95, result.n) == (None, None, None, 0)


@pytest.mark.parametrize(("met", "n"), [(0, 5), (5, 5), (3, 5), (170, 200), (1, 1)])
def test_the_interval_is_wilsons(met: int, n: int) -> None:
    assert wilson_interval(met, n) == pytest.approx(proportion_confint(met, n, method="wilson"), abs=1e-6)
