"""The set of tasks against a scalar loop that replays them one by one, and against the task's own distribution."""

import math
from itertools import pairwise

import numpy as np
import pytest

from estimator.queries.tasks import TaskShape
from workloads.replayed_tasks import TASKS, TaskReplay
from workloads.spec import WorkloadNameError, load_workload
from workloads.tasks import load_task

PLAIN = TaskShape(6, 1, 500, 100, tool_result_tok=50, kept_output_share=1.0)
SAMPLES = TaskShape(4, 3, 200, 80, tool_result_tok=7, kept_output_share=0.35)
LIMITED = TaskShape(5, 2, 300, 150, tool_result_tok=90, kept_output_share=1.0, input_limit_tok=700)
SHAPES = pytest.mark.parametrize("shape", [PLAIN, SAMPLES, LIMITED], ids=["plain", "samples", "limited"])


def replayed(lengths, context_tok=None):
    """Replay each task's outputs by hand; returns the (input, output) of every request that is made, by task."""
    shape, tasks = lengths.shape, []
    for outputs in lengths.output_by_step.tolist():
        context, requests = shape.input_tok, []
        for step in outputs:
            if context_tok is not None and context >= context_tok:
                break
            room = math.inf if context_tok is None else context_tok - context
            requests += [(context, min(output, room)) for output in step]
            context += round(shape.kept_output_share * requests[-1][1]) + shape.tool_result_tok
            if shape.input_limit_tok is not None:
                context = min(context, shape.input_limit_tok)
        tasks.append(requests)
    return tasks


def rows(lengths):
    pairs = list(zip(lengths.input_tok.tolist(), lengths.output_tok.tolist(), strict=True))
    edges = lengths.task_start.tolist()
    return [pairs[start:end] for start, end in pairwise(edges)]


@SHAPES
@pytest.mark.parametrize("context_tok", [None, 4_000, 650])
def test_every_request_has_the_context_that_grew_before_it(shape, context_tok):
    lengths = TaskReplay(shape).lengths(1.0)
    if context_tok is not None:
        lengths, _ = lengths.capped(context_tok)
    assert rows(lengths) == replayed(lengths, context_tok)


@SHAPES
@pytest.mark.parametrize("context_tok", [800, 650])
def test_no_request_exceeds_the_context_and_the_share_that_is_shorter_or_not_made_is_told(shape, context_tok):
    whole = TaskReplay(shape).lengths(1.0)
    capped, share = whole.capped(context_tok)
    assert (capped.input_tok + capped.output_tok).max() <= context_tok
    by_hand = replayed(whole, context_tok)
    planned = [output for task in whole.output_by_step.reshape(TASKS, -1).tolist() for output in task]
    kept = sum(
        got == wanted
        for task, requests in zip(whole.output_by_step.reshape(TASKS, -1).tolist(), by_hand, strict=True)
        for (_, got), wanted in zip(requests, task, strict=False)
    )
    assert share == pytest.approx(1 - kept / len(planned))
    assert capped.cut_share == sum(len(task) < shape.requests for task in by_hand) / TASKS
    assert capped.mean_steps == pytest.approx(sum(len(task) for task in by_hand) / TASKS / shape.samples_per_step)
    assert capped.mean_task_output_tok == pytest.approx(sum(out for task in by_hand for _, out in task) / TASKS)


def test_a_context_that_is_large_enough_changes_nothing():
    whole = TaskReplay(PLAIN).lengths(1.0)
    capped, share = whole.capped(10**6)
    assert (share, capped.cut_share, capped.mean_steps) == (0.0, 0.0, 6.0)
    assert rows(capped) == rows(whole)


def test_a_task_whose_first_step_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="500 tokens leaves no room in 500"):
        TaskReplay(PLAIN).lengths(1.0).capped(500)


@SHAPES
@pytest.mark.parametrize("multiplier", [1.0, 15.0])
def test_a_multiplier_makes_the_outputs_longer_and_the_context_with_them(shape, multiplier):
    lengths = TaskReplay(shape).lengths(multiplier)
    long_tok = 15 * shape.median_output_tok / math.log(2)
    expected_tok = shape.output_lengths.mean_output_tok if multiplier == 1 else long_tok
    assert lengths.mean_output_tok == pytest.approx(expected_tok, rel=0.005)
    assert lengths.mean_task_output_tok == pytest.approx(shape.requests * expected_tok, rel=0.005)
    if shape is PLAIN:  # each step adds one mean output and the tool's result
        grown_tok = np.mean([500 + step * (expected_tok + 50) for step in range(6)])
        assert lengths.mean_input_tok == pytest.approx(grown_tok, rel=0.02)


def test_outputs_of_every_step_follow_the_exponential_distribution():
    outputs = TaskReplay(PLAIN).lengths(1.0).output_by_step
    mean_tok = 100 / math.log(2)
    for step in range(6):
        for quantile in (0.1, 0.5, 0.9, 0.99):
            expected_tok = -mean_tok * math.log(1 - quantile)
            assert np.quantile(outputs[:, step], quantile) == pytest.approx(expected_tok, rel=0.03, abs=1)
    steps = np.corrcoef(outputs.reshape(TASKS, -1), rowvar=False)
    assert abs(steps - np.eye(6)).max() < 5 / math.sqrt(TASKS)


def test_requests_in_flight_are_drawn_by_their_length():
    lengths = TaskReplay(TaskShape(2, 1, 10, 50, tool_result_tok=0, kept_output_share=1.0)).lengths(1.0)
    rng = np.random.default_rng(5)
    drawn = np.array([lengths.draw_request_length_biased(rng) for _ in range(20_000)])
    outputs = lengths.output_tok[drawn]
    expected_tok = (lengths.output_tok**2).mean() / lengths.output_tok.mean()
    assert abs(outputs.mean() - expected_tok) < 4 * outputs.std() / math.sqrt(drawn.size)
    assert [lengths.task_of(row) for row in (0, 1, 2, 2 * TASKS - 1)] == [0, 0, 1, TASKS - 1]


def test_a_task_is_a_workload_by_name_or_file(tmp_path):
    workload = load_workload("task:agentic-coding")
    assert (workload.name, workload.shape.task) == ("task:agentic-coding", load_task("agentic-coding").shape)
    assert {"steps": 20, "tasks_drawn": TASKS}.items() <= workload.definition().items()
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        "{name: mine, description: d, source: s, steps: 2, samples_per_step: 1, input_tok: 5, median_output_tok: 3.0,"
        " tool_result_tok: 1, kept_output_share: 1.0, input_limit_tok: null}"
    )
    assert load_workload(f"task:{profile}").name == "task:mine"
    with pytest.raises(WorkloadNameError, match="agentic-coding"):
        load_workload("task:agentic-codin")
