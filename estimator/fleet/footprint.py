"""Water and carbon of an amount of energy, each with the uncertainty of its intensity and of the energy."""

from __future__ import annotations

from estimator.distributions import LogNormal

KWH_PER_GWH = 1e6
G_PER_TONNE = 1e6

WATER_BOUNDARY = (
    "litres for each kWh at the facility's meter, PUE and beta included, as given; a WUE, which is per kWh of IT "
    "equipment, must be divided by PUE first. Water of power plants counts only if the given figure holds it"
)
CARBON_BOUNDARY = (
    "grams CO2e for each kWh at the facility's meter, PUE and beta included, as given; operation only, without "
    "the making of hardware and buildings"
)


def water_litres(energy_gwh: LogNormal, l_per_kwh: LogNormal) -> LogNormal:
    """Return the water in litres of ``energy_gwh``, independent of its intensity ``l_per_kwh``.

    >>> water_litres(LogNormal.constant(0.5), LogNormal.constant(0.2)).median
    100000.0
    """
    return energy_gwh.times(l_per_kwh).scaled(KWH_PER_GWH)


def carbon_tonnes(energy_gwh: LogNormal, g_per_kwh: LogNormal) -> LogNormal:
    """Return the carbon in tonnes CO2e of ``energy_gwh``, independent of its intensity ``g_per_kwh``.

    >>> carbon_tonnes(LogNormal.constant(0.5), LogNormal.constant(400.0)).median
    200.0
    """
    return energy_gwh.times(g_per_kwh).scaled(KWH_PER_GWH / G_PER_TONNE)
