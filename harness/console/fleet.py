"""The energy of a fleet, as tables for a person."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from harness.console.terminal import stdout_console


def print_fleet(document: dict[str, Any]) -> None:
    """Print the day's total, its parts, what to hold it against, and the notes."""
    console = stdout_console()
    console.print(_totals(document))
    console.print(_parts(document["parts"]))
    console.print(_beta(document["parts"]["beta"]))
    for reference in document["references"]:
        console.print(f"reference: {reference['name']}, {reference['gwh_per_day']:.3g} GWh/day ({reference['source']})")
    for name in ("water_l_per_day", "carbon_t_per_day"):
        if document[name] is not None:
            console.print(f"{name}: {document[name]['boundary']}")
    for note in document["notes"]:
        console.print(f"note: {note}")


def _totals(document: dict[str, Any]) -> Table:
    parts = document["parts"]
    title = f"{parts['queries_per_day']:,.0f} queries a day, {document['model']}, preset {document['preset']}"
    if parts["interventions"]["names"]:
        title += f", {' and '.join(parts['interventions']['names'])}"
    table = Table(title=title, header_style="bold")
    table.add_column("")
    keys = list(document["gwh_per_day"])
    for key in keys:
        table.add_column(key, justify="right")
    rows = {
        f"GWh/day, {document['boundary']}": document["gwh_per_day"],
        "Wh of a single query, node x PUE": document["wh_per_query"],
        "water, L/day": document["water_l_per_day"],
        "carbon, t CO2e/day": document["carbon_t_per_day"],
    }
    for name, values in rows.items():
        if values is not None:
            table.add_row(name, *(f"{values[key]:.3g}" for key in keys))
    return table


def _parts(parts: dict[str, Any]) -> Table:
    table = Table(title="mean by kind of query", header_style="bold")
    for column in ("queries", "a day", "Wh/query", "GWh/day", "extrapolated"):
        table.add_column(column, justify="left" if column == "queries" else "right")
    for kind in ("traditional", "long"):
        part = parts[kind]
        if part is None:
            continue
        table.add_row(
            part["queries"], f"{part['queries_per_day']:.3g}", f"{part['mean_wh_per_query']:.3g}",
            f"{part['gwh_per_day']:.3g}", "",
        )  # fmt: skip
        for each in part["models"]:
            table.add_row(
                f"  {each['model']}", "", f"{each['mean_wh_per_query']:.3g}", "", f"{each['extrapolated_share']:.0%}"
            )
    return table


def _beta(beta: dict[str, Any]) -> Table:
    table = Table(title=f"beta = {beta['mean']:.4g}", header_style="bold")
    for column in ("part", "factor", "source"):
        table.add_column(column)
    shape = beta["load_shape"]
    table.add_row(
        f"load {shape['low']:g} to {shape['high']:g}, idle {shape['idle_kw']:g} kW, peak {shape['peak_kw']:g} kW",
        f"{shape['value']:.4g}",
        shape["source"],
    )
    for name in ("redundancy", "network"):
        factor = beta[name]
        spread = "" if factor["p5"] == factor["p95"] else f" ({factor['p5']:.4g} to {factor['p95']:.4g})"
        table.add_row(name, f"{factor['mean']:.4g}{spread}", factor["source"])
    return table
