"""Rules on the record: that it can be read, is unchanged, in order, and says what its figures are."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from harness.verify.checks import EXACT_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence
from results.schema import CellDefinition, Manifest, RunResult, StoredPrediction
from results.store import HASHES_FILE, file_hashes, sha256_of
from results.tables import TABLES

SIMULATED = "simulated"


def schemas(evidence: Evidence) -> Iterable[Check]:
    """Validate every document by its schema."""
    documents: dict[str, tuple[type[BaseModel], object]] = {
        "manifest.json": (Manifest, evidence.manifest),
        "result.json": (RunResult, evidence.result),
    }
    if evidence.prediction is not None:
        documents["prediction.json"] = (StoredPrediction, evidence.prediction)
    documents |= {f"definition of {cell.name}": (CellDefinition, cell.definition) for cell in evidence.cells}
    for name, (model, content) in documents.items():
        try:
            model.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            yield Check(False, f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        else:
            yield Check(True, f"{name} is readable")


def hashes(evidence: Evidence) -> list[Check]:
    """Compare every file with its stored hash. Files added beside the tables are named, but change nothing.

    Every run that has ended was sealed with hashes: only one that was killed, or still runs, has none.
    """
    path = evidence.folder / HASHES_FILE
    if not path.is_file():
        status = evidence.manifest["status"]
        return [] if status == "running" else [Check(False, f"{HASHES_FILE} is missing, and the run is {status}")]
    stored, found = json.loads(path.read_text(encoding="utf-8")), file_hashes(evidence.folder)
    missing, added = sorted(stored.keys() - found.keys()), sorted(found.keys() - stored.keys())
    rows = [name for name in added if name.split("/")[0] in TABLES]
    checks = [
        Check(False, f"{name} has changed") for name in sorted(stored) if stored[name] != found.get(name, stored[name])
    ]
    checks += [Check(False, f"{name} is missing") for name in missing]
    checks += [Check(False, f"{name} was added to a table") for name in rows]
    others = [name for name in added if name not in rows]
    beside = f", and {len(others)} that the run did not write: {', '.join(others)}" if others else ""
    return [*checks, Check(True, f"{len(stored)} files{beside}")]


def prediction_came_first(evidence: Evidence) -> Iterable[Check]:
    """See that the prediction was stored before the first cell that is compared with it, and not changed since."""
    stored = [number for number, event in enumerate(evidence.events) if event["event"] == "prediction_stored"]
    named = (evidence.prediction or {}).get("cells", {})
    tested = [cell for cell in evidence.cells if cell.name in named]
    if not tested:
        return
    first = tested[0]
    if not stored:
        yield Check(False, "no event tells when the prediction was stored")
        return
    said = "before" if stored[0] < first.event_number else "after"
    yield Check(stored[0] < first.event_number, f"stored {said} the start of {first.name}")
    created_s, started_s = (
        (evidence.prediction or {})["created_wall_s"],
        evidence.events[first.event_number]["t_wall_s"],
    )
    yield Check(created_s <= started_s, f"made {started_s - created_s:.1f} s before it")
    digest = sha256_of(evidence.folder / "prediction.json")
    for number in stored:
        if "sha256" in evidence.events[number]:
            unchanged = evidence.events[number]["sha256"] == digest
            yield Check(unchanged, f"prediction.json {'is as' if unchanged else 'differs from what was'} stored then")


def windows(_: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """See that a window lies where its cell was under load and warm, and between scrapes."""
    window, scrapes_s = cell.reported["window"], set(cell.scrapes_s)
    warm_s = cell.filled_s + cell.definition["warmup_s"]
    return [
        Check(start_s >= warm_s, f"starts {start_s - warm_s:+.3f} s after fill and warm-up"),
        Check(end_s <= cell.load_stop_s, f"ends {cell.load_stop_s - end_s:+.3f} s before the load stopped"),
        Check({start_s, end_s} <= scrapes_s, "its edges are times of scrapes"),
        *same("seconds", window["duration_s"], end_s - start_s, EXACT_REL),
    ]


def cells(evidence: Evidence) -> list[Check]:
    """See that every cell of the log is reported, and as it was defined before its load."""
    reported = [cell["name"] for cell in (*evidence.result["calibration_cells"], *evidence.result["cells"])]
    checks = [equal("cells", sorted(reported), sorted(cell.name for cell in evidence.cells))]
    for cell in evidence.cells:
        changed = [
            key for key, value in cell.definition.items() if key in cell.reported and cell.reported[key] != value
        ]
        checks.append(
            Check(not changed, f"{cell.name} {'differs in ' + ', '.join(changed) if changed else 'as defined'}")
        )
    return checks


def boundary_labels(evidence: Evidence, cell: Cell) -> list[Check]:
    """See that a cell says the boundary and the source of its joules."""
    manifest, energy = evidence.manifest, cell.reported.get("wh_per_query")
    checks = [
        equal("boundary", cell.reported["boundary"], manifest["boundary"]),
        equal("source", cell.reported["power_source"], evidence.result["run"]["power_source"]),
    ]
    if manifest["boundary"] != "node":
        checks.append(equal("source", cell.reported["power_source"], manifest["power"]["name"]))
    if energy is not None:
        expected = "gpu" if manifest["boundary"] == "gpu" else f"{manifest['boundary']} x PUE"
        checks.append(equal("boundary of Wh/query", energy["boundary"], expected))
        checks.append(Check(bool(energy["pue_source"]), f"PUE: {energy['pue_source']}"))
    return checks


def simulated_said(evidence: Evidence) -> list[Check]:
    """See that a run with simulated joules says so wherever joules stand."""
    uuids = {device["uuid"] for device in evidence.manifest["devices"]}
    sources = set(evidence.power.loc[evidence.power["uuid"].isin(uuids), "source"].dropna())
    if SIMULATED not in sources and SIMULATED not in evidence.manifest["power"]["name"]:
        return []
    run = evidence.result["run"]
    checks = [
        Check(any(SIMULATED in label for label in run["labels"]), "a label of the run says simulated"),
        Check(SIMULATED in evidence.manifest["power"]["name"], f"power source {evidence.manifest['power']['name']!r}"),
    ]
    if evidence.manifest["boundary"] != "node":
        checks += [
            Check(SIMULATED in cell.reported["power_source"], f"{cell.name}: {cell.reported['power_source']}")
            for cell in evidence.cells
            if cell.reported
        ]
    for name in ("summary.txt", *(["cells.csv"] if evidence.cells else [])):
        path = evidence.folder / name
        if path.is_file():
            checks.append(Check(SIMULATED in path.read_text(encoding="utf-8"), f"{name} says simulated"))
    return checks
