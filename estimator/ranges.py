"""Ranges as people write them: ``LOW-HIGH``, or one value."""

from __future__ import annotations

import re

from estimator.distributions import LogNormal

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})(?:\s*-\s*({_NUMBER}))?\s*", re.IGNORECASE)


def parse_range(text: str) -> tuple[float, float]:
    """Return the two ends of ``LOW-HIGH``, or of one value twice; raises ValueError for anything else.

    >>> parse_range("0.5-1"), parse_range("1.1")
    ((0.5, 1.0), (1.1, 1.1))
    """
    given = _RANGE.fullmatch(text)
    if given is None:
        raise ValueError(f"{text!r} is neither a number nor a range LOW-HIGH such as 0.5-1.0")
    low = float(given[1])
    high = low if given[2] is None else float(given[2])
    if low > high:
        raise ValueError(f"{text!r} falls: its first number must not exceed its second")
    return low, high


def parse_log_normal(text: str) -> LogNormal:
    """Return the log-normal with ``LOW-HIGH`` as its P5 and P95, or the constant that one value gives.

    Raises ValueError for what is no range, and unless the numbers are positive and finite.

    >>> parse_log_normal("1-4").median, parse_log_normal("1.12").sigma
    (2.0, 0.0)
    """
    return LogNormal(*parse_range(text))
