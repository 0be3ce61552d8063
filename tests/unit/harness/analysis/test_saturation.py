import pytest

from harness.analysis.saturation import (
    Rung,
    choose,
    config_limited,
    doubling_gain_rel,
    gain_fields,
    gain_of,
    next_step,
    rung_of,
    what_binds,
)
from harness.load.health import ClientHealth
from results.schema import CellResult


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


@pytest.mark.parametrize(
    ("to_know_s", "extensions", "expected"),
    [(80.0, 0, "extend"), (129.0, 0, "extend"), (130.0, 0, "climb"), (None, 0, "climb"), (80.0, 2, "climb")],
    ids=["soon", "just in time", "not even by then", "never", "long enough"],
)
def test_a_rung_whose_error_is_unknown_is_measured_longer_where_that_would_tell(to_know_s, extensions, expected):
    seconds = 43.0 * (1 + extensions)
    unknown = Rung(16, 100.0, 0.0, extensions=extensions, seconds=seconds, seconds_to_know=to_know_s)
    assert next_step([unknown]) == expected
    assert next_step([Rung(8, 50.0, 0.0, tps_u_tok_per_s=1.0), unknown]) == expected


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


def health(**worse):
    """Return the health of a client that keeps up, but for what is given."""
    well = {"lag_p99_s": 0.004, "lag_max_s": 0.02, "cpu_share": 0.3, "empty_slot_share": 0.001}
    refills = {"refills": 90, "refill_p50_s": 0.001, "refill_p99_s": 0.004}
    return ClientHealth(
        **{"clients": 1, "ticks": 500, **well, **refills, "send_late_p99_s": None, "held_back": 0, **worse}
    )


LAGS = {"lag_p99_s": 0.12}
MORE_CLIENTS = "spread the load over more processes (--clients 2, now 1)"


@pytest.mark.parametrize(
    ("worse", "sign", "advice"),
    [
        ({"lag_p99_s": 0.12}, "its event loop comes 0.12 s late (p99, limit 0.05 s) at 32 in flight", MORE_CLIENTS),
        (
            {"lag_p99_s": 0.12, "cpu_share": 0.03},
            "its event loop comes 0.12 s late",
            "it used only 3% of a core: keep other",
        ),
        ({"cpu_share": 0.97}, "it takes 97% of a core (limit 80%)", MORE_CLIENTS),
        ({"empty_slot_share": 0.034}, "its slots stand empty 3.4% of the time (limit 2%)", MORE_CLIENTS),
        ({"empty_slot_share": 0.034, "cpu_share": 0.03}, "its slots stand empty", MORE_CLIENTS),
        ({"cpu_share": 0.97, "clients": 4}, "it takes 97% of a core", "(--clients 8, now 4)"),
    ],
    ids=[
        "lag",
        "lag of one that waits for a core",
        "CPU",
        "refill delay",
        "refill delay alone",
        "one of four processes",
    ],
)
def test_a_ladder_that_gains_no_more_while_its_client_lags_is_bound_by_the_client(worse, sign, advice):
    rungs = ladder(100, 101, kv_usage_ratio=0.3, client=health(**worse))
    assert next_step(rungs) == "stop"
    found = choose(rungs)
    assert found.binds == "client"
    assert sign in found.binding
    assert advice in found.binding


@pytest.mark.parametrize(
    ("rungs", "binds"),
    [
        (ladder(100, 101, client=health()), "compute_or_bandwidth"),
        (ladder(100, 101, client=None), "compute_or_bandwidth"),
        (ladder(100, 101, client=health(lag_p99_s=None, cpu_share=None)), "compute_or_bandwidth"),
        (ladder(100, 101, queue_share=0.95, kv_usage_ratio=0.3, client=health(**LAGS)), "max_num_seqs"),
        (ladder(100, 101, queue_share=0.95, kv_usage_ratio=0.95, client=health(**LAGS)), "kv_cache"),
        (ladder(100, 101, preemptions=2, client=health(**LAGS)), "kv_cache"),
        (ladder(100, 200, first=2_048, client=health(**LAGS)), "not_found"),
    ],
    ids=["keeps up", "no record", "nothing known", "queue", "queue, KV full", "preemptions", "TPS still rises"],
)
def test_a_client_that_lags_does_not_bind_where_the_servers_are_seen_to(rungs, binds):
    assert choose(rungs).binds == binds


def test_a_client_that_lags_is_no_reason_to_stop_while_doubling_still_gains():
    assert next_step(ladder(100, 150, client=health(**LAGS))) == "climb"


def test_requests_that_the_servers_do_not_count_are_not_the_fault_of_a_client_that_kept_its_slots_full():
    keeps_up = ladder(100, 200, held=10.0, client=health())
    assert next_step(keeps_up) == "climb"
    assert choose(keeps_up).binds == "compute_or_bandwidth"
    assert choose(ladder(100, 101, held=10.0, client=health(**LAGS))).binds == "client"


