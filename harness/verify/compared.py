"""Rules on measured beside predicted: the stored prediction, the ratio, its split, and the ratio of two cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.verify import rederive
from harness.verify.checks import EXACT_REL, RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.figures import pue_of, query_wh, served_tok, tokens_in_window

PAPER_RATIO = 13.0
SAME_LENGTH_REL = 0.01
"""Lengths closer than this have no exponent."""


def differ(lengths_tok: Sequence[float]) -> bool:
    """Return whether the longest of some lengths is clearly longer than the shortest."""
    return max(lengths_tok) > (1 + SAME_LENGTH_REL) * min(lengths_tok)


def predicted(evidence: Evidence, cell: Cell) -> Mapping[str, Any] | None:
    """Return what the stored prediction says of a cell."""
    cells: Mapping[str, Mapping[str, Any]] = (evidence.prediction or {}).get("cells", {})
    return cells.get(cell.name)


def prediction_by_hand(evidence: Evidence) -> list[Check]:
    """Work out every predicted mean from its stored inputs by Eq. 1."""
    checks: list[Check] = []
    for name, stored in (evidence.prediction or {}).get("cells", {}).items():
        terms = stored["reference"]
        by_hand = rederive.eq1_wh(
            **{key: terms[key] for key in ("pue", "node_power_kw", "output_tok", "tps_tok_per_s")}
        )
        checks += same(f"{name}: predicted Wh/query", stored["mean_wh"], by_hand, EXACT_REL, 0)
        constants = {"pue": 0.0, "node_power_kw": stored.get("constant_power_kw", 0.0)}
        for key, constant in constants.items():
            if key in stored:
                mean = rederive.log_normal_mean(stored[key]["p5"], stored[key]["p95"]) + constant
                checks += same(f"{name}: mean {key}", terms[key], mean)
        if "constant_power_kw" in stored:
            idle_kw = rederive.allocated_idle_kw(evidence.manifest)
            checks += same(f"{name}: allocated idle power", stored["constant_power_kw"], idle_kw)
    return checks


def prediction_as_stored(evidence: Evidence, cell: Cell) -> list[Check]:
    """Compare the reported prediction with the stored one."""
    stored, reported = predicted(evidence, cell), cell.reported.get("predicted_wh_per_query")
    if stored is None or cell.window_s is None:
        return [] if reported is None else [Check(False, "a prediction is reported that is not stored")]
    if reported is None:
        return [Check(False, "the stored prediction is not reported")]
    spread = stored["per_query"]
    return [
        *same("mean", reported["mean"], stored["mean_wh"], absolute=0),
        *same("P5", reported["p5"], stored["p5_wh"], absolute=0),
        *same("P95", reported["p95"], stored["p95_wh"], absolute=0),
        *same("P5 over queries", reported["per_query_p5"], spread["p5_wh"], absolute=0),
        *same("P95 over queries", reported["per_query_p95"], spread["p95_wh"], absolute=0),
    ]


def ratio(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out measured over predicted."""
    stored, mean_wh = predicted(evidence, cell), query_wh(evidence, cell)
    derived = None if stored is None or mean_wh is None else mean_wh / stored["mean_wh"]
    return same("measured over predicted", cell.reported.get("ratio"), derived, RAW_REL)


def split(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out each term of ln(measured / predicted), and see that they add up to the reported ratio's logarithm."""
    stored, reported = predicted(evidence, cell), cell.reported.get("split")
    if reported is None or stored is None or cell.window_s is None:
        return [] if reported is None else [Check(False, "a split is reported without a stored prediction")]
    terms = stored["reference"]
    _, power_w = rederive.watts_at_boundary(evidence.power, evidence.manifest, *cell.window_s)
    start_s, end_s = cell.window_s
    tps = tokens_in_window(evidence, cell, start_s, end_s) / (end_s - start_s)
    derived = {
        "power": math.log((power_w or math.nan) / 1000 / terms["node_power_kw"]),
        "length": math.log(served_tok(cell) / terms["output_tok"]),
        "tps": math.log(terms["tps_tok_per_s"] / tps),
        "pue": math.log(pue_of(evidence) / terms["pue"]),
    }
    sums = sum(reported[name] for name in derived)
    checks = same("sum of the terms", sums, math.log(cell.reported["ratio"]), absolute=1e-6)
    checks += same("total", reported["total"], sums, absolute=1e-6)
    return checks + [
        found for name, value in derived.items() for found in same(name, reported[name], value, 0, RAW_REL)
    ]


def energy_ratio(evidence: Evidence) -> list[Check]:
    """Work out the energy of the multiplied cells over the plain ones, pair by pair."""
    pairs, reported = evidence.pairs, evidence.result["energy_ratio"]
    if not pairs or reported is None:
        return (
            [] if not pairs and reported is None else [Check(False, "pairs of cells and reported ratio do not match")]
        )
    logs: list[float] = []
    for a, b in pairs:
        one, other = query_wh(evidence, a), query_wh(evidence, b)
        if one and other and "invalid" not in (a.reported["verdict"], b.reported["verdict"]):
            logs.append(math.log(other / one))
    derived = math.exp(sum(logs) / len(logs)) if len(logs) == len(pairs) else None
    lengths = [served_tok(cell) for cell in pairs[0]]
    exponent = math.log(derived) / math.log(lengths[1] / lengths[0]) if derived and differ(lengths) else None
    means = [stored["mean_wh"] for cell in pairs[0] if (stored := predicted(evidence, cell)) is not None]
    return [
        equal("pairs", reported.get("pairs", 1), len(pairs)),
        equal("multiplier", reported["multiplier"], pairs[0][1].definition["multiplier"]),
        equal("the paper's ratio", reported["paper_reference"], PAPER_RATIO),
        *same("ratio", reported["measured"], derived, 2 * RAW_REL),
        *(same("exponent", reported["exponent"], exponent, 2 * RAW_REL, 0.01) if "exponent" in reported else ()),
        *same("Eq. 1's ratio", reported["eq1"], means[1] / means[0] if len(means) == 2 else None),
    ]
