"""The main job on a server that speaks the OpenAI API but exports no metrics, and as an open loop on one that does."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.analysis.celllog import read_cells
from harness.load.health import client_health
from results.schema import RunResult
from results.store import RunReader
from tests.cli.command import ROOT, Ended, ended, start_harness
from tests.fakes.scripted_engine import Script
from tests.fakes.server_process import server_process

pytestmark = pytest.mark.timeout(300)

COMMON = (
    "stress", "--workload", "fixed:20x40", "--multiplier", "2", "--budget", "5", "--idle", "1", "--power", "simulated",
    "--linger", "0", "--metrics-address", "none", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Ended, Path]]]:
    """Both jobs at once."""
    folder = tmp_path_factory.mktemp("plain")
    script = Script(tok_per_s=400)
    with server_process(Script(tok_per_s=400, metrics=False)) as plain, server_process(script) as counted:
        words = {
            "plain": ("--url", plain, "--concurrency", "6", "--clients", "2", "--stream-share", "1"),
            "open": ("--url", counted, "--arrival", "poisson:10"),
            "searching": ("--url", plain),
        }
        jobs = {
            name: start_harness(*COMMON, *own, "--out", str(folder / name), cwd=ROOT, env=_environment())
            for name, own in words.items()
        }
        yield {name: (ended(job), folder / name) for name, job in jobs.items()}


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "300"}


def result_of(runs: dict[str, tuple[Ended, Path]], name: str) -> tuple[RunResult, RunReader]:
    end, folder = runs[name]
    assert end.out, end.err
    return RunResult.model_validate(json.loads(end.out)), RunReader(next(folder.iterdir()))


def test_without_metrics_tokens_are_the_usage_and_what_is_not_known_is_said(
    runs: dict[str, tuple[Ended, Path]],
) -> None:
    result, reader = result_of(runs, "plain")
    sent = reader.table("requests")
    assert any("exports no token counter" in label for label in result.run.labels)
    assert len(result.cells) == 2
    for cell in result.cells:
        assert cell.window is not None
        ends_s = sent.loc[sent["cell"] == cell.name, "end_mono_s"]
        answered = ends_s.between(cell.window.start_mono_s, cell.window.end_mono_s).sum()
        answered_tps = 40 * cell.multiplier * answered / cell.window.duration_s
        assert cell.tps_tok_per_s == pytest.approx(answered_tps, rel=0.15)  # 6 requests cross each edge
        assert 0.3 * 6 * 400 < (cell.tps_tok_per_s or 0) < 1.1 * 6 * 400
        assert (cell.queue_share, cell.kv_usage_ratio, cell.preemptions) == (None, None, None)
        assert (cell.tokens.counter_tok, cell.tokens.consistent) == (None, None)
        assert cell.requests.completed > 0
        assert cell.requests.aborted == 0


def test_the_load_goes_on_until_all_that_was_in_flight_at_its_end_has_answered(
    runs: dict[str, tuple[Ended, Path]],
) -> None:
    _, reader = result_of(runs, "plain")
    sent = reader.table("requests")
    for log in read_cells(reader):
        assert set(log.requests["outcome"]) == {"completed"}
        assert (log.requests["send_mono_s"] <= log.load_stop_s).all()
        assert (log.requests["end_mono_s"] > log.load_stop_s).any()
        assert ((sent["cell"] == log.definition.name) & (sent["send_mono_s"] > log.load_stop_s)).any()


def test_two_clients_share_the_load_and_their_health_is_stored(runs: dict[str, tuple[Ended, Path]]) -> None:
    _, reader = result_of(runs, "plain")
    for log in read_cells(reader):
        assert (log.definition.clients, log.definition.streamed_share) == (2, 1.0)
        assert set(log.requests["client"]) == {0, 1}
        assert log.requests["streamed"].all()
        health = client_health(log.client, log.requests, log.filled_s, log.load_stop_s)
        assert health.clients == 2
        assert None not in (health.lag_p99_s, health.cpu_share, health.refill_p50_s)


def test_a_server_without_a_counter_cannot_be_searched(runs: dict[str, tuple[Ended, Path]]) -> None:
    end, _ = runs["searching"]
    assert end.code == 2
    assert "the search for saturation needs a server that counts its tokens" in end.err
    assert "--concurrency" in end.err


def test_an_open_loop_keeps_its_rate_and_has_no_prediction(runs: dict[str, tuple[Ended, Path]]) -> None:
    result, reader = result_of(runs, "open")
    assert "open loop" in result.run.prediction
    for log in read_cells(reader):
        assert log.definition.arrival == "poisson:10"
        due = log.requests["scheduled_mono_s"]
        assert due.notna().all()
        sent = log.requests["send_mono_s"]
        assert (sent >= due - 0.002).all()
        assert 15 < len(log.requests) < 110
