"""What a rule of the verification is and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from harness.verify.evidence import Cell, Evidence

Status = Literal["pass", "fail", "not_applicable"]

EXACT_REL = 1e-6
"""For figures that arithmetic gives from stored ones."""
RAW_REL = 0.005
"""For figures that depend on how readings are interpolated."""


class Check(NamedTuple):
    """One comparison: whether it held, and its figures."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    id: str
    rule: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Rule:
    """A rule: ``check`` returns its comparisons, none where it does not apply; ``otherwise`` says why it may not."""

    id: str
    says: str
    check: Callable[[Evidence], Sequence[Check]]
    otherwise: str
    covers: tuple[str, ...] = ()
    """The numbers of ``result.json`` that it re-derives: patterns of their paths, as in ``harness.verify.covered``."""

    def find(self, evidence: Evidence) -> Finding:
        """Apply the rule."""
        return found_by(self.id, self.says, lambda: self.check(evidence), self.otherwise)


def found_by(rule_id: str, says: str, check: Callable[[], Sequence[Check]], otherwise: str) -> Finding:
    """Return what a rule finds; what cannot be worked out for damaged content fails, with the error as its detail."""
    try:
        checks = check()
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError, AttributeError) as error:
        checks = [Check(False, f"cannot be worked out from what is stored: {type(error).__name__}: {error}")]
    if not checks:
        return Finding(rule_id, says, "not_applicable", otherwise)
    failed = [check.text for check in checks if not check.ok]
    if failed:
        return Finding(rule_id, says, "fail", "; ".join(failed))
    return Finding(rule_id, says, "pass", "; ".join(check.text for check in checks))


def by_cell(check: Callable[[Evidence, Cell], Iterable[Check]]) -> Callable[[Evidence], list[Check]]:
    """Return a check of every reported cell, the cell's name before each text."""

    def checks(evidence: Evidence) -> list[Check]:
        return [
            Check(found.ok, f"{cell.name}: {found.text}")
            for cell in evidence.cells
            if cell.reported
            for found in check(evidence, cell)
        ]

    return checks


def by_window(
    check: Callable[[Evidence, Cell, float, float], Iterable[Check]],
) -> Callable[[Evidence], list[Check]]:
    """Return a check of every reported cell that has a window, with the window's edges in s."""

    def checks(evidence: Evidence, cell: Cell) -> Iterable[Check]:
        return () if cell.window_s is None else check(evidence, cell, *cell.window_s)

    return by_cell(checks)


def same(
    what: str, reported: float | None, derived: float | None, rel: float = EXACT_REL, absolute: float = 1e-9
) -> list[Check]:
    """Compare a reported figure with the derived one; nothing to check where neither is known."""
    if reported is None and derived is None:
        return []
    if reported is None or derived is None:
        return [Check(False, f"{what} {_number(reported)}, re-derived {_number(derived)}")]
    ok = math.isclose(reported, derived, rel_tol=rel, abs_tol=absolute)
    return [Check(ok, f"{what} {_number(reported)}, re-derived {_number(derived)}")]


def equal(what: str, reported: Any, derived: Any) -> Check:
    """Compare two things that must be one and the same."""
    return Check(reported == derived, f"{what} {reported!r}, re-derived {derived!r}")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.7g}"
