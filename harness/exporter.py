"""Prometheus metrics of a run: base units, ``_total`` on counters, source and boundary on everything with joules.

Energy per query is exported in joules, Prometheus' base unit; divide by 3600 for Wh.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from estimator.nodes import Allocation, NodeProfile
from harness import __version__
from harness.errors import ConfigError
from harness.live import PHASES, LiveState

_JOULES_PER_WH = 3_600


class RunCollector(Collector):
    """Turns the live state into metrics at each scrape."""

    def __init__(
        self, live: LiveState, run_id: str, profile: NodeProfile | None, node_share: float,
        allocation: Allocation = "share",
    ) -> None:  # fmt: skip
        """Export ``live``; node watts are modelled with ``profile`` where there is one."""
        self._allocation = allocation
        self._live, self._run_id, self._profile, self._node_share = live, run_id, profile, node_share

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as of now."""
        with self._live.lock:
            yield _gauge("harness_info", "The run being measured.", {"run": self._run_id, "version": __version__}, 1)
            phase = GaugeMetricFamily("harness_phase", "1 for the phase the run is in.", labels=["phase"])
            for name in PHASES:
                phase.add_metric([name], float(name == self._live.phase))
            yield phase
            if self._live.cell:
                yield _gauge("harness_cell_info", "The cell being loaded.", {"cell": self._live.cell}, 1)
            yield from self._power()
            yield from self._servers()
            yield from self._results()

    def _power(self) -> Iterable[Metric]:
        labels = ["device", "source", "boundary"]
        power = GaugeMetricFamily("harness_power_watts", "Power of a device as its sensor reports it.", labels=labels)
        energy = CounterMetricFamily("harness_energy_joules", "Energy of a device since the run began.", labels=labels)
        busy = GaugeMetricFamily("harness_gpu_utilization_ratio", "Share of time the device was busy.", labels=labels)
        heat = GaugeMetricFamily("harness_gpu_temperature_celsius", "Temperature of the device.", labels=labels)
        gpu_w: list[float | None] = []
        for device in self._live.devices.values():
            row = device.row
            values = [row.uuid, row.source, row.boundary]
            if row.boundary == "gpu":
                gpu_w.append(row.power_w)
            energy.add_metric(values, device.joules)
            for family, value in (
                (power, row.power_w),
                (busy, row.utilization_ratio),
                (heat, row.temperature_c),
            ):
                if value is not None:
                    family.add_metric(values, value)
        yield from (power, energy, busy, heat)
        yield from self._node_power(gpu_w)
        yield CounterMetricFamily(
            "harness_power_samples_missed", "Power readings missed.", value=self._live.missed_power_samples
        )

    def _node_power(self, gpu_w: list[float | None]) -> Iterable[Metric]:
        known = [watts for watts in gpu_w if watts is not None]
        if self._profile is None or not known or len(known) < len(gpu_w):
            return
        source = next(device.row.source for device in self._live.devices.values() if device.row.boundary == "gpu")
        watts = self._profile.node_watts(sum(known), self._node_share, self._allocation)
        labels = {"source": source, "boundary": "node_modelled", "node_profile": self._profile.name}
        yield _gauge("harness_node_power_watts", "Power of the node, modelled from its devices.", labels, watts)

    def _servers(self) -> Iterable[Metric]:
        gauges = {
            "running": GaugeMetricFamily("harness_requests_running", "Requests the server runs.", labels=["server"]),
            "waiting": GaugeMetricFamily("harness_requests_waiting", "Requests that queue.", labels=["server"]),
            "kv_usage_ratio": GaugeMetricFamily(
                "harness_kv_cache_usage_ratio", "Share of the KV cache in use.", labels=["server"]
            ),
        }
        counters = {
            "generation_tok": CounterMetricFamily(
                "harness_generated_tokens", "Output tokens by the server's own counter.", labels=["server"]
            ),
            "prompt_tok": CounterMetricFamily(
                "harness_prompt_tokens", "Input tokens by the server's own counter.", labels=["server"]
            ),
        }
        for number, row in self._live.servers.items():
            for name, gauge in gauges.items():
                value = getattr(row.counters, name)
                if value is not None:
                    gauge.add_metric([str(number)], value)
            for name, counter in counters.items():
                tokens = self._live.tokens(number, name) if row.error is None else None
                if tokens is not None:
                    counter.add_metric([str(number)], tokens)
        yield from (*gauges.values(), *counters.values())
        requests = CounterMetricFamily("harness_requests", "Requests the harness sent, by outcome.", labels=["outcome"])
        for outcome, count in self._live.requests.items():
            requests.add_metric([outcome], count)
        yield requests

    def _results(self) -> Iterable[Metric]:
        energy = GaugeMetricFamily(
            "harness_query_energy_joules",
            "Energy per query, measured or predicted; 3600 J are 1 Wh.",
            labels=["cell", "kind", "stat", "source", "boundary"],
        )
        for figure in self._live.figures:
            labels = [figure.cell, figure.kind, figure.stat, figure.source, figure.boundary]
            energy.add_metric(labels, figure.wh * _JOULES_PER_WH)
        yield energy


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


class MetricsServer:
    """Serves a collector over HTTP until closed."""

    def __init__(self, collector: Collector, address: str) -> None:
        """Listen on HOST:PORT; raises ``ConfigError`` if that cannot be done."""
        host, port = parse_address(address)
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            self._server: WSGIServer
            self._thread: threading.Thread
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"cannot serve metrics on {address}",
                why=error.strerror or str(error),
                fix="choose another port with --metrics-address HOST:PORT, or 'none'",
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT; raises ``ConfigError`` for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"metrics_address = {address!r} is not HOST:PORT", fix="for example 127.0.0.1:9477")
    return host.strip("[]"), int(port)
