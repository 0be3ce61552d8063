"""The words for when requests are sent; apart from what sends them, so that a configuration loads quickly."""

from __future__ import annotations

import re

_WITH_RATE = re.compile(r"(poisson|trace):(\d+(?:\.\d+)?)")


def kind_and_rate(text: str) -> tuple[str, float | None]:
    """Return the kind of an arrival and the requests a second it names; raises ``ValueError`` for what is none.

    >>> kind_and_rate("poisson:2.5"), kind_and_rate("trace")
    (('poisson', 2.5), ('trace', None))
    """
    if text in ("closed", "trace"):
        return text, None
    found = _WITH_RATE.fullmatch(text)
    if found is None or not float(found[2]):
        raise ValueError(
            f"{text!r} is no arrival: closed, poisson:RATE, trace or trace:RATE (requests a second, above 0)"
        )
    return found[1], float(found[2])


def check_arrival(text: str) -> str:
    """Return ``text`` if it names an arrival; raises ``ValueError`` for anything else."""
    kind_and_rate(text)
    return text
