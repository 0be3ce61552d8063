import pytest

from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from harness.stalls import STALL_S, StallWatch


def row(server, tokens, running=8.0, waiting=0.0):
    return ServerRow(0.0, 0.0, server, ServerCounters(running=running, waiting=waiting, generation_tok=tokens))


def away(server):
    return ServerRow(0.0, 0.0, server, ServerCounters(), "TimeoutError: timed out")


def watched(rounds):
    """Return what is stalled at the last of rounds of rows, ten seconds apart."""
    watch, stalled = StallWatch(), ()
    for number, rows in enumerate(rounds):
        stalled = watch.stalled(rows, 10.0 * number)
    return stalled


ROUNDS = int(STALL_S // 10) + 2
MOVING = [row(0, float(number)) for number in range(ROUNDS)]


@pytest.mark.parametrize(
    ("other", "stalled"),
    [
        ([row(1, 7.0)] * ROUNDS, (1,)),
        ([row(1, 7.0)] * (ROUNDS - 1) + [row(1, 8.0)], ()),
        ([row(1, 7.0)] * (ROUNDS - 1), ()),
        ([row(1, 7.0, running=0.0)] * ROUNDS, ()),
        ([row(1, 7.0, running=0.0, waiting=3.0)] * ROUNDS, (1,)),
        ([row(1, 7.0)] + [away(1)] * (ROUNDS - 1), ()),
        ([row(1, 7.0)] + [away(1)] * ROUNDS, (1,)),
        ([row(1, 7.0, running=None, waiting=None)] * ROUNDS, (1,)),
    ],
    ids=["stands", "moved at last", "not yet", "idle", "only waits", "away, not yet", "away", "tells no queue"],
)
def test_a_server_that_stands_still_is_noticed_beside_one_that_moves(other, stalled):
    rounds = [(mine, its) for mine, its in zip([*MOVING, row(0, 1e9)], other, strict=False)]
    assert watched(rounds) == stalled


def test_a_server_that_was_idle_is_given_its_time_from_the_first_request_on():
    idle = [[row(0, 7.0, running=0.0)]] * (3 * ROUNDS)
    assert watched([*idle, [row(0, 7.0)]]) == ()
    assert watched([*idle, *[[row(0, 7.0)]] * ROUNDS]) == (0,)
