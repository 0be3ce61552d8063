import os
import signal
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from harness import calibrate_node as module
from harness.calibrate_node import read_record, record_levels, settled_stretches
from harness.errors import ConfigError, MeasurementError
from harness.power.base import DeviceIdentity, DeviceSample
from tests.cli.command import processes_naming
from tests.fakes.waiting import until


class Node:
    """A GPU and the meter of its node, whose power follows a number in a file."""

    gain_rel_u, power_lag_s, counter_lag_s, notes, period_s = None, 0.0, 0.0, (), 0.02

    def __init__(self, file, boundary, watts):
        self.name = self.boundary = boundary
        self.devices = (DeviceIdentity(boundary, boundary),)
        self.file, self.watts = file, watts

    def read(self):
        level = float(self.file.read_text() or 0) if self.file.exists() else 0.0
        return (DeviceSample(self.boundary, power_w=self.watts(level)),)

    def close(self):
        """Nothing to release."""


LOAD = "echo $HARNESS_LEVEL > '{file}'; sleep 60; true"
"""For a shell, which is at work long before a level ends, however busy the machine is."""


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GPU_PERIOD_S", 0.02)
    monkeypatch.setattr(module, "_CHECK_S", 0.02)
    file = tmp_path / "level"
    gpu = Node(file, "gpu", lambda level: 100 + 50 * level)
    meter = Node(file, "node", lambda level: 400 + 60 * level)
    return gpu, meter, file


def test_the_command_loads_every_level_and_is_ended_each_time(node):
    gpu, meter, file = node
    said = []
    table = record_levels(gpu, meter, 2, 1.5, ["sh", "-c", LOAD.format(file=file), "{level}"], said.append)
    assert said == ["level 0 of 2 (idle) for 1.5 s", "level 1 of 2 for 1.5 s", "level 2 of 2 for 1.5 s"]
    for level, gpu_w, node_w in ((0, 100, 400), (1, 150, 460), (2, 200, 520)):
        held = table[table["level"] == level].tail(20)
        assert set(held["gpu_w"].dropna()) == {gpu_w}
        assert set(held["node_w"].dropna()) == {node_w}
    assert table["t_s"].is_monotonic_increasing
    children = [child for child in psutil.Process(os.getpid()).children() if child.is_running()]
    assert not [child for child in children if "HARNESS_LEVEL" in " ".join(child.cmdline())]


def test_a_command_that_ends_early_is_no_load(node):
    gpu, meter, _ = node
    with pytest.raises(MeasurementError, match="level 1 ended too early") as caught:
        record_levels(gpu, meter, 2, 1.5, ["sh", "-c", "exit 3"], lambda text: None)
    assert "exit status 3" in caught.value.why


def test_a_command_that_does_not_exist_is_refused(node):
    gpu, meter, _ = node
    with pytest.raises(ConfigError, match="cannot be run"):
        record_levels(gpu, meter, 2, 0.05, ["/no/such/command"], lambda text: None)


def test_without_command_and_terminal_there_is_nobody_to_load_the_node(node, monkeypatch):
    gpu, meter, _ = node
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError, match="no person can be asked"):
        record_levels(gpu, meter, 2, 0.05, [], lambda text: None)


def test_a_meter_that_gives_nothing_is_named_with_its_reason(node):
    gpu, meter, _ = node
    meter.read = lambda: (DeviceSample("node", error="power_w: HTTP status 503"),)
    with pytest.raises(MeasurementError, match="meter gave no power") as caught:
        record_levels(gpu, meter, 0, 0.5, ["unused"], lambda text: None)
    assert "503" in caught.value.why


def test_what_covers_no_node_is_refused(node):
    gpu, meter, _ = node
    meter.boundary = "cpu_dram"
    with pytest.raises(ConfigError, match="covers cpu_dram"):
        record_levels(gpu, meter, 2, 0.05, ["unused"], lambda text: None)


RECORD = "t_s,gpu_w,node_w,level\n" + "".join(
    f"{t},{100 * level if level is not None else 50},{900 if t % 2 == 0 else ''},{'' if level is None else level}\n"
    for t, level in enumerate([0] * 5 + [None] + [1] * 5 + [1] * 0 + [None] * 2 + [0] * 4)
)


def test_a_record_is_cut_into_settled_stretches(tmp_path):
    path = tmp_path / "record.csv"
    path.write_text(RECORD)
    first, second, third = settled_stretches(read_record(path), settle_s=2)
    assert [stretch.level for stretch in (first, second, third)] == [0, 1, 0]
    assert list(first.gpu_t_s) == [2, 3, 4]
    assert list(first.node_t_s) == [2, 4]
    assert list(second.gpu_w) == [100, 100, 100]
    assert list(second.node_t_s) == [8, 10]
    assert list(third.gpu_t_s) == [15, 16]


def test_levels_that_follow_one_another_without_a_break_are_kept_apart(tmp_path):
    path = tmp_path / "record.csv"
    path.write_text("t_s,gpu_w,node_w,level\n0,1,2,0\n1,1,2,0\n2,5,6,1\n3,5,6,1\n")
    stretches = settled_stretches(read_record(path), settle_s=1)
    assert [(stretch.level, list(stretch.gpu_t_s)) for stretch in stretches] == [(0, [1]), (1, [3])]
    assert all(isinstance(stretch.node_w, np.ndarray) for stretch in stretches)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_s,gpu_w,level\n", "no column node_w"),
        ("t_s,gpu_w,node_w,level\n0,1,2,0\n1,x,2,0\n", "line 3: gpu_w = x"),
        ("t_s,gpu_w,node_w,level\n5,1,2,0\n1,1,2,0\n", "line 3: t_s = 1"),
        ("t_s,gpu_w,node_w,level\n0,1,-2,0\n", "line 2: node_w = -2"),
        ("t_s,gpu_w,node_w,level\n0,1,2,0.5\n", "line 2: level = 0.5"),
        ("", "no record"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(tmp_path, text, message):
    path = tmp_path / "record.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_record(path)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_calibration_and_everything_that_its_load_started(node, ending):
    gpu, meter, file = node
    stubborn = f"trap '' TERM HUP; printf 1 > {file}; exec sleep 61.25"
    over = threading.Event()

    def end_once_loaded():
        while not (file.exists() and file.read_text()) and not over.wait(0.02):
            pass
        os.kill(os.getpid(), ending)

    before = signal.signal(ending, lambda *_: None)  # a signal that comes too late must not end the tests
    killer = threading.Thread(target=end_once_loaded)
    killer.start()
    try:
        with pytest.raises(MeasurementError, match=f"ended by {ending.name} at level 1"):
            record_levels(gpu, meter, 1, 3.0, ["sh", "-c", f'sh -c "{stubborn}" & wait'], lambda text: None)
    finally:
        over.set()
        killer.join()
        signal.signal(ending, before)
    until(lambda: processes_naming("61.25") == [], "what the load started to end")


def test_a_load_that_ignores_the_polite_signal_is_ended_all_the_same(node, monkeypatch):
    gpu, meter, file = node
    monkeypatch.setattr(module, "_END_S", 0.2)
    stubborn = f"trap '' TERM; echo 1 > '{file}'; sleep 60"
    began_s = time.monotonic()
    record_levels(gpu, meter, 1, 1.0, ["sh", "-c", stubborn], lambda text: None)
    assert file.read_text() == "1\n"
    assert time.monotonic() - began_s < 30
