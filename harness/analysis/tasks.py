"""What a cell's record says of whole tasks and of the prefix cache. Pure."""

from __future__ import annotations

import pandas as pd

from harness.analysis.celllog import CellLog
from harness.analysis.measured import growth
from harness.analysis.steady import Window
from results.schema import PredictedQueryEnergy, QueryEnergy, TaskResult


def prefix_cache_hit_ratio(log: CellLog, window: Window) -> float | None:
    """Return the share of the prompt tokens looked up in the window whose KV was reused; ``None`` if none were.

    A server that does not cache prefixes looks none up; one that does not tell exports no counters.
    """
    columns = ("prefix_hits_tok", "prefix_queries_tok")
    if not set(columns) <= set(log.server.columns):
        return None
    hits_tok, queries_tok = (growth(log, window, column) for column in columns)
    return hits_tok / queries_tok if hits_tok is not None and queries_tok else None


def task_result(
    log: CellLog, window: Window, energy: QueryEnergy | None, predicted: PredictedQueryEnergy | None
) -> TaskResult | None:
    """Return the figures of whole tasks, or ``None`` for a cell that replays none.

    A task costs J/token times its mean output, which is that of a request as served times the mean requests of a task.
    """
    task = log.definition.tasks
    if task is None:
        return None
    requests = task.mean_requests
    low_high = None if energy is None else energy.ci95
    return TaskResult(
        mean_steps=task.mean_steps,
        mean_requests=requests,
        mean_output_tok=task.mean_output_tok,
        served_output_tok=None if energy is None or energy.output_tok is None else requests * energy.output_tok,
        cut_share=task.cut_share,
        completed=completed_tasks(log.requests, task.samples_per_step, window.start_s, window.end_s),
        wh_per_task=None if energy is None else requests * energy.mean,
        ci95=None if low_high is None else (requests * low_high[0], requests * low_high[1]),
        predicted_wh_per_task=None if predicted is None else requests * predicted.mean,
        own_output_share=own_output_share(log.requests),
    )


def completed_tasks(requests: pd.DataFrame, samples_per_step: int, start_s: float, end_s: float) -> int:
    """Count the tasks whose last step ended, with all its samples, between two times.

    A first fill stands for a step under way: the samples of it that had ended before the load began are not waited for.
    """
    last = requests[requests["task_last_step"].eq(True)]
    last = last[~last["task"].isin(last.loc[last["outcome"] != "completed", "task"])]
    ended = last.groupby("task").agg(
        end_s=("end_mono_s", "max"), samples=("task_sample", "count"), first=("task_sample", "min")
    )
    whole = ended["samples"] + ended["first"] == samples_per_step
    return int((whole & ended["end_s"].between(start_s, end_s)).sum())


def own_output_share(requests: pd.DataFrame) -> float | None:
    """Return the share of generated tokens whose ids came back; ``None`` where nothing was generated."""
    done = requests[requests["outcome"].eq("completed") & requests["task"].notna()]
    generated_tok = float(done["output_tok"].sum())
    return float(done["token_ids_tok"].fillna(0).sum()) / generated_tok if generated_tok else None
