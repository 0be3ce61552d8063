import pytest

from harness.analysis.saturation import (
    Rung,
    choose,
    config_limited,
    doubling_gain_rel,
    gain_of,
    next_step,
    what_binds,
)


def ladder(*tps, first=16, **last):
    """Build rungs that double from ``first``; ``last`` is what else was seen on the last one."""
    plain = [Rung(first * 2**number, float(value), 0.0) for number, value in enumerate(tps)]
    seen = {"queue_share": 0.0} | last
    return [*plain[:-1], Rung(plain[-1].concurrency, plain[-1].tps_tok_per_s, **seen)]


@pytest.mark.parametrize(
    ("tps", "concurrency", "plateau"),
    [
        ((100, 190, 300, 310), 128, 310),
        ((100, 190, 300, 309), 64, 309),
        ((100, 99, 98), 16, 100),
        ((100, 200, 150), 32, 200),
        ((100,), 16, 100),
    ],
    ids=["just below 97% is not enough", "97% is the knee", "flat", "falling after the peak", "one rung"],
)
def test_the_smallest_concurrency_within_three_percent_of_the_best_is_taken(tps, concurrency, plateau):
    found = choose(ladder(*tps))
    assert (found.concurrency, found.plateau_tps_tok_per_s) == (concurrency, plateau)


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        (ladder(100), "climb"),
        (ladder(0), "climb"),
        (ladder(0, 100), "climb"),
        (ladder(100, queue_share=0.95), "stop"),
        (ladder(100, queue_share=0.90), "climb"),
        (ladder(100, 105), "climb"),
        (ladder(100, 104.9), "stop"),
        (ladder(100, 200, first=1_024), "climb"),
        (ladder(100, 200, first=2_048), "stop"),
        (ladder(100, 200, held=28.7), "stop"),
        (ladder(100, 200, held=28.9), "climb"),
    ],
    ids=[
        "one rung", "one rung without tokens", "first tokens", "queued", "hardly queued", "gained 5%", "gained less",
        "room above", "end of the ladder", "starved by its client", "hardly starved",
    ],
)  # fmt: skip
def test_the_ladder_goes_on_while_doubling_can_still_gain(rungs, expected):
    assert next_step(rungs) == expected


def noisy(gain, u_rel, extensions=0):
    before = Rung(16, 1000.0, 0.0, tps_u_tok_per_s=0.0)
    return [before, Rung(32, 1000.0 * gain, 0.0, tps_u_tok_per_s=1000.0 * gain * u_rel, extensions=extensions)]


@pytest.mark.parametrize(
    ("gain", "u_rel", "extensions", "expected"),
    [
        (1.30, 0.02, 0, "climb"),
        (1.00, 0.02, 0, "stop"),
        (1.06, 0.02, 0, "extend"),
        (1.04, 0.02, 0, "extend"),
        (1.06, 0.02, 1, "extend"),
        (1.06, 0.02, 2, "climb"),
        (1.04, 0.02, 2, "stop"),
        (1.06, 0.004, 0, "climb"),
    ],
)
def test_a_gain_that_its_error_leaves_undecided_is_measured_longer_twice_at_most(gain, u_rel, extensions, expected):
    assert next_step(noisy(gain, u_rel, extensions)) == expected


def test_the_error_of_a_gain_joins_those_of_both_rungs():
    gain, half_width = gain_of(Rung(1, 100.0, 0.0, 3.0), Rung(2, 150.0, 0.0, 6.0))
    assert gain == 1.5
    assert half_width == pytest.approx(1.96 * 1.5 * (0.03**2 + 0.04**2) ** 0.5)


