"""Decide on a concurrency ladder: climb, measure longer or stop; which rung to take; and what binds there. Pure.

A rung is one concurrency held for a while on live servers. The ladder doubles; it has found saturation when another
doubling gains less than 5%, when the servers' queue never empties, or when the client cannot keep its slots full.
A ladder that gains no more while its client lags has found the client's limit, not the server's.

Throughput with a long memory leaves a gain's error unknown, or its interval on both sides of 5%. Then the estimate
decides, because something must, and what it decides is said not to be statistically established.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, isfinite
from typing import Any, Literal

from scipy.special import stdtrit

from harness.load.health import ClientHealth, exceeded_limits, waits_for_a_core
from results.schema import CellResult

Binding = Literal["kv_cache", "max_num_seqs", "queue", "compute_or_bandwidth", "client", "not_found", "not_searched"]
Step = Literal["climb", "extend", "stop"]

CONFIG_LIMITED = "config_limited"
"""Reason code: a longer batch than the server's configuration allows would gain 5% or more, and KV memory is free."""

NO_PLATEAU = ("client", "not_found")
"""Where these bind, the best throughput of the ladder is not the servers' plateau."""

LAST_CONCURRENCY = 4_096
"""In flight at one server; several take so many each."""
GAIN_TO_GO_ON = 1.05
PLATEAU_SHARE = 0.97
"""Of the best rung, at the chosen one: saturated means 95% of it, and a cell's throughput has its own error."""
QUEUED_SHARE = 0.95
KV_FULL_RATIO = 0.90
HELD_SHARE = 0.90
"""A server that holds fewer requests than this share of the concurrency may be waiting for its client."""
MAX_EXTENSIONS = 2
Z_95 = 1.96


@dataclass(frozen=True)
class Rung:
    """What was seen at one concurrency, over all servers. ``None`` stands for what the servers do not tell.

    ``tps_u_tok_per_s`` is the standard error of the throughput, with ``tps_dof`` degrees of freedom (``None``: so many
    that it is as good as known); ``running`` and ``held`` (running or waiting) are means over scrapes; ``preemptions``
    is a count; ``extensions`` says how often the rung was measured longer; ``client`` is how the load clients kept up.
    ``seconds`` is how long the rung was measured, ``seconds_to_know`` how long it takes for its error to be known;
    ``memory_s`` is the integrated autocorrelation time of throughput, at least that of the rung below.
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
    client: ClientHealth | None = None
    tps_dof: int | None = None
    seconds: float | None = None
    seconds_to_know: float | None = None
    memory_s: float | None = None

    @property
    def longer_tells(self) -> bool:
        """Whether the error is unknown, but would be known before ``MAX_EXTENSIONS`` are used up."""
        if self.tps_u_tok_per_s is not None or not self.seconds or self.seconds_to_know is None:
            return False
        longest_s = self.seconds / (1 + self.extensions) * (1 + MAX_EXTENSIONS)
        return self.extensions < MAX_EXTENSIONS and self.seconds_to_know <= longest_s

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
        """Whether the servers held clearly fewer requests than the client was to keep in flight, and it may be why.

        A client whose own record is within its limits kept its slots full: what few scrapes of the servers did not
        count was in their front end, and the ladder goes on.
        """
        few = self.held is not None and self.held < HELD_SHARE * self.concurrency
        return few and (self.client is None or bool(self.client_limits))

    @property
    def client_limits(self) -> tuple[str, ...]:
        """What of the clients' health lies beyond its limit, in words: then they may have set the pace."""
        return () if self.client is None else exceeded_limits(self.client)


@dataclass(frozen=True)
class SearchResult:
    """The concurrency to measure at, the ladder's best TPS, and what binds there.

    ``doubling_gain_rel`` is what twice the largest batch is expected to gain, where ``binds`` is ``max_num_seqs``;
    ``plateau_shown`` as in the function of that name.
    """

    concurrency: int
    plateau_tps_tok_per_s: float | None
    binding: str
    rungs: tuple[Rung, ...]
    binds: Binding = "not_searched"
    doubling_gain_rel: float | None = None
    plateau_shown: bool | None = None


