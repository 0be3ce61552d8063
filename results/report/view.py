"""What the report of a run shows, before it is drawn: stored documents, traces reduced for the eye, and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from estimator.throughput.s1 import TpsRow
from estimator.throughput.tps import TpsModel
from results.report.envelope import Envelope
from results.schema import Boundary, CellResult, Manifest, RunResult, StoredPrediction, Verdict


@dataclass(frozen=True)
class Trace:
    """A named course over time."""

    name: str
    envelope: Envelope


@dataclass(frozen=True)
class Span:
    """A stretch of a run in seconds since its start: ``idle``, ``search`` or ``cell``, and a cell's window."""

    kind: str
    name: str
    start_s: float
    end_s: float
    window_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Timeline:
    """The course of a run. Watts are readings: of single devices, and totals at their boundaries."""

    duration_s: float
    totals: tuple[Trace, ...] = ()
    devices: tuple[Trace, ...] = ()
    throughput: Trace | None = None
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class SearchRung:
    """One rung of the search for a cell's concurrency."""

    cell: str
    concurrency: int
    tps_tok_per_s: float
    tps_u_tok_per_s: float | None


@dataclass(frozen=True)
class NamedModel:
    """A throughput model to draw, and what a reader calls it."""

    name: str
    model: TpsModel


@dataclass(frozen=True)
class Refit:
    """The document of a refit to the run's fixed-length cells, or the reason why there is none."""

    document: Mapping[str, Any] | None
    reason: str = ""


@dataclass(frozen=True)
class RunView:
    """One run as the report shows it; ``letter`` tells it from the others on the page and is empty for one alone."""

    name: str
    result: RunResult
    manifest: Manifest
    prediction: StoredPrediction | None
    timeline: Timeline
    rungs: tuple[SearchRung, ...] = ()
    models: tuple[NamedModel, ...] = ()
    s1_rows: tuple[TpsRow, ...] = ()
    refit: Refit = field(default_factory=lambda: Refit(None, "the run has no refit"))
    sweep: Mapping[str, Any] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    letter: str = ""

    @property
    def title(self) -> str:
        """The run's letter and name."""
        return f"{self.letter}: {self.name}" if self.letter else self.name

    @property
    def short(self) -> str:
        """The run's letter, or its name where it has none."""
        return self.letter or self.name

    @property
    def simulated(self) -> bool:
        """Whether the joules at the run's boundary, which all its figures of energy are of, are simulated."""
        return "simulated" in self.result.run.power_source

    @property
    def simulated_gpus(self) -> bool:
        """Whether the watts of the GPUs are simulated, be the run's own joules those of a meter or not."""
        return "simulated" in self.manifest.power.name

    @property
    def metered(self) -> str:
        """The meters of the run and what each covers, or nothing without any."""
        return ", ".join(f"{meter.name} ({meter.boundary})" for meter in self.manifest.meters)

    @property
    def compared(self) -> tuple[CellResult, ...]:
        """The cells that are set beside a prediction, or would be if there were one."""
        return tuple(cell for cell in self.result.cells if cell.role == "compared")

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """All cells, those of a calibration last."""
        return (*self.result.cells, *self.result.calibration_cells)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the cells that the headline speaks of.

        A run without any is invalid, and one that did not reach its end is suspect at best.
        """
        verdicts = {cell.verdict for cell in self.compared or self.result.cells}
        if not verdicts or "invalid" in verdicts:
            return "invalid"
        return "suspect" if "suspect" in verdicts or self.result.run.status != "complete" else "valid"


@dataclass(frozen=True)
class Difference:
    """One kind of cell in run B over the same in run A, with 95% intervals where they are known."""

    cell: str
    a: str
    b: str
    boundary: Boundary
    energy: float | None
    energy_ci95: tuple[float, float] | None
    tps: float | None
    tps_ci95: tuple[float, float] | None
    note: str


@dataclass(frozen=True)
class Group:
    """Repeats of one run: their names and the stored document of all."""

    name: str
    runs: tuple[str, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Everything of one report page."""

    runs: tuple[RunView, ...]
    groups: tuple[Group, ...] = ()
    differences: tuple[Difference, ...] = ()
    why_no_differences: str = ""
    made_by: str = ""
    made_at: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: ``finding`` says in words what it shows; ``draw`` makes it wide, or narrow for a phone."""

    key: str
    title: str
    finding: str
    caption: str
    draw: Callable[[bool], Figure]


@dataclass(frozen=True)
class LeftOut:
    """A figure that a reader may expect, and why it is not there."""

    title: str
    reason: str
