"""How well predictions agree with measurements, counted over independent groups of cells.

A ladder is one server, model and task at several concurrency caps. A group is one server and model. Cells of a
group share their errors, so a group counts once however many cells it has. Counts and standard errors take groups as
independent. Groups that share a part of their prediction, such as one prior of power, are less so: then the intervals
over groups are too narrow as statements about other hardware.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import betaincinv

from estimator.compare import split_log_ratio
from estimator.distributions import LogNormal
from estimator.eq1 import Eq1Terms

TERMS = ("power", "tps", "length", "pue", "total")
CAP_FILLED_SHARE = 0.95
PLATEAU_GAIN = 0.05

Saturation = Literal["proven", "unproven", "unknown"]


@dataclass(frozen=True)
class Proportion:
    """``k`` of ``n`` with the exact (Clopper-Pearson) interval of the probability behind it."""

    k: int
    n: int
    share: float | None
    low: float
    high: float
    level: float


def exact_proportion(k: int, n: int, level: float = 0.95) -> Proportion:
    """Return ``k`` of ``n`` with its Clopper-Pearson interval; nothing seen (n = 0) leaves 0 to 1.

    Raises ValueError unless 0 <= k <= n and 0 < level < 1.

    >>> seen = exact_proportion(9, 10)
    >>> round(seen.low, 4), round(seen.high, 4)
    (0.555, 0.9975)
    """
    if not (0 <= k <= n and 0 < level < 1):
        raise ValueError(f"a proportion needs 0 <= k <= n and 0 < level < 1, not k={k}, n={n}, level={level}")
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return Proportion(k, n, k / n if n else None, low, high, level)


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of ``n`` independent values with their standard errors; None where unknown."""

    n: int
    mean: float | None
    standard_error: float | None
    sd: float | None
    sd_standard_error: float | None
    """sd / sqrt(2 (n - 1)), which holds for many normal values; for two it is 6% too small on average."""


def moments(values: Iterable[float]) -> Moments:
    """Return bias and spread of values, whatever their order.

    >>> moments([1.0, 2.0, 3.0]).mean, moments([1.0, 2.0, 3.0]).sd, moments([1.0]).sd
    (2.0, 1.0, None)
    """
    kept = list(values)
    n = len(kept)
    if n == 0:
        return Moments(0, None, None, None, None)
    mean = math.fsum(kept) / n
    if n == 1:
        return Moments(1, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in kept) / (n - 1))
    return Moments(n, mean, sd / math.sqrt(n), sd, sd / math.sqrt(2 * (n - 1)))


@dataclass(frozen=True)
class PartialTerms:
    """The terms of Eq. 1 on one side, None where one is not known; power in kW at one stated boundary."""

    pue: float | None
    power_kw: float | None
    output_tok: float | None
    tps_tok_per_s: float | None


def split_known_terms(measured: PartialTerms, predicted: PartialTerms) -> dict[str, float | None]:
    """Return ln(measured / predicted) by term and in total, None for a term that either side lacks.

    >>> known = PartialTerms(pue=1.0, power_kw=2.0, output_tok=100.0, tps_tok_per_s=50.0)
    >>> split_known_terms(known, PartialTerms(pue=1.0, power_kw=2.0, output_tok=100.0, tps_tok_per_s=None))["tps"]
    """
    fields = {"power": "power_kw", "tps": "tps_tok_per_s", "length": "output_tok", "pue": "pue"}
    unknown = {term for term, name in fields.items() if None in (getattr(measured, name), getattr(predicted, name))}
    equal = {fields[term]: 1.0 for term in unknown}
    split = split_log_ratio(_complete(replace(measured, **equal)), _complete(replace(predicted, **equal)))
    terms: dict[str, float | None] = {
        term: None if term in unknown else getattr(split, term) for term in ("power", "tps", "length", "pue")
    }
    return terms | {"total": None if unknown else split.total}


def _complete(terms: PartialTerms) -> Eq1Terms:
    pue, power_kw, output_tok, tps = terms.pue, terms.power_kw, terms.output_tok, terms.tps_tok_per_s
    if pue is None or power_kw is None or output_tok is None or tps is None:
        raise ValueError(f"a term is not known: {terms}")
    return Eq1Terms(pue=pue, node_power_kw=power_kw, output_tok=output_tok, tps_tok_per_s=tps)