def next_step(rungs: Sequence[Rung], last_concurrency: int = LAST_CONCURRENCY) -> Step:
    """Return whether to double, to measure the last rung longer, or to stop.

    A gain is decided when its 95% interval lies on one side of 5%; until then the rung is measured longer, at most
    ``MAX_EXTENSIONS`` times, after which the estimate alone decides. It decides at once where requests are so long that
    even then there would be no interval.
    """
    last = rungs[-1]
    if last.queued or last.starved or 2 * last.concurrency > last_concurrency:
        return "stop"
    if last.longer_tells:
        return "extend"
    if len(rungs) < 2:
        return "climb"
    gain, half_width = gain_of(rungs[-2], last)
    if half_width is not None and abs(gain - GAIN_TO_GO_ON) < half_width and last.extensions < MAX_EXTENSIONS:
        return "extend"
    return "climb" if gain >= GAIN_TO_GO_ON else "stop"


def gain_of(before: Rung, after: Rung) -> tuple[float, float | None]:
    """Return the ratio of two rungs' throughputs and the half width of its 95% interval, ``None`` if unknown.

    The interval is Student's t with the degrees of freedom of Welch and Satterthwaite (JCGM 100, G.4.1).

    >>> gain, half_width = gain_of(Rung(16, 100.0, 0.0, 3.0), Rung(32, 200.0, 0.0, 8.0))
    >>> gain, round(half_width, 3)
    (2.0, 0.196)
    """
    if before.tps_tok_per_s <= 0:
        return float("inf"), None
    gain = after.tps_tok_per_s / before.tps_tok_per_s
    if before.tps_u_tok_per_s is None or after.tps_u_tok_per_s is None or after.tps_tok_per_s <= 0:
        return gain, None
    parts = [(rung.tps_u_tok_per_s or 0.0) / rung.tps_tok_per_s for rung in (before, after)]
    shares = [
        part**4 / rung.tps_dof for part, rung in zip(parts, (before, after), strict=True) if rung.tps_dof is not None
    ]
    relative = hypot(*parts)
    factor = float(stdtrit(relative**4 / sum(shares), 0.975)) if sum(shares) > 0 else Z_95
    return gain, factor * relative * gain


def choose(
    rungs: Sequence[Rung], max_num_seqs: int | None = None, last_concurrency: int = LAST_CONCURRENCY
) -> SearchResult:
    """Return the smallest concurrency within 3% of the best rung, and name what binds.

    ``max_num_seqs`` is the largest batch of all servers together as their arguments give it, if they do.
    """
    best = max(rung.tps_tok_per_s for rung in rungs)
    chosen = next(rung for rung in rungs if rung.tps_tok_per_s >= PLATEAU_SHARE * best)
    binds = what_binds(rungs, last_concurrency, max_num_seqs)
    gain = doubling_gain_rel(rungs) if binds == "max_num_seqs" else None
    words = in_words(binds, rungs[-1], max_num_seqs, gain) + plateau_words(rungs, binds)
    return SearchResult(chosen.concurrency, best, words, tuple(rungs), binds, gain, plateau_shown(rungs, binds))


def what_binds(
    rungs: Sequence[Rung], last_concurrency: int = LAST_CONCURRENCY, max_num_seqs: int | None = None
) -> Binding:
    """Return what ended a ladder: the first that applies, from the server's memory to the end of the ladder.

    A queue beside a batch clearly smaller than ``max_num_seqs``, where that is known, has another cause.
    """
    last = rungs[-1]
    if last.kv_full:
        return "kv_cache"
    if last.queued:
        unfilled = max_num_seqs is not None and last.running is not None and last.running < HELD_SHARE * max_num_seqs
        return "queue" if last.kv_usage_ratio is None or unfilled else "max_num_seqs"
    if last.starved:
        return "client"
    rose = len(rungs) < 2 or last.tps_tok_per_s >= GAIN_TO_GO_ON * rungs[-2].tps_tok_per_s
    if rose and 2 * last.concurrency > last_concurrency:
        return "not_found"
    return "client" if last.client_limits else "compute_or_bandwidth"


