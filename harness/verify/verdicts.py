"""The rule on verdicts: from every reason that other rules work out, whatever is reported."""

from __future__ import annotations

from harness.verify import devices, judged, sensing, steady
from harness.verify.checks import Check, equal
from harness.verify.evidence import Cell, Evidence
from harness.verify.steady import NO, YES, Answers


def verdict(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out the reasons, and the verdict from them; both must be as reported, and none missing.

    A reason that nothing works out is taken as reported, and named.
    """
    answers, named = derived(evidence, cell), set(cell.reported["reasons"])
    taken = sorted(named - answers.keys())
    close = {code for code in named if answers.get(code) == YES | NO}
    reasons = {code for code, right in answers.items() if right == YES} | close | set(taken)
    worst = "invalid" if reasons & judged.FATAL else "suspect" if reasons else "valid"
    missed = list(steady.wrong(answers, named))
    checks = [equal("verdict", cell.reported["verdict"], worst)]
    checks.append(Check(not missed, ", ".join(missed) or f"{len(reasons)} reasons"))
    if taken:
        checks.append(Check(True, f"taken as reported: {', '.join(taken)}"))
    return checks


def derived(evidence: Evidence, cell: Cell) -> Answers:
    """Return every reason that is worked out for a cell, with the answers that are right."""
    load = devices.load_of(evidence, cell)
    found = {**judged.facts(cell), **judged.load_reasons(evidence, cell)}
    if load.devices:
        found |= dict.fromkeys(devices.CODES, False) | dict.fromkeys(devices.called_for(evidence, load), True)
    answers = {code: YES if holds else NO for code, holds in found.items()}
    return answers | sensing.answers_of(evidence, load) | (steady.reasons(evidence, cell) or NO_WINDOW)


NO_WINDOW: Answers = dict.fromkeys(steady.CODES, NO)
