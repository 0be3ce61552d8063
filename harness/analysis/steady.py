"""Choose the part of a cell that its figures come from. Pure: works on stored scrapes, so any run can be redone.

The rule here is a fixed warm-up and a drift test; a caller sees only ``choose_window``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

DRIFT = "drift"
WINDOW_TOO_SHORT = "window_too_short"

MAX_CHANGE_REL = 0.05
MIN_INTERVALS = 8


@dataclass(frozen=True)
class Window:
    """A chosen window: its edges are scrape times. ``reasons`` says what is doubtful about it."""

    first: int
    last: int
    start_s: float
    end_s: float
    change_rel: float
    change_half_width_rel: float
    reasons: tuple[str, ...]


def choose_window(t_s: FloatArray, generation_tok: FloatArray, earliest_s: float, latest_s: float) -> Window | None:
    """Take all scrapes between the end of the warm-up and the end of the load, and test them for drift.

    ``t_s`` and ``generation_tok`` have shape ``(n,)``: scrape times in seconds and the cumulative token count.
    The change is that of a straight line through the interval rates, relative to their mean, across the window;
    its half width is twice the line's standard error. ``None`` if fewer than three scrapes fall inside.
    """
    inside = np.flatnonzero((t_s >= earliest_s) & (t_s <= latest_s))
    if inside.size < 3:
        return None
    first, last = int(inside[0]), int(inside[-1])
    edges_s, tokens = t_s[first : last + 1], generation_tok[first : last + 1]
    change, half_width = _relative_change(edges_s, tokens)
    reasons = []
    if inside.size - 1 < MIN_INTERVALS:
        reasons.append(WINDOW_TOO_SHORT)
    if abs(change) > MAX_CHANGE_REL:
        reasons.append(DRIFT)
    return Window(first, last, float(edges_s[0]), float(edges_s[-1]), change, half_width, tuple(reasons))


def _relative_change(edges_s: FloatArray, tokens: FloatArray) -> tuple[float, float]:
    rates = np.diff(tokens) / np.diff(edges_s)
    mean_rate = (tokens[-1] - tokens[0]) / (edges_s[-1] - edges_s[0])
    if mean_rate <= 0 or rates.size < 3:
        return 0.0, float("inf")
    middle_s = (edges_s[1:] + edges_s[:-1]) / 2
    centred_s = middle_s - middle_s.mean()
    slope = float(centred_s @ rates / (centred_s @ centred_s))
    residual = rates - rates.mean() - slope * centred_s
    slope_error = float(np.sqrt(residual @ residual / (rates.size - 2) / (centred_s @ centred_s)))
    across = (edges_s[-1] - edges_s[0]) / mean_rate
    return slope * float(across), 2 * slope_error * float(across)
