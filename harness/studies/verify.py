"""``harness verify``: from a run folder, or a folder of runs, to what every rule finds of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.verify.checks import Finding
from harness.verify.evidence import Evidence, read_evidence
from harness.verify.repeated import REPEATS_FILE, apply_group_rules, repeats_of
from harness.verify.rules import apply_rules

SCHEMA = "inference-energy/verification/1"
GROUP_SCHEMA = "inference-energy/verifications/1"

COUNTS = {"passed": "pass", "failed": "fail", "not_applicable": "not_applicable"}
NOT_REDERIVED = {
    "the prediction's throughput model and draws": "each prediction is checked as Eq. 1 of the inputs stored with it",
    "plateau, doubling gain and what binds a cell": "taken from its definition, which was stored before its load",
    "limits, and the shapes of systematic errors": "the same assumptions as in the analysis, worked out by other code",
    "summary.txt": "has its hash alone",
}
"""What is taken as stored or as assumed, and why."""
NOTES = (
    *(f"not re-derived: {what} ({why})" for what, why in NOT_REDERIVED.items()),
    "hashes show changes since the run's end, not who ran it",
)


def verification_document(folder: Path) -> dict[str, Any]:
    """Check a run, or every run in a folder of runs, made here or elsewhere.

    Raises ``StoreError`` where nothing can be checked at all; of several runs one that cannot be read has failed.
    """
    if (folder / "manifest.json").is_file():
        return _of_run(read_evidence(folder))
    inside = sorted(path.parent for path in folder.glob("*/manifest.json"))
    if not inside:
        raise StoreError(
            f"cannot verify {folder}",
            why="it holds no manifest.json and no run folders",
            fix="give a run folder, or a folder of them, that harness stress or sweep left",
        )
    return _of_group(folder, inside)


def _of_run(evidence: Evidence) -> dict[str, Any]:
    run = evidence.result["run"]
    return _document(evidence.folder, run["id"], run["labels"], apply_rules(evidence))


def _unread(folder: Path, error: StoreError) -> dict[str, Any]:
    return _document(folder, folder.name, (), [Finding("readable", "the run can be read", "fail", str(error))])


def _document(folder: Path, name: str, labels: Sequence[str], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": name,
        "path": str(folder),
        "labels": list(labels),
        **_counted(findings),
        "not_rederived": NOT_REDERIVED,
        "notes": list(NOTES),
    }


def _of_group(folder: Path, inside: Sequence[Path]) -> dict[str, Any]:
    documents, runs, unread = [], [], []
    for path in inside:
        try:
            runs.append(read_evidence(path))
            documents.append(_of_run(runs[-1]))
        except StoreError as error:
            unread.append(path.name)
            documents.append(_unread(path, error))
    own = _counted(_of_repeats(folder, runs, unread) if (folder / REPEATS_FILE).is_file() else ())
    totals = {status: own[status] + sum(run[status] for run in documents) for status in COUNTS}
    return {"schema": GROUP_SCHEMA, "path": str(folder), "runs": documents, **own, **totals}


def _of_repeats(folder: Path, runs: Sequence[Evidence], unread: Sequence[str]) -> Sequence[Finding]:
    if unread:
        return [Finding("readable", "every repeat can be read", "fail", f"{', '.join(unread)} cannot be read")]
    try:
        return apply_group_rules(repeats_of(folder, runs))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {folder / REPEATS_FILE}", why=f"{type(error).__name__}: {error}") from error


def _counted(findings: Sequence[Finding]) -> dict[str, Any]:
    count = {name: sum(found.status == status for found in findings) for name, status in COUNTS.items()}
    return {"rules": [asdict(found) for found in findings], **count}
