"""Rules on a cell's window: where it lies, how long its rates remember, how much they change, and its batches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.verify import steady
from harness.verify.checks import Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.series import Series, autocorrelation, batch_counts, series_between

CHANGE_UNITS = {"throughput": "of_mean", "power": "of_mean", "kv_usage": "of_capacity"}
LINE_REL = 1e-6
"""Two derivations of a change and of its half width agree to this share of both."""


def memory(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out the longest integrated autocorrelation time of throughput, power and J/token, in seconds."""
    spans = series_between(evidence, cell, start_s, end_s)
    derived = autocorrelation(spans) * (end_s - start_s) / len(spans.tokens)
    return same("s of memory", cell.reported["window"]["autocorrelation_s"], derived)


def changes(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterator[Check]:
    """Draw a line through batches of throughput, power and KV usage: each must change, and be known, as reported."""
    reported = cell.reported["window"].get("changes", {})
    derived = steady.lines(series_between(evidence, cell, start_s, end_s))
    if reported or derived:
        yield equal("rates", sorted(reported), sorted(derived))
    for name in reported.keys() & derived.keys():
        told = (reported[name]["change"], reported[name]["half_width_95"])
        slack = LINE_REL * (abs(told[0]) + told[1]) + 1e-9
        drawn = [(change, steady.student(dof, steady.WITHIN_CONFIDENCE) * u) for change, u, dof in derived[name]]
        found = any(math.dist(line, told) <= slack for line in drawn)
        text = f"{name} {told[0]:+.3%} +- {told[1]:.3%}, re-derived {drawn[0][0]:+.3%} +- {drawn[0][1]:.3%}"
        yield Check(found, text)
        yield equal(f"unit of {name}", reported[name]["unit"], CHANGE_UNITS[name])


def size(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out how many mean requests a window holds, and by its memory how many batches."""
    window, spans = cell.reported["window"], series_between(evidence, cell, start_s, end_s)
    requests = len(spans.tokens) / spans.request if spans.known else 0.0
    checks = same("mean requests", window["mean_requests"], requests)
    if window["batches"] is not None:
        fits = batch_counts(spans, autocorrelation(spans), 2)
        checks.append(Check(window["batches"] in fits, f"{window['batches']} batches, re-derived {fits}"))
    return checks


def chosen(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterator[Check]:
    """See that a window begins at twice the cut of MSER, and ends with the first look that nothing speaks against.

    A cell is looked at when its load has lasted the shortest window, or 40 scrapes, and at every doubling of that; a
    last time when its load ends.
    """
    times_s, ended = steady.scraped_under_load(cell), cell.reported["window"]["ended"]
    end, looks = times_s.index(end_s), list(_looks(cell, times_s))
    starts_s = _starts_s(series_between(evidence, cell, times_s[0], end_s), times_s)
    yield Check(start_s in starts_s, f"begins at {start_s:.3f} s, re-derived {starts_s[0]:.3f} s")
    reached = ended == "precision_reached"
    right = end in looks if reached else end == len(times_s) - 1
    yield Check(right, f"{ended} {'' if right else 'but not '}at such a look")
    for look in (look for look in looks if look <= end):
        found = _at_look(evidence, cell, times_s, look)
        speaks = any(True in right for answers in found for right in answers.values())
        surely = [code for code, right in found[0].items() if right == steady.YES]
        may_end = any(steady.YES not in answers.values() for answers in found)
        text = f"{', '.join(surely) or 'nothing'} speaks against it"
        yield Check(
            may_end if reached and look == end else speaks, f"look after {times_s[look] - times_s[0]:.3f} s: {text}"
        )


def _looks(cell: Cell, times_s: list[float]) -> Iterator[int]:
    """Yield at which scrape a cell is looked at, while its load lasts."""
    shown_s = [t for t in cell.scrapes_s if t >= times_s[0]][: steady.MIN_INTERVALS]
    period_s = float(np.median(np.diff(shown_s)))
    length_s = max(float(cell.definition["min_window_s"]), steady.MIN_INTERVALS * period_s)
    while True:
        due_s = times_s[0] + length_s - period_s / 2
        look = next((n for n, t in enumerate(times_s) if t >= due_s), None)
        if look is None:
            return
        yield look
        length_s *= 2


def _starts_s(seen: Series, times_s: list[float]) -> list[float]:
    """Return where the window of what was seen may begin: after the ramp, at the latest in the middle."""
    latest = len(seen.tokens) // 2
    return sorted({times_s[min(steady.RAMP_MARGIN * cut, latest)] for cut in steady.ramp_cuts(seen)})


def _at_look(evidence: Evidence, cell: Cell, times_s: list[float], look: int) -> list[steady.Answers]:
    """Return what may speak against ending at a look, for every start that its window may have.

    Energy that is not known is not known well enough.
    """
    seen, found = series_between(evidence, cell, times_s[0], times_s[look]), []
    for start_s in _starts_s(seen, times_s):
        window = series_between(evidence, cell, start_s, times_s[look])
        answers = steady.objections(cell, seen, window)
        if window.joules is None or window.joules.sum() <= 0:
            answers["precision_not_reached"] = steady.YES
        found.append(answers)
    return found
