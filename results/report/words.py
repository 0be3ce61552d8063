"""Numbers and terms in the words of a reader."""

from __future__ import annotations

from math import floor, log10

from results.schema import CellResult

NOT_KNOWN = "n/a"
_MORE_DIGITS = 2
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sig(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, grouped by thousands; ``n/a`` for None.

    >>> sig(2164.3), sig(0.00113812), sig(1.0), sig(0.0000012), sig(None)
    ('2,164', '0.00114', '1.00', '1.20×10⁻⁶', 'n/a')
    """
    if value is None:
        return NOT_KNOWN
    if value == 0:
        return "0"
    exponent, sign = floor(log10(abs(value))), "−" if value < 0 else ""
    if not -5 < exponent < 9:
        mantissa, power = f"{abs(value):.{digits - 1}e}".split("e")
        return f"{sign}{mantissa}×10{str(int(power)).translate(_SUPERSCRIPT)}"
    return f"{sign}{abs(value):,.{max(0, digits - 1 - exponent)}f}"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share in percent.

    >>> percent(0.0731), percent(0.9), percent(None)
    ('7.3%', '90%', 'n/a')
    """
    return NOT_KNOWN if value is None else f"{sig(100 * value, digits)}%"


def interval(bounds: tuple[float, float] | None, digits: int = 3) -> str:
    """Return the bounds of an interval, with up to two digits more where they tell them apart, or ``n/a``.

    >>> interval((0.0901, 0.101)), interval((13.6941, 13.7212))
    ('0.0901 to 0.101', '13.69 to 13.72')
    """
    if bounds is None:
        return NOT_KNOWN
    low, high = bounds
    most = digits + _MORE_DIGITS
    while digits < most and sig(low, digits) == sig(high, digits):
        digits += 1
    return f"{sig(low, digits)} to {sig(high, digits)}"


def tokens(count: float) -> str:
    """Return a number of tokens, with a decimal where it is none that a single query can have.

    >>> tokens(48.0), tokens(34.58), tokens(5000.0)
    ('48', '34.6', '5,000')
    """
    return f"{count:,.1f}".removesuffix(".0")


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(28), duration(125), duration(7300)
    ('28 s', '2.1 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


BOUNDARIES = {
    "gpu": "the GPUs alone",
    "node_modelled": "the whole node, modelled from its GPUs",
    "node": "the whole node, metered",
}


SHORT_BOUNDARIES = {"gpu": "GPUs", "node_modelled": "node, modelled", "node": "node, metered"}


def query_boundary(cell: CellResult) -> str:
    """Return the boundary of a cell's energy per query, with the PUE that is in it."""
    energy = cell.wh_per_query
    if energy is None or cell.boundary == "gpu":
        return BOUNDARIES[cell.boundary]
    return f"{BOUNDARIES[cell.boundary]}, × PUE {energy.pue:.3g}"


def source_words(power_source: str) -> str:
    """Return a power source as every figure that carries joules names it: a simulated one in capitals."""
    return "SIMULATED" if "simulated" in power_source else power_source


def boundary_and_source(cell: CellResult) -> str:
    """Return the boundary and the power source of a cell's watts in a few words."""
    return f"{SHORT_BOUNDARIES[cell.boundary]}; {source_words(cell.power_source)}"


def query_boundary_and_source(cell: CellResult) -> str:
    """Return the same of a cell's energy per query, which has PUE in it where the node is covered."""
    pue = " × PUE" if cell.boundary != "gpu" else ""
    return f"{SHORT_BOUNDARIES[cell.boundary]}{pue}; {source_words(cell.power_source)}"


def signed(value: float) -> str:
    """Return a logarithm of a ratio with its sign and three decimals.

    >>> signed(0.1264), signed(-0.04), signed(0.0)
    ('+0.126', '−0.040', '0')
    """
    return "0" if value == 0 else f"{value:+.3f}".replace("-", "−")
