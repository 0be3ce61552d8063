"""Whether GPUs that cannot be read are told from a machine without GPUs."""

import pynvml
import pytest

from harness.power import nvml
from harness.power.base import DeviceIdentity
from harness.power.nvml import unreadable_gpus
from harness.power.pci import nvidia_devices_on_bus


def driver(monkeypatch, code=None, gpus=()):
    """Let the driver's library answer with an error, or list these GPUs."""

    def init():
        if code is not None:
            raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", init)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(gpus))
    monkeypatch.setattr(nvml, "find_gpu", lambda index: gpus[index])
    monkeypatch.setattr(nvml, "identify", lambda gpu: gpu)


@pytest.mark.parametrize(
    ("code", "on_bus", "said"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, 0, None),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, None, None),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, 0, None),
        (None, 0, None),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, 8, ("libnvidia-ml.so.1) was not found", "; 8 NVIDIA device")),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, 1, ("not loaded", "; 1 NVIDIA device")),
        (None, 4, ("reports no GPU; 4 NVIDIA device",)),
        (pynvml.NVML_ERROR_GPU_IS_LOST, 0, ("A GPU is lost",)),
        (pynvml.NVML_ERROR_NO_PERMISSION, None, ("may not be used by this user",)),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, 8, ("different versions", "; 8 NVIDIA")),
        (pynvml.NVML_ERROR_UNKNOWN, 0, ("NVML failed",)),
    ],
)
def test_gpus_are_here_where_the_bus_shows_them_or_a_driver_answers(monkeypatch, code, on_bus, said):
    driver(monkeypatch, code)
    monkeypatch.setattr(nvml, "nvidia_devices_on_bus", lambda: on_bus)
    found = unreadable_gpus()
    if said is None:
        assert found is None
    else:
        assert all(part in found for part in said)


def test_gpus_that_can_be_read_are_no_fault(monkeypatch):
    driver(monkeypatch, gpus=(DeviceIdentity("GPU-0", "H100"),))
    monkeypatch.setattr(nvml, "nvidia_devices_on_bus", lambda: 8)
    assert unreadable_gpus() is None


def test_a_bus_that_cannot_be_seen_tells_nothing(tmp_path):
    assert nvidia_devices_on_bus(tmp_path / "none") is None