@pytest.mark.parametrize(
    ("rungs", "binds", "words"),
    [
        (ladder(100, 200, queue_share=1.0, kv_usage_ratio=0.95), "kv_cache", "32 in flight fill it to 95%"),
        (ladder(100, 200, kv_usage_ratio=0.5, preemptions=3), "kv_cache", "with 3 preemptions"),
        (
            ladder(100, 200, queue_share=1.0, kv_usage_ratio=0.4, running=24.0),
            "max_num_seqs",
            "stays at 24 at 40% of the KV cache while requests queue; expected gain of doubling it unknown",
        ),
        (ladder(100, 200, queue_share=1.0), "queue", "at 32 in flight it never empties"),
        (ladder(100, 200, held=10.0, kv_usage_ratio=0.1), "client", "held only 10 of 32"),
        (ladder(100, 200, 201), "compute_or_bandwidth", "64 in flight gained less than 5%"),
        (ladder(100, 200, first=2_048), "not_found", "TPS still rose at 4096 in flight"),
        (ladder(100, 101, first=2_048), "compute_or_bandwidth", "4096 in flight gained less"),
    ],
)
def test_what_ended_the_ladder_is_named(rungs, binds, words):
    found = choose(rungs)
    assert (found.binds, what_binds(rungs)) == (binds, binds)
    assert words in found.binding


def test_the_largest_batch_the_arguments_allow_is_told_where_it_binds():
    found = choose(ladder(100, 200, queue_share=1.0, kv_usage_ratio=0.4, running=32.0), max_num_seqs=32)
    assert "(the servers' arguments allow 32)" in found.binding


def batches(*sizes, fixed_s=0.01, per_slot_s=0.001, kv_per_slot=0.0):
    """Build rungs of a server whose step takes ``fixed_s`` plus ``per_slot_s`` for every sequence in the batch."""
    return [
        Rung(size, size / (fixed_s + per_slot_s * size), 0.0, running=float(size), kv_usage_ratio=kv_per_slot * size)
        for size in sizes
    ]


def step_gain(before, after, fixed_s=0.01, per_slot_s=0.001):
    return (after / (fixed_s + per_slot_s * after)) / (before / (fixed_s + per_slot_s * before)) - 1


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        (batches(8, 16), step_gain(16, 32)),
        (batches(4, 8, 16), step_gain(16, 32)),
        (batches(8, 16, kv_per_slot=0.045), step_gain(16, 20)),
        (batches(8, 16, per_slot_s=0.0), 1.0),
        ([Rung(8, 100.0, 0.0, running=8.0), Rung(16, 100.0, 0.0, running=16.0)], 0.0),
        ([Rung(8, 100.0, 0.0, running=8.0), Rung(16, 80.0, 0.0, running=16.0)], 0.0),
        (batches(16), None),
        ([Rung(16, 100.0, 0.0, running=16.0), Rung(32, 101.0, 1.0, running=16.2)], None),
        ([Rung(16, 100.0, 0.0), Rung(32, 150.0, 0.0)], None),
    ],
    ids=[
        "two batches", "the largest two count", "the KV cache is full before", "steps of constant time", "flat",
        "falling", "one batch", "one batch twice", "running unknown",
    ],
)  # fmt: skip
def test_the_gain_of_a_doubled_batch_follows_from_the_time_of_a_step(rungs, expected):
    gain = doubling_gain_rel(rungs)
    assert gain is None if expected is None else gain == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("binds", "gain", "kv", "expected"),
    [
        ("max_num_seqs", 0.05, 0.5, True),
        ("max_num_seqs", 0.049, 0.5, False),
        ("max_num_seqs", 0.50, 0.9, False),
        ("max_num_seqs", None, 0.5, None),
        ("queue", None, None, None),
        ("kv_cache", None, 0.95, False),
        ("compute_or_bandwidth", None, 0.5, False),
        ("not_searched", None, None, False),
    ],
)
def test_a_configuration_limits_where_its_batch_binds_with_room_in_the_cache_and_gain_to_be_had(
    binds, gain, kv, expected
):
    assert config_limited(binds, gain, kv) is expected


def test_the_rungs_are_kept_in_the_result():
    rungs = ladder(1, 2, 3)
    assert choose(rungs).rungs == tuple(rungs)
