"""Tasks replayed on a scripted server, whose record of what it was asked and what it made is the oracle."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from estimator.queries.tasks import TaskShape
from harness.load.closed_loop import ClosedLoop
from harness.load.queries import TaskQueries
from harness.load.request import Target
from harness.server.api import new_session
from tests.fakes.scripted_engine import BLOCK_TOK, Script
from tests.fakes.scripted_server import scripted_server
from tests.fakes.waiting import until_in_loop
from workloads.prompts import RANDOM, TextPrompts
from workloads.replayed_tasks import TaskReplay

pytestmark = pytest.mark.timeout(60)

CHAIN = TaskShape(4, 1, 60, 12, tool_result_tok=9, kept_output_share=1.0)
SAMPLES = TaskShape(3, 3, 40, 8, tool_result_tok=5, kept_output_share=0.5)
LIMITED = TaskShape(5, 1, 60, 12, tool_result_tok=20, kept_output_share=1.0, input_limit_tok=80)
SCRIPT = Script(tok_per_s=20_000, prefix_caching=True)


def replay(shape, *, script=SCRIPT, slots=6, requests=150, returns_token_ids=True, servers=1, prompts=RANDOM,
           streamed_share=0.4):  # fmt: skip
    """Load servers with tasks until so many requests ended; returns rows in the order sent, and the servers."""

    async def load():
        rows, loaded = [], []

        async def with_server(left):
            if left:
                async with scripted_server(script) as server:
                    loaded.append(server)
                    await with_server(left - 1)
                return
            target = Target(tuple(server.url for server in loaded), "scripted", returns_token_ids)
            async with new_session() as session:
                loop = ClosedLoop(
                    session, target, TaskReplay(shape).lengths(1.0), cell="test", streamed_share=streamed_share,
                    rng=np.random.default_rng(3), sink=rows.append, prompts=prompts,
                )  # fmt: skip
                loop.grow_to(slots)
                await until_in_loop(lambda: len(rows) >= requests, f"{requests} requests")
                await loop.stop(drain=True)

        await with_server(servers)
        return sorted(rows, key=lambda row: row.send_mono_s), loaded

    return asyncio.run(load())


@pytest.fixture(scope="module")
def chain():
    return replay(CHAIN)


def made_ids(number, count):
    """Return what the scripted engine generates for its n-th request, as its documentation says it."""
    return [10_000 + (31 * number + place) % 50_000 for place in range(count)]


def test_the_prompt_of_a_step_is_everything_before_it_token_by_token(chain):
    rows, (server,) = chain
    prompts = {tuple(body["prompt"]): number for number, body in enumerate(server.asked, start=1)}
    continued = [row for row in rows if row.task_step and not row.first_fill]
    found = 0
    for prompt, number in prompts.items():
        asked = server.asked[number - 1]["max_tokens"]
        so_far = (*prompt, *made_ids(number, asked))
        next_step = [other for other in prompts if other != prompt and other[: len(so_far)] == so_far]
        found += sum(len(other) == len(so_far) + CHAIN.tool_result_tok for other in next_step)
    assert found == len(continued) > 80


def test_steps_follow_each_other_and_the_last_is_marked(chain):
    rows, _ = chain
    by_task = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    for task in by_task.values():
        steps = [row.task_step for row in task]
        assert steps == list(range(steps[0], steps[0] + len(steps)))
        assert [row.task_last_step for row in task] == [step == 3 for step in steps]
        assert steps[0] == 0 or task[0].first_fill
        assert all(after.send_mono_s >= before.answer.end_mono_s for before, after in pairwise(task))
        assert len({row.server for row in task}) == 1
    assert sum(task[0].first_fill for task in by_task.values()) == 6


def test_every_token_that_was_made_comes_back_by_its_id_and_only_its_count_is_recorded(chain):
    rows, (server,) = chain
    assert all(row.token_ids_tok == row.answer.output_tok == row.output_tok_asked for row in rows)
    assert all(row.answer.token_ids is None for row in rows)
    assert sum(row.token_ids_tok for row in rows) == server.engine.generated_tok
    assert {row.streamed for row in rows} == {True, False}


def test_the_prefix_cache_holds_the_steps_before_and_nothing_of_other_tasks(chain):
    rows, (server,) = chain
    expected_tok = 0
    for row in rows:
        if not row.first_fill and row.task_step:  # all but the tool's result and the block it falls into
            shared_tok = row.input_tok_sent - CHAIN.tool_result_tok
            expected_tok += min(shared_tok, row.input_tok_sent - 1) // BLOCK_TOK * BLOCK_TOK
    assert server.engine.prefix_hits_tok == expected_tok
    assert server.engine.prefix_queries_tok == sum(row.input_tok_sent for row in rows)


def test_contexts_grow_as_the_set_of_tasks_says(chain):
    rows, _ = chain
    lengths = TaskReplay(CHAIN).lengths(1.0)
    planned = set(zip(lengths.input_tok.tolist(), lengths.output_tok.tolist(), strict=True))
    assert all((row.input_tok_sent, row.output_tok_asked) in planned for row in rows if not row.first_fill)


def test_without_ids_random_tokens_of_the_same_number_stand_in_for_the_outputs():
    rows, (server,) = replay(CHAIN, script=replace(SCRIPT, token_ids=False))
    lengths = TaskReplay(CHAIN).lengths(1.0)
    planned = set(zip(lengths.input_tok.tolist(), lengths.output_tok.tolist(), strict=True))
    assert all((row.input_tok_sent, row.output_tok_asked) in planned for row in rows if not row.first_fill)
    assert {row.token_ids_tok for row in rows} == {0}
    continued = [row for row in rows if row.task_step and not row.first_fill]
    held_tok = server.engine.prefix_hits_tok
    assert 0 < held_tok < 0.9 * sum(row.input_tok_sent - CHAIN.tool_result_tok for row in continued)


def test_a_server_that_cannot_tell_is_not_asked_for_ids():
    rows, (server,) = replay(CHAIN, returns_token_ids=False, requests=40)
    assert {row.token_ids_tok for row in rows} == {None}
    assert not any("return_token_ids" in body for body in server.asked)


def test_samples_of_a_step_share_its_prompt_and_the_end_of_the_last_goes_on():
    rows, (server,) = replay(SAMPLES, slots=7, requests=200)
    assert server.most_open == 7
    samples, aged = defaultdict(list), {(row.task, row.task_step) for row in rows if row.first_fill}
    for row in rows:
        samples[row.task, row.task_step].append(row.task_sample)
    whole = {key for key in samples if key not in aged}
    assert all(samples[key] == list(range(len(samples[key]))) for key in whole)
    by_prompt = defaultdict(list)
    for number, body in enumerate(server.asked, start=1):
        by_prompt[tuple(body["prompt"])].append((number, body["max_tokens"]))
    sizes = sorted(len(asked) for prompt, asked in by_prompt.items())
    unaged = sorted(len(samples[key]) for key in whole)
    assert not Counter(unaged) - Counter(sizes)  # every first fill has a prompt of its own besides
    continued = 0
    for prompt in by_prompt:
        before = [start for start in by_prompt if prompt != start and prompt[: len(start)] == start]
        continued += any(_goes_on(prompt, start, by_prompt[start]) for start in before)
    expected = sum((task, step - 1) in whole for task, step in whole)
    assert 15 < expected <= continued <= sum(step > 0 for _, step in whole)


def _goes_on(prompt, start, asked):
    """Return whether a prompt is an earlier one, the second half of an answer to it, and a tool's result."""
    for number, tokens in asked:
        kept = round(0.5 * tokens)
        end = len(start) + kept
        same = prompt[len(start) : end] == tuple(made_ids(number, tokens)[tokens - kept :])
        if same and len(prompt) == end + SAMPLES.tool_result_tok:
            return True
    return False


