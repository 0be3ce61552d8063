"""A billion queries a day: from measured cells, and from the paper's models by Eq. 1, with one and the same beta."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimator.fleet.beta import LOAD_SHAPE, NETWORK, REDUNDANCY, Beta, load_shape_factor
from estimator.fleet.total import Fleet, QueryClass
from estimator.presets import Preset, Regime, get_preset
from estimator.queries.served import BASELINE_MODELS, s1_model
from results.schema import CellResult

QUERIES_PER_DAY = 1e9
LONG_SHARE = 0.1
PRESET = "oviedo2026-v2"
_NODE_GPUS = 8
_WH_PER_GWH = 1e9


@dataclass(frozen=True)
class FleetTotal:
    """Energy per day in GWh of a billion queries; the interval is the measurement's 95%, or P5 to P95 as predicted."""

    name: str
    gwh_per_day: float
    interval: tuple[float, float] | None
    measured: bool


def stated_beta() -> Beta:
    """Return the paper's beta from its parts: load shape, redundancy and network (S.V).

    >>> round(stated_beta().total.mean, 3)
    1.33
    """
    preset, (low, high) = get_preset(PRESET), LOAD_SHAPE
    idle_kw, peak_kw = preset.p_idle_kw.value, preset.p_max_for(_NODE_GPUS)
    return Beta(load_shape_factor(low=low, high=high, idle_kw=idle_kw, peak_kw=peak_kw), REDUNDANCY, NETWORK)


def measured_totals(cells: Sequence[CellResult]) -> tuple[FleetTotal, ...]:
    """Return the fleets that serve nothing but queries of a measured cell, and a mix of the first pair.

    Only cells whose energy covers the node, PUE included, make a fleet; invalid ones make none. The interval is the
    95% one of the measured mean, times beta.
    """
    usable = [cell for cell in cells if cell.boundary != "gpu" and cell.verdict != "invalid" and cell.wh_per_query]
    totals = [_of_cell(cell) for cell in usable]
    plain = next((cell for cell in usable if cell.multiplier == 1), None)
    longer = next((cell for cell in usable if cell.multiplier > 1), None)
    if plain is not None and longer is not None and plain.wh_per_query and longer.wh_per_query:
        wh = (1 - LONG_SHARE) * plain.wh_per_query.mean + LONG_SHARE * longer.wh_per_query.mean
        totals.append(FleetTotal(f"{LONG_SHARE:.0%} {longer.name}, else {plain.name}", _gwh(wh), None, True))
    return tuple(totals)


def _of_cell(cell: CellResult) -> FleetTotal:
    energy = cell.wh_per_query
    mean, bounds = (energy.mean, energy.ci95) if energy else (0.0, None)
    interval = None if bounds is None else (_gwh(bounds[0]), _gwh(bounds[1]))
    return FleetTotal(f"all {cell.name} {cell.workload}", _gwh(mean), interval, True)


def _gwh(wh_per_query: float) -> float:
    return stated_beta().total.mean * QUERIES_PER_DAY * wh_per_query / _WH_PER_GWH


def paper_totals() -> tuple[FleetTotal, ...]:
    """Return the paper's fleets by Eq. 1: all traditional, and a tenth test-time; intervals are P5 to P95.

    >>> [round(total.gwh_per_day, 2) for total in paper_totals()]
    [0.74, 1.73]
    """
    return (
        _paper_total("the paper: all traditional", 0.0),
        _paper_total(f"the paper: {LONG_SHARE:.0%} test-time, else traditional", LONG_SHARE),
    )


def _paper_total(name: str, long_share: float) -> FleetTotal:
    preset = get_preset(PRESET)
    shares: dict[Regime, float] = {"traditional": 1 - long_share, "test-time": long_share}
    classes = tuple(
        _query_class(preset, model, regime, share / len(BASELINE_MODELS))
        for regime, share in shares.items()
        if share > 0
        for model in BASELINE_MODELS
    )
    per_day = Fleet(QUERIES_PER_DAY, classes, stated_beta().total).gwh_per_day
    return FleetTotal(name, per_day.mean, (per_day.p5, per_day.p95), False)


def _query_class(preset: Preset, name: str, regime: Regime, share: float) -> QueryClass:
    model = s1_model(name, preset)
    energies = model.energies(preset.lengths(regime), model.node_power(preset), preset.pue())
    return QueryClass(regime, name, share, energies)
