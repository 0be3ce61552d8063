"""Turn the live state into metrics at each scrape: of a run, or of a node whose traffic is not ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from estimator.nodes import Allocation, NodeProfile
from harness import __version__
from harness.live.recent import Recent
from harness.live.state import PHASES, LiveState
from harness.live.totals import LAG_BOUNDS_S, DeviceTotals
from harness.metrics import catalogue as of
from harness.metrics.discovery import without_user
from harness.metrics.families import Families
from harness.server.monitor import ServerRow

_JOULES_PER_WH = 3_600


@dataclass(frozen=True)
class Pue:
    """The power usage effectiveness to multiply a node's energy with, and whether it is measured or assumed."""

    value: float
    source: str


@dataclass(frozen=True)
class NodeModel:
    """How node watts follow from those of the GPUs: a profile, the share of the node in use, who bears the rest."""

    profile: NodeProfile
    share: float
    allocation: Allocation = "share"

    def joules(self, gpu_j: float, seconds: float) -> float:
        """Return the node's energy in J over ``seconds`` in which its GPUs took ``gpu_j``: the model is linear."""
        return self.profile.node_watts(0.0, self.share, self.allocation) * seconds + self.profile.slope * gpu_j

    def watts(self, gpu_w: float) -> float:
        """Return the node's power in W while its GPUs draw ``gpu_w``."""
        return self.profile.node_watts(gpu_w, self.share, self.allocation)

    @property
    def max_watts(self) -> float:
        """Return P_max in W of the share in use."""
        return 1000 * self.profile.p_max_share_kw(self.share, self.allocation)


