"""What changes on a GPU besides its power: ECC error counts, its limit, who computes on it, and XID errors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pynvml
from pynvml import NVMLError

from harness.power.base import DeviceState
from harness.power.nvml_gpu import Gpu, enforced_limit_w
from harness.power.nvml_reading import Handle, error_name

INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of Linux, include/linux/proc_ns.h
MAX_EVENTS_A_READ = 64

_T = TypeVar("_T")


def read_state(gpu: Gpu) -> DeviceState:
    """Read a GPU's state; what a call does not tell is None."""
    return DeviceState(
        gpu.identity.uuid,
        ecc_corrected=_ecc_errors(gpu.handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ecc_uncorrected=_ecc_errors(gpu.handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        power_limit_w=_known(lambda: enforced_limit_w(gpu.handle)),
        pids=compute_pids(gpu.handle),
    )


def compute_pids(handle: Handle) -> tuple[int, ...] | None:
    """List the host's ids of the processes that compute on a GPU, or None if the driver does not tell."""
    for list_processes in (
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
    ):
        try:
            return tuple(sorted(process.pid for process in list_processes(handle)))
        except pynvml.NVMLError_FunctionNotFound:
            continue
        except NVMLError:
            return None
    return None


def sees_host_pids() -> bool:
    """Tell whether this process's ids are the host's, as NVML's are: not so in most containers."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def _ecc_errors(handle: Handle, kind: int) -> int | None:
    return _known(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_VOLATILE_ECC)))


def _known(call: Callable[[], _T]) -> _T | None:
    try:
        return call()
    except NVMLError:
        return None


class XidWatch:
    """XID errors of some GPUs, as the driver reports them; ``notes`` say where it cannot."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        """Watch from now on, where the driver offers events."""
        self._events = None
        self._uuids = {_address(gpu.handle): gpu.identity.uuid for gpu in gpus}
        self.notes: tuple[str, ...] = ()
        try:
            self._events = pynvml.nvmlEventSetCreate()
            for gpu in gpus:
                pynvml.nvmlDeviceRegisterEvents(gpu.handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
        except NVMLError as error:
            self.close()
            self.notes = (f"NVML: whether XID errors occur is unknown ({error_name(error)})",)

    @property
    def watching(self) -> bool:
        """Return whether the driver offers events to watch."""
        return self._events is not None

    def drain(self) -> dict[str, int]:
        """Return the XID errors since the last call by UUID; of several on one GPU the first."""
        seen: dict[str, int] = {}
        if self._events is None:
            return seen
        for _ in range(MAX_EVENTS_A_READ):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except NVMLError:  # a timeout: nothing more; anything else shows in the readings themselves
                break
            uuid = self._uuids.get(_address(event.device))
            if uuid is not None:
                seen.setdefault(uuid, int(event.eventData))
        return seen

    def close(self) -> None:
        """Stop watching; closing twice is harmless."""
        if self._events is not None:
            pynvml.nvmlEventSetFree(self._events)
            self._events = None


def _address(handle: Handle) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
