"""Figures as words, for the tables of every command."""

from __future__ import annotations


def number(value: float | None, form: str) -> str:
    """Return a number in a format, or that there is none.

    >>> number(1234.5, ",.0f"), number(None, ".2f")
    ('1,234', 'n/a')
    """
    return "n/a" if value is None else format(value, form)
