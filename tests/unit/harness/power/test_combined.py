import threading
import time

import pytest

from harness.errors import ConfigError, MeasurementError
from harness.power.base import DeviceIdentity, DeviceSample
from harness.power.combined import Combined, SideBySide, sampler_of
from harness.power.meter_names import check_meter
from harness.power.meters import open_meter
from harness.power.sampler import PowerSampler
from tests.fakes.waiting import until


class Fake:
    """One device; ``stalled`` makes its readings wait, ``failing`` makes them raise."""

    gain_rel_u, power_lag_s, counter_lag_s, notes = None, 0.0, 0.0, ()

    def __init__(self, name, boundary, period_s=0.01, stalled=None, failing=False):
        self.name, self.boundary, self.period_s = name, boundary, period_s
        self.devices = (DeviceIdentity(name, name),)
        self.stalled, self.failing, self.threads = stalled, failing, set()

    def read(self):
        self.threads.add(threading.get_ident())
        if self.failing:
            raise MeasurementError(f"{self.name} is broken")
        if self.stalled is not None:
            self.stalled.wait(10)
        return (DeviceSample(self.name, power_w=5.0),)

    def close(self):
        """Nothing to release."""


def test_a_meter_that_is_slow_to_answer_does_not_hold_up_the_gpus():
    stalled, rows = threading.Event(), []
    gpu, meter = Fake("nvml", "gpu"), Fake("redfish", "node", stalled=stalled)
    both = SideBySide(gpu, [meter], rows.extend, period_s=0.01)
    both.start()
    until(lambda: len(rows) >= 10, "readings")
    assert {row.source for row in rows} == {"nvml"}
    stalled.set()
    until(lambda: any(row.source == "redfish" for row in rows), "readings")
    both.stop()
    assert {(row.source, row.boundary) for row in rows} == {("nvml", "gpu"), ("redfish", "node")}
    assert gpu.threads.isdisjoint(meter.threads)
    assert {row.source for row in both.latest} == {"nvml", "redfish"}


def test_a_source_that_breaks_is_raised_and_the_others_are_ended():
    gpu, broken = Fake("nvml", "gpu"), Fake("ipmi", "node", failing=True)
    both = SideBySide(gpu, [broken], lambda rows: None, period_s=0.01)
    both.start()
    with pytest.raises(MeasurementError, match="ipmi is broken"):
        while True:
            both.check()
            time.sleep(0.005)
    with pytest.raises(MeasurementError, match="ipmi is broken"):
        both.stop()
    names = {thread.name for thread in threading.enumerate()}
    assert "power-sampler-nvml" not in names


def test_a_slow_meter_is_read_once_more_at_the_end():
    rows = []
    meter = Fake("ipmi", "node", period_s=1000.0)
    both = SideBySide(Fake("nvml", "gpu"), [meter], rows.extend, period_s=0.01)
    both.start()
    until(lambda: any(row.source == "ipmi" for row in rows), "readings")
    end_s = time.monotonic()
    both.stop()
    of_meter = [row for row in rows if row.source == "ipmi"]
    assert len(of_meter) == 2
    assert of_meter[-1].t_mono_s >= end_s


def test_a_combined_source_stands_for_its_gpus_and_closes_everything():
    gpu, meter, closed = Fake("nvml", "gpu"), Fake("ipmi", "node"), []
    gpu.close, meter.close = (lambda: closed.append("gpu")), (lambda: closed.append("meter"))
    source = Combined(gpu, [meter])
    assert (source.name, source.boundary, source.devices) == ("nvml", "gpu", gpu.devices)
    assert [sample.uuid for sample in source.read()] == ["nvml"]
    assert isinstance(sampler_of(source, lambda rows: None), SideBySide)
    assert isinstance(sampler_of(gpu, lambda rows: None), PowerSampler)
    source.close()
    assert sorted(closed) == ["gpu", "meter"]


def test_one_device_in_two_sources_is_refused():
    with pytest.raises(ConfigError, match="same device"):
        SideBySide(Fake("ipmi", "gpu"), [Fake("ipmi", "node")], lambda rows: None)


@pytest.mark.parametrize("text", ["redfish", "redfish:https://bmc", "ipmi", "hwmon:pmbus/pin", "rapl", "replay:x.csv"])
def test_names_of_meters_are_known(text):
    assert check_meter(text) == text


@pytest.mark.parametrize("text", ["", "wattmeter", "replay", "replay:", "ipmi:host", "rapl:0"])
def test_what_is_no_meter_is_refused_with_the_choices(text):
    with pytest.raises(ConfigError, match="redfish:URL"):
        open_meter(text)


def test_a_replayed_node_trace_is_a_meter(tmp_path):
    path = tmp_path / "node.csv"
    path.write_text("t_s,uuid,power_w,energy_j,boundary\n0,psu,900,,node\n100,psu,900,,node\n")
    meter = open_meter(f"replay:{path}")
    assert (meter.boundary, meter.read()[0].power_w) == ("node", 900)
