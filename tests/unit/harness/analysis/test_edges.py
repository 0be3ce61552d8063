"""Tokens at a window's edges and requests in flight: of servers with and without counters, and under load."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.analysis.celllog import read_cells, read_last_cell
from harness.analysis.measured import in_flight, window_figures
from harness.analysis.run import analyse_run, look_at_window, open_run, power_model
from harness.analysis.steady import WINDOW_TOO_SHORT
from harness.analysis.uncertainty import token_rel_u
from harness.job import write_result_files
from harness.studies.verify import verification_document
from results.store import RunReader, RunWriter
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun

SLOTS, REQUEST_S = 16, 2.0
LOAD_S, STOP_S = PLAIN.start_s + 1, PLAIN.start_s + 32


def mixed_run():
    """Server 0 counts its 400 tok/s; server 1 does not, and answers 8 slots in requests of 2 s and 100 tokens."""
    run = SyntheticRun((PLAIN,))
    run.requests = [row for slot in range(SLOTS) for row in answers(slot)]
    for row in run.server:
        if row["server"] == 1:
            row |= dict.fromkeys(row, None) | {name: row[name] for name in ("t_mono_s", "t_wall_s", "server")}
    first = next(number for number, event in enumerate(run.events) if event["event"] == "cell_start")
    run.events.insert(first, {"event": "prediction_stored", "t_mono_s": 99.0})
    run.events.insert(0, {"event": "no_token_counter", "t_mono_s": 60.0, "servers": [1]})
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    return run


def answers(slot):
    """Return requests one after another, each slot's out of step with the others', until after the load."""
    times_s = LOAD_S - REQUEST_S * slot / SLOTS + REQUEST_S * np.arange(18)
    return [
        {
            "cell": PLAIN.name, "server": slot % 2, "slot": slot, "first_fill": number == 0, "streamed": False,
            "input_tok_sent": 50, "output_tok_asked": 100, "send_mono_s": send_s, "first_mono_s": None,
            "end_mono_s": send_s + REQUEST_S, "prompt_tok": 50, "output_tok": 100, "outcome": "completed",
            "error": None,
        }
        for number, send_s in enumerate(times_s)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return mixed_run().write(tmp_path_factory.mktemp("mixed") / "run")


def test_a_server_with_a_counter_and_one_without_each_bring_their_own_error_to_all_tokens(mixed):
    """Eight counted slots step at both edges; of server 1's requests only those across an edge are not known."""
    (log,) = read_cells(RunReader(mixed))
    figures = window_figures(log, power_model(open_run(mixed)[1]))
    start_s, end_s = figures.window.start_s, figures.window.end_s
    straddling = sum(
        row["send_mono_s"] < edge_s < row["end_mono_s"]
        for slot in range(1, SLOTS, 2)
        for row in answers(slot)
        for edge_s in (start_s, end_s)
    )
    total = (400 + 8 * 100 / REQUEST_S) * (end_s - start_s)
    expected = math.sqrt((SLOTS / 2) ** 2 / 6 + straddling * 100**2 / 12) / total
    assert log.usage_servers == (1,)
    assert straddling in range(14, 17)
    assert token_rel_u(log, figures) == pytest.approx(expected, rel=1e-3)
    alone = replace(log, usage_servers=(), server=log.server.assign(server=0))  # as if one server counted them all
    assert token_rel_u(alone, figures) == pytest.approx(SLOTS / math.sqrt(6) / total, rel=1e-3)


def test_the_tokens_of_such_a_run_are_derived_alike_from_the_raw_rows(mixed):
    writer = RunWriter.reopened(mixed)
    write_result_files(writer)
    writer.seal()
    found = {rule["id"]: rule for rule in verification_document(mixed)["rules"]}
    assert (found["uncertainty_parts"]["status"], found["tps_error"]["status"]) == ("pass", "pass")


REQUESTS_PER_S, MEAN_S = 4.0, 15.0


def open_loop(under_load):
    """Requests arrive at random for 100 s and take 15 s on average, exponentially: 60 are in flight after a while."""
    rng, run = np.random.default_rng(11), SyntheticRun((replace(PLAIN, output_tok=200),))
    sent_s = PLAIN.start_s - 200 + np.cumsum(rng.exponential(1 / REQUESTS_PER_S, 1_200))
    ended_s = sent_s + rng.exponential(MEAN_S, sent_s.size)
    now_s = PLAIN.start_s + 40.5 if under_load else math.inf
    row = run.requests[0] | {"first_fill": False, "streamed": False, "slot": -1, "first_mono_s": None}
    run.requests = [
        row | {"send_mono_s": sent, "scheduled_mono_s": sent, "end_mono_s": ended}
        for sent, ended in zip(sent_s, ended_s, strict=True)
        if ended < now_s and sent < STOP_S
    ]
    for scrape in run.server:
        at_s = scrape["t_mono_s"]
        scrape |= {"running": float(np.sum((sent_s < at_s) & (ended_s > at_s))) / 2, "waiting": 0.0}
    for event in run.events:
        if event["event"] == "cell_start":
            event["definition"] |= {"arrival": f"poisson:{REQUESTS_PER_S:g}", "concurrency": 1_024}
    if under_load:
        run.events = [event for event in run.events if event["event"] not in ("load_stop", "cell_end")]
    return run, sent_s, ended_s


def in_flight_by_hand(sent_s, ended_s, start_s, end_s):
    """Count at every tenth of a second."""
    at_s = np.arange(start_s, end_s, 0.1)[:, None]
    return float(np.mean(np.sum((sent_s < at_s) & (ended_s > at_s), axis=1)))


def test_an_open_loop_under_load_counts_the_requests_that_have_not_ended(tmp_path):
    run, sent_s, ended_s = open_loop(under_load=True)
    log = read_last_cell(RunReader(run.write(tmp_path / "run")), PLAIN.name)
    truth = in_flight_by_hand(sent_s, ended_s, log.filled_s, log.load_stop_s)
    assert log.under_load
    assert in_flight(replace(log, under_load=False)) < 0.9 * truth  # of the requests that have ended alone
    assert truth < in_flight(log) == pytest.approx(1.05 * truth, rel=0.02)


def test_an_open_loop_whose_servers_do_not_tell_what_they_hold_is_taken_to_be_at_its_limit(tmp_path):
    run, *_ = open_loop(under_load=True)
    for row in run.server:
        row["waiting"] = None
    assert in_flight(read_last_cell(RunReader(run.write(tmp_path / "run")), PLAIN.name)) == pytest.approx(1.05 * 1_024)


def test_a_look_at_an_open_loop_does_not_end_what_is_then_called_too_short(tmp_path):
    """A mean request takes 15 s, so a window of 26 s holds two: by those that have ended alone it would seem more."""
    live, later = (open_loop(under_load)[0].write(tmp_path / str(under_load)) for under_load in (True, False))
    assert WINDOW_TOO_SHORT in look_at_window(live, PLAIN.name).reasons
    assert WINDOW_TOO_SHORT in analyse_run(later).cells[0].reasons


def test_a_stored_result_says_what_the_error_of_idle_power_leaves_out(tmp_path):
    idle = json.loads(analyse_run(SyntheticRun().write(tmp_path / "run")).idle.model_dump_json())
    assert "random" not in idle["uncertainty_parts_rel"]
    assert "not what another idle phase would differ by" in idle["standard_uncertainty_covers"]
    assert pd.notna(idle["standard_uncertainty_rel"])
