"""When requests are sent: whenever a slot frees, at random, or at the times of a recorded trace, scaled or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from estimator.lengths import LengthDistribution
from harness.load.arrival_names import read_arrival
from harness.load.open_loop import MAX_IN_FLIGHT, Arrivals, poisson_arrivals, trace_arrivals


@dataclass(frozen=True)
class Timeline:
    """The requests of a trace in the order they are due: seconds, prompt and output tokens."""

    due_s: tuple[float, ...]
    input_tok: tuple[int, ...]
    output_tok: tuple[int, ...]


@dataclass(frozen=True)
class Arrival:
    """``closed``, or an open loop of limited size: ``poisson:RATE``, ``trace`` or ``trace:RATE``.

    RATE is in requests a second, or a share of the rate that saturates the server, which a search has to find first.
    The ``timeline`` of a trace is at the rate asked for already.
    """

    kind: str
    rate_per_s: float | None = None
    saturation_share: float | None = None
    timeline: Timeline | None = None
    max_in_flight: int = MAX_IN_FLIGHT

    @property
    def closed(self) -> bool:
        """Return whether a request is sent whenever a slot frees."""
        return self.kind == "closed"

    def at_saturation(self, saturation_per_s: float) -> Arrival:
        """Return the same at its share of the requests a second that saturate the server, if it names one."""
        if self.saturation_share is None:
            return self
        return replace(self, rate_per_s=self.saturation_share * saturation_per_s, saturation_share=None)

    @property
    def name(self) -> str:
        """Return what it is called in the configuration."""
        if self.saturation_share is not None:
            return f"{self.kind}:{100 * self.saturation_share:g}%"
        return self.kind if self.rate_per_s is None else f"{self.kind}:{self.rate_per_s:g}"

    def queries(self, rng: np.random.Generator, lengths: LengthDistribution, client: int, clients: int) -> Arrivals:
        """Return the share of the arrivals that falls to one client, in the order they are due.

        Independent Poisson streams add up to one of the summed rate; of a trace every ``clients``-th request is its.
        """
        if self.kind == "poisson" and self.rate_per_s is not None:
            return poisson_arrivals(rng, self.rate_per_s / clients, lengths)
        if self.timeline is not None:
            whole = trace_arrivals(self.timeline.due_s, self.timeline.input_tok, self.timeline.output_tok)
            return islice(whole, client, None, clients)
        raise ValueError(f"the arrival {self.kind!r} has no times of its own")


CLOSED = Arrival("closed")


def parse_arrival(text: str) -> Arrival:
    """Read ``closed``, ``poisson:RATE``, ``trace`` or ``trace:RATE``; raises ``ValueError`` for anything else.

    >>> parse_arrival("poisson:2.5").rate_per_s, parse_arrival("poisson:50%").at_saturation(8.0).name
    (2.5, 'poisson:4')
    """
    return Arrival(*read_arrival(text))
