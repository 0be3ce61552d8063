"""The steps that a stress run or a sweep will take, and how long each may: known before the run begins. Pure.

The times are those of the plan. Filling the slots, draining and waiting for quiet servers come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.live.course import Span, Step
from harness.load.arrival_names import read_arrival
from harness.plan import Plan, Timing
from harness.sweep_config import SweepConfig

_IDLE_OVER_ASKED = 1.25
"""Idle settles for a quarter of its time before it is measured."""
_RUNG_OVER_ASKED = 1.2
"""A rung settles for a fifth of its time; filling it comes on top."""
_MOST_RUNGS = 9
_MOST_CALIBRATION_CELLS = 8
_MOST_LADDER_CELLS = 13
"""From 1 in flight to 4,096."""


def first_steps(plan: Plan) -> tuple[Step, ...]:
    """Return the steps up to loaded idle, which every run begins with."""
    idle = Span(_IDLE_OVER_ASKED * plan.timing.idle_s, _IDLE_OVER_ASKED * plan.timing.idle_s)
    bare = () if plan.no_bare_idle is not None else (Step("bare_idle", takes=idle),)
    launch = Step("launch", takes=Span(0.0, 1.0 if plan.config.url else None))
    return (*bare, launch, Step("idle", takes=idle))


def stress_steps(plan: Plan, visits: Sequence[tuple[str, str]], *, settled: bool) -> tuple[Step, ...]:
    """Return the steps of a stress run; one ``settled`` by an earlier repeat neither searches nor calibrates."""
    searched = () if settled else tuple(search_steps(plan, [name for name, _ in plan.cells]))
    calibrates = not settled and plan.tps_model is None
    grid = Span(0.0, _MOST_CALIBRATION_CELLS * plan.timing.calibration_s)
    calibrated = (Step("calibrate", "calibration", grid, None),) if calibrates else ()
    predicted = () if settled else (Step("predict"),)
    measured = tuple(Step("measure", name, cell_span(plan.timing)) for name, _ in visits)
    return (*first_steps(plan), *searched, *calibrated, *predicted, *measured, *last_steps(plan))


def search_steps(plan: Plan, cells: Sequence[str]) -> list[Step]:
    """Return the searches of these cells, if any is needed."""
    arrival = read_arrival(plan.config.arrival)
    if arrival.saturation_share is None and (arrival.kind != "closed" or plan.config.concurrency != "auto"):
        return []
    rung_s = _RUNG_OVER_ASKED * plan.timing.rung_s
    return [Step("search", name, Span(rung_s, _MOST_RUNGS * rung_s)) for name in cells]


def cell_span(timing: Timing) -> Span:
    """Return how long a cell is loaded: to its first look at least, for its budget at most, if that is settled."""
    most_s = timing.budget_s if timing.job_s is None else None
    return Span(min(timing.budget_s, timing.warmup_s + timing.min_window_s), most_s)


def last_steps(plan: Plan) -> tuple[Step, ...]:
    """Return what comes after the last cell: the metrics linger."""
    linger_s = 0.0 if plan.config.metrics_address == "none" else plan.timing.linger_s
    return (Step("done", takes=Span(linger_s, linger_s)),)


def sweep_steps(config: SweepConfig, plan: Plan) -> tuple[Step, ...]:
    """Return the steps of a sweep; how many cells a ladder has that climbs by itself is not known before."""
    cell = cell_span(plan.timing)
    if config.ladder == "auto":
        climb = Span(cell.least_s, _MOST_LADDER_CELLS * plan.timing.budget_s)
        ladder = [Step("measure", "ladder", climb, None, "ladder")]
    else:
        ladder = [Step("measure", f"ladder-{concurrency}", cell, 1, "ladder") for concurrency in config.ladder]
    grid: list[Step] = []
    for input_tok, output_tok in config.grid:
        name = f"grid-{input_tok}x{output_tok}"
        grid += [replace(step, cells=0, group="grid") for step in search_steps(plan, [name])]
        grid += [Step("measure", name, cell, 1, "grid")]
    return (*first_steps(plan), *ladder, *grid, *last_steps(plan))
