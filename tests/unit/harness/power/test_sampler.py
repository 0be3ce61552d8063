import threading
import time
from collections.abc import Callable

import pytest

from harness.errors import MeasurementError
from harness.power import sampler as sampler_module
from harness.power.base import DeviceIdentity, DeviceSample
from harness.power.sampler import Lateness, PowerSampler
from tests.fakes.waiting import until


class FakeSource:
    """Two devices whose power counts the reads; ``on_read`` can block or raise."""

    name, boundary, gain_rel_u, power_lag_s, notes = "fake", "gpu", 0.0, 0.0, ()
    devices = (DeviceIdentity("a", "A"), DeviceIdentity("b", "B"))

    def __init__(self, on_read: Callable[[int], None] = lambda read: None) -> None:
        self.reads, self.on_read, self.thread_name, self.daemon = 0, on_read, "", False

    def read(self):
        self.reads += 1
        self.thread_name, self.daemon = threading.current_thread().name, threading.current_thread().daemon
        self.on_read(self.reads)
        return DeviceSample("a", power_w=float(self.reads)), DeviceSample("b", error="power_w: TIMEOUT")

    def close(self):
        pass


def test_each_round_gives_the_sink_one_row_for_every_device():
    source, batches = FakeSource(), []
    before_mono_s, before_wall_s = time.monotonic(), time.time()
    with PowerSampler(source, batches.append, period_s=0.01) as sampler:
        until(lambda: len(batches) >= 5, "readings")
    after_mono_s, after_wall_s = time.monotonic(), time.time()
    assert [[row.uuid for row in batch] for batch in batches] == [["a", "b"]] * len(batches)
    assert [batch[0].power_w for batch in batches] == list(range(1, source.reads + 1))
    assert sampler.latest == batches[-1]
    assert sampler.lateness.rounds == len(batches)
    for first, second in batches:
        assert (first.source, first.boundary, second.error) == ("fake", "gpu", "power_w: TIMEOUT")
        assert before_mono_s <= first.t_mono_s <= after_mono_s
        assert before_wall_s - 1 <= first.t_wall_s <= after_wall_s + 1


def test_equal_readings_are_all_kept():
    class Constant(FakeSource):
        def read(self):
            return (DeviceSample("a", power_w=7.0, energy_j=1.0),)

    rows = []
    with PowerSampler(Constant(), rows.extend, period_s=0.01) as sampler:
        until(lambda: len(rows) >= 5, "readings")
    assert len(rows) == sampler.lateness.rounds


def test_a_slow_round_loses_the_deadlines_it_ran_past_and_counts_them():
    source, rows = FakeSource(lambda read: time.sleep(0.7) if read == 2 else None), []
    with PowerSampler(source, rows.extend, period_s=0.2) as sampler:
        until(lambda: source.reads >= 5, "reads of the source")
    assert sampler.missed >= 2
    start_s = rows[0].t_mono_s - rows[0].late_s
    for row in rows[::2]:
        if row.power_w == 2.0:  # its middle is half the sleep after the deadline
            continue
        turns = (row.t_mono_s - row.late_s - start_s) / 0.2
        assert turns == pytest.approx(round(turns), abs=0.35)  # half a turn off, if the slow round began a new count


def test_the_time_of_a_row_is_the_middle_of_its_read():
    began, ended = [], []

    def on_read(read):
        began.append(time.monotonic())
        time.sleep(0.2)
        ended.append(time.monotonic())

    source, rows = FakeSource(on_read), []
    with PowerSampler(source, rows.extend, period_s=0.5):
        until(lambda: rows, "readings")
    assert rows[0].t_mono_s == pytest.approx((began[0] + ended[0]) / 2, abs=0.08)


def fail(read):
    if read == 3:
        raise OSError("sensor unplugged")


@pytest.mark.parametrize("ask", ["check", "stop"])
def test_what_the_source_raises_ends_the_sampling_and_is_raised_again(ask):
    source, rows = FakeSource(fail), []
    sampler = PowerSampler(source, rows.extend, period_s=0.01)
    sampler.start()
    until(lambda: source.reads == 3, "reads of the source")
    sampler._thread.join()
    with pytest.raises(OSError, match="sensor unplugged"):
        getattr(sampler, ask)()
    assert len(rows) == 4


def test_what_the_sink_raises_is_raised_again_on_leaving_the_block():
    def full(batch):
        raise OSError("disk full")

    source = FakeSource()
    with pytest.raises(OSError, match="disk full"), PowerSampler(source, full, period_s=0.01):
        until(lambda: source.reads == 1, "reads of the source")


def test_an_error_of_the_block_is_not_replaced_by_one_of_the_sampler():
    source = FakeSource(fail)
    with pytest.raises(KeyError), PowerSampler(source, lambda batch: None, period_s=0.01):
        until(lambda: source.reads == 3, "reads of the source")
        raise KeyError("mine")


def test_a_read_that_never_returns_is_a_measurement_error(monkeypatch):
    monkeypatch.setattr(sampler_module, "_JOIN_S", 0.05)
    release = threading.Event()
    source = FakeSource(lambda read: release.wait(10) and None)
    sampler = PowerSampler(source, lambda batch: None, period_s=0.01)
    sampler.start()
    until(lambda: source.reads == 1, "reads of the source")
    with pytest.raises(MeasurementError, match="hangs"):
        sampler.stop()
    release.set()


def test_sampling_runs_on_a_named_daemon_thread_that_stops_at_once():
    source = FakeSource()
    with PowerSampler(source, lambda batch: None, period_s=60.0):
        until(lambda: source.reads == 1, "reads of the source")
    assert (source.thread_name, source.daemon) == ("power-sampler-fake", True)
    assert source.reads == 1
    assert source.thread_name not in [thread.name for thread in threading.enumerate()]


def test_lateness_keeps_the_mean_and_the_worst():
    lateness = Lateness()
    for late_s in (0.001, 0.005, 0.003):
        lateness = lateness.with_round(late_s)
    assert lateness == Lateness(3, pytest.approx(0.003), 0.005)
