"""The load's own first requests on a simulated server, and when the window rule accepts what they lead to."""

import math
from dataclasses import replace
from statistics import median

import numpy as np
import pytest

from estimator.lengths import empirical_lengths, fixed_lengths
from harness.analysis.objections import COHORTS_IN_STEP
from harness.analysis.steady import Rule, choose_window
from harness.load.queries import IndependentQueries
from tests.unit.harness.synthetic_record import PERIOD_S, TOK, record_of, rule

SLOTS, INPUT_TOK, CACHE_TOK = 32, 256, 32_000
LENGTHS = empirical_lengths([INPUT_TOK] * 129, range(448, 577))
STEP_TOK, TOKEN_S, S_PER_CONTEXT_TOK = 4, 0.005, 1.2e-7
LONGEST_S, LOOK_S, SEEDS = 80, 4, range(3)


class ColdQueries(IndependentQueries):
    def first_fill(self, server):
        return replace(self.next(server), first_fill=True)


def served(queries, rng, slots=SLOTS, cache_tok=CACHE_TOK):
    """Return the record of a server that gives each of its slots a token at a time, slower as contexts grow."""
    first = [queries.first_fill(0) for _ in range(slots)]
    context, left = (np.array([getattr(query, name) for query in first]) for name in ("input_tok", "output_tok"))
    now_s, made, tokens, usage = 0.0, 0, [0], [context.sum() / cache_tok]
    while now_s < LONGEST_S:
        now_s += STEP_TOK * (TOKEN_S + S_PER_CONTEXT_TOK * context.sum()) * rng.normal(1, 0.02)
        context, left, made = context + STEP_TOK, left - STEP_TOK, made + STEP_TOK * slots
        for slot in np.flatnonzero(left <= 0):
            query = queries.next(0)
            context[slot], left[slot] = query.input_tok, query.output_tok
        while now_s >= PERIOD_S * len(tokens):
            tokens.append(made)
            usage.append(context.sum() / cache_tok)
    steps = np.diff(tokens)
    return record_of(steps, np.full(steps.size, 100.0), np.array(usage[1:]))


def accepted_after_s(kind, seed):
    rng = np.random.default_rng(seed)
    record = served(kind(LENGTHS, rng), rng)
    request_s = SLOTS * LENGTHS.mean_output_tok * PERIOD_S / TOK
    for looked_s in range(LOOK_S, LONGEST_S, LOOK_S):
        window = choose_window(record, rule(request_s, latest_s=looked_s))
        if window is not None and not window.reasons:
            return looked_s
    return math.inf


@pytest.fixture(scope="module")
def accepted_s():
    return {kind: [accepted_after_s(kind, seed) for seed in SEEDS] for kind in (IndependentQueries, ColdQueries)}


def test_a_load_that_starts_in_equilibrium_is_soon_accepted(accepted_s):
    assert max(accepted_s[IndependentQueries]) < LONGEST_S


def test_requests_that_begin_together_take_twice_as_long_or_longer(accepted_s):
    assert median(accepted_s[ColdQueries]) >= 2 * median(accepted_s[IndependentQueries])


@pytest.mark.parametrize("slots", [1, 8, SLOTS])
def test_few_slots_of_one_length_swing_the_little_memory_that_they_use_and_are_not_in_step(slots):
    rng = np.random.default_rng(1)
    record = served(IndependentQueries(fixed_lengths(64, 512), rng), rng, slots, cache_tok=1_000_000)
    window = choose_window(record, Rule(0.0, math.inf, 0.02, 20.0, slots * 512))
    assert COHORTS_IN_STEP not in window.reasons
