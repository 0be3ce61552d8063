"""What the energy of a fleet can be held against: published figures, each with its source and boundary."""

from __future__ import annotations

from dataclasses import dataclass

WEB_SEARCH_WH = 0.3
"""Wh for a web search (Hölzle 2009, as section 3 of the paper takes it)."""
DATA_CENTRE_MW = 30.0
DATA_CENTRE_UTILISATION = 0.8
"""Power and constant utilisation of the paper's data centre (section 4)."""

_WH_PER_GWH = 1e9
_MWH_PER_GWH = 1e3
_HOURS_PER_DAY = 24


@dataclass(frozen=True)
class Reference:
    """Energy per day of something known."""

    name: str
    gwh_per_day: float
    source: str
    boundary: str


def daily_references(queries_per_day: float) -> tuple[Reference, Reference]:
    """Return the paper's two references: as many web searches as ``queries_per_day``, and a data centre.

    >>> [round(reference.gwh_per_day, 3) for reference in daily_references(1e9)]
    [0.3, 0.576]
    """
    return (
        Reference(
            name=f"{queries_per_day:,.0f} web searches",
            gwh_per_day=WEB_SEARCH_WH * queries_per_day / _WH_PER_GWH,
            source=f"{WEB_SEARCH_WH} Wh a search: U. Hölzle, Powering a Google search, Official Google Blog, January "
            "2009; taken up in Oviedo et al., sections 3 and 4",
            boundary="as its operator stated it; whether PUE is included is not stated",
        ),
        Reference(
            name=f"{DATA_CENTRE_MW:g} MW data centre at {DATA_CENTRE_UTILISATION:.0%}",
            gwh_per_day=DATA_CENTRE_MW * DATA_CENTRE_UTILISATION * _HOURS_PER_DAY / _MWH_PER_GWH,
            source="Oviedo et al., section 4: 30 MW of H100 at constant 80% utilisation",
            boundary="the power as stated; whether it is that of the facility or of its IT equipment is not",
        ),
    )
