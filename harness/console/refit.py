"""A refit, for a person: the forms ranked, the chosen model with its errors, and what to beware of."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console.terminal import stdout_console

UNKNOWN = "unknown"


def print_refit(document: dict[str, Any]) -> None:
    """Print the report of a refit."""
    console = stdout_console()
    console.print(_forms(document))
    for form in document["forms"]:
        if form["reason"]:
            console.print(f"{form['name']} has no error: {form['reason']}")
    _print_nested(document, console)
    if document["pooled"] is not None:
        _print_pooled(document["pooled"], console)
    if document["model"] is not None:
        _print_model(document, console)
    _print_joules(document, console)
    _print_power(document, console)
    for note in document["notes"]:
        console.print(f"note: {note}")
    for name, path in document["written"].items():
        hint = {"model": f"; use it with --tps-model {path}", "power": f"; use it with --power-model {path}"}
        if path is not None:
            console.print(f"{name} written to {path}{hint.get(name, '')}")


def _forms(document: dict[str, Any]) -> Table:
    table = Table(
        title="forms by leave-one-out error of TPS (held-out rows)", header_style="bold", title_justify="left"
    )
    table.add_column("form")
    for name in ("MAPE", "log RMSE", "in 90% interval", "MAPE with cap", "log RMSE with cap", "rows"):
        table.add_column(name, justify="right")
    for form in document["forms"]:
        mark = " *" if form["selected"] else ""
        shown = form["without_cap"]
        table.add_row(
            form["name"] + mark,
            _percent(shown["loo_mape"]),
            _number(shown["loo_rmse_log"]),
            _coverage(shown),
            _percent(form["with_cap"]["loo_mape"]),
            _number(form["with_cap"]["loo_rmse_log"]),
            str(form["n_rows"]),
        )
    return table


def _print_nested(document: dict[str, Any], console: Console) -> None:
    nested = document["nested"]
    if nested["loo_mape"] is None:
        console.print(f"nested error: {UNKNOWN}: {nested['reason']}")
        return
    counts = {name: nested["chosen"].count(name) for name in dict.fromkeys(nested["chosen"])}
    chosen = ", ".join(f"{name} in {count}" for name, count in counts.items())
    console.print(
        f"nested error, of choosing and fitting together: MAPE {_percent(nested['loo_mape'])}, "
        f"log RMSE {_number(nested['loo_rmse_log'])}, {_coverage(nested)} in the 90% interval; folds chose {chosen}"
    )


def _print_pooled(pooled: dict[str, Any], console: Console) -> None:
    common = pooled["population"]
    shape = ", ".join(
        f"{name} = {mean:.3g} (sd {sd:.2g})"
        for name, mean, sd in zip(common["shape_names"], common["shape_mean"], common["shape_sd"], strict=True)
    )
    console.print(f"pooled form {pooled['form']} over {', '.join(common['models'])}: {shape}")
    for model in pooled["models"]:
        console.print(
            f"  {model['model']}: {model['n_rows']} row(s), residual sd of log TPS {model['residual_sd_log']:.3f}, "
            f"{model['dof']:.1f} degrees of freedom"
        )
    for out in pooled["leave_one_model_out"]:
        console.print(
            f"  {out['model']} from {out['n_given']} of its rows and the others' shape: MAPE {_percent(out['mape'])}, "
            f"{out['covered']} of {out['n_predicted']} in the 90% interval"
        )
    if pooled["leave_one_model_out_reason"]:
        console.print(f"  not checked by leaving out models: {pooled['leave_one_model_out_reason']}")


def _print_model(document: dict[str, Any], console: Console) -> None:
    model, diagnostics, validity = document["model"], document["diagnostics"], document["validity"]
    formula = next(form["formula"] for form in document["forms"] if form["selected"])
    names = next(form["coefficient_names"] for form in document["forms"] if form["selected"])
    console.print(
        f"\nTPS model of {model['model']} on {model['gpus']} device(s): form {model['form']}, {model['n_rows']} row(s)"
    )
    console.print(f"  {formula}")
    robust = {one["name"]: one["hc3_standard_error"] for one in diagnostics["coefficients"] or ()}
    for name, value in zip(names, model["coef"], strict=True):
        error = robust.get(name)
        console.print(f"  {name} = {value:.4g}" + ("" if error is None else f" +- {error:.2g} (HC3 standard error)"))
    sd = UNKNOWN if model["residual_sd_log"] is None else f"{model['residual_sd_log']:.1%}"
    console.print(f"  residual standard deviation of log TPS: {sd}, {model['dof']:.3g} degrees of freedom")
    cap = model["cap_tok_per_s"]
    console.print("  no cap" if cap is None else f"  capped at {cap:,.0f} tok/s")
    console.print(
        f"  holds for inputs of {_range(validity['input_range_tok'])} and outputs of "
        f"{_range(validity['output_range_tok'])} tokens; outside it is {validity['outside']}"
    )
    for row in diagnostics["rows"]:
        if row["flags"]:
            console.print(
                f"  look at the row {row['input_tok']}x{row['output_tok']} ({row['source']}): "
                f"{', '.join(row['flags'])}; observed {row['observed_tok_per_s']:,.0f}, "
                f"fitted {row['predicted_tok_per_s']:,.0f} tok/s"
            )
    if diagnostics["reason"]:
        console.print(f"  influence of rows: none given: {diagnostics['reason']}")


def _print_joules(document: dict[str, Any], console: Console) -> None:
    joules = document["joules"]
    if joules is None:
        console.print(f"prefill, decode and attention joules: none: {document['joules_reason']}")
        return
    for name in ("prefill", "decode", "attention"):
        term = joules[name]
        console.print(
            f"{name}: {term['value']:.3g} {term['unit']} (95%: {term['low_95']:.3g} to {term['high_95']:.3g})"
        )
    for note in joules["notes"]:
        console.print(f"  note: {note}")


def _print_power(document: dict[str, Any], console: Console) -> None:
    power = document["power"]
    if power is None:
        console.print(f"node power by TPS: none: {document['power_reason']}")
        return
    sd = UNKNOWN if power["residual_sd_kw"] is None else f"{power['residual_sd_kw']:.3g} kW"
    low, high = power["tps_range_tok_per_s"]
    console.print(
        f"node power ({power['boundary']}, without PUE) = {power['p0_kw']:.4g} kW "
        f"{power['p1_kw_s_per_tok']:+.3g} kW per tok/s, residual sd {sd}, "
        f"from {power['n_pairs']} cells at {low:,.0f} to {high:,.0f} tok/s"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _coverage(error: dict[str, Any]) -> str:
    return "-" if error["interval_rows"] is None else f"{error['interval_covered']} of {error['interval_rows']}"


def _range(limits: list[int]) -> str:
    return f"{limits[0]:,}" if limits[0] == limits[1] else f"{limits[0]:,} to {limits[1]:,}"
