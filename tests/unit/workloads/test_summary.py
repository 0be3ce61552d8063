import math
import statistics

import numpy as np
import pytest

from estimator.lengths import exponential_lengths
from tests.unit.workloads.traces.files import BURSTGPT, SHAREGPT, written
from workloads.summary import RATE_BINS, LengthSummary, Spread, summarise
from workloads.traces import WorkloadFileError, find_trace


def burstgpt(folder, rows):
    header = "Timestamp,Request tokens,Response tokens\n"
    return find_trace(f"burstgpt:{written(folder, header + ''.join(f'{t},{i},{o}' + chr(10) for t, i, o in rows))}")


def test_a_spread_has_the_mean_and_the_quantiles_of_its_values():
    values = [7, 3, 3, 9, 1, 100, 3, 20]
    spread = Spread.of(np.array(values), np.ones(8))
    assert spread.mean_tok == pytest.approx(statistics.fmean(values))
    assert spread.quantile_tok(0.5) == statistics.median_low(values)
    assert [spread.quantile_tok(q) for q in (0.0, 0.125, 0.126, 0.9, 1.0)] == [1, 1, 3, 100, 100]
    assert (spread.share_over(9), spread.share_over(100)) == (pytest.approx(2 / 8), 0)
    assert spread.share_up_to(np.array([0.5, 3.0, 1e6])).tolist() == pytest.approx([0, 0.5, 1])


def test_weights_count_as_so_many_requests():
    spread = Spread.of(np.array([10, 20]), np.array([0.9, 0.1]))
    assert (spread.mean_tok, spread.quantile_tok(0.9), spread.quantile_tok(0.91)) == (pytest.approx(11), 10, 20)


def test_the_summary_of_an_exponential_has_its_closed_form():
    lengths = LengthSummary.of(exponential_lengths(300, 500))
    assert lengths.output.mean_tok == pytest.approx(300 / math.log(2), rel=1e-4)
    assert lengths.total.share_over(1_000) == pytest.approx(math.exp(-500.5 * math.log(2) / 300), rel=1e-6)


def test_a_trace_is_summed_up_over_its_usable_requests(tmp_path):
    summary = summarise(find_trace(f"burstgpt:{written(tmp_path, BURSTGPT)}"), multiplier=1.5)
    assert (summary.requests, summary.unusable) == (3, {"no_output_tok": 1, "no_input_tok": 1})
    assert summary.lengths.input.mean_tok == pytest.approx((374 + 91 + 500) / 3)
    assert summary.lengths.output.tok.tolist() == [24, 66, 1500]
    assert summary.lengths.total.share_over(2_000) == 0
    assert summary.lengths.total.share_over(1_999) == pytest.approx(1 / 3)
    arrivals = summary.arrivals
    assert arrivals.span_s == 60
    assert arrivals.rate_per_s == pytest.approx(2 / 60)
    gaps_s = [3.5, 56.5]
    assert arrivals.interarrival_cv == pytest.approx(statistics.pstdev(gaps_s) / statistics.fmean(gaps_s))
    assert np.flatnonzero(arrivals.requests_by_bin).tolist() == [0, 3, RATE_BINS - 1]
    assert arrivals.requests_by_bin.sum() == 3


def test_regular_arrivals_have_no_burstiness_and_poisson_ones_have_one(tmp_path):
    regular = burstgpt(tmp_path, [(10 + 0.25 * number, 1, 1) for number in range(5_000)])
    assert summarise(regular).arrivals.interarrival_cv == pytest.approx(0, abs=1e-6)
    times_s = np.cumsum(np.random.default_rng(3).exponential(0.5, 20_000))
    poisson = summarise(burstgpt(tmp_path, [(repr(float(time_s)), 1, 1) for time_s in times_s])).arrivals
    assert poisson.interarrival_cv == pytest.approx(1, abs=4 / math.sqrt(20_000))
    assert poisson.rate_per_s == pytest.approx(2, rel=4 / math.sqrt(20_000))


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ([1], (0, None, None, None, 0)),
        ([1, 1, 1], (0, None, None, 1.0, 0)),
        ([1, 4], (3, 1 / 3, None, 0.0, 0)),
        ([1, 9, 4], (8, 1 / 4, None, None, 1)),
        ([0, 0, 3, 3], (3, 1, math.sqrt(2), 2 / 3, 0)),
    ],
    ids=["one request", "one time", "one interval", "not in order", "in pairs"],
)
def test_what_times_do_not_tell_is_unknown(tmp_path, times_s, expected):
    found = summarise(burstgpt(tmp_path, [(time_s, 1, 1) for time_s in times_s])).arrivals
    span_s, rate, cv, same, backwards = expected
    assert (found.span_s, found.same_time_share, found.out_of_order) == (span_s, pytest.approx(same), backwards)
    assert (found.rate_per_s, found.interarrival_cv) == (pytest.approx(rate), pytest.approx(cv))
    assert found.requests_by_bin.sum() == len(times_s)


def test_texts_have_no_arrivals(tmp_path):
    summary = summarise(find_trace(f"sharegpt:{written(tmp_path, SHAREGPT)}"))
    assert (summary.requests, summary.arrivals) == (3, None)


def test_nothing_usable_is_nothing_to_sum_up(tmp_path):
    with pytest.raises(WorkloadFileError, match="no usable requests"):
        summarise(burstgpt(tmp_path, [(1, 5, 0)]))
