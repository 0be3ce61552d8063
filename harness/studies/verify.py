"""``harness verify``: from a run folder to what every rule finds of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.verify.evidence import read_evidence
from harness.verify.rules import apply_rules

SCHEMA = "inference-energy/verification/1"

NOT_CHECKED = (
    "not re-derived: the Monte Carlo interval of Wh/query and the systematic parts of its uncertainty, the choice of "
    "the window among those allowed, the client's health, and the throughput model behind the prediction; "
    "hashes show changes since the run's end, not who ran it"
)


def verification_document(folder: Path) -> dict[str, Any]:
    """Check a stored run, made here or elsewhere; raises ``StoreError`` where it cannot be checked at all."""
    evidence = read_evidence(folder)
    findings = apply_rules(evidence)
    count = {status: sum(found.status == status for found in findings) for status in ("pass", "fail", "not_applicable")}
    return {
        "schema": SCHEMA,
        "run": evidence.result["run"]["id"],
        "path": str(folder),
        "labels": list(evidence.result["run"]["labels"]),
        "rules": [asdict(found) for found in findings],
        "passed": count["pass"],
        "failed": count["fail"],
        "not_applicable": count["not_applicable"],
        "notes": [NOT_CHECKED],
    }
