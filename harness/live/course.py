"""Where a run is on its way: the steps planned, those behind it, and how long the rest may take. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Span(NamedTuple):
    """Seconds that something may take: at least and at most, the latter ``None`` where nothing bounds it."""

    least_s: float
    most_s: float | None

    def plus(self, other: Span) -> Span:
        """Return the span of one after the other."""
        known = self.most_s is not None and other.most_s is not None
        return Span(self.least_s + other.least_s, (self.most_s or 0.0) + (other.most_s or 0.0) if known else None)

    def after(self, seconds: float) -> Span:
        """Return what is left of it after ``seconds``; never less than nothing."""
        return Span(max(0.0, self.least_s - seconds), None if self.most_s is None else max(0.0, self.most_s - seconds))


NO_TIME = Span(0.0, 0.0)
UNKNOWN_TIME = Span(0.0, None)


@dataclass(frozen=True)
class Step:
    """One step: its phase, the cell or the beginning of its cells' names, how many cells, and how long they take.

    ``cells`` is ``None`` where the step itself finds out how many there are. Steps of one ``group`` are listed as one;
    it is the phase unless given.
    """

    phase: str
    cell: str = ""
    takes: Span = NO_TIME
    cells: int | None = 1
    group: str = ""

    @property
    def listed_as(self) -> str:
        """Return what the list of phases calls it."""
        return self.group or self.phase

    def holds(self, phase: str, cell: str) -> bool:
        """Return whether a phase and cell belong to this step."""
        return phase == self.phase and (not self.cell or cell == self.cell or cell.startswith(f"{self.cell}-"))


@dataclass(frozen=True)
class Look:
    """What the window rule found at one look at a cell under load; ``None`` is not known.

    ``after_s`` is the length of the window looked at; ``reasons`` are those that still stand against ending the cell.
    """

    ended: bool
    after_s: float
    joules_per_tok: float | None
    half_width_rel: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Hold:
    """The load of a cell being held, in monotonic seconds; it ends at ``ends_s`` or at a look before."""

    cell: str
    began_s: float
    ends_s: float
    next_look_s: float | None


@dataclass
class Course:
    """The steps of a run and where it stands; ``position`` is -1 before the first.

    ``entered`` says of each step behind or under way when it began; a step that was left out is not in it.
    """

    steps: tuple[Step, ...] = ()
    position: int = -1
    cell_in_step: int = 0
    entered: dict[int, float] = field(default_factory=dict)

    def enter(self, phase: str, cell: str, now_s: float) -> None:
        """Go on to the step of a phase and cell; what no step foresaw stays within the present one."""
        ahead = range(self.position + 1, len(self.steps))
        exact = [i for i in ahead if self.steps[i].phase == phase and self.steps[i].cell == cell]
        here = self.position >= 0 and self.steps[self.position].holds(phase, cell)
        following = [] if here else [i for i in ahead if self.steps[i].holds(phase, cell)]
        if not (exact or following):
            self.cell_in_step += 1
            return
        self.position, self.cell_in_step = (exact or following)[0], 1
        self.entered[self.position] = now_s

    def count_cells(self, phase: str, cells: int, seconds: float) -> None:
        """Note that the steps of a phase turned out to have so many cells and to take so many seconds."""
        known = Span(seconds, seconds)
        self.steps = tuple(replace(s, cells=cells, takes=known) if s.phase == phase else s for s in self.steps)

    def began_s(self, hold: Hold | None) -> float | None:
        """Return when the present step, or the hold of its cell, began (monotonic); ``None`` before the first."""
        return self.entered.get(self.position) if hold is None else hold.began_s

    def left_of_cell(self, now_s: float, hold: Hold | None) -> Span:
        """Return how long the cell under load may still take, or else the present step."""
        if hold is None:
            return self.left_of_step(now_s)
        return Span((hold.next_look_s or hold.ends_s) - now_s, hold.ends_s - now_s).after(0.0)

    def left_of_step(self, now_s: float) -> Span:
        """Return how long the present step may still take, all its cells together."""
        if self.position < 0:
            return UNKNOWN_TIME
        return self.steps[self.position].takes.after(now_s - self.entered[self.position])

    def left_of_run(self, now_s: float, hold: Hold | None) -> Span:
        """Return how long the run may still take: the present step and those to come."""
        alone = hold is not None and self.position >= 0 and self.steps[self.position].cells == 1
        left = NO_TIME if self.position < 0 else self.left_of_step(now_s)
        left = self.left_of_cell(now_s, hold) if alone else left
        for step in self.steps[self.position + 1 :]:
            left = left.plus(step.takes)
        return left
