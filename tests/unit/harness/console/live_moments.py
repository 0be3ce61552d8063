"""Moments of a run made by hand: live states as a run leaves them, at 1,000 s on the monotonic clock."""

from __future__ import annotations

from dataclasses import replace

from harness.live.course import Course, Hold, Look
from harness.live.programme import stress_steps
from harness.live.state import LiveState, QueryFigure
from harness.load.health import TickRow
from harness.power.base import PowerRow
from harness.server.metrics import ServerCounters
from harness.server.monitor import ServerRow
from tests.unit.harness.plans import gpus, plan_of

NOW_S = 1_000.0
GPU_W, TOK_PER_S = 500.0, 2_000.0
POWER_CAP, THROTTLED_HOT = 0x004, 0x040
H100_LIMIT_W = 700.0
FIRST_LOOK = Look(False, 20.0, 0.2051, 0.097, ("steadiness_unproven", "precision_not_reached"))
SECOND_LOOK = Look(False, 38.5, 0.2034, 0.041, ("precision_not_reached",))


def plan_on(count, **config):
    """Return a plan on ``count`` H100, or on simulated power for none."""
    if not count:
        return plan_of(**config)
    return plan_of(tuple(replace(gpu, power_limit_w=H100_LIMIT_W) for gpu in gpus(count)), profile="hgx-h100", **config)


def power_row(number, t_s, simulated, **fields):
    return PowerRow(
        "simulated-0" if simulated else f"GPU-{number}", power_w=GPU_W, energy_j=GPU_W * t_s, t_mono_s=t_s,
        t_wall_s=t_s, late_s=0.0, source="simulated" if simulated else "nvml", boundary="gpu", **fields,
    )  # fmt: skip


def measuring(count=0, looks=(FIRST_LOOK, SECOND_LOOK), hot=()):
    """Return a live state 30 s into the hold of the second cell, and its plan; GPUs in ``hot`` are throttled."""
    plan = plan_on(count, concurrency=64)
    live = LiveState(course=Course(stress_steps(plan, plan.visits, settled=False)), began_s=NOW_S - 200)
    live.model = "some/model"
    for i in range(121):
        t_s = NOW_S - 60 + 0.5 * i
        known = {"temperature_c": 61.0, "utilization_ratio": 0.97} if count else {}
        reasons = [(THROTTLED_HOT if n in hot else POWER_CAP) if count else None for n in range(max(1, count))]
        live.power_read([power_row(n, t_s, not count, throttle_reasons=of, **known) for n, of in enumerate(reasons)])
        counters = ServerCounters(running=60.0, waiting=3.0, kv_usage_ratio=0.42, generation_tok=TOK_PER_S * t_s)
        live.servers_scraped([ServerRow(t_s, t_s, 0, counters)])
    for phase, cell in (
        ("launch", ""),
        ("idle", ""),
        ("calibrate", "calibration-0"),
        ("predict", ""),
        ("measure", "1x"),
    ):
        live.enter(phase, cell)
    live.enter("measure", "15x")
    live.concurrency = 64
    live.client_ticked([TickRow(NOW_S - 10 + 0.02 * i, 0, 0.001, 0.0024 * i) for i in range(500)])
    live.hold_until(Hold("15x", NOW_S - 30, NOW_S + 50, NOW_S + 12))
    for look in looks:
        live.looked(look)
    for outcome, ended in (("completed", 2_231), ("aborted", 64)):
        live.requests[outcome] = ended
    source = "nvml" if count else "simulated"
    live.figures = (
        QueryFigure("1x", "measured", "mean", 0.001138, source, "node_modelled x PUE"),
        QueryFigure("1x", "predicted", "mean", 0.0009781, "eq1", "node_modelled x PUE"),
    )
    return live, plan
