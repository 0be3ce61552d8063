import threading
import time
from types import SimpleNamespace

import pytest

from harness import pace as module
from harness.pace import Pace


class Clock:
    """A clock that only waiting and working advance."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds
        return False


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def run(clock, work_s, period_s=1.0):
    """Return when each round began and how late, and the deadlines lost, for rounds that take ``work_s``."""
    pace, began_s, late_s = Pace(period_s), [], []
    pace._stop = SimpleNamespace(wait=clock.wait)
    for late, work in zip(pace, work_s, strict=False):
        began_s.append(clock.now_s - 100)
        late_s.append(late)
        clock.now_s += work
    return began_s, late_s, pace.missed


@pytest.mark.parametrize(
    ("work_s", "began_s", "late_s", "missed"),
    [
        ([0.3, 0.0, 0.9, 0.0], [0, 1, 2, 3], [0, 0, 0, 0], 0),
        ([1.25, 0.0, 0.0, 0.0], [0, 1.25, 2, 3], [0, 0.25, 0, 0], 0),
        ([2.5, 0.0, 0.0, 0.0], [0, 2.5, 3, 4], [0, 0.5, 0, 0], 1),
        ([5.75, 0.0, 3.5, 0.0], [0, 5.75, 6, 9.5], [0, 0.75, 0, 0.5], 6),
    ],
    ids=["in time", "a little late", "a deadline lost", "several lost"],
)
def test_rounds_begin_on_their_deadlines_and_lost_ones_are_counted(clock, work_s, began_s, late_s, missed):
    # The round after the last takes its turn too, so that what the last one lost is counted.
    began, late, lost = run(clock, [*work_s, 0.0])
    assert began[:-1] == pytest.approx(began_s)
    assert late[:-1] == pytest.approx(late_s)
    assert lost == missed


def test_a_thousand_rounds_of_varying_work_do_not_drift(clock):
    began, _, missed = run(clock, [0.001 * (number % 90) for number in range(1_000)], period_s=0.1)
    assert began == pytest.approx([0.1 * number for number in range(1_000)])
    assert missed == 0


def test_stopping_ends_the_wait_for_a_far_deadline_at_once():
    pace, rounds, first = Pace(3_600.0), [], threading.Event()

    def iterate():
        for late in pace:
            rounds.append(late)
            first.set()

    thread = threading.Thread(target=iterate)
    thread.start()
    assert first.wait(10)
    began_s = time.monotonic()
    pace.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - began_s < 5
    assert len(rounds) == 1


def test_a_pace_stopped_before_it_began_has_no_rounds():
    pace = Pace(1.0)
    pace.stop()
    assert list(pace) == []


def test_between_rounds_something_is_done_five_times_a_period_and_costs_no_deadline(clock):
    looks_s, began_s = [], []
    pace = Pace(1.0, lambda: looks_s.append(clock.now_s - 100))
    pace._stop = SimpleNamespace(wait=clock.wait)
    for _, work_s in zip(pace, [0.05, 0.5, 0.0], strict=False):
        began_s.append(clock.now_s - 100)
        clock.now_s += work_s
    assert began_s == pytest.approx([0, 1, 2])
    assert looks_s[:6] == pytest.approx([0.25, 0.45, 0.65, 0.85, 1.7, 1.9])
    assert pace.missed == 0
