"""Decide whether a cell's figures may be used, and say why not. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.energy import FATAL_REASONS
from harness.analysis.steady import NO_STEADY_STATE
from harness.power.conditions import ECC_UNCORRECTED
from results.schema import Verdict

NO_TOKENS = "no_tokens"
NO_WINDOW = "no_window"
TOO_MANY_ERRORS = "too_many_errors"
LENGTHS_NOT_FORCED = "lengths_not_forced"
USAGE_INCOMPLETE = "usage_incomplete"
TOKEN_COUNT_MISMATCH = "token_count_mismatch"  # noqa: S105 - a reason code
INTERRUPTED = "interrupted"
SERVER_LOST = "server_lost"
SATURATION_UNPROVEN = "saturation_unproven"

INVALID_REASONS = FATAL_REASONS | {
    ECC_UNCORRECTED,
    NO_TOKENS,
    NO_WINDOW,
    NO_STEADY_STATE,
    TOO_MANY_ERRORS,
    LENGTHS_NOT_FORCED,
    TOKEN_COUNT_MISMATCH,
    USAGE_INCOMPLETE,
    INTERRUPTED,
    SERVER_LOST,
}
"""Any other reason makes a cell suspect."""

MAX_ERROR_SHARE = 0.01
SATURATED_TPS_SHARE = 0.95
SATURATED_QUEUE_SHARE = 0.95


@dataclass(frozen=True)
class Saturation:
    """What speaks for saturation: TPS here, the best TPS of the ladder, and how often requests queued."""

    tps_tok_per_s: float
    plateau_tps_tok_per_s: float | None
    queue_share: float | None

    @property
    def proven(self) -> bool:
        """Return whether TPS is within 5% of the ladder's plateau or the queue was non-empty in 95% of scrapes."""
        on_plateau = (
            self.plateau_tps_tok_per_s is not None
            and self.tps_tok_per_s >= SATURATED_TPS_SHARE * self.plateau_tps_tok_per_s
        )
        queued = self.queue_share is not None and self.queue_share >= SATURATED_QUEUE_SHARE
        return on_plateau or queued


def verdict(reasons: Iterable[str]) -> Verdict:
    """Return the verdict that reason codes add up to.

    >>> verdict([]), verdict(["drift"]), verdict(["drift", "gpu_lost"])
    ('valid', 'suspect', 'invalid')
    """
    codes = set(reasons)
    if codes & INVALID_REASONS:
        return "invalid"
    return "suspect" if codes else "valid"
