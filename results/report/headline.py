"""The answer in a sentence, and what must stand before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.report.reasons import VERDICTS
from results.report.view import Difference, Group, Report, RunView
from results.report.words import (
    SHORT_BOUNDARIES,
    boundary_and_source,
    interval,
    percent,
    query_boundary,
    sig,
    source_words,
)
from results.schema import CellResult, Verdict


@dataclass(frozen=True)
class Card:
    """The figures of one compared cell at a glance."""

    name: str
    workload: str
    measured: str
    unit: str
    interval: str
    predicted: str
    ratio: str
    verdict: Verdict
    reasons: str
    boundary: str


def banners(report: Report) -> tuple[str, ...]:
    """Return what opens the page before any figure: simulated or replayed power, unfinished and invalid runs."""
    found = []
    simulated = [view for view in report.runs if view.simulated]
    if simulated:
        which = "" if len(simulated) == len(report.runs) else f" of {', '.join(view.short for view in simulated)}"
        found.append(
            f"SIMULATED POWER: every watt, joule and Wh{which} is simulated{_but_meters(simulated)}. It is no "
            "measurement of energy. Tokens and times are measured."
        )
    found += [
        f"SIMULATED GPU POWER: the watts and joules of the GPUs of {view.short} are simulated. Its J/token and "
        f"Wh/query are not: they are read from {view.result.run.power_source}, boundary {view.result.run.boundary}. "
        f"Meters: {view.metered}."
        for view in report.runs
        if view.simulated_gpus and not view.simulated
    ]
    replayed = [view.short for view in report.runs if view.result.run.power_source.startswith("replay")]
    if replayed:
        found.append(f"REPLAYED POWER: the watts of {', '.join(replayed)} come from a recording, not from this run.")
    for view in report.runs:
        if view.result.run.status != "complete":
            status = view.result.run.status
            word = "UNFINISHED" if status in ("running", "partial") else "FAILED"
            why = f": {view.manifest.failure}" if view.manifest.failure else ""
            found.append(f"{word}: the run {view.short} did not reach its end{why}.")
    return tuple(found)


def _but_meters(views: Sequence[RunView]) -> str:
    meters = dict.fromkeys(view.metered for view in views if view.metered)
    return f", but for the watts of its meters: {'; '.join(meters)}" if meters else ""


def labels(view: RunView) -> tuple[str, ...]:
    """Return the run's own labels that the banners do not already say."""
    said = view.simulated_gpus
    return tuple(label for label in view.result.run.labels if not (said and label.startswith("simulated power:")))


@dataclass(frozen=True)
class Sentence:
    """A sentence of the answer: ``lead`` says what it is about."""

    lead: str
    text: str


def headline(view: RunView) -> tuple[Sentence, ...]:
    """Return the answer of one run in sentences: one a compared cell, then the ratio; or what a sweep found."""
    if not view.compared:
        return _of_sweep(view)
    sentences = [_sentence(view, cell) for cell in view.compared]
    ratio = view.result.energy_ratio
    if ratio is not None and ratio.measured is not None:
        bounds = f" (95% {interval(ratio.measured_ci95)})" if ratio.measured_ci95 else ""
        eq1 = f"; Eq. 1 for these lengths gives {sig(ratio.eq1)}" if ratio.eq1 is not None else ""
        simulated = " in simulated energy" if view.simulated else ""
        text = f"costs {sig(ratio.measured)}{bounds} times as much{simulated}{eq1}."
        asked = f"{ratio.multiplier:g}x the output length"
        as_served = any(cell.served_output_tok != cell.mean_output_tok for cell in view.compared)
        lead = f"A query asked for with {asked}, and as long as served," if as_served else f"A query of {asked}"
        sentences.append(Sentence(lead, text))
    return tuple(sentences)


def _sentence(view: RunView, cell: CellResult) -> Sentence:
    energy, predicted = cell.wh_per_query, cell.predicted_wh_per_query
    lead = f"{cell.name} {cell.workload}:"
    if energy is None:
        return Sentence(lead, f"no energy per query could be measured. Verdict: {_verdict(cell)}.")
    bounds = f"95% {interval(energy.ci95)}" if energy.ci95 else "interval unknown"
    how = "simulated" if view.simulated else "measured"
    said = f"{how} {sig(energy.mean)} Wh per query ({bounds})"
    if predicted is None:
        said += f", without a prediction to hold it against ({_bare(view.result.run.prediction)})"
    else:
        inside = "inside" if predicted.p5 <= energy.mean <= predicted.p95 else "outside"
        said += (
            f" against {sig(predicted.mean)} Wh predicted: {sig(cell.ratio)} times the prediction, {inside} its P5 to "
            f"P95 of {interval((predicted.p5, predicted.p95))}"
        )
    source = source_words(cell.power_source)
    return Sentence(lead, f"{said}. Boundary: {query_boundary(cell)}; power: {source}; verdict: {_verdict(cell)}.")


