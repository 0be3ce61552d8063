"""Other forms of a result: the CSV of its cells."""

from __future__ import annotations

import pandas as pd

from results.schema import RunResult


def cells_csv(result: RunResult) -> str:
    """Return one CSV row per cell, compared cells first; nested figures become dotted columns."""
    rows = [cell.model_dump(mode="json") for cell in (*result.cells, *result.calibration_cells)]
    return str(pd.json_normalize(rows).to_csv(index=False))
