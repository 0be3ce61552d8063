"""Set our value beside every published claim, with their ratio and why they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from estimator.reproduction.claims import load_claims
from estimator.reproduction.sampled import Figure
from estimator.reproduction.table import Reproduction, Row, Verdict, estimates
from harness.studies.checks import check_samples
from harness.studies.estimates import DEFAULT_SAMPLES, available_cores

REPRODUCE_SCHEMA = "inference-energy/reproduce/1"

FEWEST_SAMPLES = 1000
"""With one, the search that the supplements ask for has no solution between its ends."""

Pair = float | list[float]


@dataclass(frozen=True)
class ReproduceOptions:
    """How our values are drawn; the answer does not depend on the workers."""

    samples: float = DEFAULT_SAMPLES
    seed: int = 0
    workers: int | None = None


def reproduce_document(options: ReproduceOptions) -> dict[str, Any]:
    """Return the table of all claims, as the document that ``--json`` prints."""
    samples = check_samples(options.samples, FEWEST_SAMPLES)
    drawn = Reproduction(samples, options.seed, options.workers or available_cores())
    rows = drawn.table(load_claims())
    return {
        "schema": REPRODUCE_SCHEMA,
        "samples_per_model": samples,
        "seed": options.seed,
        "summary": _summary([row for row in rows if row.claim.kind == "computed"]),
        "claims": [_entry(row) for row in rows],
    }


def _summary(computed: Sequence[Row]) -> dict[str, int]:
    verdicts = Counter(row.verdict for row in computed)
    return {"computed": len(computed)} | {verdict: verdicts[verdict] for verdict in get_args(Verdict)}


def _entry(row: Row) -> dict[str, Any]:
    claim = row.claim
    entry: dict[str, Any] = {
        "id": claim.id,
        "where": list(claim.places),
        "text": claim.text,
        "kind": claim.kind,
        "unit": claim.unit,
        "boundary": claim.boundary,
        "published": _pair(claim.figures),
        "bound": claim.bound,
        "preset": claim.preset,
        "quantity": None if claim.quantity == "none" else claim.quantity,
        "ours": None,
        "ours_se": None,
        "ours_boundary": row.ours_boundary,
        "ratio": None,
        "verdict": row.verdict,
        "note": row.note,
    }
    if row.ours is not None and row.ratio is not None:
        entry |= _ours(row.ours) | {"ratio": _pair(row.ratio)}
    return entry


def _ours(figure: Figure) -> dict[str, Any]:
    each = estimates(figure)
    errors = [estimate.se for estimate in each if estimate.se is not None]
    ours: dict[str, Any] = {
        "ours": _pair([estimate.value for estimate in each]),
        "ours_se": _pair(errors) if errors else None,
    }
    if any(estimate.untrimmed is not None for estimate in each):
        ours["ours_untrimmed"] = _pair(
            [estimate.value if estimate.untrimmed is None else estimate.untrimmed for estimate in each]
        )
    return ours


def _pair(values: Sequence[float]) -> Pair:
    return values[0] if len(values) == 1 else list(values)
