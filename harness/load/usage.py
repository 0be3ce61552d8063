"""Tokens over time where a server exports no counter: the usage of its requests, spread over the time each took. Pure.

Rule: the tokens of a completed request come at a constant rate from its first event (streamed) or from its sending
(not streamed: the time in the queue and of the prefill is not known) until its end. Over a window only the requests
that straddle an edge are misplaced by this, and what one edge gains the other loses as long as the load is steady over
their whole lives. So the load goes on past the window, in no statistic, until every request in flight at its end has
completed: as a load drains, those left run faster than they did in the window. Requests that did not complete have no
known tokens.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]


def tokens_by(requests: pd.DataFrame, at_s: npt.ArrayLike) -> FloatArray:
    """Return the output tokens made by each of the times ``at_s``, shape ``(n,)``, by the rule above."""
    start_s, end_s, output_tok = _spans(requests)
    times_s = np.asarray(at_s, dtype=float)
    total = np.zeros_like(times_s)
    for start, end, tokens in zip(start_s, end_s, output_tok, strict=True):
        total += tokens * np.clip((times_s - start) / max(end - start, 1e-9), 0.0, 1.0)
    return total


def edge_u_tok(requests: pd.DataFrame, start_s: float, end_s: float) -> float:
    """Return the standard uncertainty, in tokens, that the rule brings to those of a window.

    How much of a straddling request lies inside is taken as unknown: rectangular, independent between requests.
    """
    begins_s, ends_s, output_tok = _spans(requests)
    edges = np.array([(begins_s < edge) & (ends_s > edge) for edge in (start_s, end_s)])
    return sqrt(float((edges * output_tok**2).sum()) / 12)


def with_usage_tokens(server: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Return the scrapes of a cell with ``generation_tok`` filled in for every server that never exported it."""
    filled: pd.DataFrame = server.copy()
    for number, rows in server.groupby("server"):
        if rows["generation_tok"].isna().all():
            mine = requests[requests["server"] == number]
            filled.loc[rows.index, "generation_tok"] = tokens_by(mine, rows["t_mono_s"].to_numpy(float))
    return filled


def due_s(requests: pd.DataFrame) -> pd.Series[float]:
    """Return when each request was due (open loop) or else sent; NaN for one that was neither."""
    return requests["scheduled_mono_s"].fillna(requests["send_mono_s"])


def usage_is_incomplete(requests: pd.DataFrame, stop_s: float) -> bool:
    """Return whether a request sent by the end of the load was cut off, so that its tokens are not known."""
    return bool(((requests["outcome"] == "aborted") & (requests["send_mono_s"] <= stop_s)).any())


def usage_known_until_s(requests: pd.DataFrame, slots: int) -> float:
    """Return until when all tokens are known while ``slots`` are kept full: each slot's last request has ended by then.

    Minus infinity while some slot has had no request end yet, as always in an open loop, which has no slots.
    """
    last_s = requests.loc[requests["slot"] >= 0].groupby("slot")["end_mono_s"].max()
    return float(last_s.min()) if last_s.size and last_s.size >= slots else -np.inf


def servers_without_counter(server: pd.DataFrame) -> tuple[int, ...]:
    """Return the numbers of the servers of a cell that never exported their token counter."""
    told = server.groupby("server")["generation_tok"].count()
    return tuple(int(str(number)) for number in told.index[told == 0])


def _spans(requests: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
    done = requests[(requests["outcome"] == "completed") & requests["output_tok"].notna()]
    starts = done["first_mono_s"].fillna(done["send_mono_s"])
    return starts.to_numpy(float), done["end_mono_s"].to_numpy(float), done["output_tok"].to_numpy(float)
