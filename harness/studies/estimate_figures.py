"""The paper's Figures 1 and 2, drawn from our samples with the preset, boundary and power model asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from estimator.presets import Regime, get_preset
from estimator.queries.interventions import INTERVENTIONS
from harness.errors import ConfigError, StoreError
from harness.studies.estimates import BASELINE, BOUNDARIES, EstimateOptions, estimate_document
from results.figures.energy import Spread, energy_figure
from results.figures.style import check_figure_path, save_figure


def write_figure_1(options: EstimateOptions, path: Path) -> None:
    """Draw energy per query of every model of Supplemental I and of the pool, in both regimes."""
    _check(path)
    base = replace(options, model=None, tps_model=None, workload=None, gains=())
    panels = {regime: _by_model(replace(base, regime=regime)) for regime in get_args(Regime)}
    _write("Energy per query by model", panels, options, path)


def write_figure_2(options: EstimateOptions, path: Path) -> None:
    """Draw energy per query of the pool without and with each efficiency gain, in both regimes."""
    _check(path)
    base = replace(options, model=BASELINE, tps_model=None, workload=None)
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


def _check(path: Path) -> None:
    try:
        check_figure_path(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _write(title: str, panels: Mapping[str, Mapping[str, Spread]], options: EstimateOptions, path: Path) -> None:
    boundary = BOUNDARIES[options.boundary]
    trimmed = bool(get_preset(options.preset).trimmed.value)
    figure = energy_figure(
        panels,
        title=f"{title}, preset {options.preset}",
        boundary=boundary,
        remark="; the pool's samples are trimmed as the published ones were" if trimmed else "",
    )
    try:
        save_figure(figure, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}", why=error.strerror or str(error), fix="choose another file") from error
