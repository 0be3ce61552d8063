"""``harness report``: from run folders to one HTML page, and what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from estimator.paired import Interval
from estimator.throughput.tps import TpsModel
from harness import __version__
from harness.analysis.pairs import bounds
from harness.errors import ConfigError, StoreError
from harness.repeats import REPEATS_FILE, read_repeats, run_folders
from harness.studies.checks import check_writable
from harness.studies.levers import Side, alphas, common_boundary, shared_cells, side_of
from harness.studies.report_view import run_view
from results.report.page import render
from results.report.view import Difference, Group, NamedModel, Report, RunView
from results.store import write_whole

SCHEMA = "inference-energy/report/1"
COVERS = {
    "between_runs": "what differs between starts of the server",
    "between_pairs": "scatter of pairs on one start of the server",
    "within_windows": "random errors within the windows alone: a restart may change more",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Given:
    """One input: a run folder, or a folder of repeats with the runs in it."""

    folder: Path
    runs: tuple[Path, ...]

    @property
    def repeats(self) -> bool:
        """Whether the input is a folder of repeats."""
        return (self.folder / REPEATS_FILE).is_file()


def write_report(inputs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the page of stored runs to ``out`` and say what is on it.

    Folders are runs, sweeps or repeats; files are throughput models of ``harness refit`` to draw beside them. Raises
    ``StoreError`` for a folder that is no run or a page that cannot be written, ``ConfigError`` for other files.
    """
    check_writable(out, "--out")
    models = tuple(_model(path) for path in inputs if path.is_file())
    given = [_given(path) for path in inputs if not path.is_file()]
    if not given:
        raise ConfigError("there is no run to report", fix="give a folder that harness stress or sweep left")
    report = _report(given, models)
    page = render(report)
    try:
        write_whole(out, page.html)
    except OSError as error:
        raise StoreError(f"cannot write {out}", why=error.strerror or str(error), fix="choose another --out") from error
    return {
        "schema": SCHEMA,
        "written": str(out),
        "bytes": len(page.html.encode()),
        "runs": [
            {
                "name": view.title,
                "id": view.result.run.id,
                "path": view.result.run.path,
                "verdict": view.verdict,
                "power_source": view.result.run.power_source,
                "figures": page.figures[view.title],
                "left_out": page.left_out[view.title],
            }
            for view in report.runs
        ],
    }


def _model(path: Path) -> NamedModel:
    try:
        return NamedModel(f"given: {path.name}", TpsModel.load(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is neither a run folder nor a throughput model", why=str(error), fix="give files of harness refit"
        ) from error


def _given(folder: Path) -> Given:
    return Given(folder, tuple(run_folders(folder)) if (folder / REPEATS_FILE).is_file() else (folder,))


def _report(given: Sequence[Given], models: Sequence[NamedModel]) -> Report:
    folders = [folder for one in given for folder in one.runs]
    letters = _letters(len(folders))
    views = tuple(run_view(folder, letter, models) for folder, letter in zip(folders, letters, strict=True))
    named = dict(zip(folders, views, strict=True))
    groups = tuple(
        Group(one.folder.name, tuple(named[folder].short for folder in one.runs), read_repeats(one.folder))
        for one in given
        if one.repeats
    )
    differences, why = _differences(given, named)
    return Report(
        views,
        groups,
        differences,
        why,
        made_by=f"inference-energy-harness {__version__}",
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _letters(count: int) -> list[str]:
    """Return a letter for each of several runs, numbers beyond the alphabet, and nothing for one alone."""
    return [""] if count == 1 else [*ascii_uppercase, *map(str, range(len(ascii_uppercase) + 1, count + 1))][:count]


def _differences(given: Sequence[Given], views: dict[Path, RunView]) -> tuple[tuple[Difference, ...], str]:
    """Return how every further input differs from the first, or the reason why that cannot be said."""
    if len(given) < 2:
        return (), "" if len(views) == 1 else "the runs are repeats of one, whose spread the table of repeats gives"
    if len({view.simulated for view in views.values()}) > 1:
        return (), "some of the runs have simulated power and some measured"
    sides = [side_of(one.folder, one.runs, [views[folder].result for folder in one.runs]) for one in given]
    labels = ["+".join(views[folder].short for folder in one.runs) for one in given]
    found: list[Difference] = []
    for side, label in zip(sides[1:], labels[1:], strict=True):
        try:
            found += _between(sides[0], side, labels[0], label)
        except ConfigError as error:
            return (), str(error).replace("\n", ";")
    return tuple(found), "" if found else "the runs share no cell of one workload, multiplier and role"


def _between(a: Side, b: Side, a_name: str, b_name: str) -> list[Difference]:
    lift = common_boundary(a, b)
    differences = []
    for key in shared_cells(a, b):
        tps, gain, invalid = alphas(key, a, b, lift)
        energy = None if gain is None else _inverse(gain)
        workload, multiplier, role = key
        name = workload if multiplier == 1 else f"{workload} {multiplier:g}x"
        note = f"invalid: {', '.join(invalid)}" if invalid else COVERS[energy.basis if energy else "unknown"]
        differences.append(
            Difference(
                cell=name if role == "compared" else f"{name} ({role})",
                a=a_name,
                b=b_name,
                boundary=lift.boundary,
                energy=energy.value if energy else None,
                energy_ci95=bounds(energy),
                tps=tps.value if tps else None,
                tps_ci95=bounds(tps),
                note=note,
            )
        )
    return differences


def _inverse(gain: Interval) -> Interval:
    """Return energy of B over A from the gain A over B."""
    low, high = (None if bound is None else 1 / bound for bound in (gain.high, gain.low))
    return Interval(1 / gain.value, low, high, gain.n, gain.basis)
