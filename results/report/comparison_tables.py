"""The tables that set several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from results.report.tables import Table
from results.report.view import Difference, Group, RunView
from results.report.words import NOT_KNOWN, SHORT_BOUNDARIES, interval, percent, sig

PUBLISHED = "a figure that is not valid should not be published"


def differences_table(differences: Sequence[Difference]) -> Table:
    """Return how each cell of a run differs from the same one of the first run."""
    return Table(
        "Differences from the first run (B over A)",
        ("cell", "A", "B", "boundary of joules", "J/token, B / A", "95%", "TPS, B / A", "95%",
         "what the intervals cover"),
        tuple(
            (one.cell, one.a, one.b, SHORT_BOUNDARIES[one.boundary], sig(one.energy, 4), interval(one.energy_ci95, 4),
             sig(one.tps, 4), interval(one.tps_ci95, 4), one.note)
            for one in differences
        ),
        "Below 1 in energy: B uses less. An interval that holds 1 shows no difference.",
    )  # fmt: skip


def repeats_table(group: Group) -> Table:
    """Return mean and spread of each cell over repeated runs."""
    rows = []
    for cell in group.document["cells"]:
        energy, tps = cell["wh_per_query"], cell["tps_tok_per_s"]
        rows.append(
            (cell["cell"], f"{cell['n']} ({cell['n_invalid']} invalid)",
             sig(energy["mean"] if energy else None, 4), percent(energy["u_run_rel"] if energy else None),
             percent(energy["u_between_rel"] if energy else None),
             percent(cell["standard_uncertainty_of_the_mean_rel"]), sig(tps["mean"] if tps else None, 4),
             percent(tps["u_run_rel"] if tps else None))
        )  # fmt: skip
    boundary = next((cell["boundary"] for cell in group.document["cells"] if cell["boundary"]), "unknown")
    source = next((cell["power_source"] for cell in group.document["cells"] if cell["power_source"]), "unknown")
    return Table(
        f"Over {len(group.runs)} repeats of {group.name}",
        ("cell", "runs", f"Wh/query, mean ({source})", "spread of runs", "of it between runs", "u of the mean",
         "TPS, mean (tok/s)", "spread of runs"),
        tuple(rows),
        f"Boundary: {boundary}. Servers were started anew for each repeat. Spreads and u are relative and standard; "
        "u of the mean has the systematic errors in it, which no repeat makes smaller.",
    )  # fmt: skip


def headline_table(runs: Sequence[RunView]) -> Table:
    """Return one row a compared cell, or a run without one: the answer at a glance."""
    rows: list[tuple[str, ...]] = []
    for view in runs:
        run = view.result.run
        for cell in view.compared:
            energy, predicted = cell.wh_per_query, cell.predicted_wh_per_query
            rows.append(
                (view.short, f"{cell.name} {cell.workload}", cell.verdict, sig(energy.mean if energy else None),
                 interval(energy.ci95 if energy else None), sig(predicted.mean if predicted else None),
                 sig(cell.ratio), sig(cell.tps_tok_per_s), SHORT_BOUNDARIES[cell.boundary], cell.power_source)
            )  # fmt: skip
        if not view.compared:
            rows.append((view.short, "sweep" if view.sweep else "no compared cell", view.verdict, *[NOT_KNOWN] * 5,
                         SHORT_BOUNDARIES[run.boundary], run.power_source))  # fmt: skip
    return Table(
        "The runs at a glance",
        ("run", "cell", "verdict", "Wh/query measured", "95% (all errors)", "Wh/query predicted", "ratio",
         "TPS (tok/s)", "boundary", "power"),
        tuple(rows),
        f"Wh/query is × PUE where the node is covered; {PUBLISHED}.",
        verdict_column=2,
    )  # fmt: skip
