"""Coverage of the interval of J/token by the whole adaptive procedure, at full size.

Run by ``make soak``; the table goes to docs/coverage.md.
Every condition has its own seed, so the table is reproducible.
"""

from itertools import product

import pytest

from tests.paths import ROOT
from tests.unit.harness.synthetic_record import Condition, study

RUNS = 500
CONDITIONS = [
    Condition(phi, ramp, sd_rel, times)
    for phi, ramp, sd_rel, times in product((0.0, 0.9, 0.98), (False, True), (0.005, 0.02, 0.05), (100, 300))
]
HEAD = """# Coverage of the interval of J/token

Written by `make soak` (`tests/soak/soak_coverage.py`): {runs} synthetic runs a line. Throughput, power and KV usage per
0.5 s scrape are first-order autoregressive with coefficient phi and the relative standard deviation given (power:
half of it of its own and a fifth of throughput's); KV usage averages half of the cache. The rule wants it shown that
throughput and power change by less than 2% of their mean, and refuses a shown change of KV usage by 2 points of the
cache's capacity. A ramp is exponential over 10
scrapes from 40% (power: 70%) and comes before the stated length. The budget is given in true integrated autocorrelation
times, (1 + phi) / (1 - phi) scrapes. The window rule ends each run: a run is *answered* unless it is refused
(`no_steady_state`), *valid* without any reason code, and *stopped* if it ended before its budget. Coverage is of the
true J/token by the 95% interval of the answered runs; it must lie between 90% and 98%, with at least 90% answered. Half
width: mean of the answered runs. Scrapes: mean length used, ramp included.

*Answered* is not *valid*. To show a change below 2% takes some 12 (1.96 sd / 2%)^2 autocorrelation times: 3 at a
standard deviation of 0.5%, 50 at 2%, 290 at 5%, and in practice about twice that. A cell that fluctuates by 5% from
scrape to scrape is therefore mostly `suspect` (`steadiness_unproven`) even where J/token is known to half a percent.

| phi | ramp | sd | budget | covered | answered | valid | stopped | half width | scrapes |
|----:|:----:|---:|-------:|--------:|---------:|------:|--------:|-----------:|--------:|
"""


@pytest.fixture(scope="module")
def table():
    rows = []
    yield rows
    if len(rows) < len(CONDITIONS):
        return  # a part of the study must not replace the whole table
    text = HEAD.format(runs=RUNS) + "".join(rows)
    (ROOT / "docs" / "coverage.md").write_text(text)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_the_interval_covers_the_truth_as_often_as_it_says_with_stopping_included(condition, table):
    found = study(condition, RUNS, seed=condition.autocorrelation_times)
    table.append(
        f"| {condition.phi:g} | {'yes' if condition.ramp else 'no'} | {condition.sd_rel:.1%} "
        f"| {condition.autocorrelation_times} | {found.covered:.1%} | {found.answered:.1%} | {found.valid:.1%} "
        f"| {found.stopped_early:.1%} | {found.half_width_rel:.2%} | {found.intervals:.0f} |\n"
    )
    assert 0.90 <= found.covered <= 0.98
    assert found.answered >= 0.90
