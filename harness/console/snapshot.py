"""What the live view shows at one moment, taken from the live state of a run: plain values, ``None`` where unknown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor

from estimator.nodes import Allocation, NodeProfile
from harness.live.course import UNKNOWN_TIME, Course, Hold, Look, Span, Step
from harness.live.state import LiveState, QueryFigure
from harness.load.health import MAX_CPU_SHARE, MAX_LAG_P99_S
from harness.plan import Plan
from harness.power.base import PowerRow
from harness.power.conditions import FAULTS, THROTTLE_CAUSES
from harness.power.sampler import PERIOD_S
from harness.power.simulated import PEAK_W

MEAN_S = 10.0
"""Rates of the moment are means over this long."""
RATES = 60
_MAX_ERROR_SHARE = 0.01
_MAX_MISSED_SHARE = 0.02


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it begins; ``limits_w`` and ``names`` are by UUID."""

    command: str
    workload: str
    servers: str
    power: str
    boundary: str
    precision_rel: float
    profile: NodeProfile | None = None
    node_share: float = 1.0
    allocation: Allocation = "share"
    names: Mapping[str, str] = field(default_factory=dict)
    limits_w: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseShown:
    """A phase in the list of phases: ``state`` is done, left_out, now or to_come; ``count`` like 2/5 or empty."""

    name: str
    state: str
    count: str = ""


@dataclass(frozen=True)
class Gpu:
    """One GPU as of its last reading."""

    name: str
    watts: float | None
    limit_w: float | None = None
    temperature_c: float | None = None
    utilization_ratio: float | None = None
    throttled_by: tuple[str, ...] = ()
    fault: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run; ``tps`` and ``gpu_watts`` are means, each with the seconds that it is over.

    Watts over no seconds are the latest reading. ``tokens_told`` is whether every server tells its tokens now.
    """

    facts: Facts
    model: str = ""
    repeat: tuple[int, int] | None = None
    elapsed_s: float = 0.0
    phases: tuple[PhaseShown, ...] = ()
    phase: str = "plan"
    cell: str = ""
    cell_of: tuple[int, int | None] | None = None
    phase_elapsed_s: float = 0.0
    phase_left: Span = UNKNOWN_TIME
    run_left: Span = UNKNOWN_TIME
    ends_early: bool = False
    concurrency: int | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage_ratio: float | None = None
    tokens_told: bool = False
    tps: tuple[float, float] | None = None
    rates: tuple[float | None, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    meters: tuple[tuple[str, str, float | None], ...] = ()
    gpu_watts: tuple[float, float] | None = None
    node_watts: float | None = None
    joules_per_tok_now: float | None = None
    looks: tuple[Look, ...] = ()
    next_look_in_s: float | None = None
    throttled_s: Mapping[str, float] | None = None
    client_lag_p99_s: float | None = None
    client_cpu_share: float | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    figures: tuple[QueryFigure, ...] = ()
    warnings: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def simulated_gpus(self) -> bool:
        """Whether the watts of the GPUs are simulated; a meter beside them is none the less read."""
        return self.facts.power == "simulated"

    @property
    def simulated_joules(self) -> bool:
        """Whether J/token and Wh/query are of simulated watts: at every boundary but a meter's own."""
        return self.simulated_gpus and self.facts.boundary != "node"

    @property
    def meter_names(self) -> str:
        """The meters beside the GPUs that have been read, each once."""
        return ", ".join(dict.fromkeys(f"{source} [{boundary}]" for source, boundary, _ in self.meters))


def facts_of(plan: Plan, command: str) -> Facts:
    """Return what a plan tells the live view."""
    devices = {gpu.uuid: gpu for gpu in plan.devices}
    limits = {uuid: gpu.power_limit_w for uuid, gpu in devices.items() if gpu.power_limit_w is not None}
    many = "" if plan.replicas == 1 else f"{plan.replicas} servers, "
    return Facts(
        command=command,
        workload=plan.workload.name,
        servers=many + ("attached" if plan.config.url else "launched here"),
        power=plan.power,
        boundary=plan.boundary,
        precision_rel=plan.config.precision,
        profile=plan.profile,
        node_share=plan.node_share,
        allocation=plan.config.allocation,
        names={uuid: f"GPU {gpu.index}" for uuid, gpu in devices.items()},
        limits_w={"simulated-0": PEAK_W, **limits},
    )


