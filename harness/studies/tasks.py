"""Tasks of several steps as something to estimate: by name or file, on a served model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.distributions import LogNormal
from estimator.power.node_power import NodePower
from estimator.queries.energies import NO_GAIN
from estimator.queries.served import ServedModel
from estimator.queries.tasks import TaskEnergies
from harness.errors import WorkloadError
from workloads.tasks import Task, load_task


def find_task(text: str) -> Task:
    """Return the shipped task or the one in a YAML file; raises WorkloadError where there is none."""
    try:
        return load_task(text)
    except ValueError as error:
        raise WorkloadError(str(error)) from error


def task_energies(
    task: Task, model: ServedModel, *, node_power: NodePower, pue: LogNormal, gain: LogNormal = NO_GAIN
) -> TaskEnergies:
    """Return the energies of whole tasks that ``model`` serves; power, PUE and gain are one draw for a task."""
    return TaskEnergies(task.shape, model.tps, node_power, pue, gain)


def task_entry(task: Task) -> dict[str, Any]:
    """Return what a document says about a task: its definition, and what follows from it."""
    return task.definition() | {"requests": task.shape.requests, "mean_output_tok": task.shape.mean_output_tok}


def task_notes(task: Task, energies: Mapping[str, TaskEnergies]) -> list[str]:
    """Return what a reader of a task's energy must know; ``energies`` are by model."""
    notes = [
        f"task {task.name}: {task.source}",
        "no prefix cache is assumed: every step pays its whole prefill again, through TPS(L_in, L_out)",
    ]
    if not task.shape.context_is_fixed:
        notes.append("the context keeps the output of one sample a step, chosen without regard to its length")
    for name, each in energies.items():
        if each.tps.form == "constant":
            notes.append(f"{name}: its throughput model takes no lengths, so a growing context costs it nothing")
        if each.extrapolated_share > 0:
            notes.append(
                f"{name}: {each.extrapolated_share:.0%} of the task's requests have a length outside its throughput "
                "data; their throughput is extrapolated"
            )
    return notes
