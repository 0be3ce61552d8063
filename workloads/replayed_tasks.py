"""Tasks of several steps as load: a fixed set of simulated tasks whose requests are also one length distribution.

Like the requests of a recorded trace, the set is what is replayed: its means are exact, whatever is drawn from it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from estimator.lengths import FloatArray, IntArray, LengthDistribution
from estimator.queries.tasks import TaskShape

TASKS = 1_000
_SEED = 20260601


@dataclass(frozen=True, eq=False)
class TaskLengths(LengthDistribution):
    """The requests of a set of tasks, each task equally likely.

    Rows are in the order of tasks, steps and samples; ``task_start`` of shape ``(tasks + 1,)`` says where each task's
    rows begin, ``output_by_step`` of shape ``(tasks, steps, samples)`` holds the lengths before any cap.
    """

    shape: TaskShape
    task_start: IntArray
    output_by_step: IntArray

    @property
    def tasks(self) -> int:
        """Tasks in the set."""
        return self.task_start.size - 1

    @property
    def mean_requests(self) -> float:
        """Mean requests of a task as replayed."""
        return self.weight.size / self.tasks

    @property
    def mean_steps(self) -> float:
        """Mean steps of a task as replayed: a context that is full ends a task early."""
        return self.mean_requests / self.shape.samples_per_step

    @property
    def mean_task_output_tok(self) -> float:
        """Mean output of a whole task in tokens, over all steps and samples."""
        return float(self.output_tok.sum()) / self.tasks

    @property
    def cut_share(self) -> float:
        """Share of the tasks that a full context ends before their last step."""
        return float((np.diff(self.task_start) < self.shape.requests).mean())

    def draw_task(self, rng: np.random.Generator) -> int:
        """Return the number of a task, all equally likely."""
        return int(rng.integers(self.tasks))

    def draw_request_length_biased(self, rng: np.random.Generator) -> int:
        """Return the row of a request in flight at an instant: its chance is proportional to its output length."""
        cumulative = self._cumulative_length_biased
        row = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return min(row, self.weight.size - 1)

    def task_of(self, row: int) -> int:
        """Return the number of the task that a row belongs to."""
        return int(np.searchsorted(self.task_start, row, side="right")) - 1

    def capped(self, context_tok: int) -> tuple[TaskLengths, float]:
        """Cap the context: an output ends where it is full, and so does a task whose next input leaves no room.

        Returns the share of the requests that are shorter for it or not made at all. Raises ``ValueError`` where not
        even the first step fits.
        """
        if self.shape.input_tok >= context_tok:
            raise ValueError(f"a first step of {self.shape.input_tok} tokens leaves no room in {context_tok}")
        capped = _task_lengths(self.shape, self.output_by_step, context_tok)
        whole = capped.output_tok == capped.uncapped_output_tok
        return capped, 1 - float(whole.sum()) / self.output_by_step.size

    @cached_property
    def uncapped_output_tok(self) -> IntArray:
        """Output of each row before any cap, shape ``(n,)``."""
        tasks, steps, samples = self.output_by_step.shape
        made = np.diff(self.task_start)
        replayed = np.arange(steps * samples)[None, :] < made[:, None]
        output_tok: IntArray = self.output_by_step.reshape(tasks, -1)[replayed]
        return output_tok


@dataclass(frozen=True)
class TaskReplay:
    """The length shape of a workload that replays tasks. A multiplier makes the outputs of every step longer."""

    task: TaskShape

    def lengths(self, multiplier: float) -> TaskLengths:
        """Return the set of tasks; the context of later steps grows with the multiplied outputs."""
        shape = replace(self.task, median_output_tok=self.task.median_output_tok * multiplier)
        return _task_lengths(shape, _outputs(shape), math.inf)

    def definition(self) -> dict[str, Any]:
        """Return the task's shape before any multiplier, and what its set was drawn with."""
        return {**asdict(self.task), "tasks_drawn": TASKS, "tasks_seed": _SEED}


def _outputs(shape: TaskShape) -> IntArray:
    """Draw the outputs of all tasks, shape ``(tasks, steps, samples)``: exponential, rounded, at least 1.

    Stratified for each step and sample (one draw in each of ``TASKS`` equally likely intervals), so that their means
    lie closer to the distribution's than those of independent draws.
    """
    rng = np.random.default_rng(_SEED)
    strata = np.tile(np.arange(TASKS), (shape.requests, 1))
    quantile = (rng.permuted(strata, axis=1).T + rng.random((TASKS, shape.requests))) / TASKS
    mean_tok = shape.median_output_tok / math.log(2)
    drawn_tok = np.maximum(1, np.rint(-mean_tok * np.log1p(-quantile))).astype(np.int64)
    output_by_step: IntArray = drawn_tok.reshape(TASKS, shape.steps, shape.samples_per_step)
    return output_by_step


def _task_lengths(shape: TaskShape, output_by_step: IntArray, context_tok: float) -> TaskLengths:
    """Return the tasks' requests within a context; the last sample of a step is the one that goes on."""
    inputs, outputs, made = _replay(shape, output_by_step, context_tok)
    input_tok, output_tok = inputs[made], outputs[made]
    return TaskLengths(
        input_tok.astype(np.int64),
        output_tok.astype(np.int64),
        np.full(input_tok.size, 1 / input_tok.size),
        shape,
        np.concatenate([[0], np.cumsum(made.sum(axis=(1, 2)))]).astype(np.int64),
        output_by_step,
    )


def _replay(
    shape: TaskShape, output_by_step: IntArray, context_tok: float
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return inputs, outputs and whether each request is made at all, all of shape ``(tasks, steps, samples)``."""
    inputs, outputs = (np.empty(output_by_step.shape) for _ in range(2))
    made = np.zeros(output_by_step.shape, dtype=np.bool_)
    limit_tok = math.inf if shape.input_limit_tok is None else shape.input_limit_tok
    context = np.full(output_by_step.shape[0], float(shape.input_tok))
    running = np.ones(output_by_step.shape[0], dtype=np.bool_)
    for step in range(shape.steps):
        running &= context < context_tok
        inputs[:, step], made[:, step] = context[:, None], running[:, None]
        outputs[:, step] = np.minimum(output_by_step[:, step], context_tok - context[:, None])
        kept_tok = np.rint(shape.kept_output_share * outputs[:, step, -1])
        context = np.minimum(context + kept_tok + shape.tool_result_tok, limit_tok)
    return inputs, outputs, made
