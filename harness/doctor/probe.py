"""Ask the driver and the planner in a process of its own, so that a sick driver cannot hang the doctor.

``python -m harness.doctor.probe`` prints one ``Probe`` as JSON. It reads and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml
from pydantic import BaseModel, ConfigDict
from pynvml import NVMLError

from harness.errors import HarnessError, NodeError
from harness.power.nvml_reading import QUANTITIES, Handle, error_name


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Trouble(_Facts):
    """An error of the harness as a fact."""

    what: str
    why: str
    fix: str


class GpuFacts(_Facts):
    """What one GPU answers. None is unknown.

    ``ways`` names for each field of a reading the call that reads it (None: none does), ``refusals`` why better ones
    do not. ``pids`` are the host's ids of the processes that compute on it.
    """

    index: int
    uuid: str
    name: str
    memory_total_b: int | None = None
    limit_w: float | None = None
    default_limit_w: float | None = None
    persistence: bool | None = None
    mig: bool | None = None
    ecc: bool | None = None
    ecc_uncorrected: int | None = None
    pids: tuple[int, ...] | None = None
    ways: dict[str, str | None] = {}
    refusals: dict[str, str] = {}

    @property
    def carries_joules(self) -> bool:
        """Return whether it can be measured: a whole GPU that reports power or energy."""
        return not self.mig and any(self.ways.get(name) for name in ("power_w", "energy_j"))


class DriverFacts(_Facts):
    """The driver and its GPUs. ``cuda`` is the newest CUDA version it runs; ``no_events`` why XID errors are unseen."""

    version: str
    nvml: str
    cuda: tuple[int, int] | None
    gpus: tuple[GpuFacts, ...]
    no_events: str | None = None


class PlanFacts(_Facts):
    """What ``harness stress`` would decide here by default; ``model`` is None where no server can be launched."""

    power: str
    power_why: str
    boundary: str
    profile: str | None = None
    node_share: float = 1.0
    model: str | None = None
    model_why: str = ""
    tensor_parallel: int = 1
    replicas: int = 1


class Probe(_Facts):
    """What was found: the driver or why there is none, the plan or why none can be made."""

    driver: DriverFacts | None = None
    no_driver: Trouble | None = None
    plan: PlanFacts | None = None
    no_plan: Trouble | None = None
    no_launch: Trouble | None = None


def probe() -> Probe:
    """Find out what the driver answers and what would be planned."""
    driver, no_driver = _or_trouble(_driver)
    launched, no_launch = _or_trouble(lambda: _plan(()))
    plan, no_plan = (launched, None) if launched else _or_trouble(lambda: _plan(("http://127.0.0.1",)))
    return Probe(driver=driver, no_driver=no_driver, plan=plan, no_plan=no_plan, no_launch=no_launch)


def _or_trouble(ask: Callable[[], Any]) -> tuple[Any, Trouble | None]:
    try:
        return ask(), None
    except HarnessError as error:
        return None, Trouble(what=error.what, why=error.why, fix=error.fix)


def _plan(url: tuple[str, ...]) -> PlanFacts:
    """Plan a run that launches its servers or, given an address, one that would attach (nothing is contacted)."""
    from harness.config import StressConfig
    from harness.plan import make_plan

    plan = make_plan(StressConfig(url=url))
    found = PlanFacts(
        power=plan.power,
        power_why=plan.power_why,
        boundary=plan.boundary,
        profile=plan.profile.name if plan.profile else None,
        node_share=plan.node_share,
    )
    if plan.model is None:
        return found
    return found.model_copy(
        update={
            "model": plan.model.model,
            "model_why": plan.model.why,
            "tensor_parallel": plan.model.tensor_parallel,
            "replicas": plan.replicas,
        }
    )


def _driver() -> DriverFacts:
    from harness.power.nvml import list_gpus

    identities = list_gpus()
    if not identities:
        raise NodeError("The NVIDIA driver reports no GPU.", why="its library answers, with a count of 0")
    pynvml.nvmlInit()
    try:
        cuda = _known(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return DriverFacts(
            version=pynvml.nvmlSystemGetDriverVersion(),
            nvml=pynvml.nvmlSystemGetNVMLVersion(),
            cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
            gpus=tuple(_gpu(index) for index in range(len(identities))),
            no_events=_no_events(),
        )
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> GpuFacts:
    from harness.power.nvml_gpu import enforced_limit_w, identify
    from harness.power.nvml_state import compute_pids

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    identity = identify(handle)
    ways, refusals = _ways(handle)
    default_mw = _known(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    mig = _known(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    ecc = _known(lambda: pynvml.nvmlDeviceGetEccMode(handle))
    return GpuFacts(
        index=index,
        uuid=identity.uuid,
        name=identity.name,
        memory_total_b=identity.memory_total_b,
        limit_w=_known(lambda: enforced_limit_w(handle)),
        default_limit_w=None if default_mw is None else default_mw / 1e3,
        persistence=identity.persistence_mode,
        mig=None if mig is None else mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        ecc=None if ecc is None else ecc[0] == pynvml.NVML_FEATURE_ENABLED,
        ecc_uncorrected=_known(
            lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            )
        ),
        pids=compute_pids(handle),
        ways=ways,
        refusals=refusals,
    )


def _ways(handle: Handle) -> tuple[dict[str, str | None], dict[str, str]]:
    """Find the call that reads each quantity as a measurement would, and why those before it do not."""
    from harness.power.nvml_gpu import first_working

    ways: dict[str, str | None] = {}
    refusals: dict[str, str] = {}
    for quantity in QUANTITIES:
        way, failures = first_working(quantity, handle)
        ways[quantity.field] = way
        if failures:
            refusals[quantity.field] = "; ".join(failures)
    return ways, refusals


def _no_events() -> str | None:
    try:
        pynvml.nvmlEventSetFree(pynvml.nvmlEventSetCreate())
    except NVMLError as error:
        return error_name(error)
    return None


def _known(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except NVMLError:
        return None


if __name__ == "__main__":
    print(probe().model_dump_json())
