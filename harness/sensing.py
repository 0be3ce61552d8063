"""Have a power source to measure with, and say what else may draw the power that it measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from harness.live.state import LiveState
from harness.plan import Plan
from harness.power.base import PowerSource
from harness.power.combined import Combined, Meter
from harness.power.meters import open_meter
from harness.power.nvml import NvmlSource, open_nvml
from harness.power.replay import ReplaySource, load_recording
from harness.power.simulated import SimulatedSource


def open_source(plan: Plan, live: LiveState) -> tuple[PowerSource, str | None, tuple[str, ...]]:
    """Return the power source, the driver's version if there is one, and warnings about what else uses the GPUs.

    With meters asked for, the source is a ``Combined`` one.
    """
    source, driver, warnings = _gpu_source(plan, live)
    if not plan.config.node_meter:
        return source, driver, warnings
    with ExitStack() as opened:
        opened.callback(source.close)
        meters = open_meters(plan.config.node_meter)
        opened.pop_all()
    return Combined(source, meters), driver, warnings


def open_meters(names: Sequence[str]) -> tuple[Meter, ...]:
    """Open every meter, or none: where one cannot be opened, those already open are closed."""
    with ExitStack() as opened:
        meters = []
        for name in names:
            meters.append(open_meter(name))
            opened.callback(meters[-1].close)
        opened.pop_all()
    return tuple(meters)


def _gpu_source(plan: Plan, live: LiveState) -> tuple[PowerSource, str | None, tuple[str, ...]]:
    if plan.power.startswith("replay:"):
        return ReplaySource(load_recording(Path(plan.power.removeprefix("replay:")))), None, ()
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
