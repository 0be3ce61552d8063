"""The paper's Figures 1 and 2, drawn from our samples with the preset, boundary and power model asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from estimator.presets import Regime, get_preset
from estimator.queries.interventions import INTERVENTIONS
from harness.errors import ConfigError
from harness.studies.checks import check_figure
from harness.studies.estimates import BASELINE, BOUNDARIES, EstimateOptions, estimate_document
from harness.studies.figure_file import write_figure
from results.figures.energy import Spread, energy_figure


def check_figures(options: EstimateOptions, paths: Mapping[str, Path | None]) -> None:
    """Refuse, before any work, figures that cannot be written or that the options ask something else of.

    ``paths`` are by option. Raises ConfigError and StoreError.
    """
    for option, path in paths.items():
        if path is not None:
            check_figure(path, option)
    for name in ("tps_model", "workload", "task"):
        if getattr(options, name) is not None:
            given = name.replace("_", "-")
            raise ConfigError(
                f"--{given} has no part in the figures: they show the models of Supplemental I in both regimes",
                fix=f"leave out --{given}, or the figures",
            )


def write_figure_1(options: EstimateOptions, path: Path) -> None:
    """Draw energy per query of every model of Supplemental I and of the pool, in both regimes."""
    check_figures(options, {"--figure-1": path})
    base = replace(options, model=None, gains=())
    panels = {regime: _by_model(replace(base, regime=regime)) for regime in get_args(Regime)}
    _write("Energy per query by model", panels, options, path)


def write_figure_2(options: EstimateOptions, path: Path) -> None:
    """Draw energy per query of the pool without and with each efficiency gain, in both regimes."""
    check_figures(options, {"--figure-2": path})
    base = replace(options, model=BASELINE)
    panels = {regime: _by_gain(replace(base, regime=regime)) for regime in get_args(Regime)}
    _write("Efficiency gains of the pool above 200B", panels, options, path)


def _by_model(options: EstimateOptions) -> dict[str, Spread]:
    return {entry["model"]: entry["wh_per_query"] for entry in estimate_document(options)["estimates"]}


def _by_gain(options: EstimateOptions) -> dict[str, Spread]:
    rows = {"baseline": estimate_document(replace(options, gains=()))["estimates"][0]["wh_per_query"]}
    for name, gain in INTERVENTIONS.items():
        entry = estimate_document(replace(options, gains=(name,)))["estimates"][0]
        rows[f"{name}, alpha {gain.p5:g} to {gain.p95:g}"] = entry["wh_per_query"]
    return rows


def _write(title: str, panels: Mapping[str, Mapping[str, Spread]], options: EstimateOptions, path: Path) -> None:
    boundary = BOUNDARIES[options.boundary]
    trimmed = bool(get_preset(options.preset).trimmed.value)
    figure = energy_figure(
        panels,
        title=f"{title}, preset {options.preset}",
        boundary=boundary,
        remark="; the pool's samples are trimmed as the published ones were" if trimmed else "",
    )
    write_figure(figure, path)
