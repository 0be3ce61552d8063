"""A fitted TPS model, for a person."""

from __future__ import annotations

from pathlib import Path

from estimator.tps import TpsModel
from harness.console.terminal import stdout_console


def print_tps_model(model: TpsModel, path: Path) -> None:
    """Print what a fitted model is, where it holds and how well it is known."""
    error = "unknown (no degrees of freedom)" if model.residual_sd_log is None else f"{model.residual_sd_log:.1%}"
    for line in (
        f"TPS model of {model.model} on {model.gpus} device(s): form {model.form}, {model.n_rows} cells",
        f"  {_formula(model)}",
        f"  residual standard deviation of log TPS: {error}, {model.dof} degrees of freedom",
        f"  holds for inputs of {_range(model.input_range_tok)} and outputs of {_range(model.output_range_tok)} tokens",
        *(f"  note: {note}" for note in model.notes),
        f"written to {path}; use it with --tps-model {path}",
    ):
        stdout_console().print(line)


def _formula(model: TpsModel) -> str:
    b0, b1, b2 = model.coef
    if model.form == "constant":
        return f"log TPS = {b0:.4g}"
    first = "L_in" if model.form == "oviedo" else "(L_in + L_out)"
    return f"log TPS = {b0:.4g} {b1:+.4g} log {first} {b2:+.4g} log L_out"


def _range(limits: tuple[int, int]) -> str:
    return f"{limits[0]:,}" if limits[0] == limits[1] else f"{limits[0]:,} to {limits[1]:,}"
