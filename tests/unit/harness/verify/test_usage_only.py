"""A server without counters that chooses its own lengths: judged by its usage, and derived again from the raw rows."""

import math

import numpy as np
import pytest

from harness.analysis.run import analyse_run
from harness.job import write_result_files
from harness.studies.verify import verification_document
from results.store import RunWriter
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun

SLOTS, SERVED_TOK, ASKED_TOK, REQUEST_S = 16, 80, 100, 2.0
STOP_S = PLAIN.start_s + 32


def requests_of_slot(slot):
    """Equal requests one after another until well past the load's end, a fourth of them streamed."""
    rng, send_s = np.random.default_rng(slot), PLAIN.start_s + 1 - REQUEST_S * slot / SLOTS
    rows = []
    while send_s < STOP_S + 1.5 * REQUEST_S:
        end_s, cut_s = send_s + REQUEST_S, STOP_S + 1.5 * REQUEST_S
        streamed = len(rows) % 4 == 3
        first_s = send_s + 0.2 if streamed else None
        rows.append(
            {
                "cell": PLAIN.name, "server": slot % 2, "slot": slot, "first_fill": not rows, "streamed": streamed,
                "input_tok_sent": 50, "output_tok_asked": ASKED_TOK, "send_mono_s": send_s,
                "first_mono_s": first_s if first_s and first_s < cut_s else None, "end_mono_s": min(end_s, cut_s),
                "prompt_tok": 50, "output_tok": SERVED_TOK, "outcome": "completed", "error": None,
            }
        )  # fmt: skip
        if end_s > cut_s:
            rows[-1] |= {"output_tok": None, "outcome": "aborted"}
        send_s = end_s + 0.001 * rng.random()
    return rows


def usage_only_run():
    run = SyntheticRun((PLAIN,))
    run.manifest |= {"config": {"slo_ttft_s": 0.3, "slo_itl_s": 0.05}}
    run.requests = [row for slot in range(SLOTS) for row in requests_of_slot(slot)]
    for row in run.server:
        row |= dict.fromkeys(row, None) | {name: row[name] for name in ("t_mono_s", "t_wall_s", "server")}
    first = next(number for number, event in enumerate(run.events) if event["event"] == "cell_start")
    run.events.insert(first, {"event": "prediction_stored", "t_mono_s": 99.0})
    run.events.insert(0, {"event": "no_token_counter", "t_mono_s": 60.0, "servers": [0, 1]})
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    return run


def written(run, folder):
    run.write(folder)
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.seal()
    return folder


def failed(folder):
    return {rule["id"]: rule for rule in verification_document(folder)["rules"] if rule["status"] == "fail"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(usage_only_run(), tmp_path_factory.mktemp("usage") / "run")


def test_lengths_that_the_server_chose_are_doubtful_and_the_length_term_shows_them(folder):
    (cell,) = analyse_run(folder).cells
    assert "lengths_as_served" in cell.reasons
    assert "lengths_not_forced" not in cell.reasons
    assert cell.verdict == "suspect"
    assert cell.tps_tok_per_s == pytest.approx(SLOTS * SERVED_TOK / REQUEST_S, rel=0.005)
    served_tok = PLAIN.output_tok * SERVED_TOK / ASKED_TOK
    assert cell.wh_per_query.mean_without_pue == pytest.approx(cell.joules_per_tok * served_tok / 3600)
    forced = SyntheticRun((PLAIN,)).prediction["cells"][PLAIN.name]["reference"]["output_tok"]
    assert cell.split.length == pytest.approx(math.log(served_tok / forced))


def test_requests_that_only_kept_the_load_up_are_in_no_statistic(folder):
    (cell,) = analyse_run(folder).cells
    sent = [row for row in usage_only_run().requests if row["send_mono_s"] <= STOP_S and not row["first_fill"]]
    assert (cell.requests.completed, cell.requests.aborted) == (len(sent), 0)


def test_the_checker_derives_the_same(folder):
    assert failed(folder) == {}


def test_a_request_of_the_load_that_never_answered_leaves_the_tokens_unknown(tmp_path):
    run = usage_only_run()
    row = next(row for row in run.requests if row["send_mono_s"] > STOP_S - 1)
    row |= {"outcome": "aborted", "output_tok": None, "end_mono_s": STOP_S + 30}
    folder = written(run, tmp_path / "run")
    (cell,) = analyse_run(folder).cells
    assert cell.verdict == "invalid"
    assert "usage_incomplete" in cell.reasons
    assert failed(folder) == {}


@pytest.mark.parametrize(
    ("ttft_s", "outcome", "first_s", "met", "unfinished"),
    [
        (0.3, "aborted", 0.2, 0, 1),
        (0.3, "aborted", 0.4, 0, 0),
        (0.3, "aborted", None, 0, 0),
        (9.0, "aborted", None, 0, 1),
        (0.3, "completed", 0.2, 1, 0),
    ],
)
def test_what_the_end_of_the_load_cut_off_is_counted_by_both(tmp_path, ttft_s, outcome, first_s, met, unfinished):
    run = usage_only_run()
    run.manifest["config"] = {"slo_ttft_s": ttft_s, "slo_itl_s": 0.05}
    for row in run.requests:
        row["streamed"], row["first_mono_s"] = False, None
    row = next(row for row in run.requests if row["send_mono_s"] > PLAIN.start_s + 20)
    row |= {"streamed": True, "outcome": outcome}
    row["first_mono_s"] = None if first_s is None else row["send_mono_s"] + first_s
    row["output_tok"] = SERVED_TOK if outcome == "completed" else None
    folder = written(run, tmp_path / "run")
    (cell,) = analyse_run(folder).cells
    assert (cell.goodput["n"], cell.goodput["met"], cell.goodput["unfinished"]) == (1, met, unfinished)
    assert cell.goodput["share"] == (None if unfinished else met)
    assert cell.ttft_s.p50_s == (None if first_s is None else pytest.approx(first_s))
    assert failed(folder) == {}