def take(live: LiveState, facts: Facts, log: Sequence[str] = (), now_s: float | None = None) -> Snapshot:
    """Take a snapshot of a run at ``now_s`` on the monotonic clock; safe while the run goes on."""
    now_s = time.monotonic() if now_s is None else now_s
    with live.lock:
        course, hold, trail = live.course, live.hold, live.trail
        last = trail.moments[-1] if trail.moments else None
        shot = Snapshot(
            facts,
            model=live.model,
            repeat=live.repeat,
            elapsed_s=now_s - live.began_s,
            phases=_phases(live),
            phase=live.phase,
            cell=live.cell,
            cell_of=_cell_of(live),
            phase_elapsed_s=now_s - (course.began_s(hold) or live.began_s),
            phase_left=course.left_of_cell(now_s, hold),
            run_left=course.left_of_run(now_s, hold),
            ends_early=hold is not None and hold.next_look_s is not None,
            concurrency=live.concurrency,
            running=last.running if last else None,
            waiting=last.waiting if last else None,
            kv_usage_ratio=last.kv_usage_ratio if last else None,
            tokens_told=last is not None and last.generated_tok is not None,
            tps=trail.tps(MEAN_S),
            rates=tuple(trail.rates(RATES, now_s)),
            gpus=tuple(_gpu(device.row, facts) for device in live.devices.values() if device.row.boundary == "gpu"),
            meters=_meters(live),
            gpu_watts=trail.gpu_watts(MEAN_S) or _latest_watts(live),
            looks=live.looks,
            next_look_in_s=_until_look(hold, now_s),
            throttled_s=_throttled(live),
            client_lag_p99_s=trail.client_lag_p99_s() if live.concurrency else None,
            client_cpu_share=trail.client_cpu_share() if live.concurrency else None,
            requests=dict(live.requests),
            figures=live.figures,
            log=tuple(log),
        )
        errors = tuple(f"server {row.server} on /metrics: {row.error}" for row in live.servers.values() if row.error)
        missed, labels = live.missed_power_samples, live.labels
    return replace(_with_energy(shot), warnings=_warnings(shot, (*errors, *_missed(missed, shot.elapsed_s)), labels))


def _with_energy(shot: Snapshot) -> Snapshot:
    """Add the modelled node watts, and J/token of the moment where the boundary is not that of a meter."""
    facts, gpu_w = shot.facts, None if shot.gpu_watts is None else shot.gpu_watts[0]
    node_w = None
    if gpu_w is not None and facts.profile is not None:
        node_w = facts.profile.node_watts(gpu_w, facts.node_share, facts.allocation)
    watts = {"gpu": gpu_w, "node_modelled": node_w}.get(facts.boundary)
    known = watts is not None and shot.tps is not None and shot.tps[0] > 0 and shot.concurrency is not None
    now = watts / shot.tps[0] if known and watts is not None and shot.tps is not None else None
    return replace(shot, node_watts=node_w, joules_per_tok_now=now)


def _phases(live: LiveState) -> tuple[PhaseShown, ...]:
    """Group the steps in the order they come; counts are of cells where a group has several."""
    course = live.course
    shown = []
    for name in dict.fromkeys(step.listed_as for step in course.steps if step.phase != "done" or step.takes.most_s):
        steps = {i: step for i, step in enumerate(course.steps) if step.listed_as == name}
        begun = [i for i in steps if i in course.entered]
        now = course.position in begun
        state = "now" if now else "to_come" if max(steps) > course.position else "done" if begun else "left_out"
        several = len(steps) > 1 or steps[min(steps)].cells != 1
        shown.append(PhaseShown(name, state, _count(course, steps) if several and state in ("now", "to_come") else ""))
    return tuple(shown)


