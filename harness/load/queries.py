"""What the slots of a closed loop ask for next: independent requests of a workload, or the steps of tasks.

Both start in equilibrium: the first request of a slot is one that a stationary process would have in flight. Its length
is drawn length-biased, its age uniform within it; the age becomes extra prompt and only the rest is generated.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from estimator.lengths import IntArray, LengthDistribution
from harness.load.client import Answer
from harness.load.request import Query, TaskPosition
from workloads.prompts import Prompts
from workloads.replayed_tasks import TaskLengths


class Queries(Protocol):
    """Where a closed loop gets its requests."""

    def first_fill(self, server: int) -> Query:
        """Return the first request of a slot, already under way."""
        ...

    def next(self, server: int) -> Query:
        """Return what a freed slot sends next."""
        ...

    def ended(self, query: Query, answer: Answer) -> None:
        """Take how a request ended."""
        ...


def aged(query: Query, prompt: IntArray | None, age_tok: int) -> Query:
    """Return a request of which ``age_tok`` tokens are already generated; its prompt ends with them."""
    return Query(query.input_tok + age_tok, query.output_tok - age_tok, first_fill=True, prompt=prompt, task=query.task)


class IndependentQueries:
    """Requests that have nothing to do with each other."""

    def __init__(self, lengths: LengthDistribution, rng: np.random.Generator) -> None:
        """Draw requests with these lengths."""
        self._lengths, self._rng = lengths, rng

    def first_fill(self, _: int) -> Query:
        """Return a request in flight at an instant."""
        inputs, outputs = self._lengths.sample_length_biased(self._rng, 1)
        query = Query(int(inputs[0]), int(outputs[0]))
        return aged(query, None, int(self._rng.random() * query.output_tok))

    def next(self, _: int) -> Query:
        """Return a new request."""
        inputs, outputs = self._lengths.sample(self._rng, 1)
        return Query(int(inputs[0]), int(outputs[0]))

    def ended(self, query: Query, answer: Answer) -> None:
        """Nothing follows from how a request ended."""


@dataclass(eq=False)
class _OpenTask:
    """A task under way: where its next step's first row is, its context, and the samples of the step not yet ended."""

    number: int
    server: int
    row: int
    last_row: int
    step: int
    context: IntArray
    unsent: deque[int]
    unanswered: int
    kept: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class TaskQueries:
    """The steps of tasks: the prompt of a step is everything before it, so that the context grows.

    A slot that frees goes on with the oldest task of its server that has a sample to send; where all wait for samples
    in flight it begins a new task. With one sample a step each slot thus runs one task after another. The last sample
    of a step goes on, with the end of its output where only a part is kept. A failed request ends its task.
    """

    def __init__(
        self,
        lengths: TaskLengths,
        prompts: Prompts,
        rng: np.random.Generator,
        client: int = 0,
        clients: int = 1,
    ) -> None:
        """Replay tasks of a set; of several clients this is number ``client``, so that tasks are numbered once."""
        self._lengths, self._prompts, self._rng = lengths, prompts, rng
        self._shape = lengths.shape
        self._next_number, self._clients = client, clients
        self._open: dict[int, _OpenTask] = {}
        self._ready: dict[int, deque[_OpenTask]] = {}

    def first_fill(self, server: int) -> Query:
        """Return a request of a task under way; the samples of its step that follow it go to the next slots."""
        ready = self._ready.setdefault(server, deque())
        if not ready:
            ready.append(self._task_under_way(server))
        query = self._take(ready)
        age_tok = int(self._rng.random() * query.output_tok)
        made = self._prompts.draw(self._rng, age_tok)
        return aged(query, np.concatenate([self._open[_number(query)].context, made]), age_tok)

    def next(self, server: int) -> Query:
        """Return the next sample of the oldest task that has one to send, or the first of a new task."""
        ready = self._ready.setdefault(server, deque())
        if not ready:
            ready.append(self._new_task(server))
        return self._take(ready)

    def ended(self, query: Query, answer: Answer) -> None:
        """Grow the context of the request's task, and make its next step ready once every sample has ended."""
        task = self._open.get(_number(query))
        if task is None:
            return
        if answer.outcome != "completed":
            self._drop(task)
            return
        task.unanswered -= 1
        if query.task is not None and query.task.sample == self._shape.samples_per_step - 1:
            task.kept = self._kept(task, query, answer)
        if task.unanswered == 0:
            self._go_on(task)

    def _take(self, ready: deque[_OpenTask]) -> Query:
        task = ready[0]
        sample = task.unsent.popleft()
        if not task.unsent:
            ready.popleft()
        step_rows = self._shape.samples_per_step
        position = TaskPosition(task.number, task.step, sample, last_step=task.row + step_rows > task.last_row)
        output_tok = int(self._lengths.output_tok[task.row + sample])
        return Query(task.context.size, output_tok, prompt=task.context, task=position)

    def _new_task(self, server: int) -> _OpenTask:
        number = self._lengths.draw_task(self._rng)
        return self._opened(server, number, step=0, first_sample=0)

    def _task_under_way(self, server: int) -> _OpenTask:
        row = self._lengths.draw_request_length_biased(self._rng)
        task = self._lengths.task_of(row)
        step, sample = divmod(row - int(self._lengths.task_start[task]), self._shape.samples_per_step)
        return self._opened(server, task, step, sample)

    def _opened(self, server: int, task: int, step: int, first_sample: int) -> _OpenTask:
        start, end = (int(row) for row in self._lengths.task_start[task : task + 2])
        samples = self._shape.samples_per_step
        row = start + step * samples
        context = self._prompts.draw(self._rng, int(self._lengths.input_tok[row]))
        unsent = deque(range(first_sample, samples))
        opened = _OpenTask(self._next_number, server, row, end - 1, step, context, unsent, len(unsent))
        self._next_number += self._clients
        self._open[opened.number] = opened
        return opened

    def _kept(self, task: _OpenTask, query: Query, answer: Answer) -> IntArray:
        """Return the end of a sample's output that stays in the context; random tokens where the server gave none."""
        prompt = task.context if query.prompt is None else query.prompt
        made = np.concatenate([prompt[task.context.size :], np.asarray(answer.token_ids or (), dtype=np.int64)])
        output_tok = query.input_tok - task.context.size + query.output_tok
        missing = self._prompts.draw(self._rng, max(0, output_tok - made.size))
        whole = np.concatenate([made, missing])[:output_tok]
        keep = round(self._shape.kept_output_share * output_tok)
        kept: IntArray = whole[output_tok - keep :]
        return kept

    def _go_on(self, task: _OpenTask) -> None:
        samples = self._shape.samples_per_step
        if task.row + samples > task.last_row:
            del self._open[task.number]
            return
        task.row, task.step = task.row + samples, task.step + 1
        tool = self._prompts.draw(self._rng, self._shape.tool_result_tok)
        grown = np.concatenate([task.context, task.kept, tool])
        task.context = grown[grown.size - int(self._lengths.input_tok[task.row]) :]
        task.unsent, task.unanswered = deque(range(samples)), samples
        self._ready[task.server].append(task)

    def _drop(self, task: _OpenTask) -> None:
        del self._open[task.number]
        if task in self._ready[task.server]:
            self._ready[task.server].remove(task)


def _number(query: Query) -> int:
    if query.task is None:
        raise ValueError("the request belongs to no task")
    return query.task.number
