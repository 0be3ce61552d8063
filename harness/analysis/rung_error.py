"""How well the throughput of a rung of a concurrency ladder is known, from its scrapes alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from estimator.stationarity import integrated_autocorrelation_time
from estimator.uncertainty import batch_means_ratio
from harness.analysis.objections import BATCH_AUTOCORRELATION_TIMES, MAX_BATCHES

SHORTEST_BATCH = 3
"""Scrape intervals: what the two scrapes of a batch are off in time must not make its error."""
FEWEST_BATCHES = 2


@dataclass(frozen=True)
class RungError:
    """The standard error of a throughput (tok/s) and its degrees of freedom, ``None`` where too little was seen.

    ``seconds_to_know`` is how long a rung like this must be measured for its error to be known; ``memory_s`` the
    integrated autocorrelation time of throughput that both rest on.
    """

    u_tok_per_s: float | None = None
    dof: int | None = None
    seconds_to_know: float | None = None
    memory_s: float | None = None


def rung_error(
    new_tok: Sequence[float], seconds: Sequence[float], request_tok: float, least_memory_s: float = 0.0
) -> RungError:
    """Return the error of sum(new_tok) / sum(seconds), tokens and lengths of consecutive scrape intervals.

    It is that of batch means. A batch is no shorter than three intervals, five integrated autocorrelation times and a
    mean request: the time in which all slots together generate ``request_tok``, a mean output each. A short record
    underestimates its memory; ``least_memory_s`` is that of the rung below, whose requests were no longer.
    """
    count, total = len(seconds), sum(new_tok)
    if count < SHORTEST_BATCH or total <= 0:
        return RungError()
    rates = np.array(new_tok) / np.array(seconds)
    interval_s = sum(seconds) / count
    memory = max(integrated_autocorrelation_time(rates / rates.mean()), least_memory_s / interval_s)
    shortest = max(SHORTEST_BATCH, BATCH_AUTOCORRELATION_TIMES * memory, request_tok / total * count)
    unknown = RungError(seconds_to_know=FEWEST_BATCHES * shortest * interval_s, memory_s=memory * interval_s)
    batches = min(MAX_BATCHES, int(count / shortest))
    if batches < FEWEST_BATCHES:
        return unknown
    return replace(unknown, u_tok_per_s=batch_means_ratio(new_tok, seconds, batches).standard_error, dof=batches - 1)