@dataclass(frozen=True)
class Rung:
    """A measured cell as a step of its ladder."""

    cell: str
    tps_tok_per_s: float
    concurrency_cap: int | None = None
    mean_concurrency: float | None = None
    joules_per_tok: float | None = None
    source_says_saturated: bool = False


@dataclass(frozen=True)
class Ladder:
    """Which cell of a ladder stands for saturation, what speaks for it, and what the smallest cap costs."""

    top: Rung
    """The cell with the largest TPS."""
    bottom: Rung | None
    """The cell with the smallest cap; None without caps, or where the ladder has one cap."""
    saturation: Saturation
    evidence: str
    energy_ratio: float | None
    """J/token of ``bottom`` over that of ``top``."""


def judge_ladder(rungs: Sequence[Rung]) -> Ladder:
    """Return a ladder's saturated cell, the one with the largest TPS, and whether saturation is proven.

    It is proven where the source says so, where less than 95% of the cap is in flight (more slots would stay
    empty), where a larger cap gives no more TPS, or where the last step gains less than 5% a doubling.
    ``unknown`` is a ladder of one cap. Raises ValueError for an empty ladder.

    >>> ladder = judge_ladder([Rung("a", 233.0, 8, 8.0, 13.99), Rung("b", 2363.0, 256, 255.0, 2.063)])
    >>> ladder.top.cell, ladder.saturation, round(ladder.energy_ratio, 2)
    ('b', 'unproven', 6.78)
    """
    if not rungs:
        raise ValueError("a ladder needs at least one cell")
    top = max(rungs, key=lambda rung: (rung.tps_tok_per_s, rung.cell))
    caps = [rung for rung in rungs if rung.concurrency_cap is not None]
    bottom = min(caps, key=lambda rung: (rung.concurrency_cap or 0, -rung.tps_tok_per_s, rung.cell), default=None)
    if bottom is not None and bottom.concurrency_cap == top.concurrency_cap:
        bottom = None
    saturation, evidence = _saturation(top, caps)
    ratio = None
    if bottom and bottom.joules_per_tok is not None and top.joules_per_tok is not None:
        ratio = bottom.joules_per_tok / top.joules_per_tok
    return Ladder(top, bottom, saturation, evidence, ratio)


def _saturation(top: Rung, rungs: Sequence[Rung]) -> tuple[Saturation, str]:
    if top.source_says_saturated:
        return "proven", "the source states that the server is saturated"
    cap = top.concurrency_cap
    if cap is None:
        return "unknown", "the concurrency is not known"
    if top.mean_concurrency is not None and top.mean_concurrency < CAP_FILLED_SHARE * cap:
        return "proven", f"on average {top.mean_concurrency:.1f} of {cap} slots are filled: more slots would stay empty"
    caps = {rung.concurrency_cap or 0 for rung in rungs}
    if max(caps) > cap:
        return "proven", f"{max(caps)} slots give no more TPS than {cap}"
    if len(caps) == 1:
        return "unknown", f"{cap} slots are the only cap measured"
    previous_cap = sorted(caps)[-2]
    previous_tps = max(rung.tps_tok_per_s for rung in rungs if rung.concurrency_cap == previous_cap)
    gain = (top.tps_tok_per_s / previous_tps) ** (1 / math.log2(cap / previous_cap)) - 1
    said = f"from {previous_cap} to {cap} slots TPS rises by {gain:.0%} a doubling, and no larger cap is measured"
    return ("proven" if gain < PLATEAU_GAIN else "unproven"), said


@dataclass(frozen=True)
class Comparison:
    """The saturated cell of one ladder beside its prediction."""

    group: str
    ln_terms: Mapping[str, float | None]
    """ln(measured / predicted) by the names in ``TERMS``."""
    ln_p5: float | None = None
    """ln(P5 of the predicted mean / predicted mean); None without a prediction."""
    ln_p95: float | None = None
    power_share: float | None = None
    """Measured power of the GPUs over their limit."""


