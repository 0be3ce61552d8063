"""The words for when requests are sent; apart from what sends them, so that a configuration loads quickly."""

from __future__ import annotations

import re

_POISSON = re.compile(r"poisson:(\d+(?:\.\d+)?)")


def poisson_rate(text: str) -> float | None:
    """Return the requests a second that ``poisson:RATE`` names, or ``None`` if it is another word.

    >>> poisson_rate("poisson:2.5"), poisson_rate("closed")
    (2.5, None)
    """
    found = _POISSON.fullmatch(text)
    return float(found[1]) if found else None


def check_arrival(text: str) -> str:
    """Return ``text`` if it is ``closed``, ``poisson:RATE`` or ``trace``; raises ``ValueError`` for anything else."""
    if text not in ("closed", "trace") and not poisson_rate(text):
        raise ValueError(f"{text!r} is no arrival: closed, poisson:RATE (requests a second, above 0) or trace")
    return text
