import pytest

from harness.console.measure_line import measure_line
from harness.live.spent import Spent, spent
from harness.live.state import LiveState
from tests.unit.harness.live.test_state import power


def live_with(*rounds):
    live = LiveState(began_s=0.0)
    for rows in rounds:
        live.power_read(rows)
    return live


def test_joules_of_a_source_are_those_of_its_devices_and_watts_are_their_means_together():
    live = live_with([power(1, 100, 0, "a"), power(1, 50, 0, "b")], [power(3, 100, 220, "a"), power(5, 50, 200, "b")])
    assert spent(live) == [Spent("nvml", "gpu", 420, pytest.approx(220 / 2 + 200 / 4))]
    assert measure_line(live, 5.0) == "   5.0 s  420.0 J, mean 160.0 W (nvml, gpu)"


@pytest.mark.parametrize(
    "rounds",
    [
        ([power(0, 100, uuid="a"), power(0, 50, uuid="b")],),
        ([power(0, 100, uuid="a"), power(0, 50, uuid="b")], [power(1, 100, uuid="a"), power(1, error="x", uuid="b")]),
    ],
    ids=["one reading", "one device fails"],
)
def test_a_source_of_which_one_device_is_not_known_is_unknown_and_not_a_part(rounds):
    assert spent(live_with(*rounds)) == [Spent("nvml", "gpu", None, None)]


def test_before_any_reading_the_line_says_so():
    assert measure_line(live_with(), 0.25) == "   0.2 s  no reading yet"
