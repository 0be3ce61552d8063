"""Rules on a cell's window: how much each rate changes across it, and how many requests and batches it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy.stats import t as student_t

from harness.verify import rederive
from harness.verify.checks import Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.figures import scrape_intervals
from harness.verify.rederive import FloatArray
from harness.verify.uncertainty import BATCH_MEMORIES, MAX_BATCHES, in_flight

CHANGE_UNITS = {"throughput": "of_mean", "power": "of_mean", "kv_usage": "of_capacity"}
FEWEST, LINE_REL = 3, 2e-3
"""A line with an error needs three batches; two derivations of its slope and error agree to this share of them."""


def changes(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Draw lines through batches of throughput, power and KV usage: one must change, and be known, as reported.

    How many batches a rate had is not reported: it is looked for. Throughput and power change by a share of their mean,
    KV usage by a share of the capacity of all servers together.
    """
    rates = _rates(evidence, cell, start_s, end_s)
    checks = []
    for name, reported in cell.reported["window"].get("changes", {}).items():
        values = rates[name]
        if values is None:
            checks.append(Check(False, f"{name} is not known between scrapes"))
            continue
        whole = 1.0 if name == "kv_usage" else float(values.mean())
        told = (reported["change"], reported["half_width_95"])
        lines = ((change / whole, half / whole) for change, half in _lines(values))
        slack = LINE_REL * (abs(told[0]) + told[1]) + 1e-7
        found = any(math.dist(line, told) <= slack for line in lines)
        text = f"{name} {told[0]:+.3%} +- {told[1]:.3%} is {'' if found else 'not '}that of a line through batches"
        checks += [Check(found, text), equal(f"unit of {name}", reported["unit"], CHANGE_UNITS[name])]
    return checks


def _rates(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> dict[str, FloatArray | None]:
    spans = scrape_intervals(evidence, cell, start_s, end_s)
    scraped_s = np.array([t for t in cell.scrapes_s if start_s <= t <= end_s])
    even_s = np.cumsum([start_s, *spans.seconds])
    counted = rederive.generated_tok_by(cell.scrapes, cell.requests, scraped_s, blind=evidence.blind)
    kv = rederive.counted_by(cell.scrapes, "kv_usage_ratio", scraped_s)
    kv_edges = None if kv is None else np.interp(even_s, scraped_s, kv) / cell.scrapes["server"].nunique()
    return {
        "throughput": np.diff(np.interp(even_s, scraped_s, counted)) / spans.seconds,
        "power": None if spans.joules is None else spans.joules / spans.seconds,
        "kv_usage": None if kv_edges is None else (kv_edges[1:] + kv_edges[:-1]) / 2,
    }


def _lines(values: FloatArray) -> Iterator[tuple[float, float]]:
    """Yield the change across values by the line through so many batches, and the half width of its 95% interval."""
    for count in range(FEWEST, min(MAX_BATCHES, values.size) + 1):
        edges = [int(edge) for edge in np.linspace(0, values.size, count + 1).round()]
        middles = [(begin + end) / 2 for begin, end in pairwise(edges)]
        means = [float(values[begin:end].mean()) for begin, end in pairwise(edges)]
        slope, level = np.polyfit(middles, means, 1)
        missed = sum((mean - slope * x - level) ** 2 for x, mean in zip(middles, means, strict=True))
        spread = sum((x - sum(middles) / count) ** 2 for x in middles)
        error = math.sqrt(missed / (count - 2) / spread)
        yield float(slope) * values.size, float(student_t.ppf(0.975, count - 2)) * error * values.size


def size(evidence: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Work out how many mean requests a window holds, and from its autocorrelation time how many batches."""
    window, spans = cell.reported["window"], scrape_intervals(evidence, cell, start_s, end_s)
    if spans.tokens.sum() <= 0:
        return same("mean requests", window["mean_requests"], 0.0)
    request_tok = in_flight(cell) * cell.definition["mean_output_tok"]
    requests = min(float(spans.tokens.sum()) / request_tok, spans.tokens.size)
    checks = same("mean requests", window["mean_requests"], requests, 1e-4)
    if window["batches"] is not None:
        memories = (end_s - start_s) / (BATCH_MEMORIES * window["autocorrelation_s"])
        longest = min(requests, memories, MAX_BATCHES)
        fits = {max(2, int(longest * (1 + slack))) for slack in (-1e-4, 0.0, 1e-4)}
        checks.append(Check(window["batches"] in fits, f"{window['batches']} batches, re-derived {sorted(fits)}"))
    return checks
