"""Decide on a concurrency ladder: climb, measure longer or stop; which rung to take; and what binds there. Pure.

A rung is one concurrency held for a while on live servers. The ladder doubles; it has found saturation when another
doubling gains less than 5%, when the servers' queue never empties, or when the client cannot keep its slots full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

Binding = Literal["kv_cache", "max_num_seqs", "queue", "compute_or_bandwidth", "client", "not_found", "not_searched"]
Step = Literal["climb", "extend", "stop"]

CONFIG_LIMITED = "config_limited"
"""Reason code: a longer batch than the server's configuration allows would gain 5% or more, and KV memory is free."""

LAST_CONCURRENCY = 4_096
GAIN_TO_GO_ON = 1.05
PLATEAU_SHARE = 0.97
QUEUED_SHARE = 0.95
KV_FULL_RATIO = 0.90
HELD_SHARE = 0.90
"""A server that holds fewer requests than this share of the concurrency is waiting for its client."""
MAX_EXTENSIONS = 2
Z_95 = 1.96


@dataclass(frozen=True)
class Rung:
    """What was seen at one concurrency, over all servers. ``None`` stands for what the servers do not tell.

    ``tps_u_tok_per_s`` is the standard error of the throughput; ``running`` and ``held`` (running or waiting) are
    means over scrapes; ``preemptions`` is a count; ``extensions`` says how often the rung was measured longer.
    """

    concurrency: int
    tps_tok_per_s: float
    queue_share: float
    tps_u_tok_per_s: float | None = None
    running: float | None = None
    held: float | None = None
    kv_usage_ratio: float | None = None
    preemptions: float | None = None
    extensions: int = 0

    @property
    def queued(self) -> bool:
        """Whether some request waited in at least 95% of scrapes."""
        return self.queue_share >= QUEUED_SHARE

    @property
    def kv_full(self) -> bool:
        """Whether the KV cache was at least 90% full, or requests were preempted for want of it."""
        return (self.kv_usage_ratio or 0.0) >= KV_FULL_RATIO or (self.preemptions or 0.0) > 0

    @property
    def starved(self) -> bool:
        """Whether the servers held clearly fewer requests than the client was to keep in flight."""
        return self.held is not None and self.held < HELD_SHARE * self.concurrency


@dataclass(frozen=True)
class SearchResult:
    """The concurrency to measure at, the ladder's best TPS, and what binds there.

    ``doubling_gain_rel`` is what twice the largest batch is expected to gain, where ``binds`` is ``max_num_seqs``.
    """

    concurrency: int
    plateau_tps_tok_per_s: float | None
    binding: str
    rungs: tuple[Rung, ...]
    binds: Binding = "not_searched"
    doubling_gain_rel: float | None = None


def next_step(rungs: Sequence[Rung], last_concurrency: int = LAST_CONCURRENCY) -> Step:
    """Return whether to double, to measure the last rung longer, or to stop.

    A gain is decided when its 95% interval lies on one side of 5%; until then the rung is measured longer, at most
    ``MAX_EXTENSIONS`` times, after which the estimate alone decides.
    """
    last = rungs[-1]
    if last.queued or last.starved or 2 * last.concurrency > last_concurrency:
        return "stop"
    if len(rungs) < 2:
        return "climb"
    gain, half_width = gain_of(rungs[-2], last)
    if half_width is not None and abs(gain - GAIN_TO_GO_ON) < half_width and last.extensions < MAX_EXTENSIONS:
        return "extend"
    return "climb" if gain >= GAIN_TO_GO_ON else "stop"


def gain_of(before: Rung, after: Rung) -> tuple[float, float | None]:
    """Return the ratio of two rungs' throughputs and the half width of its 95% interval, ``None`` if unknown.

    >>> gain, half_width = gain_of(Rung(16, 100.0, 0.0, 3.0), Rung(32, 200.0, 0.0, 8.0))
    >>> gain, round(half_width, 3)
    (2.0, 0.196)
    """
    if before.tps_tok_per_s <= 0:
        return float("inf"), None
    gain = after.tps_tok_per_s / before.tps_tok_per_s
    if before.tps_u_tok_per_s is None or after.tps_u_tok_per_s is None or after.tps_tok_per_s <= 0:
        return gain, None
    relative = hypot(before.tps_u_tok_per_s / before.tps_tok_per_s, after.tps_u_tok_per_s / after.tps_tok_per_s)
    return gain, Z_95 * relative * gain