def test_a_limited_context_drops_what_is_oldest():
    rows, (server,) = replay(LIMITED, slots=1, requests=60)
    before = None
    for row, body in zip(rows, server.asked, strict=True):
        assert row.first_fill or len(body["prompt"]) <= 80
        if before is not None and row.task_step and not before[0].first_fill:
            so_far = [*before[1]["prompt"], *made_ids(before[2], before[1]["max_tokens"])]
            prompt = body["prompt"]
            kept = len(prompt) - LIMITED.tool_result_tok
            assert prompt[:kept] == so_far[len(so_far) - kept :]
        before = (row, body, 1 if before is None else before[2] + 1)


def test_a_task_stays_on_one_server_while_the_slots_are_shared_out():
    rows, servers = replay(CHAIN, servers=2, slots=5)
    assert [server.most_open for server in servers] == [3, 2]
    assert all(len({row.server for row in rows if row.task == task}) == 1 for task in {row.task for row in rows})


def test_a_failed_request_ends_its_task():
    rows, (server,) = replay(CHAIN, script=Script(fault="http_500"), slots=3, requests=9)
    assert len({row.task for row in rows}) == len(rows) == len(server.asked)
    assert [row.task_step for row in rows if not row.first_fill] == [0] * (len(rows) - 3)


def test_first_fills_lie_at_a_length_biased_point_of_a_task_and_never_beyond_its_context():
    lengths, _ = TaskReplay(CHAIN).lengths(1.0).capped(110)
    queries = TaskQueries(lengths, RANDOM, np.random.default_rng(2))
    firsts = [queries.first_fill(0) for _ in range(4_000)]
    assert all(first.first_fill and first.prompt.size == first.input_tok for first in firsts)
    assert all(first.output_tok >= 1 and first.input_tok + first.output_tok <= 110 for first in firsts)
    totals = set((lengths.input_tok + lengths.output_tok).tolist())
    assert {first.input_tok + first.output_tok for first in firsts} <= totals
    rests = np.array([first.output_tok for first in firsts])
    outputs = lengths.output_tok
    assert abs(rests.mean() - ((outputs**2).mean() / (2 * outputs.mean()) + 0.5)) < 4 * rests.std() / rests.size**0.5
    steps = np.bincount([first.task.step for first in firsts], minlength=4) / len(firsts)
    made = np.zeros(4)
    for start, end in pairwise(lengths.task_start):
        made[: end - start] += lengths.output_tok[start:end]
    assert np.abs(steps - made / made.sum()).max() < 4 * 0.5 / len(firsts) ** 0.5


def test_clients_number_their_tasks_apart():
    numbers = [
        {TaskQueries(TaskReplay(CHAIN).lengths(1.0), RANDOM, np.random.default_rng(0), client, 3).next(0).task.number}
        for client in range(3)
    ]
    assert numbers == [{0}, {1}, {2}]


def test_text_prompts_fill_system_prompt_and_tool_results():
    words = np.arange(70_000, 71_000)
    _, (server,) = replay(CHAIN, prompts=TextPrompts(words, "text"), requests=30)
    ids = {token for body in server.asked for token in body["prompt"]}
    assert all(token in range(70_000, 71_000) or 10_000 <= token < 60_000 for token in ids)


def test_an_answer_to_an_unknown_task_changes_nothing(chain):
    queries = TaskQueries(TaskReplay(CHAIN).lengths(1.0), RANDOM, np.random.default_rng(0))
    query = queries.next(0)
    failed = SimpleNamespace(outcome="error", token_ids=None)
    queries.ended(query, failed)
    queries.ended(query, failed)
    assert queries.next(0).task.number != query.task.number
