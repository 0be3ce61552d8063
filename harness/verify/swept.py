"""Rules on a sweep's document: that it says what its cells say, and what follows from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from harness.verify.checks import RAW_REL, Check, equal, same
from harness.verify.compared import differ
from harness.verify.evidence import Evidence
from harness.verify.figures import served_tok
from harness.verify.uncertainty import Z_95, common_rel_u, half_width_rel

SWEEP_FILE = "sweep.json"
PLATEAU = 0.97
"""The knee is the smallest concurrency with this share of the best throughput."""
FROM_ENERGY = {
    "wh_per_query": "mean", "wh_per_query_boundary": "boundary", "served_output_tok": "output_tok",
    "standard_uncertainty_rel": "standard_uncertainty_rel",
}  # fmt: skip
Cell = Mapping[str, Any]


def lines(evidence: Evidence) -> list[Check]:
    """Compare every cell of the ladder and of the grid with the result's cell of that name."""
    document = _document(evidence)
    if document is None:
        return []
    cells = {cell["name"]: cell for cell in evidence.result["cells"] if "interrupted" not in cell["reasons"]}
    listed = [*(document["ladder"] or {"cells": []})["cells"], *document["grid"]["cells"]]
    kept = {
        (cell["role"], cell["workload"], cell["concurrency"] * (cell["role"] == "ladder")) for cell in cells.values()
    }
    checks = [equal("cells", len(listed), len(kept))]
    for line in listed:
        cell, energy = cells[line["cell"]], cells[line["cell"]]["wh_per_query"] or {}
        unlike = [
            name
            for name, value in line.items()
            if name != "cell" and value != (energy.get(FROM_ENERGY[name]) if name in FROM_ENERGY else cell[name])
        ]
        checks.append(Check(not unlike, f"{line['cell']} differs in {', '.join(unlike) or 'nothing'}"))
    return checks


def ladder(evidence: Evidence) -> list[Check]:
    """Find the knee of the ladder, and what a token costs with the fewest requests in flight over that at its best."""
    reported = (_document(evidence) or {}).get("ladder")
    if reported is None:
        return []
    usable = [cell for cell in reported["cells"] if cell["verdict"] != "invalid" and cell["tps_tok_per_s"]]
    usable.sort(key=lambda cell: cell["concurrency"])
    checks: list[Check] = []
    if len(usable) > 1:
        best_tps = max(cell["tps_tok_per_s"] for cell in usable)
        knee = min(cell["concurrency"] for cell in usable if cell["tps_tok_per_s"] >= PLATEAU * best_tps)
        checks.append(equal("knee", reported["knee"]["concurrency"], knee))
        checks += same("plateau", reported["knee"]["plateau_tps_tok_per_s"], best_tps)
    known, cost = [cell for cell in usable if cell["joules_per_tok"]], reported["unsaturated_cost"]
    if len(known) > 1:
        fewest, best = known[0], max(known, key=lambda cell: cell["tps_tok_per_s"])
        checks.append(equal("concurrency", cost["concurrency"], fewest["concurrency"]))
        checks.append(equal("concurrency at the best", cost["saturated_concurrency"], best["concurrency"]))
        ratio = fewest["joules_per_tok"] / best["joules_per_tok"]
        checks += same("cost of unsaturated serving", cost["joules_per_tok_ratio"], ratio)
        checks += _bounds(cost["ci95"], math.log(ratio), _half(evidence, best, fewest), exponentiated=True)
    return checks


def _half(evidence: Evidence, best: Cell, fewest: Cell) -> float | None:
    """Return the half width of the 95% interval of ln(ratio): what each cell has by itself, and what both share."""
    cells = {cell.name: cell for cell in evidence.cells}
    pair = (cells[best["cell"]], cells[fewest["cell"]])
    common, own = common_rel_u(evidence, *pair), [half_width_rel(cell) for cell in pair]
    known = [half for half in own if half is not None]
    return None if common is None or len(known) < len(own) else math.hypot(*known, Z_95 * common)


def exponents(evidence: Evidence) -> list[Check]:
    """Fit ln(energy) over ln(length) at each input length of the grid that has several outputs."""
    grid = (_document(evidence) or {"grid": {"cells": [], "energy_exponents": []}})["grid"]
    tok = {cell.name: served_tok(cell) for cell in evidence.cells}
    usable = [cell | {"served_tok": tok[cell["cell"]]}
              for cell in grid["cells"] if cell["verdict"] != "invalid" and cell["wh_per_query"]]  # fmt: skip
    rows = {input_tok: [cell for cell in usable if cell["mean_input_tok"] == input_tok] for input_tok in
            sorted({cell["mean_input_tok"] for cell in usable})}  # fmt: skip
    rows = {key: row for key, row in rows.items() if differ([cell["served_tok"] for cell in row])}
    reported = {line["input_tok"]: line for line in grid["energy_exponents"]}
    if not rows and not reported:
        return []
    checks = [equal("input lengths", sorted(reported), sorted(rows))]
    for input_tok in rows.keys() & reported.keys():
        checks += _exponent(reported[input_tok], rows[input_tok])
    return checks


def _exponent(line: Mapping[str, Any], row: list[Cell]) -> list[Check]:
    x, y = (np.log([cell[name] for cell in row]) for name in ("served_tok", "wh_per_query"))
    (slope, level), dof = np.polyfit(x, y, 1), len(row) - 2
    half = None
    if dof > 0:
        scatter = float(((y - slope * x - level) ** 2).sum()) / dof
        half = float(student_t.ppf(0.975, dof)) * math.sqrt(scatter / float(((x - x.mean()) ** 2).sum()))
    return [
        *same(f"exponent at {line['input_tok']:g}", line["exponent"], float(slope)),
        equal("cells", line["n"], len(row)),
        *(
            found
            for a, b in zip(line["output_tok"], sorted(cell["served_tok"] for cell in row), strict=True)
            for found in same("length", a, b, RAW_REL)
        ),
        *_bounds(line["ci95"], float(slope), half, exponentiated=False),
    ]


def _bounds(reported: Any, centre: float, half: float | None, *, exponentiated: bool) -> list[Check]:
    """Compare the bounds of a 95% interval; ``half`` is its half width, in logarithms where exponentiated."""
    if reported is None or half is None:
        return [equal("interval", reported is None, half is None)]
    bounds = [centre - half, centre + half]
    derived = [math.exp(bound) for bound in bounds] if exponentiated else bounds
    return [
        found for name, a, b in zip(("low", "high"), reported, derived, strict=True) for found in same(name, a, b, 1e-5)
    ]


def _document(evidence: Evidence) -> Any:
    path = evidence.folder / SWEEP_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