@dataclass(frozen=True)
class GroupAgreement:
    """The mean over a group's ladders of every log, and whether the mean total lies in the mean interval."""

    group: str
    n_ladders: int
    ln_terms: Mapping[str, float | None]
    ln_p5: float | None
    ln_p95: float | None
    covered: bool | None
    power_share: float | None


def by_group(comparisons: Iterable[Comparison]) -> tuple[GroupAgreement, ...]:
    """Return one figure per group, sorted by name.

    Logs are averaged over the group's ladders. The bounds are averaged alike, because the errors of power and
    throughput are common to the ladders of one server and model and do not average out: where all errors move
    together, the quantiles of a mean are the means of the quantiles. Where they move apart, the averaged bounds are too
    wide, and such a group is covered more easily.
    """
    gathered: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        gathered.setdefault(comparison.group, []).append(comparison)
    return tuple(_one_group(name, gathered[name]) for name in sorted(gathered))


def _one_group(name: str, members: Sequence[Comparison]) -> GroupAgreement:
    bounded = [(m.ln_terms["total"], m.ln_p5, m.ln_p95) for m in members]
    columns = list(zip(*(row for row in bounded if None not in row), strict=True)) or [(), (), ()]
    total, low, high = map(_mean, columns)
    share = _mean(None if m.power_share is None else math.log(m.power_share) for m in members)
    return GroupAgreement(
        group=name,
        n_ladders=len(members),
        ln_terms={term: _mean(m.ln_terms[term] for m in members) for term in TERMS},
        ln_p5=low,
        ln_p95=high,
        covered=None if total is None or low is None or high is None else low <= total <= high,
        power_share=None if share is None else math.exp(share),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True)
class PowerShares:
    """Measured GPU power as a share of its limit, by group, against the prior of the prediction."""

    prior: LogNormal
    inside: Proportion
    quantiles: Mapping[str, float]
    """Of the groups' shares; empty without groups."""
    ln_over_prior_median: Moments
    ln_over_prior_mean: Moments


@dataclass(frozen=True)
class Agreement:
    """Coverage, bias and spread over groups."""

    coverage: Proportion
    """Groups inside P5-P95 of the predicted mean, nominally 90%."""
    median_p95_over_p5: float | None
    """Over the groups counted: how wide the intervals are that cover them."""
    ln_ratio: Mapping[str, Moments]
    power_shares: PowerShares


def agreement(groups: Sequence[GroupAgreement], prior: LogNormal) -> Agreement:
    """Return how often, and by how much, measurements and predictions differ over independent groups.

    ``prior`` is the assumed share of the power limit. A group without a prediction enters no count of it.
    """
    judged = [group.covered for group in groups if group.covered is not None]
    widths = [g.ln_p95 - g.ln_p5 for g in groups if g.ln_p5 is not None and g.ln_p95 is not None]
    terms = {term: moments(value for group in groups if (value := group.ln_terms[term]) is not None) for term in TERMS}
    return Agreement(
        coverage=exact_proportion(sum(judged), len(judged)),
        median_p95_over_p5=float(np.exp(np.median(widths))) if widths else None,
        ln_ratio=terms,
        power_shares=power_shares([g.power_share for g in groups if g.power_share is not None], prior),
    )


def power_shares(shares: Sequence[float], prior: LogNormal) -> PowerShares:
    """Return one share of the power limit per group against the prior, such as P5-P95 = 0.4-0.9.

    >>> power_shares([0.6, 0.95], LogNormal(0.4, 0.9)).inside.k
    1
    """
    levels = (0.05, 0.25, 0.50, 0.75, 0.95)
    quantiles = np.quantile(shares, levels).tolist() if shares else []
    return PowerShares(
        prior=prior,
        inside=exact_proportion(sum(prior.p5 <= share <= prior.p95 for share in shares), len(shares)),
        quantiles={f"p{100 * level:.0f}": value for level, value in zip(levels, quantiles, strict=False)},
        ln_over_prior_median=moments(math.log(share / prior.median) for share in shares),
        ln_over_prior_mean=moments(math.log(share / prior.mean) for share in shares),
    )