def _count(course: Course, steps: Mapping[int, Step]) -> str:
    """Return how many cells of these steps were begun, of how many."""
    begun = sum(step.cells or 0 for i, step in steps.items() if i in course.entered and i < course.position)
    here = steps.get(course.position)
    at = begun + (course.cell_in_step if here is not None and here.cells != 0 else 0)
    known = [step.cells for step in steps.values() if step.cells is not None]
    return f"{at}/{sum(known) if len(known) == len(steps) else '?'}"


def _cell_of(live: LiveState) -> tuple[int, int | None] | None:
    """Return the number of the cell being measured and of how many; ``None`` while none is, or of unknown many."""
    course = live.course
    if live.phase != "measure" or course.position < 0:
        return None
    measures = [i for i, step in enumerate(course.steps) if step.phase == "measure"]
    before = [course.steps[i].cells for i in measures if i < course.position]
    every = [course.steps[i].cells for i in measures]
    number = sum(cells or 0 for cells in before) + course.cell_in_step
    return number, None if None in every else sum(cells or 0 for cells in every)


def _gpu(row: PowerRow, facts: Facts) -> Gpu:
    causes = [cause for bit, cause in THROTTLE_CAUSES.items() if (row.throttle_reasons or 0) & bit]
    return Gpu(
        facts.names.get(row.uuid, row.uuid),
        row.power_w,
        facts.limits_w.get(row.uuid),
        row.temperature_c,
        row.utilization_ratio,
        tuple(causes) if row.error is None else (row.error,),
        row.error is not None or bool((row.throttle_reasons or 0) & FAULTS),
    )


def _latest_watts(live: LiveState) -> tuple[float, float] | None:
    """Return the latest power of all GPUs together, over no time: before servers are scraped there is no mean."""
    watts = [device.row.power_w for device in live.devices.values() if device.row.boundary == "gpu"]
    known = [power_w for power_w in watts if power_w is not None]
    return (sum(known), 0.0) if known and len(known) == len(watts) else None


def _meters(live: LiveState) -> tuple[tuple[str, str, float | None], ...]:
    rows = [device.row for device in live.devices.values() if device.row.boundary != "gpu"]
    return tuple((row.source, row.boundary, row.power_w) for row in rows)


def _throttled(live: LiveState) -> dict[str, float] | None:
    """Return seconds of throttling by cause since the run began, of the worst GPU; ``None`` if no GPU tells."""
    told = [device.throttled_s for device in live.devices.values() if device.throttled_s]
    if not told:
        return None
    return {cause: worst for cause in told[0] if (worst := max(of.get(cause, 0.0) for of in told)) > 0}


def _until_look(hold: Hold | None, now_s: float) -> float | None:
    return None if hold is None or hold.next_look_s is None else float(max(0, floor(hold.next_look_s - now_s)))


def _missed(samples: int, elapsed_s: float) -> tuple[str, ...]:
    """Warn of missed power readings that are more than a few in a hundred."""
    share = samples * PERIOD_S / elapsed_s if elapsed_s > 0 else 0.0
    return (f"{share:.0%} of the power readings were missed",) if share > _MAX_MISSED_SHARE else ()


def _warnings(shot: Snapshot, errors: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Return what a person should know now, the most pressing first."""
    found = [f"{gpu.name}: {', '.join(gpu.throttled_by)}" for gpu in shot.gpus if gpu.fault]
    found += errors
    failed, ended = shot.requests.get("error", 0), sum(shot.requests.values())
    if failed > _MAX_ERROR_SHARE * ended:
        found.append(f"{failed:,} of {ended:,} requests failed: over {_MAX_ERROR_SHARE:.0%} makes a cell invalid")
    if (shot.client_lag_p99_s or 0.0) > MAX_LAG_P99_S or (shot.client_cpu_share or 0.0) > MAX_CPU_SHARE:
        limits = f"{1000 * MAX_LAG_P99_S:g} ms late, {MAX_CPU_SHARE:.0%} of a core"
        found.append(f"the client is beyond its limit ({limits}) and may set the pace: --clients")
    return (*found, *(label for label in labels if not (shot.simulated_gpus and "simulated" in label)))
