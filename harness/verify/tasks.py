"""Rules on whole tasks and on the prefix cache, worked out again from raw rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from harness.verify import rederive
from harness.verify.checks import EXACT_REL, RAW_REL, Check, equal, same
from harness.verify.evidence import Cell, Evidence
from harness.verify.figures import query_wh, served_tok


def task_shape(_: Evidence, cell: Cell) -> list[Check]:
    """Work out a task's mean output and samples from its definition: requests are steps times samples."""
    task, definition = cell.reported.get("task"), cell.definition.get("tasks")
    if task is None or definition is None:
        return []
    output_tok = definition["mean_requests"] * cell.definition["mean_output_tok"]
    return [
        *same("tokens of a task", task["mean_output_tok"], output_tok, EXACT_REL),
        *same("requests of a task", task["mean_requests"], task["mean_steps"] * definition["samples_per_step"]),
        *same("share of tasks cut short", task["cut_share"], definition["cut_share"], EXACT_REL),
    ]


def task_energy(evidence: Evidence, cell: Cell) -> list[Check]:
    """Work out Wh/task, its interval and its prediction: those of a query times the requests of a task."""
    task, query = cell.reported.get("task"), cell.reported.get("wh_per_query")
    if task is None:
        return []
    requests, wh = cell.definition["tasks"]["mean_requests"], query_wh(evidence, cell)
    checks = same("Wh/task", task["wh_per_task"], None if wh is None else requests * wh, RAW_REL)
    if task.get("served_output_tok") is not None:
        checks += same("tokens of a task as served", task["served_output_tok"], requests * served_tok(cell), EXACT_REL)
    predicted = cell.reported.get("predicted_wh_per_query")
    if task["predicted_wh_per_task"] is not None and predicted is not None:
        checks += same("predicted Wh/task", task["predicted_wh_per_task"], requests * predicted["mean"], EXACT_REL)
    if task["ci95"] is not None and query is not None:
        for reported, bound in zip(task["ci95"], query["ci95"], strict=True):
            checks += same("bound of Wh/task", reported, requests * bound, EXACT_REL)
    return checks


def tasks_completed(_: Evidence, cell: Cell, start_s: float, end_s: float) -> list[Check]:
    """Count the tasks of which every sample of the last step ended, the last of them in the window."""
    task = cell.reported.get("task")
    if task is None:
        return []
    ended, generated_tok, told_tok = defaultdict(list), 0, 0
    rows = cell.requests.to_dict("records")
    unfinished = {row["task"] for row in rows if row["task_last_step"] and row["outcome"] != "completed"}
    for row in rows:
        if row["outcome"] != "completed":
            continue
        generated_tok += int(row["output_tok"])
        told_tok += 0 if row["token_ids_tok"] is None or np.isnan(row["token_ids_tok"]) else int(row["token_ids_tok"])
        if row["task_last_step"] and row["task"] not in unfinished:
            ended[row["task"]].append((int(row["task_sample"]), float(row["end_mono_s"])))
    last = cell.definition["tasks"]["samples_per_step"] - 1
    whole = [max(times for _, times in rows) for rows in ended.values() if _is_whole([s for s, _ in rows], last)]
    completed = sum(start_s <= time_s <= end_s for time_s in whole)
    checks = [equal("tasks completed", task["completed"], completed)]
    if generated_tok:
        checks += same("share of told outputs", task["own_output_share"], told_tok / generated_tok, EXACT_REL)
    return checks


def _is_whole(samples: list[int], last: int) -> bool:
    """Return whether the samples that ended run to the last without a gap."""
    return sorted(samples) == list(range(min(samples), last + 1))


def prefix_cache(_: Evidence, cell: Cell, start_s: float, end_s: float) -> Iterable[Check]:
    """Work out which share of the prompt tokens looked up in the window the prefix cache held."""
    hits_tok, queries_tok = (
        rederive.growth(cell.scrapes, f"prefix_{name}_tok", start_s, end_s) for name in ("hits", "queries")
    )
    derived = hits_tok / queries_tok if hits_tok is not None and queries_tok else None
    return same("hit ratio", cell.reported.get("prefix_cache_hit_ratio"), derived, RAW_REL)
