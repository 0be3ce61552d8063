"""Power and energy of NVIDIA GPUs, read through NVML.

What a GPU or driver cannot tell is found out once, when the source is opened, and recorded in ``notes``;
what fails later is an ``error`` in that reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pynvml
from pynvml import NVMLError

from harness.errors import ConfigError, NodeError
from harness.power.base import DeviceIdentity, DeviceSample, DeviceState
from harness.power.nvml_gpu import Gpu, find_gpu, identify, open_gpu
from harness.power.nvml_reading import error_name, value_if_supported
from harness.power.nvml_state import XidWatch, compute_pids, read_state
from harness.power.pci import nvidia_devices_on_bus


class NvmlSource:
    """Whole NVIDIA GPUs as a power source; made by ``open_nvml``.

    ``driver`` names the driver, NVML and CUDA driver versions. The gain is within +-5% (rectangular):
    NVIDIA, NVML API reference, nvmlDeviceGetPowerUsage; Yang et al., SC24, arXiv:2312.02741.
    """

    name = "nvml"
    boundary = "gpu"
    gain_rel_u: float | None = 0.05 / math.sqrt(3)
    counter_lag_s = 0.05
    """The counter steps about every 0.1 s, so that a reading is 0 to 0.1 s old."""

    def __init__(self, gpus: Sequence[Gpu], driver: str) -> None:
        """Take over GPUs that ``open_nvml`` has probed, and one reference to the initialised library."""
        self._gpus = tuple(gpus)
        self._open = True
        self._xids = XidWatch(gpus)
        self.driver = driver
        self.devices = tuple(gpu.identity for gpu in gpus)
        self.notes = tuple(note for gpu in gpus for note in gpu.notes) + self._xids.notes
        self.power_lag_s = 0.5 if all(gpu.averaged for gpu in gpus) else 0.0
        if len({gpu.averaged for gpu in gpus}) > 1:
            self.notes += (
                "NVML: some GPUs report the mean power of a second and some the present one: no lag is undone",
            )

    def read(self) -> tuple[DeviceSample, ...]:
        """Read every GPU once, in the order of ``devices``; a failed call is named in ``error``."""
        samples = tuple(gpu.read() for gpu in self._gpus)
        xids = self._xids.drain()
        return tuple(replace(sample, xid=xids.get(sample.uuid)) for sample in samples) if xids else samples

    def look(self) -> None:
        """Look at the energy counters between readings, so that a reading can tell how old its joules are."""
        for gpu in self._gpus:
            gpu.look()

    def state(self) -> tuple[DeviceState, ...]:
        """Read ECC counts, power limits and processes of every GPU, to be set against a later state."""
        return tuple(replace(read_state(gpu), xids_watched=self._xids.watching) for gpu in self._gpus)

    def compute_process_pids(self, uuid: str) -> tuple[int, ...] | None:
        """List the ids of the processes that compute on a GPU (the host's ids), or None if unknown."""
        return compute_pids(next(gpu for gpu in self._gpus if gpu.identity.uuid == uuid).handle)

    def close(self) -> None:
        """Release NVML; closing twice is harmless."""
        if self._open:
            self._open = False
            self._xids.close()
            pynvml.nvmlShutdown()


def open_nvml(gpus: Sequence[str | int] | None = None) -> NvmlSource:
    """Open GPUs given by UUID or NVML index (None: all of them) as one power source.

    Raises ``NodeError`` without a usable driver, for an unknown GPU, for MIG, and for a GPU that reports
    neither power nor energy; ``ConfigError`` for a GPU named twice.
    """
    with _driver_errors():
        pynvml.nvmlInit()
    try:
        with _driver_errors():
            wanted = range(pynvml.nvmlDeviceGetCount()) if gpus is None else gpus
            opened = [open_gpu(gpu) for gpu in wanted]
            driver = _driver_versions()
        _refuse_none_or_twice([gpu.identity.uuid for gpu in opened])
    except BaseException:
        pynvml.nvmlShutdown()
        raise
    return NvmlSource(opened, driver)


def list_gpus() -> tuple[DeviceIdentity, ...]:
    """List this machine's GPUs in NVML's order. Raises ``NodeError`` when the driver cannot be used."""
    with _driver_errors():
        pynvml.nvmlInit()
        try:
            return tuple(identify(find_gpu(index)) for index in range(pynvml.nvmlDeviceGetCount()))
        finally:
            pynvml.nvmlShutdown()


def nvml_unavailable_reason() -> str | None:
    """Say why no GPU power can be read on this machine, or return None when it can."""
    try:
        return None if list_gpus() else "the NVIDIA driver reports no GPU"
    except NodeError as error:
        return f"{error.what} ({error.why})"


def unreadable_gpus() -> str | None:
    """Say why GPUs that are here cannot be read; None where they can be, and where there are none.

    GPUs are here where NVIDIA's display devices are on the PCI bus, and where the driver answers, if only with an
    error.
    """
    try:
        if list_gpus():
            return None
        found, driver_answers = "the NVIDIA driver reports no GPU", False
    except NodeError as error:
        found = f"{error.what} ({error.why})"
        cause = error.__cause__
        driver_answers = isinstance(cause, NVMLError) and cause.value not in _NO_DRIVER
    on_bus = nvidia_devices_on_bus() or 0
    if not on_bus and not driver_answers:
        return None
    return f"{found}; {on_bus} NVIDIA device(s) on the PCI bus" if on_bus else found


def _driver_versions() -> str:
    cuda = value_if_supported(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    cuda_words = "unknown" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
    driver, nvml = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetNVMLVersion()
    return f"driver {driver}, NVML {nvml}, CUDA {cuda_words}"


# Errors -------------------------------------------------------------------------------------------------


def _refuse_none_or_twice(uuids: list[str]) -> None:
    if not uuids:
        raise NodeError(
            "There is no GPU to measure.",
            why="the NVIDIA driver is loaded but reports no GPU",
            fix="check nvidia-smi -L and, in a container, --gpus all",
        )
    if len(set(uuids)) < len(uuids):
        raise ConfigError(f"A GPU is named twice: {', '.join(uuids)}.", fix="name each GPU once")


_NO_DRIVER = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
_DRIVER_ERRORS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "The NVIDIA driver library (libnvidia-ml.so.1) was not found.",
        "there is no NVIDIA driver here, or the container was started without it",
        "install the driver, start the container with --gpus all, or use --power simulated",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "The NVIDIA driver is not loaded.",
        "its library is installed, but the kernel module is not running",
        "load it (sudo modprobe nvidia) and check nvidia-smi, or use --power simulated",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "NVML may not be used by this user.",
        "the driver refused permission",
        "grant access to /dev/nvidia* (in a container: --gpus all), or use --power simulated",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "The NVIDIA library and kernel module are of different versions.",
        "the driver was updated without reloading its module",
        "reboot, or reload the nvidia module",
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: (
        "A GPU is lost.",
        "it fell off the bus or stopped answering the driver",
        "see dmesg for its XID error, then reset the GPU or reboot",
    ),
}


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Turn an NVML error into a ``NodeError`` that says what to do."""
    try:
        yield
    except NVMLError as error:
        what, why, fix = _DRIVER_ERRORS.get(
            error.value,
            (f"NVML failed: {error_name(error)}.", str(error), "check that nvidia-smi works on this machine"),
        )
        raise NodeError(what, why=why, fix=fix) from error
