"""Figure: how far the cells lie from the throughput model that was fitted to them."""

from __future__ import annotations

from math import exp, log
from typing import Any

from matplotlib.figure import Figure

from results.report.figures.common import log_axis, panels
from results.report.svg import BLUE, MUTED, ORANGE
from results.report.view import Drawing, LeftOut, RunView
from results.report.words import percent

TITLE = "Residuals of the refit"


def residuals_figure(view: RunView) -> Drawing | LeftOut:
    """Return the figure, or why there is none."""
    document = view.refit.document
    if document is None:
        return LeftOut(TITLE, view.refit.reason)
    rows, model = document["diagnostics"]["rows"], document["model"]
    worst = max(rows, key=lambda row: abs(residual_log(row)))
    nested = document["nested"]["loo_mape"]
    held_out = (
        ""
        if nested is None
        else f"; on cells left out its mean error is {percent(nested)} (form chosen anew each time)"
    )
    return Drawing(
        key="residuals",
        title=TITLE,
        finding=(
            f"The form {model['form']} meets {len(rows)} cells within {percent(exp(abs(residual_log(worst))) - 1)}"
            f"{held_out}."
        ),
        caption=(
            f"ln(measured / fitted) throughput of the fixed-length cells, form {model['form']}: {_formula(document)}. "
            "Diamonds are flagged for leverage, influence or as outliers. Residuals of few rows and several "
            "coefficients are small by construction: judge the form by the error on cells left out."
        ),
        draw=lambda narrow: _draw(rows, narrow),
    )


def residual_log(row: dict[str, Any]) -> float:
    """Return observed over fitted throughput as a logarithm."""
    return log(row["observed_tok_per_s"] / row["predicted_tok_per_s"])


def _formula(document: Any) -> str:
    formulas = [str(form["formula"]) for form in document["forms"] if form["selected"]]
    return formulas[0] if formulas else "unknown"


def _draw(rows: list[dict[str, Any]], narrow: bool) -> Figure:
    varied = [name for name in ("output", "input") if len({row[f"{name}_tok"] for row in rows}) > 1] or ["output"]
    figure, axes = panels(narrow, len(varied), 2.4, 2.1)
    for axis, words in zip(axes, varied, strict=True):
        length = f"{words}_tok"
        for row in rows:
            flagged = bool(row["flags"])
            axis.plot([row[length]], [residual_log(row)], "D" if flagged else "o", color=ORANGE if flagged else BLUE)
        axis.axhline(0, color=MUTED, linewidth=1)
        lengths = [row[length] for row in rows]
        log_axis(axis, "x", lengths)
        axis.set_xlim(min(lengths) / 1.5, max(lengths) * 1.5)
        axis.set_xlabel(f"{words} length (tokens), logarithmic")
        reach = 1.25 * max(0.01, *(abs(residual_log(row)) for row in rows))
        axis.set_ylim(-reach, reach)
    axes[0].set_ylabel("ln(measured / fitted) TPS")
    return figure
