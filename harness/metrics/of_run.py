"""What of a run is exported: its node model and PUE, and the energy per query of its cells."""

from __future__ import annotations

from harness.live.state import LiveState, QueryFigure
from harness.metrics.catalogue import PREDICTION_SOURCE
from harness.metrics.collectors import NodeModel, Pue, RunCollector
from harness.plan import Plan
from results.schema import Boundary, Manifest, RunResult, StoredPrediction
from results.store import RunReader


def run_collector(plan: Plan, manifest: Manifest, live: LiveState) -> RunCollector:
    """Return what exports the run's metrics."""
    node = None if plan.profile is None else NodeModel(plan.profile, plan.node_share, plan.config.allocation)
    pue = Pue(manifest.pue.mean, "assumed" if plan.config.pue is None else "measured")
    return RunCollector(live, manifest.id, node, pue)


def measured_figures(result: RunResult) -> tuple[QueryFigure, ...]:
    """Return the measured energy per query of every compared cell, with its interval, for the metrics."""
    figures = []
    for cell in result.cells:
        if cell.wh_per_query:
            energy = cell.wh_per_query
            low, high = energy.ci95 or (None, None)
            for stat, wh in (("mean", energy.mean), ("ci95_low", low), ("ci95_high", high)):
                if wh is not None:
                    figures.append(QueryFigure(cell.name, "measured", stat, wh, cell.power_source, energy.boundary))
    return tuple(figures)


def predicted_figures(run: RunReader, boundary: Boundary) -> tuple[QueryFigure, ...]:
    """Return the stored prediction of every cell for the metrics; none where none was made."""
    if not run.has("prediction.json"):
        return ()
    stored = StoredPrediction.model_validate(run.json("prediction.json"))
    return tuple(
        QueryFigure(name, "predicted", stat, cell[f"{stat}_wh"], PREDICTION_SOURCE, f"{boundary} x PUE")
        for name, cell in stored.cells.items()
        for stat in ("mean", "p5", "p50", "p95")
    )
