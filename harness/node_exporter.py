"""Export power and energy of a node whose traffic is not ours, until asked to end; no load is sent, nothing is stored.

A server that is away, restarts or comes back, and a GPU that is lost, are told once on the log and for as long as they
last in the metrics; the exporter goes on with what is left. Only a sensor that cannot be read at all ends it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from estimator.nodes import NodeProfile, load_profile, profile_for_gpu
from harness.config import refuse_user
from harness.errors import ConfigError, NodeError
from harness.live.state import LiveState
from harness.metrics.collectors import NodeCollector, NodeModel, Pue
from harness.metrics.discovery import without_user
from harness.metrics.exporter import MetricsServer
from harness.power.base import GPU_LOST, PowerSource
from harness.power.nvml import nvml_unavailable_reason, open_nvml
from harness.power.nvml_sampler import sampler_for
from harness.power.replay import ReplaySource, load_recording
from harness.power.sampler import PERIOD_S
from harness.power.simulated import SimulatedSource
from harness.sensing import open_meters
from harness.server.monitor import ServerMonitor

Say = Callable[[str], None]

SCRAPE_PERIOD_S = 1.0
_LOOK_S = 0.5


@dataclass(frozen=True)
class ExporterOptions:
    """What ``harness exporter`` was asked for; ``seconds`` None goes on until a signal."""

    urls: tuple[str, ...] = ()
    metrics_address: str = "127.0.0.1:9477"
    power: str = "auto"
    gpus: tuple[str, ...] = ()
    node_meters: tuple[str, ...] = ()
    node_profile: str | None = None
    pue: float | None = None
    seconds: float | None = None


async def run_exporter(options: ExporterOptions, say: Say) -> None:
    """Export until ``seconds`` have passed or cancelled, which both end it in order.

    Raises ``ConfigError`` or ``NodeError`` for what cannot be begun, and what ended the sampling of a sensor.
    """
    refuse_user(options.urls)
    live = LiveState(server_urls=options.urls)
    with ExitStack() as stack:
        sources = _open_sources(options, live, stack)
        node = _node_model(options, sources)
        pue = None if options.pue is None else Pue(options.pue, "measured")
        collector = NodeCollector(live, node, pue)
        metrics = MetricsServer(collector, live, options.metrics_address)
        stack.callback(metrics.close)
        samplers = [
            stack.enter_context(sampler_for(source, live.power_read, period_s=_period_s(source))) for source in sources
        ]
        monitor = ServerMonitor(options.urls, collector.servers_scraped, SCRAPE_PERIOD_S)
        stack.callback(monitor.stop)
        monitor.start()
        for line in (f"metrics: {metrics.url}", *_what_is_exported(sources, node)):
            say(line)
        news = News(tuple(map(without_user, options.urls)))

        def look() -> None:
            live.missed_power_samples = sum(sampler.missed for sampler in samplers)
            for line in news.of(live):
                say(line)
            for sampler in samplers:
                sampler.check()
            monitor.check()

        try:
            await _look_until(options.seconds, look)
        except asyncio.CancelledError:
            look()
            say("asked to end")


async def _look_until(seconds: float | None, look: Callable[[], None]) -> None:
    end_s = None if seconds is None else time.monotonic() + seconds
    while end_s is None or time.monotonic() < end_s:
        look()
        await asyncio.sleep(_LOOK_S if end_s is None else max(0.0, min(_LOOK_S, end_s - time.monotonic())))


@dataclass
class News:
    """What has changed about servers and devices since the last look; each change is told once."""

    urls: tuple[str, ...]
    _states: dict[str, object] = field(default_factory=dict)

    def of(self, live: LiveState) -> Iterator[str]:
        """Yield a line for each change; that all is well at first is no news."""
        with live.lock:
            servers = [
                (row.server, row.error, live.server_totals[row.server].restarts) for row in live.servers.values()
            ]
            devices = [(uuid, device.answers, device.row.error) for uuid, device in live.devices.items()]
        for number, error, restarts in servers:
            if self._changed(f"server {number}", error is None, at_first=True):
                yield f"server {self.urls[number]} " + ("answers again" if error is None else f"is away: {error}")
            if self._changed(f"restarts {number}", restarts, at_first=0):
                yield f"server {self.urls[number]} was restarted: its counters began again from zero"
        for uuid, answers, error in devices:
            if self._changed(uuid, answers, at_first=True):
                yield f"{uuid} " + ("is read again" if answers else _silence(error))

    def _changed(self, name: str, state: object, *, at_first: object) -> bool:
        before, self._states[name] = self._states.get(name, at_first), state
        return before != state


def _silence(error: str | None) -> str:
    if error == GPU_LOST:
        return "is lost: its power is no longer known; see dmesg"
    return f"tells neither power nor energy: {error or 'no reason given'}"


def _what_is_exported(sources: list[PowerSource], node: NodeModel | None) -> Iterator[str]:
    for source in sources:
        yield f"power: {source.name}, boundary {source.boundary}, {len(source.devices)} device(s)"
        yield from source.notes
    if node is None:
        yield "no node profile: node watts are not modelled (--node-profile)"
    else:
        yield f"node: modelled by the profile {node.profile.name}, {node.share:.0%} of it"


def _period_s(source: PowerSource) -> float:
    return float(getattr(source, "period_s", PERIOD_S))


# Sources ------------------------------------------------------------------------------------------------


def _open_sources(options: ExporterOptions, live: LiveState, stack: ExitStack) -> list[PowerSource]:
    if len(set(options.node_meters)) < len(options.node_meters):
        raise ConfigError("A meter is named twice.", fix="name each --node-meter once")
    sources: list[PowerSource] = []
    if options.power != "none":
        sources.append(_gpu_source(options, live))
        stack.callback(sources[0].close)
    for meter in open_meters(options.node_meters):
        stack.callback(meter.close)
        sources.append(meter)
    if not sources:
        raise ConfigError("There is nothing to export.", why="--power none and no meter", fix="name a --node-meter")
    return sources


def _gpu_source(options: ExporterOptions, live: LiveState) -> PowerSource:
    kind, _, file = options.power.partition(":")
    if options.gpus and kind not in ("auto", "nvml"):
        raise ConfigError("--gpu chooses among NVML's GPUs, and NVML is not asked for.", fix="use --power nvml")
    if kind == "simulated":
        return SimulatedSource(live.running_requests)
    if kind == "replay" and file:
        return ReplaySource(load_recording(Path(file)))
    if options.power not in ("auto", "nvml"):
        raise ConfigError(
            f"--power {options.power} is no power source.", fix="give auto, nvml, simulated, replay:FILE or none"
        )
    reason = nvml_unavailable_reason()
    if reason is not None:
        raise NodeError(
            "There is no GPU power sensor to export.",
            why=reason,
            fix="export a meter alone with --power none --node-meter ipmi, "
            "or try it with --power simulated, whose joules are invented",
        )
    return open_nvml([int(gpu) if gpu.isdecimal() else gpu for gpu in options.gpus] or None)


def _node_model(options: ExporterOptions, sources: list[PowerSource]) -> NodeModel | None:
    """Return the model of the node: the profile given, or the one shipped for these GPUs; none without GPUs."""
    gpus = next((source for source in sources if source.boundary == "gpu"), None)
    if gpus is None:
        return None
    profile = _profile(options, gpus)
    if profile is None:
        return None
    try:
        share = 1.0 if gpus.name == "simulated" else profile.share(len(gpus.devices))
    except ValueError as error:
        raise NodeError("the node profile does not match this node", why=str(error)) from error
    return NodeModel(profile, share)


def _profile(options: ExporterOptions, gpus: PowerSource) -> NodeProfile | None:
    if options.node_profile is None:
        return profile_for_gpu(gpus.devices[0].name)
    try:
        return load_profile(options.node_profile)
    except ValueError as error:
        raise NodeError(f"--node-profile {options.node_profile} cannot be used", why=str(error)) from error
