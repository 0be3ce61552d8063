import re
import time

import pytest

from harness.energy import device_energy, device_series, total_energy
from harness.power.nvml import list_gpus, nvml_unavailable_reason, open_nvml
from harness.power.sampler import PowerSampler

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
    with PowerSampler(source, rows.extend) as sampler:
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
    devices = [device_energy(one, *window, power_lag_s=source.power_lag_s) for one in device_series(rows)]
    assert total_energy(devices).joules > 0
    for device in devices:
        if device.counter_j is None or device.integral_j is None:
            pytest.skip(f"{device.uuid} has only one of counter and power: {source.notes}")
        assert device.integral_j == pytest.approx(device.counter_j, rel=0.05)


def test_the_lateness_of_every_read_is_recorded(measured):
    source, rows, _, sampler = measured
    assert len(rows) == sampler.lateness.rounds * len(source.devices)
    assert all(row.late_s >= 0 for row in rows)
    assert sampler.lateness.max_s < WINDOW_S