class RunCollector(Collector):
    """The metrics of a run."""

    def __init__(self, live: LiveState, run_id: str, node: NodeModel | None = None, pue: Pue | None = None) -> None:
        """Export ``live``; node watts are modelled where there is a model."""
        self._live, self._run_id, self.node, self.pue = live, run_id, node, pue

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as of now."""
        families, live = Families(), self._live
        with live.lock:
            families.add(of.RUN_INFO, 1, run=self._run_id, version=__version__)
            for phase in PHASES:
                families.add(of.PHASE, float(phase == live.phase), phase=phase)
            if live.cell:
                families.add(of.CELL_INFO, 1, cell=live.cell)
                families.add(of.CELL_OUTPUT, live.cell_output_tok, cell=live.cell)
            add_power(families, live, self.node, self.pue)
            add_servers(families, live)
            for outcome, count in live.requests.items():
                families.add(of.REQUESTS, count, outcome=outcome)
            _add_clients(families, live)
            _add_figures(families, live)
        yield from families


class NodeCollector(Collector):
    """The metrics of a node that serves somebody else's traffic."""

    def __init__(self, live: LiveState, node: NodeModel | None = None, pue: Pue | None = None) -> None:
        """Export ``live``; node watts are modelled where there is a model."""
        self._live, self._node, self._pue = live, node, pue
        self._recent = Recent()

    def servers_scraped(self, rows: Sequence[ServerRow]) -> None:
        """Take a round of server scrapes, and with it what the devices have taken so far."""
        self._live.servers_scraped(rows)
        with self._live.lock:
            self._recent.note(self._live)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as of now."""
        families = Families()
        families.add(of.EXPORTER_INFO, 1, version=__version__)
        with self._live.lock:
            add_power(families, self._live, self._node, self._pue)
            add_servers(families, self._live)
            self._add_recent(families)
        yield from families

    def _add_recent(self, families: Families) -> None:
        """Add joules per token and per finished request of the last minutes, at every boundary that is known."""
        rates = self._recent.rates(self._live)
        if rates is None:
            return
        families.add(of.RECENT_SPAN, rates.seconds)
        for (source, boundary), watts in self._at_all_boundaries(rates.watts).items():
            for definition, per_s in (
                (of.RECENT_TOKEN_ENERGY, rates.tok_per_s),
                (of.RECENT_QUERY_ENERGY, rates.finished_per_s),
            ):
                families.add(definition, watts / per_s if per_s else None, source=source, boundary=boundary)

    def _at_all_boundaries(self, watts: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        """Add the node modelled from its GPUs, and where the PUE is known every node once more with it."""
        found = dict(watts)
        for (source, boundary), gpu_w in watts.items():
            if boundary == "gpu" and self._node is not None:
                found[source, "node_modelled"] = self._node.watts(gpu_w)
        nodes = {key: node_w for key, node_w in found.items() if key[1] in ("node", "node_modelled")}
        if self._pue is not None:
            found |= {(name, f"{of_node} x PUE"): self._pue.value * node_w for (name, of_node), node_w in nodes.items()}
        return found


def source_kind(source: str) -> str:
    """Return whether a power source of this name measures, replays a recording, or invents."""
    if "simulated" in source:
        return "simulated"
    return "replayed" if source.startswith("replay of") else "measured"


def add_power(families: Families, live: LiveState, node: NodeModel | None, pue: Pue | None) -> None:
    """Add what is known of every device, and of the node that is modelled from its GPUs."""
    for device in live.devices.values():
        _add_device(families, device)
    families.add(of.SAMPLES_MISSED, live.missed_power_samples)
    for source, boundary in {(each.row.source, each.row.boundary): None for each in live.devices.values()}:
        families.add(of.SOURCE_INFO, 1, source=source, boundary=boundary, kind=source_kind(source))
    if node is not None:
        _add_node(families, [each for each in live.devices.values() if each.row.boundary == "gpu"], node)
    if pue is not None:
        families.add(of.PUE, pue.value, source=pue.source)


def _add_device(families: Families, device: DeviceTotals) -> None:
    row = device.row
    labels = {"device": row.uuid, "source": row.source, "boundary": row.boundary}
    families.add(of.POWER, row.power_w, **labels)
    families.add(of.ENERGY, device.joules, **labels)
    families.add(of.COUNTER_ENERGY, device.counter_j, **labels)
    families.add(of.INTEGRAL_ENERGY, device.integral_j, **labels)
    families.add(of.DEVICE_UP, float(device.answers), **labels)
    families.add(of.READINGS, device.readings, **labels)
    families.add(of.READING_ERRORS, device.failed_readings, **labels)
    families.add(of.UTILIZATION, row.utilization_ratio, **labels)
    families.add(of.TEMPERATURE, row.temperature_c, **labels)
    for cause, seconds in device.throttled_s.items():
        families.add(of.THROTTLED, seconds, **labels, cause=cause)


def _add_node(families: Families, gpus: Sequence[DeviceTotals], node: NodeModel) -> None:
    """Add the modelled node. While a GPU does not answer its watts and joules are not known."""
    labels = {"boundary": "node_modelled", "node_profile": node.profile.name}
    families.add(of.NODE_POWER_MAX, node.max_watts, source=of.PROFILE_SOURCE, **labels)
    if not gpus or not all(gpu.answers for gpu in gpus):
        return
    source = gpus[0].row.source
    watts = [gpu.row.power_w for gpu in gpus if gpu.row.power_w is not None]
    if len(watts) == len(gpus):
        families.add(of.NODE_POWER, node.watts(sum(watts)), source=source, **labels)
    seconds = max(gpu.known_s for gpu in gpus)
    families.add(of.NODE_ENERGY, node.joules(sum(gpu.joules for gpu in gpus), seconds), source=source, **labels)


def add_servers(families: Families, live: LiveState) -> None:
    """Add what the servers say; of one that does not answer nothing old is told."""
    for number, url in enumerate(live.server_urls):
        families.add(of.SERVER_INFO, 1, server=str(number), url=without_user(url))
    for number, row in live.servers.items():
        server, counters = str(number), row.counters
        families.add(of.SERVER_UP, float(row.error is None), server=server)
        families.add(of.SERVER_RESTARTS, live.server_totals[number].restarts, server=server)
        families.add(of.RUNNING, counters.running, server=server)
        families.add(of.WAITING, counters.waiting, server=server)
        families.add(of.KV_USAGE, counters.kv_usage_ratio, server=server)
        families.add(of.GENERATED, live.grown(number, "generation_tok"), server=server)
        families.add(of.PROMPT, live.grown(number, "prompt_tok"), server=server)
        families.add(of.FINISHED, live.grown(number, "finished_requests"), server=server)
        families.add(of.PREEMPTIONS, live.grown(number, "preemptions"), server=server)
        for definition, name in ((of.TTFT, "ttft"), (of.ITL, "itl")):
            count, total_s = live.grown(number, f"{name}_count"), live.grown(number, f"{name}_sum_s")
            families.add_mean(definition, count, total_s, server=server)


def _add_clients(families: Families, live: LiveState) -> None:
    for number, client in live.clients.items():
        families.add_histogram(of.CLIENT_LAG, LAG_BOUNDS_S, client.lags, client.lag_sum_s, client=str(number))
        families.add(of.CLIENT_CPU, client.cpu_s, client=str(number))


def _add_figures(families: Families, live: LiveState) -> None:
    for figure in live.figures:
        families.add(
            of.QUERY_ENERGY,
            figure.wh * _JOULES_PER_WH,
            cell=figure.cell,
            kind=figure.kind,
            stat=figure.stat,
            source=figure.source,
            boundary=figure.boundary,
        )
