"""From the view of one or several runs to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from results.report import comparison_tables, headline, tables
from results.report.figures.exponent import exponent_figure
from results.report.figures.fleet import fleet_figure
from results.report.figures.ladder import ladder_figure
from results.report.figures.predicted import predicted_figure
from results.report.figures.residuals import residuals_figure
from results.report.figures.side_by_side import side_by_side_figure
from results.report.figures.split import split_figure
from results.report.figures.throughput import throughput_figure
from results.report.figures.timeline import timeline_figure
from results.report.provenance import provenance, verify_command
from results.report.svg import inline_svg
from results.report.tables import Table
from results.report.view import Drawing, LeftOut, Report, RunView
from results.report.words import interval, sig

FIGURES: tuple[Callable[[RunView], Drawing | LeftOut], ...] = (
    predicted_figure, timeline_figure, split_figure, ladder_figure, throughput_figure, exponent_figure,
    residuals_figure, fleet_figure,
)  # fmt: skip
"""In the order of the page: the comparison first, then what it rests on, then what follows from it."""

BOUNDARY_NOTE = (
    "Joules of different boundaries, or of simulated and measured power, are not comparable; the table says which each "
    "row is."
)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as the page holds it: for a wide page and for a phone."""

    key: str
    title: str
    finding: str
    caption: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Page:
    """A page and which figures it has and lacks, by run."""

    html: str
    figures: dict[str, list[str]]
    left_out: dict[str, dict[str, str]]


def render(report: Report) -> Page:
    """Return the page of a report. Whatever came from a run folder is escaped, and the page runs no script."""
    several = len(report.runs) > 1
    runs = [_run(view, number, several=several) for number, view in enumerate(report.runs, start=1)]
    html = _environment().from_string(_resource("template.html.j2")).render(
        title=_title(report),
        subtitle=_subtitle(report),
        banners=headline.banners(report),
        style=Markup(_resource("style.css")),  # noqa: S704 - our own file
        runs=runs,
        comparison=_comparison(report) if several else None,
        made=f"Made by {report.made_by} at {report.made_at} from the run folders alone.",
    )  # fmt: skip
    return Page(
        html,
        figures={run["name"]: [figure.title for figure in run["figures"]] for run in runs},
        left_out={run["name"]: {one.title: one.reason for one in run["left_out"]} for run in runs},
    )


def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)


def _resource(name: str) -> str:
    return (files("results.report") / name).read_text(encoding="utf-8")


def _title(report: Report) -> str:
    models = list(dict.fromkeys(view.result.run.model for view in report.runs))
    return f"Energy per query: {', '.join(models)}"


def _subtitle(report: Report) -> str:
    if len(report.runs) > 1:
        return f"{len(report.runs)} runs side by side"
    (view,) = report.runs
    run = view.result.run
    return f"Run {run.id}; server version {run.server_version or 'unknown'}; prediction: {run.prediction}"


def _run(view: RunView, number: int, *, several: bool) -> dict[str, Any]:
    made = [make(view) for make in FIGURES]
    return {
        "id": f"run-{number}",
        "name": view.title,
        "contents": view.title if several else "Figures",
        "heading": f"Run {view.title}" if several else "Figures",
        "headline": headline.headline(view),
        "labels": headline.labels(view),
        "cards": headline.cards(view),
        "figures": [_drawn(each, f"r{number}-") for each in made if isinstance(each, Drawing)],
        "left_out": [each for each in made if isinstance(each, LeftOut)],
        "tables": _tables(view),
        "provenance": provenance(view),
        "verify": verify_command(view),
    }


def _tables(view: RunView) -> list[Table]:
    found = (
        tables.verdict_table(view),
        tables.cells_table(view),
        tables.uncertainty_table(view),
        tables.idle_table(view),
        tables.meters_table(view),
        tables.devices_table(view),
    )
    return [table for table in found if table is not None]


def _comparison(report: Report) -> dict[str, Any]:
    figure = side_by_side_figure(report.runs)
    found = []
    if report.differences:
        found.append(comparison_tables.differences_table(report.differences))
    notes = [BOUNDARY_NOTE]
    if isinstance(figure, LeftOut):
        notes.append(f"{figure.title} is left out: {figure.reason}.")
    if report.why_no_differences:
        notes.append(f"No differences are given: {report.why_no_differences}.")
    return {
        "answer": headline.comparison(report),
        "glance": comparison_tables.headline_table(report.runs),
        "figures": [_drawn(figure, "")] if isinstance(figure, Drawing) else [],
        "tables": [*found, *(comparison_tables.repeats_table(group) for group in report.groups)],
        "notes": [*notes, *_paired_notes(report)],
    }


def _paired_notes(report: Report) -> Sequence[str]:
    """Return the paired ratio of each group of repeats in words."""
    notes = []
    for group in report.groups:
        ratio = group.document["energy_ratio"]
        if ratio and ratio["measured"] is not None:
            bounds = tuple(ratio["measured_ci95"]) if ratio["measured_ci95"] else None
            notes.append(
                f"{group.name}: energy of {ratio['multiplier']:g}x over 1x is {sig(ratio['measured'], 4)} "
                f"(95% {interval(bounds, 4)}) over {ratio['pairs']} pairs, interval {ratio['interval_basis']}."
            )
    return notes


def _drawn(drawing: Drawing, prefix: str) -> DrawnFigure:
    named = replace(drawing, key=prefix + drawing.key)
    wide, narrow = (inline_svg(named, narrow=narrow) for narrow in (False, True))
    return DrawnFigure(named.key, drawing.title, drawing.finding, drawing.caption, wide, narrow)
