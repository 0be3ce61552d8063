"""Figures as words, for the tables of every command."""

from __future__ import annotations

_UNITS = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or that there is none.

    >>> number(1234.5, ",.0f"), number(None, ".2f")
    ('1,234', 'n/a')
    """
    return "n/a" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would choose.

    >>> duration(90), duration(630), duration(63_807)
    ('90 s', '10.5 min', '17.72 h')
    """
    _, unit_s, unit = next(found for found in _UNITS if seconds >= found[0])
    return f"{seconds / unit_s:.4g} {unit}"
