import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from harness.analysis.energy import device_energy, device_series, total_energy
from harness.power.nvml import list_gpus, nvml_unavailable_reason, open_nvml
from harness.power.nvml_sampler import NvmlSampler

REASON = nvml_unavailable_reason()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"no GPU to measure: {REASON}")]

WINDOW_S = 10.0


@pytest.fixture
def source():
    source = open_nvml()
    yield source
    source.close()


@pytest.fixture(scope="module")
def measured():
    """Ten seconds of every GPU: the source, its rows, the window's edges and the sampler."""
    source, rows = open_nvml(), []
    with NvmlSampler(source, rows.extend) as sampler:
        time.sleep(0.5)
        start_s = time.monotonic()
        time.sleep(WINDOW_S)
        end_s = time.monotonic()
        time.sleep(1.0)
    source.close()
    return source, rows, (start_s, end_s), sampler


def test_every_gpu_has_an_identity(source):
    assert source.devices == list_gpus()
    assert re.fullmatch(r"driver \S+, NVML \S+, CUDA (\d+\.\d+|unknown)", source.driver)
    for gpu in source.devices:
        assert gpu.uuid.startswith("GPU-")
        assert gpu.name
        assert re.fullmatch(r"[0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.0", gpu.pci_bus_id)


def test_a_gpu_opened_by_uuid_is_the_one_opened_by_index(source):
    first = source.devices[0]
    for name in (first.uuid, first.index):
        one = open_nvml([name])
        assert one.devices == (first,)
        one.close()


def test_readings_decode_to_plausible_si_values(source):
    for gpu, sample in zip(source.devices, source.read(), strict=True):
        assert sample.error is None
        assert sample.power_w is None or 5 < sample.power_w < 1.2 * (gpu.power_limit_w or 2000)
        assert sample.utilization_ratio is None or 0 <= sample.utilization_ratio <= 1
        assert sample.temperature_c is None or 5 < sample.temperature_c < 120
        assert sample.memory_used_b is None or 0 <= sample.memory_used_b <= gpu.memory_total_b
        assert sample.throttle_reasons is None or isinstance(sample.throttle_reasons, int)


def test_processes_are_listed_or_unknown(source):
    for gpu in source.devices:
        pids = source.compute_process_pids(gpu.uuid)
        assert pids is None or all(pid > 0 for pid in pids)


def test_the_energy_counter_never_falls(measured):
    _, rows, _, _ = measured
    for series in device_series(rows):
        counter = [row.energy_j for row in rows if row.uuid == series.uuid and row.energy_j is not None]
        assert counter == sorted(counter)


def test_counter_and_integrated_power_agree_within_five_percent(measured):
    source, rows, window, _ = measured
    lags = {"power_lag_s": source.power_lag_s, "counter_lag_s": source.counter_lag_s}
    devices = [device_energy(one, *window, **lags) for one in device_series(rows)]
    assert total_energy(devices).joules > 0
    for device in devices:
        if device.counter_j is None or device.integral_j is None:
            pytest.skip(f"{device.uuid} has only one of counter and power: {source.notes}")
        assert device.integral_j == pytest.approx(device.counter_j, rel=0.05)


def test_the_counter_is_seen_to_step_about_as_often_as_is_assumed(measured):
    source, rows, _, _ = measured
    for series in device_series(rows):
        ages_s = series.energy_age_s[np.isfinite(series.energy_age_s)]
        if not ages_s.size:
            pytest.skip(f"{series.uuid} has no counter: {source.notes}")
        assert np.median(ages_s) < 4 * source.counter_lag_s


def test_gpus_are_read_ten_times_a_second(measured):
    source, rows, (start_s, end_s), sampler = measured
    inside = [row for row in rows if start_s <= row.t_mono_s <= end_s]
    assert len(inside) == pytest.approx(10 * WINDOW_S * len(source.devices), rel=0.05)
    assert len(rows) == sampler.lateness.rounds * len(source.devices)
    assert np.quantile([row.late_s for row in inside], 0.99) < 0.02


def test_the_state_of_every_gpu_can_be_read_and_does_not_go_back(source):
    before, after = source.state(), source.state()
    for first, later in zip(before, after, strict=True):
        assert first.uuid == later.uuid
        assert first.ecc_corrected is None or first.ecc_corrected <= later.ecc_corrected


def test_a_sleep_is_measured_by_the_command_line(source):
    argv = [sys.executable, "-m", "harness.cli", "measure", "--json", "--", "sleep", "5"]
    measured = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    assert [gpu["uuid"] for gpu in measured["gpus"]] == [gpu.uuid for gpu in source.devices]
    assert measured["window_s"] == pytest.approx(5, abs=1)
    assert (measured["boundary"], measured["simulated"], measured["exit_code"]) == ("gpu", False, 0)
    for gpu in measured["gpus"]:
        assert 5 < gpu["mean_w"] < 1.2 * (gpu["power_limit_w"] or 2000)
