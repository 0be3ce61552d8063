"""The error for a name that is not known, with the known name nearest to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name_error(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return a ValueError that names ``name``, the known name nearest to it, and all known names.

    >>> unknown_name_error("preset", "corected", ["corrected"])
    ValueError("unknown preset 'corected'; did you mean 'corrected'? Known: corrected")
    """
    names = sorted(known)
    by_folded_name = {candidate.casefold(): candidate for candidate in names}
    nearest = difflib.get_close_matches(name.casefold(), by_folded_name, n=1, cutoff=0.4)
    hint = f"; did you mean '{by_folded_name[nearest[0]]}'?" if nearest else "."
    return ValueError(f"unknown {kind} '{name}'{hint} Known: {', '.join(names)}")
