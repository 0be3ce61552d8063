"""The words for when requests are sent; apart from what sends them, so that a configuration loads quickly."""

from __future__ import annotations

import re
from typing import NamedTuple

_WITH_RATE = re.compile(r"(poisson|trace):(\d+(?:\.\d+)?)(%?)")


class ArrivalWords(NamedTuple):
    """The kind of an arrival, and its rate in requests a second or as a share of the rate that saturates the server."""

    kind: str
    rate_per_s: float | None = None
    saturation_share: float | None = None


def read_arrival(text: str) -> ArrivalWords:
    """Return what an arrival names; raises ``ValueError`` for what is none.

    >>> tuple(read_arrival("poisson:2.5")), tuple(read_arrival("trace:80%")), tuple(read_arrival("trace"))
    (('poisson', 2.5, None), ('trace', None, 0.8), ('trace', None, None))
    """
    if text in ("closed", "trace"):
        return ArrivalWords(text)
    found = _WITH_RATE.fullmatch(text)
    if found is None or not float(found[2]):
        raise ValueError(
            f"{text!r} is no arrival: closed, trace, or poisson:RATE or trace:RATE, with RATE in requests a second "
            "or, as in trace:80%, in percent of what saturates the server; above 0"
        )
    kind, number, percent = found[1], float(found[2]), found[3]
    return ArrivalWords(kind, saturation_share=number / 100) if percent else ArrivalWords(kind, number)


def check_arrival(text: str) -> str:
    """Return ``text`` if it names an arrival; raises ``ValueError`` for anything else."""
    read_arrival(text)
    return text
