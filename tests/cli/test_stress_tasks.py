"""Tasks replayed from the command line on a scripted server that caches prefixes, and prompts made of a text."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.studies.verify import verification_document
from results.schema import RunResult
from results.store import RunReader
from tests.cli.command import ROOT, Ended, ended, start_harness
from tests.cli.test_stress_fake_server import tps_model
from tests.fakes.scripted_engine import Script
from tests.fakes.server_process import server_process

pytestmark = pytest.mark.timeout(300)

TASK = """
name: short-agent
description: three steps of a few tokens
source: made up
steps: 3
samples_per_step: 1
input_tok: 200
median_output_tok: 20
tool_result_tok: 40
kept_output_share: 1.0
input_limit_tok: null
"""
COMMON = (
    "stress", "--multiplier", "2", "--budget", "6", "--min-window", "3", "--idle", "1", "--power", "simulated",
    "--linger", "0", "--metrics-address", "none", "--concurrency", "6", "--json",
)  # fmt: skip
CACHING = Script(tok_per_s=400, prefix_caching=True)
SECRETIVE = Script(tok_per_s=400, token_ids=False)

Run = tuple[RunResult, RunReader]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "task.yaml").write_text(TASK)
    (folder / "book.txt").write_text(" ".join(f"word{number}" for number in range(3_000)))
    task = ("--workload", f"task:{folder / 'task.yaml'}", "--tps-model", str(tps_model(folder)))
    with ExitStack() as stack:
        urls = [stack.enter_context(server_process(script)) for script in (CACHING, SECRETIVE)]
        words = {
            "caching": (*task, "--clients", "2", "--drain", "--url", urls[0]),
            "secretive": (*task, "--prompts", f"text:{folder / 'book.txt'}", "--url", urls[1]),
        }
        jobs = {
            name: start_harness(*COMMON, *own, "--out", str(folder / name), cwd=ROOT, env={**os.environ})
            for name, own in words.items()
        }
        yield {name: _result(ended(job), folder / name) for name, job in jobs.items()}


def _result(end: Ended, out: Path) -> Run:
    assert end.out, end.err
    return RunResult.model_validate(json.loads(end.out)), RunReader(next(out.iterdir()))


def test_a_task_costs_what_its_requests_cost_together(runs: dict[str, Run]) -> None:
    result, _ = runs["caching"]
    for cell in result.cells:
        task = cell.task
        assert task is not None
        assert cell.wh_per_query is not None
        assert cell.predicted_wh_per_query is not None
        assert task.mean_requests == task.mean_steps == 3
        assert task.mean_output_tok == pytest.approx(3 * 20 * cell.multiplier / 0.6931, rel=0.01)
        assert task.wh_per_task == pytest.approx(3 * cell.wh_per_query.mean)
        assert task.predicted_wh_per_task == pytest.approx(3 * cell.predicted_wh_per_query.mean)
        assert cell.workload == "task:short-agent"


def test_completed_tasks_can_be_counted_again_from_the_requests(runs: dict[str, Run]) -> None:
    result, reader = runs["caching"]
    rows = reader.table("requests")
    for cell in result.cells:
        assert cell.task is not None
        assert cell.window is not None
        ended_s = {}
        for row in rows[rows["cell"] == cell.name].to_dict("records"):
            if row["task_step"] == 2 and row["outcome"] == "completed":
                ended_s[row["task"]] = row["end_mono_s"]
        inside = [s for s in ended_s.values() if cell.window.start_mono_s <= s <= cell.window.end_mono_s]
        assert cell.task.completed == len(inside) > 10


def test_the_share_of_the_prompts_that_the_cache_held_is_told_with_its_setting(runs: dict[str, Run]) -> None:
    """Of three steps of which all but the tool's result is known, about 0, 0.83 and 0.85 of the prompt are held."""
    result, reader = runs["caching"]
    assert [server["prefix_caching"] for server in reader.json("manifest.json")["servers"]] == [True]
    for cell in result.cells:
        grown_tok = 20 * cell.multiplier / 0.6931
        inputs = [200 + step * (grown_tok + 40) for step in range(3)]
        expected = sum(tok - 40 - 8 for tok in inputs[1:]) / sum(inputs)
        assert cell.prefix_cache_hit_ratio == pytest.approx(expected, abs=0.06)
        assert cell.task is not None
        assert cell.task.own_output_share == 1.0


def test_a_server_without_ids_and_cache_is_labelled_and_its_ratio_unknown(runs: dict[str, Run]) -> None:
    result, reader = runs["secretive"]
    assert any("does not return the ids" in label for label in result.run.labels)
    assert [server["prefix_caching"] for server in reader.json("manifest.json")["servers"]] == [False]
    for cell in result.cells:
        assert cell.prefix_cache_hit_ratio is None
        assert cell.task is not None
        assert cell.task.own_output_share == 0.0


def test_text_prompts_are_recorded_with_their_source(runs: dict[str, Run]) -> None:
    result, reader = runs["secretive"]
    assert {cell.prompts for cell in result.cells} == {"text: slices of book.txt"}
    assert reader.json("manifest.json")["workload"]["prompts"]["kind"] == "text: slices of book.txt"
    (tokenized,) = (event for event in reader.events() if event["event"] == "text_tokenized")
    assert tokenized["tokens"] == 3_000
    assert {cell.prompts for cell in runs["caching"][0].cells} == {"random token ids"}


@pytest.mark.parametrize("name", ["caching", "secretive"])
def test_every_figure_of_a_task_is_derived_again_from_the_record(runs: dict[str, Run], name: str) -> None:
    _, reader = runs[name]
    rules = {rule["id"]: rule for rule in verification_document(reader.folder)["rules"]}
    own = {key: rules[key] for key in ("tasks", "tasks_completed", "wh_per_task")}
    assert {rule["status"] for rule in (*own.values(), rules["cells"])} == {"pass"}, (own, rules["cells"])
    assert rules["prefix_cache"]["status"] == ("pass" if name == "caching" else "not_applicable")
    assert rules["tokens"]["status"] == "pass"