def choose(
    rungs: Sequence[Rung], max_num_seqs: int | None = None, last_concurrency: int = LAST_CONCURRENCY
) -> SearchResult:
    """Return the smallest concurrency within 3% of the best rung, and name what binds.

    ``max_num_seqs`` is the largest batch of all servers together as their arguments give it, if they do.
    """
    best = max(rung.tps_tok_per_s for rung in rungs)
    chosen = next(rung for rung in rungs if rung.tps_tok_per_s >= PLATEAU_SHARE * best)
    binds = what_binds(rungs, last_concurrency)
    gain = doubling_gain_rel(rungs) if binds == "max_num_seqs" else None
    return SearchResult(
        chosen.concurrency, best, _in_words(binds, rungs[-1], max_num_seqs, gain), tuple(rungs), binds, gain
    )


def what_binds(rungs: Sequence[Rung], last_concurrency: int = LAST_CONCURRENCY) -> Binding:
    """Return what ended a ladder: the first that applies, from the server's memory to the end of the ladder."""
    last = rungs[-1]
    if last.kv_full:
        return "kv_cache"
    if last.queued:
        return "queue" if last.kv_usage_ratio is None else "max_num_seqs"
    if last.starved:
        return "client"
    rose = len(rungs) < 2 or last.tps_tok_per_s >= GAIN_TO_GO_ON * rungs[-2].tps_tok_per_s
    if rose and 2 * last.concurrency > last_concurrency:
        return "not_found"
    return "compute_or_bandwidth"


def doubling_gain_rel(rungs: Sequence[Rung]) -> float | None:
    """Return what twice the largest batch seen would gain in throughput, or ``None`` if the ladder cannot tell.

    A decode step takes a + b R seconds for a batch of R, so throughput is R / (a + b R): a and b come from the two
    largest batches that differ by 10% or more. Where the KV cache would be full before the batch has doubled, the
    batch grows only that far.

    >>> ladder = [Rung(r, r / (0.01 + 0.001 * r), 0.0, running=r, kv_usage_ratio=r / 1000) for r in (8, 16)]
    >>> round(doubling_gain_rel(ladder), 4)  # 32 / 0.042 over 16 / 0.026, less 1
    0.2381
    """
    known = [(rung.running, rung.tps_tok_per_s) for rung in rungs if rung.running and rung.tps_tok_per_s > 0]
    if not known:
        return None
    largest, tps = max(known)
    smaller = [(running, value) for running, value in known if running <= 0.9 * largest]
    if not smaller:
        return None
    before, tps_before = max(smaller)
    per_slot_s = max(0.0, (largest / tps - before / tps_before) / (largest - before))
    fixed_s = max(0.0, largest / tps - per_slot_s * largest)
    kv = max((rung.kv_usage_ratio or 0.0) for rung in rungs)
    growth = min(2.0, KV_FULL_RATIO / kv) if kv > 0 else 2.0
    return max(0.0, growth * largest / (fixed_s + per_slot_s * growth * largest) / tps - 1)


def config_limited(binds: str, doubling_gain: float | None, kv_usage_ratio: float | None) -> bool | None:
    """Return whether the server's configuration holds throughput down; ``None`` if that cannot be known.

    It does where a queue is caused by ``max_num_seqs`` while the KV cache is under 90% and doubling it would gain
    5% or more.

    >>> config_limited("max_num_seqs", 0.2, 0.3), config_limited("compute_or_bandwidth", None, 0.3)
    (True, False)
    """
    if binds == "queue":
        return None
    if binds != "max_num_seqs" or (kv_usage_ratio or 0.0) >= KV_FULL_RATIO:
        return False
    return None if doubling_gain is None else 1 + doubling_gain >= GAIN_TO_GO_ON


def _in_words(binds: Binding, last: Rung, max_num_seqs: int | None, gain: float | None) -> str:
    kv = "" if last.kv_usage_ratio is None else f" at {last.kv_usage_ratio:.0%} of the KV cache"
    if binds == "kv_cache":
        full, preempted = last.kv_usage_ratio or 0.0, last.preemptions or 0.0
        return f"KV cache: {last.concurrency} in flight fill it to {full:.0%}, with {preempted:.0f} preemptions"
    if binds == "max_num_seqs":
        batch = "a batch that stays constant" if last.running is None else f"a batch that stays at {last.running:.0f}"
        given = "" if max_num_seqs is None else f" (the servers' arguments allow {max_num_seqs})"
        gains = "unknown" if gain is None else f"{gain:+.0%}"
        return f"max_num_seqs: {batch}{given}{kv} while requests queue; expected gain of doubling it {gains}"
    if binds == "queue":
        return f"the server's queue: at {last.concurrency} in flight it never empties (max_num_seqs or KV cache)"
    if binds == "client":
        return f"the client: the servers held only {last.held or 0:.0f} of {last.concurrency} requests"
    if binds == "not_found":
        return f"nothing found: TPS still rose at {last.concurrency} in flight, where the ladder ends"
    return f"compute or memory bandwidth: {last.concurrency} in flight gained less than 5%"
