"""Settle how long each cell of a stress run is loaded at most, once the search has told how long its requests take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from harness.budget import Need, granted, mean_request_s, scatter_of, shortest_window_s, tps_of
from harness.cell_plan import CellPlan
from harness.console.budget import budget_lines
from harness.job import Job
from harness.plan import Timing
from harness.server.monitor import SCRAPE_PERIOD_S
from results.schema import StoredPrediction


def cell_budgets(
    job: Job,
    visits: Sequence[tuple[str, str]],
    cells: Mapping[str, CellPlan],
    prediction: StoredPrediction,
    began_s: float,
) -> dict[str, float]:
    """Return the budget in seconds of every visit, and say what each cell needs and whether it gets it.

    ``began_s`` is when the job began, on the monotonic clock.
    """
    timing = job.plan.timing
    needs = {name: cell_need(cell, timing, _predicted_tps(prediction, name)) for name, cell in cells.items()}
    budgets = {name: timing.budget_s for name, _ in visits}
    if timing.job_s is not None:
        left_s = timing.job_s - (time.monotonic() - began_s) - timing.linger_s
        budgets = granted({name: needs[cell] for name, cell in visits}, timing.budget_s, left_s)
    for name, cell in visits:
        need = needs[cell]
        job.run.event("cell_budget", cell=name, budget_s=budgets[name], needed_s=need.seconds, request_s=need.request_s)
        for line in budget_lines(name, need, budgets[name], job.plan.config.precision):
            job.say(line)
    return budgets


def cell_need(cell: CellPlan, timing: Timing, predicted_tps: float | None) -> Need:
    """Return what a cell's window needs by what the search saw of it, or else by its predicted throughput."""
    tps = tps_of(cell.found) or predicted_tps
    request_s = None
    if cell.arrival.closed:
        request_s = mean_request_s(cell.found.concurrency, cell.lengths.mean_output_tok, tps)
    window_s = shortest_window_s(timing.min_window_s, SCRAPE_PERIOD_S)
    return Need(request_s, timing.warmup_s, window_s, scatter_of(cell.found))


def _predicted_tps(prediction: StoredPrediction, cell: str) -> float | None:
    known = prediction.cells.get(cell)
    return None if known is None else float(known["reference"]["tps_tok_per_s"])
