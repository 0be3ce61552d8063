"""Estimate the energy a fleet uses in a day: beta * N * mean(E), its parts, and what to hold it against."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from estimator.distributions import LogNormal
from estimator.fleet.footprint import CARBON_BOUNDARY, WATER_BOUNDARY, carbon_tonnes, water_litres
from estimator.fleet.references import daily_references
from estimator.fleet.total import Fleet, QueryClass
from estimator.queries.interventions import INTERVENTIONS
from estimator.queries.tasks import TaskEnergies
from harness.errors import WorkloadError
from harness.studies.checks import check_figure
from harness.studies.estimates import QUANTILES, available_cores, quantiles_wh, standard_errors_wh
from harness.studies.fleet_options import LONG, TRADITIONAL, FleetInputs, FleetOptions
from harness.studies.tasks import task_entry, task_notes

FLEET_SCHEMA = "inference-energy/fleet/1"
BOUNDARY = "node x PUE x beta (load shape, redundancy, network)"
QUANTILES_ARE = (
    "of the day's total: node power as a share of its maximum, PUE, alpha, and redundancy and network where given as "
    "ranges are uncertain and common to the whole fleet; lengths are averaged out, as the sum over so many queries "
    "has no spread worth mentioning. Log-normal in closed form; the error of the throughput model is left out"
)
WH_PER_QUERY_IS = "of single queries of the mixed fleet, untrimmed, each with draws of its own; boundary node x PUE"


def fleet_document(options: FleetOptions) -> dict[str, Any]:
    """Return the fleet's energy per day with its parts, as the document that ``--json`` prints."""
    inputs = FleetInputs.resolve(options)
    fleet = inputs.fleet()
    per_day = fleet.gwh_per_day
    return {
        "schema": FLEET_SCHEMA,
        "preset": inputs.preset.name,
        "model": options.model,
        "boundary": BOUNDARY,
        "gwh_per_day": _quantiles(per_day) | {"mean": fleet.mean_gwh()},
        "quantiles_are": QUANTILES_ARE,
        "parts": {
            "queries_per_day": inputs.queries_per_day,
            "long_share": inputs.long_share,
            "traditional": _kind(inputs, fleet, TRADITIONAL, "traditional"),
            "long": _kind(inputs, fleet, LONG, inputs.what_long_is()),
            "beta": _beta(options, inputs),
            "pue": _uncertain(inputs.preset.pue()) | {"applied": "once, in the Wh per query"},
            "node_power_share": _uncertain(inputs.preset.power_share()) | {"of": "P_max"},
            "interventions": _interventions(options, inputs),
        },
        **_single_queries(options, fleet),
        "water_l_per_day": _water(per_day, inputs.water_l_per_kwh),
        "carbon_t_per_day": _carbon(per_day, inputs.carbon_g_per_kwh),
        "references": [asdict(reference) for reference in daily_references(inputs.queries_per_day)],
        "notes": _notes(inputs, fleet),
    }


def write_figure_3(options: FleetOptions, path: Path) -> None:
    """Draw the paper's Figure 3: traditional queries, and the mix, each without and with efficiency gains."""
    from harness.studies.figure_file import write_figure
    from results.figures.fleet import fleet_figure

    check_figure(path, "--figure")
    inputs = FleetInputs.resolve(options)
    figure = fleet_figure(
        figure_3_panels(options, inputs),
        {each.name: each.gwh_per_day for each in daily_references(inputs.queries_per_day)},
        title=f"{inputs.queries_per_day:,.0f} queries a day, {options.model}, preset {inputs.preset.name}",
        boundary=BOUNDARY,
    )
    write_figure(figure, path)


def figure_3_panels(options: FleetOptions, inputs: FleetInputs) -> dict[str, dict[str, dict[str, float]]]:
    """Return GWh per day by panel and scenario: the gains asked for, or else those in line of sight."""
    none = LogNormal.constant(1.0)
    gain = inputs.gain if options.gains else INTERVENTIONS["line-of-sight"]
    optimised = f"{' and '.join(options.gains) or 'line-of-sight'}\nalpha {gain.p5:.3g} to {gain.p95:.3g}"
    traditional = _total(inputs.with_(long_share=0.0, gain=none))
    panels = {
        "traditional queries": {
            "baseline": traditional,
            optimised: _total(inputs.with_(long_share=0.0, gain=gain)),
        }
    }
    if inputs.long_share > 0:
        panels[f"{100 * inputs.long_share:.3g}% of the queries long ({inputs.what_long_is()})"] = {
            "traditional": traditional,
            "mixed": _total(inputs.with_(long_share=inputs.long_share, gain=none)),
            f"mixed, {optimised}": _total(inputs.with_(long_share=inputs.long_share, gain=gain)),
        }
    return panels


