"""What speaks against a window, worked out again from the record: its length, its ramp, and what changes in it. Pure.

An answer is the set of what may rightly be said of a reason: both, where the figure is within rounding of its limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product

import numpy as np
from scipy.stats import t as student_t

from harness.verify.evidence import Cell, Evidence
from harness.verify.rederive import FloatArray
from harness.verify.series import (
    BATCH_MEMORIES,
    Series,
    autocorrelation,
    batch_counts,
    batch_edges,
    correlation,
    less_its_line,
    rate_memory,
    series_between,
)

Answers = dict[str, frozenset[bool]]

CODES = (
    "window_too_short", "autocorrelation_too_long", "ramp_not_over", "drift", "steadiness_unproven", "level_shift",
    "cohorts_in_step", "rate_collapses", "precision_not_reached", "no_steady_state",
)  # fmt: skip
YES, NO = frozenset({True}), frozenset({False})
NEAR_REL = 1e-6
MIN_INTERVALS, MIN_BATCHES, FEWEST_IN_LINE = 40, 6, 3
RAMP_BLOCKS, RAMP_MARGIN, RAMP_SCALE_REL, RAMP_NEAR = 100, 2, 1e-4, 1e-9
MAX_CHANGE = 0.02
"""Of the mean of throughput and power, and of the capacity of the KV cache."""
PROVEN = ("throughput", "power")
"""What must be shown not to change; KV usage must only not be shown to change."""
WITHIN_CONFIDENCE, BEYOND_CONFIDENCE = 0.95, 0.995
PRECISION_REL = 0.02
SHIFT_BLOCKS, SHIFT_EXPLAINS = 20, 0.9
IN_STEP_CORRELATION, IN_STEP_VARIATION, IN_STEP_KV_VARIATION = 0.5, 0.05, 0.25
CHANCE_DEVIATIONS = 3.3
"""A correlation of n values below 3.3 / sqrt(n) may be chance."""
COLLAPSE_S, COLLAPSED_RATE, COLLAPSED_KV, COLLAPSED_SHARE = 2.0, 0.5, 0.75, 0.01


def scraped_under_load(cell: Cell) -> list[float]:
    """Return the scrapes that a window may be cut from: under load, after fill and warm-up, while all servers tell."""
    answered = cell.scrapes[cell.scrapes["generation_tok"].notna()] if not cell.usage_only else cell.scrapes
    last_s = [rows["t_mono_s"].max() for _, rows in answered.groupby("server")]
    if len(last_s) < cell.scrapes["server"].nunique() or not last_s:
        return []
    until_s = min(cell.load_stop_s, *last_s)
    return [t for t in cell.scrapes_s if cell.filled_s + cell.definition["warmup_s"] <= t <= until_s]


def reasons(evidence: Evidence, cell: Cell) -> Answers:
    """Return every reason that a window can have of itself, with the answers that are right."""
    if cell.window_s is None:
        return {}
    start_s, end_s = cell.window_s
    since_s = min(t for t in scraped_under_load(cell) if t <= start_s)
    seen, window = series_between(evidence, cell, since_s, end_s), series_between(evidence, cell, start_s, end_s)
    return objections(cell, seen, window)


def objections(cell: Cell, seen: Series, window: Series) -> Answers:
    """Return what speaks against a window, with the answers that are right; what was ``seen`` begins before it."""
    found = {
        **_length(seen, window, float(cell.definition["min_window_s"])),
        "ramp_not_over": frozenset(RAMP_MARGIN * cut > len(seen.tokens) // 2 for cut in ramp_cuts(seen)),
        **_changes(window),
        "level_shift": any_of(_has_shifted(values, _whole(name, values)) for name, values in window.rates.items()),
        "cohorts_in_step": any_of(
            _in_step(values, window.request) for name, values in window.rates.items() if _swings(name, values)
        ),
        "rate_collapses": _nudged(lambda near: _collapses(window, near)),
        "precision_not_reached": _imprecise(window, cell.definition.get("precision_rel", PRECISION_REL)),
    }
    moving = any_of(found[code] for code in ("drift", "level_shift", "cohorts_in_step", "rate_collapses"))
    found["no_steady_state"] = all_of([moving, negated(found["window_too_short"])])
    return found


def ramp_cuts(seen: Series) -> list[int]:
    """Return after how many intervals what is left is known best (MSER), by all rates together: all that are as good.

    The mean squared deviation of what is left, over its number of blocks, is made smallest; each rate is taken in the
    scale of its own second half. White, "An effective truncation heuristic for bias reduction in simulation output",
    Simulation 69 (1997).
    """
    size = len(seen.tokens)
    block = max(1, size // RAMP_BLOCKS)
    count, skipped = size // block, size % block
    if count < 4 or not seen.rates:
        return [0]
    summed = [0.0] * (count // 2 + 1)
    for values in seen.rates.values():
        blocks = [float(values[skipped + n * block : skipped + (n + 1) * block].mean()) for n in range(count)]
        floor = (RAMP_SCALE_REL * sum(map(abs, blocks)) / count) ** 2
        scale = max(float(np.var(blocks[count // 2 :])), floor, 1e-300)
        summed = [total + float(np.var(blocks[n:])) / scale / (count - n) for n, total in enumerate(summed)]
    best = min(summed)
    near = [n for n, total in enumerate(summed) if total <= best * (1 + NEAR_REL) + RAMP_NEAR]
    return [n * block + (skipped if n else 0) for n in near]


def line(values: FloatArray, count: int) -> tuple[float, float]:
    """Return the change across values by the straight line through so many batch means, and its standard error."""
    edges = batch_edges(len(values), count)
    middles = [(begin + end) / 2 for begin, end in edges]
    means = [float(values[begin:end].mean()) for begin, end in edges]
    slope, level = np.polyfit(middles, means, 1)
    missed = sum((mean - slope * x - level) ** 2 for x, mean in zip(middles, means, strict=True))
    spread = sum((x - sum(middles) / count) ** 2 for x in middles)
    return float(slope) * len(values), math.sqrt(missed / (count - 2) / spread) * len(values)


def lines(window: Series) -> dict[str, list[tuple[float, float, int]]]:
    """Return each rate's change, its standard error and degrees of freedom, for every number of batches it may have.

    Throughput and power change by a share of their mean, KV usage by a share of the capacity.
    """
    if not window.known or len(window.tokens) < FEWEST_IN_LINE:
        return {}
    found = {}
    for name, values in window.rates.items():
        whole = _whole(name, values)
        counts = batch_counts(window, rate_memory(values), FEWEST_IN_LINE)
        found[name] = [(*(part / whole for part in line(values, count)), count - 2) for count in counts]
    return found  # type: ignore[return-value]


def _whole(name: str, values: FloatArray) -> float:
    return 1.0 if name == "kv_usage" else float(values.mean())


def _length(seen: Series, window: Series, min_window_s: float) -> Answers:
    size, seconds = len(window.tokens), float(seen.seconds.sum())
    short = any_of([
        _below(seconds, min_window_s - seconds / len(seen.tokens)),
        frozenset({len(seen.tokens) < MIN_INTERVALS}),
        _below(size, MIN_BATCHES * window.request),
    ])  # fmt: skip
    long = _below(size, MIN_BATCHES * BATCH_MEMORIES * autocorrelation(window))
    return {"window_too_short": short, "autocorrelation_too_long": all_of([long, negated(short)])}


def _changes(window: Series) -> Answers:
    """Say of every number of batches that the rates may have whether one is shown to move, or not shown to stand."""
    found = lines(window)
    drifts, unproven = set(), set()
    for chosen in product(*found.values()):
        told = dict(zip(found, chosen, strict=True))
        drifted = any(
            abs(change) > MAX_CHANGE + student(dof, BEYOND_CONFIDENCE) * u for change, u, dof in told.values()
        )
        shown = all(
            abs(change) + student(dof, WITHIN_CONFIDENCE) * u < MAX_CHANGE
            for name, (change, u, dof) in told.items()
            if name in PROVEN
        )
        drifts.add(drifted)
        unproven.add(not drifted and not (told and shown))
    return {"drift": frozenset(drifts), "steadiness_unproven": frozenset(unproven)}


def student(dof: int, confidence: float) -> float:
    """Return by how many standard errors a two-sided interval reaches out."""
    return float(student_t.ppf((1 + confidence) / 2, dof))


def _imprecise(window: Series, wanted_rel: float) -> frozenset[bool]:
    if not window.known or window.joules is None or window.joules.sum() <= 0:
        return NO
    counts = batch_counts(window, autocorrelation(window), 2)
    halves = [student(count - 1, WITHIN_CONFIDENCE) * random_rel(window, count) for count in counts]
    return frozenset().union(*(_below(wanted_rel, half) for half in halves))


def random_rel(window: Series, count: int) -> float:
    """Return the relative standard error of joules per token by the means of so many batches."""
    joules, tokens = np.asarray(window.joules), window.tokens
    ratio = joules.sum() / tokens.sum()
    residuals = [float(part.sum()) for part in np.array_split(joules - ratio * tokens, count)]
    return math.sqrt(count / (count - 1) * sum(r * r for r in residuals)) / float(joules.sum())


def _has_shifted(values: FloatArray, whole: float) -> frozenset[bool]:
    """Say whether one step between 20 blocks explains over 90% of how they vary, and is more than 2% high."""
    if len(values) < SHIFT_BLOCKS:
        return NO
    blocks = [float(part.mean()) for part in np.array_split(values, SHIFT_BLOCKS)]
    left, step = min(
        (_squares(blocks[:cut]) + _squares(blocks[cut:]), abs(np.mean(blocks[cut:]) - np.mean(blocks[:cut])))
        for cut in range(2, SHIFT_BLOCKS - 1)
    )
    explains = _below(left, (1 - SHIFT_EXPLAINS) * _squares(blocks))
    return all_of([explains, _below(MAX_CHANGE * whole, float(step))])


def _squares(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _swings(name: str, values: FloatArray) -> bool:
    std, mean = math.sqrt(_squares(values.tolist()) / len(values)), float(values.mean())
    if name == "kv_usage":
        return std > IN_STEP_KV_VARIATION * mean and std > IN_STEP_VARIATION
    return name == "throughput" and std > IN_STEP_VARIATION * mean


def _in_step(values: FloatArray, request: float) -> frozenset[bool]:
    """Say whether a rate is like itself half to one and a half mean requests later, and unlike itself in between."""

    def swings_with(request: float) -> bool:
        shortest, longest = math.ceil(request / 2), math.ceil(1.5 * request)
        if shortest < 2 or len(values) < 3 * request:
            return False
        alike = [correlation(about, lag) for lag in range(longest + 1)]
        peak = max(range(shortest, longest + 1), key=lambda lag: alike[lag])
        chance = CHANCE_DEVIATIONS / math.sqrt(len(values))
        return alike[peak] > max(IN_STEP_CORRELATION, min(alike[:peak]) + IN_STEP_CORRELATION, chance)

    about = less_its_line(values)
    return _nudged(lambda near: swings_with(request * (1 + near)))


def _collapses(window: Series, near: float) -> bool:
    """Return whether tokens fall under half and KV usage under 3/4 of their medians in over 1% of blocks of 2 s."""
    if window.kv_usage is None:
        return False
    interval_s = float(window.seconds.sum()) / len(window.seconds) * (1 + near)
    block = max(1, math.ceil(COLLAPSE_S / interval_s))
    starts = range(0, len(window.tokens) - block + 1, block)
    if len(starts) < 3:
        return False
    tokens = [float(window.tokens[at : at + block].mean()) for at in starts]
    kv = [float(window.kv_usage[at : at + block].mean()) for at in starts]
    few, low = COLLAPSED_RATE * float(np.median(tokens)), COLLAPSED_KV * float(np.median(kv))
    fallen = sum(rate < few and usage < low for rate, usage in zip(tokens, kv, strict=True))
    return fallen > COLLAPSED_SHARE * len(starts)


def _nudged(judge: Callable[[float], bool]) -> frozenset[bool]:
    return frozenset(judge(near) for near in (-NEAR_REL, 0.0, NEAR_REL))


def _below(value: float, limit: float) -> frozenset[bool]:
    return _nudged(lambda near: value < limit * (1 + near))


def any_of(answers: Iterable[frozenset[bool]]) -> frozenset[bool]:
    """Return what may be said of whether any of several things holds."""
    return frozenset(any(said) for said in product(*answers))


def all_of(answers: Iterable[frozenset[bool]]) -> frozenset[bool]:
    """Return what may be said of whether all of several things hold."""
    return frozenset(all(said) for said in product(*answers))


def negated(answers: frozenset[bool]) -> frozenset[bool]:
    """Return what may be said of the opposite."""
    return frozenset(not said for said in answers)


def wrong(answers: Mapping[str, frozenset[bool]], named: Iterable[str]) -> Iterator[str]:
    """Yield which reasons are missing among those named, and which are not so."""
    said = set(named)
    for code, right in answers.items():
        if (code in said) not in right:
            yield f"{code} {'is not so' if code in said else 'is missing'}"
