"""Rules on what stands in more than one file of a run: that the copies say the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.verify.checks import Check, equal
from harness.verify.evidence import Evidence


def run_summary(evidence: Evidence) -> list[Check]:
    """See that the result names the run of the manifest."""
    run, manifest, node = evidence.result["run"], evidence.manifest, evidence.manifest.get("node_profile")
    same_names = ("id", "status", "started_wall_s", "server_version", "boundary")
    return [
        *(equal(name, run[name], manifest[name]) for name in same_names),
        equal("model", run["model"], manifest["model"] or "unknown"),
        equal("node profile", run["node_profile"], node["name"] if node else None),
        Check(set(manifest["labels"]) <= set(run["labels"]), f"{len(run['labels'])} labels, the manifest's among them"),
    ]


def cell_files(evidence: Evidence) -> list[Check]:
    """Compare the file of every cell with the result; of cells of one name the last was written."""
    folder = evidence.folder / "cells"
    cells = {cell["name"]: cell for cell in _all_cells(evidence)}
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if not found:
        return []
    checks = [equal("files of cells", sorted(found), sorted(cells))]
    differ = [name for name in cells if name in found and found[name] != cells[name]]
    return [*checks, Check(not differ, f"differing: {', '.join(differ) or 'none'}")]


def cells_csv(evidence: Evidence) -> list[Check]:
    """Compare every value of cells.csv with the result; nested figures have dotted names there."""
    path = evidence.folder / "cells.csv"
    cells = _all_cells(evidence)
    if not path.is_file() or not cells:
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    checks = [equal("rows", len(rows), len(cells))]
    for row, cell in zip(rows, cells, strict=False):
        flat = dict(_flat(cell))
        differ = [name for name, text in row.items() if not _says(text, flat.get(name))]
        checks.append(Check(not differ, f"{cell['name']} differs in {', '.join(differ) or 'nothing'}"))
    return checks


def _all_cells(evidence: Evidence) -> list[dict[str, Any]]:
    return [*evidence.result["cells"], *evidence.result["calibration_cells"]]


def _flat(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _says(text: str, value: Any) -> bool:
    if value is None or isinstance(value, str | bool | list | dict):
        return text in ("" if value is None else str(value), str(value))
    try:
        return bool(float(text) == value)
    except ValueError:
        return False
