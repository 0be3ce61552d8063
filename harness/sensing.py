"""Have a power source to measure with, and say what else may draw the power that it measures."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from harness.live import LiveState
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.power.nvml import NvmlSource, open_nvml
from harness.power.simulated import SimulatedSource


def open_source(plan: Plan, live: LiveState) -> tuple[PowerSource, str | None, tuple[str, ...]]:
    """Return the power source, the driver's version if there is one, and warnings about what else uses the GPUs."""
    if plan.power != "nvml":
        return SimulatedSource(live.running_requests), None, ()
    source = open_nvml([gpu.uuid for gpu in plan.devices])
    if plan.config.url:
        return source, source.driver, tuple(_attached_warnings(plan.config.url))
    return source, source.driver, tuple(filter(None, (_other_use(source, gpu.uuid) for gpu in plan.devices)))


def _attached_warnings(urls: tuple[str, ...]) -> Iterator[str]:
    yield "the servers already ran: whether anything else used the GPUs is unknown"
    for url in urls:
        host = urlsplit(url).hostname or ""
        if host != "localhost" and not host.startswith("127.") and host != "::1":
            yield f"{host} is not a loopback address: the watts are this machine's, so the server must run here too"


def _other_use(source: NvmlSource, uuid: str) -> str | None:
    pids = source.compute_process_pids(uuid)
    if pids is None:
        return f"whether other processes use {uuid} is unknown: the driver does not tell"
    if pids:
        return f"other processes used {uuid} before launch ({', '.join(map(str, pids))}): their joules are counted here"
    return None
