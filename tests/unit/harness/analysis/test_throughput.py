import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from harness.analysis.celllog import CellLog
from harness.analysis.steady import Record, Rule, choose_window
from harness.analysis.throughput import batches_of, throughput

SCRAPE_S, TOK = 0.5, 400.0


def record(rng, size, phi, sd_rel=0.05):
    """Tokens counted at scrapes; those between two are an AR(1) series about ``TOK``."""
    shocks = rng.normal(size=size) * np.sqrt(1 - phi**2)
    shocks[0] = rng.normal()
    new_tok = TOK * (1 + sd_rel * lfilter([1], [1, -phi], shocks))
    return SCRAPE_S * np.arange(size + 1), np.concatenate([[0.0], np.cumsum(new_tok)])


def measured(t_s, tokens, token_rel_u=0.0, request_tok=TOK):
    rule = Rule(0.0, t_s[-1], 0.02, t_s[-1], request_tok)
    window = choose_window(Record(t_s, tokens, None, lambda edges_s: None), rule)
    server = pd.DataFrame({"t_mono_s": t_s, "server": 0, "generation_tok": tokens})
    log = CellLog(None, 0.0, 0.0, t_s[-1], None, server, pd.DataFrame(), pd.DataFrame(), server_lost=False)
    return window, throughput(log, window, token_rel_u)


@pytest.mark.parametrize(("size", "phi", "least"), [(120, 0.0, 0.91), (600, 0.9, 0.87), (120, 0.95, 0.82)])
def test_intervals_of_throughput_cover_the_truth_where_it_remembers_itself(size, phi, least):
    """Ten batches whatever the memory would cover 81% and 68% in the last two; the last is too short for any."""
    rng, covered, studies = np.random.default_rng(3), 0, 150
    for _ in range(studies):
        _, found = measured(*record(rng, size, phi))
        low, high = found.ci95
        covered += low <= TOK / SCRAPE_S <= high
    assert covered / studies >= least


def test_batches_are_no_shorter_than_a_mean_request():
    t_s, tokens = record(np.random.default_rng(4), 120, 0.0)
    window, _ = measured(t_s, tokens, request_tok=30 * TOK)
    assert batches_of(window) == int(window.mean_requests) <= 4


def test_tokens_at_the_edges_are_part_of_the_error():
    t_s, tokens = record(np.random.default_rng(5), 120, 0.0)
    (_, without), (_, known) = measured(t_s, tokens), measured(t_s, tokens, token_rel_u=0.04)
    mean = without.tps_tok_per_s
    assert known.standard_uncertainty_rel**2 - without.standard_uncertainty_rel**2 == pytest.approx(0.04**2)
    half_widths = [(found.ci95[1] - found.ci95[0]) / 2 / mean for found in (known, without)]
    assert half_widths[0] ** 2 - half_widths[1] ** 2 == pytest.approx((1.959964 * 0.04) ** 2, rel=1e-4)


def test_a_window_without_tokens_has_no_throughput():
    t_s = SCRAPE_S * np.arange(121)
    assert measured(t_s, np.zeros(121))[1] is None