def _total(inputs: FleetInputs) -> dict[str, float]:
    return _quantiles(inputs.fleet().gwh_per_day)


def _kind(inputs: FleetInputs, fleet: Fleet, kind: str, queries: str) -> dict[str, Any] | None:
    """Return what one kind of query contributes, or None where the fleet serves none of it."""
    classes = [each for each in fleet.classes if each.kind == kind]
    if not classes:
        return None
    share = sum(each.share for each in classes)
    entry = {
        "queries": queries,
        "queries_per_day": share * inputs.queries_per_day,
        "mean_wh_per_query": sum(each.share * each.energies.mean_wh for each in classes) / share,
        "gwh_per_day": fleet.mean_gwh(kind),
        "models": [_class(inputs, each) for each in classes],
    }
    if kind == LONG and inputs.task is not None:
        entry["task"] = task_entry(inputs.task)
    return entry


def _class(inputs: FleetInputs, query_class: QueryClass) -> dict[str, Any]:
    energies = query_class.energies
    error_wh = energies.mean_se_wh if isinstance(energies, TaskEnergies) else 0.0
    return {
        "model": query_class.model,
        "share_of_queries": query_class.share,
        "mean_wh_per_query": energies.mean_wh,
        "mean_is": "Monte Carlo" if error_wh else "exact",
        "mean_se_wh": error_wh,
        "extrapolated_share": inputs.extrapolated_share(query_class),
    }


def _beta(options: FleetOptions, inputs: FleetInputs) -> dict[str, Any]:
    beta, shape = inputs.beta, inputs.load_shape
    shape_given = any(each is not None for each in (options.load_shape, options.idle_kw, options.peak_kw))
    return _uncertain(beta.total) | {
        "load_shape": asdict(shape) | {"value": beta.load_shape, "source": _source(given=shape_given)},
        "redundancy": _uncertain(beta.redundancy) | {"source": _source(given=options.redundancy is not None)},
        "network": _uncertain(beta.network) | {"source": _source(given=options.network is not None)},
    }


def _source(*, given: bool) -> str:
    return "given" if given else "stated: Oviedo et al., S.V"


def _interventions(options: FleetOptions, inputs: FleetInputs) -> dict[str, Any]:
    gain = inputs.gain
    inverse = LogNormal(1 / gain.p95, 1 / gain.p5)
    return {"names": list(options.gains), "alpha": _uncertain(gain), "mean_energy_factor": inverse.mean}


def _single_queries(options: FleetOptions, fleet: Fleet) -> dict[str, Any]:
    try:
        samples = fleet.sample_queries(
            int(options.samples), seed=options.seed, workers=options.workers or available_cores()
        )
    except ValueError as error:
        raise WorkloadError(str(error)) from error
    return {
        "wh_per_query": quantiles_wh(samples),
        "monte_carlo_se_wh": standard_errors_wh(samples),
        "wh_per_query_is": WH_PER_QUERY_IS,
        "samples": int(options.samples),
        "seed": options.seed,
    }


def _water(per_day: LogNormal, l_per_kwh: LogNormal | None) -> dict[str, Any] | None:
    if l_per_kwh is None:
        return None
    litres = water_litres(per_day, l_per_kwh)
    return _quantiles(litres) | {"l_per_kwh": _uncertain(l_per_kwh), "boundary": WATER_BOUNDARY}


def _carbon(per_day: LogNormal, g_per_kwh: LogNormal | None) -> dict[str, Any] | None:
    if g_per_kwh is None:
        return None
    tonnes = carbon_tonnes(per_day, g_per_kwh)
    return _quantiles(tonnes) | {"g_per_kwh": _uncertain(g_per_kwh), "boundary": CARBON_BOUNDARY}


def _notes(inputs: FleetInputs, fleet: Fleet) -> list[str]:
    notes = [f"{model.name}: {note}" for model in inputs.models for note in model.tps.notes]
    notes.append("the mean of gwh_per_day is beta * N * mean(E) of untrimmed queries, PUE applied once")
    notes.append(f"the quantiles of gwh_per_day are {QUANTILES_ARE}")
    if inputs.task is not None:
        by_model = {each.model: each.energies for each in fleet.classes if isinstance(each.energies, TaskEnergies)}
        notes += task_notes(inputs.task, by_model)
    return notes


def _quantiles(values: LogNormal) -> dict[str, float]:
    return {name: float(values.quantile(q)) for name, q in QUANTILES.items()} | {"mean": values.mean}


def _uncertain(values: LogNormal) -> dict[str, float]:
    return {"p5": values.p5, "p50": values.median, "p95": values.p95, "mean": values.mean}