def plateau_shown(rungs: Sequence[Rung], binds: Binding) -> bool | None:
    """Return whether the 95% interval of a ladder's last gain lies below 5%, so that its plateau is established.

    ``None`` where something else ended the ladder, which then has no such plateau or does not need it.

    >>> plateau_shown([Rung(16, 100.0, 0.0, 1.0), Rung(32, 101.0, 0.0, 1.0)], "compute_or_bandwidth")
    True
    """
    if binds != "compute_or_bandwidth":
        return None
    if len(rungs) < 2:
        return False
    gain, half_width = gain_of(rungs[-2], rungs[-1])
    return half_width is not None and bool(gain + half_width < GAIN_TO_GO_ON)


def plateau_words(rungs: Sequence[Rung], binds: Binding) -> str:
    """Return what to add to what binds where the plateau is not statistically established, or nothing."""
    if plateau_shown(rungs, binds) is not False:
        return ""
    gain, half_width = gain_of(rungs[-2], rungs[-1]) if len(rungs) > 1 else (1.0, None)
    why = "the error of that gain is unknown"
    if half_width is not None:
        why = f"that gain is {gain - 1:+.1%}, 95% {gain - half_width - 1:+.1%} to {gain + half_width - 1:+.1%}"
    return f"; the plateau is not statistically established: {why}"


def gain_fields(rungs: Sequence[Rung]) -> dict[str, Any]:
    """Return what is stored of the last rung's throughput over that of the one before; null is unknown."""
    gain, half_width = gain_of(rungs[-2], rungs[-1]) if len(rungs) > 1 else (float("inf"), None)
    return {
        "gain": gain if isfinite(gain) else None,
        "gain_half_width_95": half_width,
        "gain_known": None if len(rungs) < 2 else half_width is not None,
    }


def rung_of(cell: CellResult) -> Rung:
    """Return a measured cell as a rung of its ladder; ``running`` and ``held`` are not kept of a cell.

    Its error is the normal one of its 95% interval, and it is measured no longer.
    """
    interval = cell.tps_ci95
    return Rung(
        cell.concurrency,
        cell.tps_tok_per_s or 0.0,
        cell.queue_share or 0.0,
        tps_u_tok_per_s=None if interval is None else (interval[1] - interval[0]) / 2 / Z_95,
        kv_usage_ratio=cell.kv_usage_ratio,
        preemptions=cell.preemptions,
        extensions=MAX_EXTENSIONS,
        client=None if cell.client is None else ClientHealth(**cell.client),  # type: ignore[arg-type]
    )


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


def in_words(binds: Binding, last: Rung, max_num_seqs: int | None = None, gain: float | None = None) -> str:
    """Return what binds at the last rung of a ladder, and what to do where it is the client."""
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
        at = f"the server's queue: at {last.concurrency} in flight it never empties"
        if last.running is None or max_num_seqs is None:
            return f"{at} (max_num_seqs or KV cache)"
        return f"{at}, yet the batch is {last.running:.0f} of {max_num_seqs} (KV cache or the limit of tokens a step)"
    if binds == "client":
        return _client_in_words(last)
    if binds == "not_found":
        return f"nothing found: TPS still rose at {last.concurrency} in flight, where the ladder ends"
    return f"compute or memory bandwidth: {last.concurrency} in flight gained less than 5%"


def _client_in_words(last: Rung) -> str:
    held = [f"the servers held only {last.held or 0:.0f} of {last.concurrency} requests"] if last.starved else []
    signs = "; ".join([*held, *last.client_limits])
    return f"the client: {signs} at {last.concurrency} in flight; {_client_advice(last.client)}"


def _client_advice(client: ClientHealth | None) -> str:
    clients = max(1, client.clients) if client else 1
    if client and waits_for_a_core(client):
        used = f"yet it used only {client.cpu_share:.0%} of a core"
        return f"{used}: keep other work off the machine, or give the client cores of its own (taskset)"
    return f"spread the load over more processes (--clients {2 * clients}, now {clients})"
