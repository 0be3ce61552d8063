"""What a refit works on: throughput rows from run folders and tables, and the runs' watts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from estimator.power.joules import EnergyCell, JouleSplit, split_joules
from estimator.power.power_fit import PowerFit, fit_power
from estimator.throughput.forms import InsufficientRowsError
from estimator.throughput.s1 import TpsRow, read_tps_table
from harness.analysis.run import analyse_run, open_run
from harness.errors import WorkloadError
from harness.tps_rows import row_notes, tps_rows
from results.schema import CellResult


@dataclass(frozen=True)
class MeasuredRun:
    """The cells of a stored run that are not invalid, and its throughput rows."""

    id: str
    model: str
    gpus: int
    simulated_power: bool
    cells: tuple[CellResult, ...]
    rows: tuple[TpsRow, ...]
    notes: tuple[str, ...]
    """What a reader of a fit to these rows must know."""


def read_runs(folders: Sequence[Path]) -> tuple[MeasuredRun, ...]:
    """Read and analyse stored runs; raises ``StoreError`` for a folder that is none."""
    return tuple(_read_run(folder) for folder in folders)


def _read_run(folder: Path) -> MeasuredRun:
    (_, manifest), result = open_run(folder), analyse_run(folder)
    gpus = max(1, len({uuid for server in manifest.servers for uuid in server.device_uuids}))
    cells = (*result.calibration_cells, *result.cells)
    return MeasuredRun(
        id=result.run.id,
        model=result.run.model,
        gpus=gpus,
        simulated_power="simulated" in result.run.power_source,
        cells=tuple(cell for cell in cells if cell.verdict != "invalid"),
        rows=tps_rows(result.run.model, gpus, cells, f"run {result.run.id}"),
        notes=tuple(f"run {result.run.id}: {note}" for note in row_notes(cells)),
    )


def read_table(path: Path) -> tuple[TpsRow, ...]:
    """Read a CSV table in the layout of Supplemental I; raises ``WorkloadError`` with the row and column at fault."""
    try:
        return read_tps_table(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise WorkloadError(
            f"cannot read the table {path}", why=error.strerror or str(error), fix="check --table"
        ) from error
    except UnicodeDecodeError as error:
        raise WorkloadError(
            f"cannot use the table {path}", why=f"it is not a text file in UTF-8: {error}", fix="save it as UTF-8"
        ) from error
    except ValueError as error:
        raise WorkloadError(
            f"cannot use the table {path}", why=str(error), fix="give a CSV in the layout of Supplemental I"
        ) from error


def check_one_kind(rows: Sequence[TpsRow]) -> None:
    """Raise ``WorkloadError`` where rows are of different models or node sizes."""
    kinds = {(row.model, row.gpus) for row in rows}
    if len(kinds) > 1:
        listed = "; ".join(f"{model} on {gpus} device(s)" for model, gpus in sorted(kinds))
        raise WorkloadError(
            "the rows cannot share one TPS model",
            why=listed,
            fix="refit one model and node size at a time: name it with --model, or give runs of one kind",
        )


def joules_of(runs: Sequence[MeasuredRun]) -> tuple[JouleSplit | None, str | None, tuple[str, ...]]:
    """Return the split of joules per query over the runs' fixed-length cells, or the reason why there is none."""
    measured = [cell for run in runs for cell in run.cells if cell.role != "ladder" and cell.joules_per_tok]
    cells = [cell for cell in measured if cell.workload.startswith("fixed:")]
    if not runs:
        return None, "no run folder of this model, and tables of throughput carry no joules", ()
    boundaries = sorted({cell.boundary for cell in cells})
    if len(boundaries) > 1:
        return None, f"the cells' joules are of different boundaries ({', '.join(boundaries)}): refit one at a time", ()
    split = split_joules(
        [
            EnergyCell(
                cell.mean_input_tok, cell.served_output_tok, (cell.joules_per_tok or 0.0) * cell.served_output_tok
            )
            for cell in cells
        ]
    )
    notes = tuple(f"joules at the boundary {boundary}, without PUE" for boundary in boundaries)
    return split, split.reason, (*notes, *_simulated(runs), *_mixed_concurrency(cells))


def power_of(runs: Sequence[MeasuredRun]) -> tuple[PowerFit | None, str | None]:
    """Return the line through TPS and node power of the runs' cells, or the reason why there is none."""
    if not runs:
        return None, "no run folder of this model, and tables of throughput carry no watts"
    cells = [cell for run in runs for cell in run.cells if cell.tps_tok_per_s and cell.watts and cell.boundary != "gpu"]
    boundaries = sorted({cell.boundary for cell in cells})
    if len(boundaries) > 1:
        return None, f"the cells' watts are of different boundaries ({', '.join(boundaries)}): refit one at a time"
    try:
        return fit_power(
            [cell.tps_tok_per_s or 0.0 for cell in cells],
            [(cell.watts or 0.0) / 1000 for cell in cells],
            model=runs[0].model,
            gpus=runs[0].gpus,
            boundary="".join(boundaries),
            source="; ".join(f"run {run.id}" for run in runs),
            notes=_simulated(runs),
        ), None
    except InsufficientRowsError as error:
        return None, f"{error} (cells with watts at a node boundary)"


def _simulated(runs: Sequence[MeasuredRun]) -> tuple[str, ...]:
    if any(run.simulated_power for run in runs):
        return ("the watts are simulated: these figures show that the parts fit together, nothing about real power",)
    return ()


def _mixed_concurrency(cells: Sequence[CellResult]) -> tuple[str, ...]:
    low, high = (pick((cell.concurrency for cell in cells), default=0) for pick in (min, max))
    if low == high:
        return ()
    return (
        f"the cells ran at concurrencies of {low} to {high}: the costs hold for that policy, not for one batch size",
    )