def _bare(reason: str) -> str:
    return reason.removeprefix("no prediction: ")


def _verdict(cell: CellResult) -> str:
    count = len(cell.reasons)
    return cell.verdict + (f", for {count} reason{'s' if count > 1 else ''} told below" if count else "")


def _of_sweep(view: RunView) -> tuple[Sentence, ...]:
    usable = [cell for cell in view.result.cells if cell.tps_tok_per_s and cell.verdict != "invalid"]
    if not view.cells:
        return (Sentence(f"{'Sweep' if view.sweep else 'Run'}:", "no cell was measured."),)
    if not usable:
        return (Sentence("Sweep:", f"{len(view.result.cells)} cells, none of which can be used."),)
    best = max(usable, key=lambda cell: cell.tps_tok_per_s or 0.0)
    joules = "no energy"
    if best.joules_per_tok is not None:
        joules = f"{sig(best.joules_per_tok)} J/token ({boundary_and_source(best)})"
    invalid = len(view.result.cells) - sum(cell.verdict != "invalid" for cell in view.result.cells)
    text = (
        f"of {len(view.result.cells)} cells ({invalid} invalid), {best.name} serves most: "
        f"{sig(best.tps_tok_per_s)} tok/s with {best.concurrency} in flight at {joules}. A sweep compares nothing with "
        "the prediction; its curves are below."
    )
    return (Sentence("Sweep:", text),)


def comparison(report: Report) -> tuple[Sentence, ...]:
    """Return the answer of several runs: what repeats agree on, and how each input differs from the first."""
    return (
        *(sentence for group in report.groups for sentence in _of_group(group)),
        *(_of_difference(report, one) for one in report.differences if one.energy is not None or one.tps is not None),
    )


def _of_group(group: Group) -> list[Sentence]:
    sentences = []
    for cell in group.document["cells"]:
        energy = cell["wh_per_query"]
        if energy:
            how = "simulated" if "simulated" in cell["power_source"] else "measured"
            u_rel = cell["standard_uncertainty_of_the_mean_rel"]
            known = "uncertainty unknown" if u_rel is None else f"u = {percent(u_rel)}"
            text = (
                f"{how} {sig(energy['mean'])} Wh per query ({known}, systematic errors included), mean of "
                f"{energy['n']} values; single runs lie {percent(energy['u_run_rel'])} apart (standard). Boundary: "
                f"{cell['boundary']}; power: {source_words(cell['power_source'])}."
            )
            sentences.append(Sentence(f"{'+'.join(group.runs)}, {cell['cell']}:", text))
    return sentences


def _of_difference(report: Report, one: Difference) -> Sentence:
    simulated = "; SIMULATED" if any(view.simulated for view in report.runs) else ""
    parts = [
        f"{words} × {sig(value)}{f' (95% {interval(bounds)})' if bounds else ' (interval unknown)'}"
        for words, value, bounds in (
            (f"J/token ({SHORT_BOUNDARIES[one.boundary]}{simulated})", one.energy, one.energy_ci95),
            ("throughput", one.tps, one.tps_ci95),
        )
        if value is not None
    ]
    return Sentence(f"{one.cell}, {one.b} over {one.a}:", f"{'; '.join(parts)}.")


def cards(view: RunView) -> tuple[Card, ...]:
    """Return the compared cells at a glance."""
    return tuple(_card(view, cell) for cell in view.compared)


def _card(view: RunView, cell: CellResult) -> Card:
    energy, predicted = cell.wh_per_query, cell.predicted_wh_per_query
    return Card(
        name=cell.name,
        workload=cell.workload,
        measured=sig(energy.mean if energy else None),
        unit="Wh per query" + (", SIMULATED" if view.simulated else ", measured"),
        interval=f"95% {interval(energy.ci95)}" if energy and energy.ci95 else "interval unknown",
        predicted="none"
        if predicted is None
        else f"{sig(predicted.mean)}, P5 to P95 {interval((predicted.p5, predicted.p95))}",
        ratio=f"× {sig(cell.ratio)}" if cell.ratio is not None else "n/a",
        verdict=cell.verdict,
        reasons=", ".join(cell.reasons) or VERDICTS[cell.verdict],
        boundary=query_boundary(cell),
    )
