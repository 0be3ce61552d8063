"""Which reported numbers some rule re-derives: every number in ``result.json`` is.

A number's path leaves out places in lists and counts calibration cells among the cells: ``cells.window.duration_s``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from harness.verify.checks import Finding, Rule
from harness.verify.evidence import Evidence

ID, SAYS = "figures", "every number in result.json is re-derived by a rule that applied"


def numbers(content: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every number in a JSON document.

    >>> list(numbers({"cells": [{"x": 1, "ok": True, "ci": [1.5, None]}]}))
    ['cells.x', 'cells.ci']
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            name = "cells" if not path and key == "calibration_cells" else key
            yield from numbers(value, f"{path}.{name}" if path else name)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, path)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path


def coverage(evidence: Evidence, rules: Sequence[Rule], findings: Sequence[Finding]) -> Finding:
    """Return whether every number was looked at by a rule that applied to this run."""
    applied = {found.id for found in findings if found.status != "not_applicable"}
    patterns = [pattern for rule in rules if rule.id in applied for pattern in rule.covers]
    reported = list(numbers(evidence.result))
    forgotten = [path for path in dict.fromkeys(reported) if not _matches(path, patterns)]
    if forgotten:
        return Finding(ID, SAYS, "fail", f"no rule re-derives {', '.join(forgotten)}")
    return Finding(ID, SAYS, "pass", f"{len(reported)} numbers")


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
