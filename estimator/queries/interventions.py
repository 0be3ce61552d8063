"""Efficiency gains alpha of section 3: factors that divide the energy of a query, alone or combined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from types import MappingProxyType

from estimator.distributions import LogNormal
from estimator.names import unknown_name_error

INTERVENTIONS: Mapping[str, LogNormal] = MappingProxyType(
    {
        "model": LogNormal(1.5, 10.0),
        "serving": LogNormal(1.5, 5.0),
        "hardware": LogNormal(1.5, 2.5),
        "line-of-sight": LogNormal(1.5, 3.0),
    }
)
"""P5 and P95 of alpha as the paper states them: section 3, i to iii, and section 4 (conservative line of sight)."""

_RANGE = re.compile(r"(?P<low>[0-9.]+(?:e[+-]?\d+)?)\s*-\s*(?P<high>[0-9.]+(?:e[+-]?\d+)?)", re.IGNORECASE)


def parse_gain(text: str) -> LogNormal:
    """Return the gain that ``text`` names, or gives as ``LOW-HIGH``: its P5 and P95.

    Raises ValueError for an unknown name, naming the nearest, and for a range that is none.

    >>> parse_gain("1.5-3") == parse_gain("line-of-sight")
    True
    """
    if text in INTERVENTIONS:
        return INTERVENTIONS[text]
    given = _RANGE.fullmatch(text.strip())
    if given is None:
        if text[:1].isalpha():
            unknown = unknown_name_error("intervention", text, INTERVENTIONS)
            raise ValueError(f"{unknown}; or give alpha as LOW-HIGH, its P5 and P95, such as 1.5-3")
        raise ValueError(f"alpha range {text!r} must be LOW-HIGH, its P5 and P95, such as 1.5-3")
    try:
        return LogNormal(float(given["low"]), float(given["high"]))
    except ValueError as error:
        raise ValueError(f"alpha range {text!r}: {error}") from error


def combined(gains: Iterable[LogNormal]) -> LogNormal:
    """Return the product of independent gains; without any it is 1.

    >>> round(combined([INTERVENTIONS["model"], INTERVENTIONS["hardware"]]).median, 2)
    7.5
    """
    return reduce(LogNormal.times, gains, LogNormal.constant(1.0))
