"""Which GPUs CUDA_VISIBLE_DEVICES leaves to this process: those it uses where no option names any. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import NodeError
from harness.power.base import DeviceIdentity
from harness.power.nvml_gpu import mig_refused

VARIABLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_NONE = ("", "-1", "NoDevFiles")
_FIX = f"name GPUs with --gpu, or set {VARIABLE} to GPUs of this node, or unset it"


def visible_gpus(gpus: Sequence[DeviceIdentity], environment: Mapping[str, str]) -> tuple[DeviceIdentity, ...] | None:
    """Return those of a node's GPUs that CUDA_VISIBLE_DEVICES names, or ``None`` where it is not set.

    It names them as CUDA understands it, by index or by the beginning of a UUID; indices are NVML's unless GPUs are
    unlike and not asked for in the order of the bus. Raises ``NodeError`` where it names none, a GPU that is not here,
    or a MIG instance.
    """
    text = environment.get(VARIABLE)
    if text is None:
        return None
    if text.strip() in _NONE:
        raise NodeError(f"{VARIABLE}={text} hides every GPU of this node", fix=_FIX)
    names = [name.strip() for name in text.split(",")]
    in_bus_order = environment.get(ORDER) == "PCI_BUS_ID"
    if any(map(str.isdecimal, names)) and len({gpu.name for gpu in gpus}) > 1 and not in_bus_order:
        raise NodeError(
            f"which GPUs {VARIABLE}={text} means cannot be told",
            why=f"they are unlike, and CUDA numbers the fastest first unless {ORDER}=PCI_BUS_ID",
            fix=f"name them with --gpu, or set {ORDER}=PCI_BUS_ID",
        )
    named = {_named(name, gpus, text).uuid for name in names}
    return tuple(gpu for gpu in gpus if gpu.uuid in named)


def _named(name: str, gpus: Sequence[DeviceIdentity], text: str) -> DeviceIdentity:
    if name.startswith("MIG-"):
        raise mig_refused(name)
    found = [gpu for gpu in gpus if str(gpu.index) == name or (name.startswith("GPU-") and gpu.uuid.startswith(name))]
    if len(found) != 1:
        here = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus)
        raise NodeError(
            f"{VARIABLE}={text}: {name!r} is {'no GPU' if not found else 'not one GPU'} of this node",
            why=f"this node has {here}",
            fix=_FIX,
        )
    return found[0]
