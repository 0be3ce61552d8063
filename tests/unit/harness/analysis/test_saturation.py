import pytest

from harness.search import Rung, choose, goes_on


def ladder(*tps, queue_share=0.0, first=16):
    """Build rungs that double from ``first``; ``queue_share`` is that of the last."""
    last = len(tps) - 1
    return tuple(
        Rung(first * 2**number, float(value), queue_share if number == last else 0.0)
        for number, value in enumerate(tps)
    )


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
    ("rungs", "binding"),
    [
        (ladder(100, 200, queue_share=0.95), "queue: at 32 in flight it never empties"),
        (ladder(100, 200, 201), "compute or memory bandwidth: 64 in flight gained less than 5%"),
        (ladder(100, 200, first=2_048), "nothing found: TPS still rose at 4096 in flight"),
        (ladder(100, 200, first=2_048, queue_share=1.0), "queue: at 4096"),
    ],
    ids=["queue", "knee", "end of the ladder", "queue at the end of the ladder"],
)
def test_what_ended_the_ladder_is_named(rungs, binding):
    assert binding in choose(rungs).binding


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        (ladder(100), True),
        (ladder(0), True),
        (ladder(100, queue_share=0.95), False),
        (ladder(100, queue_share=0.90), True),
        (ladder(100, 105), True),
        (ladder(100, 104.9), False),
        (ladder(100, 200, first=1_024), True),
        (ladder(100, 200, first=2_048), False),
        (ladder(100, first=4_096), False),
    ],
    ids=[
        "one rung", "one rung without tokens", "queued", "hardly queued", "gained 5%", "gained less", "room above",
        "end of the ladder", "a single last rung",
    ],
)  # fmt: skip
def test_the_ladder_goes_on_while_doubling_can_still_gain(rungs, expected):
    assert goes_on(rungs) == expected


def test_the_rungs_are_kept_in_the_result():
    rungs = ladder(1, 2, 3)
    assert choose(rungs).rungs == rungs