def test_servers_left_waiting_by_a_client_tell_how_many_requests_they_held():
    found = choose(ladder(100, 200, held=10.0, client=health(cpu_share=0.9)))
    assert "the servers held only 10 of 32 requests; it takes 90% of a core (limit 80%)" in found.binding


@pytest.mark.parametrize(
    ("running", "max_num_seqs", "binds", "words"),
    [
        (31.0, 32, "max_num_seqs", "a batch that stays at 31 (the servers' arguments allow 32)"),
        (62.0, 64, "max_num_seqs", "a batch that stays at 62"),
        (20.0, 32, "queue", "the batch is 20 of 32 (KV cache or the limit of tokens a step)"),
        (20.0, None, "max_num_seqs", "a batch that stays at 20"),
    ],
)
def test_a_queue_beside_a_batch_that_is_not_full_is_not_that_of_max_num_seqs(running, max_num_seqs, binds, words):
    rungs = ladder(100, 101, first=64, queue_share=1.0, kv_usage_ratio=0.6, running=running)
    found = choose(rungs, max_num_seqs)
    assert (found.binds, words in found.binding) == (binds, True)


def test_a_measured_cell_is_a_rung_of_its_ladder():
    client = {**vars(health(cpu_share=0.97)), "clients": 2.0}
    seen = {"tps_tok_per_s": 90.0, "queue_share": 0.1, "kv_usage_ratio": 0.4, "preemptions": 3.0}
    rung = rung_of(CellResult.model_construct(concurrency=8, client=client, **seen))
    assert (rung.concurrency, rung.tps_tok_per_s, rung.queue_share) == (8, 90.0, 0.1)
    assert (rung.kv_usage_ratio, rung.preemptions, rung.client.clients) == (0.4, 3.0, 2)
    assert rung.client_limits == ("it takes 97% of a core (limit 80%)",)
    unknown = rung_of(CellResult.model_construct(concurrency=8))
    assert (unknown.tps_tok_per_s, unknown.kv_usage_ratio, unknown.client) == (0.0, None, None)


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


def known(tps, u):
    return [Rung(16, 1000.0, 0.0, tps_u_tok_per_s=u), Rung(32, tps, 0.0, tps_u_tok_per_s=u, extensions=2)]


@pytest.mark.parametrize(
    ("rungs", "shown", "words"),
    [
        (known(1010.0, 5.0), True, None),
        (known(1010.0, None), False, "the error of that gain is unknown"),
        (known(1030.0, 15.0), False, "that gain is +3.0%, 95% -1.2% to +7.2%"),
        (ladder(1000, 1500, queue_share=1.0, kv_usage_ratio=0.4), None, None),
        (ladder(1000, 1500, first=2_048), None, None),
    ],
    ids=["below 5%", "no interval", "interval around 5%", "a queue needs no plateau", "no plateau"],
)
def test_a_plateau_that_rests_on_an_estimate_alone_says_so(rungs, shown, words):
    """Half width of the third: 1.96 hypot(1.5%, 15/1030) 1.03 = 4.2%."""
    found = choose(rungs)
    assert found.plateau_shown is shown
    assert ("the plateau is not statistically established" in found.binding) == (words is not None)
    assert words is None or words in found.binding


def test_a_rung_is_stored_with_its_gain_and_whether_its_error_is_known():
    assert gain_fields(known(1010.0, None)) == {"gain": 1.01, "gain_half_width_95": None, "gain_known": False}
    fields = gain_fields(known(1010.0, 5.0))
    assert (fields["gain_half_width_95"], fields["gain_known"]) == (pytest.approx(0.0139, rel=0.01), True)
    assert gain_fields(known(1010.0, 5.0)[:1]) == {"gain": None, "gain_half_width_95": None, "gain_known": None}
    assert gain_fields([Rung(16, 0.0, 0.0), Rung(32, 9.0, 0.0)])["gain"] is None


def test_the_error_of_a_cell_on_a_ladder_is_that_of_its_interval_and_it_is_not_measured_longer():
    cells = [
        CellResult.model_construct(concurrency=c, tps_tok_per_s=tps, tps_ci95=(tps - 30, tps + 30))
        for c, tps in ((16, 1000.0), (32, 1040.0))
    ]
    rungs = [rung_of(cell) for cell in cells]
    assert rungs[0].tps_u_tok_per_s == pytest.approx(30 / 1.96)
    assert next_step(rungs) == "stop"
    assert next_step([rungs[0], rung_of(cells[1].model_copy(update={"tps_tok_per_s": 1060.0}))]) == "climb"
