"""An open loop at a share of what saturates the server: searched once, and kept by a repeat on a new server."""

import json

import pandas as pd
import pytest

from results.store import RunReader
from tests.cli.command import environment, run_harness
from tests.fakes.scripted_engine import Script

pytestmark = pytest.mark.timeout(300)

# 4 requests at once make 3,200 tok/s, which are 32 requests/s of 100 tokens.
SCRIPT, SHARE, SATURATION_PER_S = Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4), 0.5, 32.0


@pytest.fixture(scope="module")
def repeats(vllm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrivals")
    ended = run_harness(
        "stress", "--workload", "fixed:10x100", "--multiplier", "2", "--repeats", "2", "--arrival", "poisson:50%",
        "--power", "simulated", "--idle", "1", "--linger", "0", "--budget", "4", "--metrics-address", "none", "--json",
        cwd=folder, env=environment(vllm, SCRIPT),
    )  # fmt: skip
    assert ended.code in (0, 8), ended.err
    assert len(json.loads(ended.out)["runs"]) == 2
    return [RunReader(run) for run in sorted(folder.glob("results/runs/*/*-repeat-*"))]


def definitions(reader):
    starts = [event["definition"] for event in reader.events() if event["event"] == "cell_start"]
    return {definition["name"]: definition for definition in starts}


def saturated_tps(reader, name):
    """Return the rate at which the server's counter rose in a cell's search while every slot was busy.

    On a busy machine the scripted server is slower than its script.
    """
    search = [event["t_mono_s"] for event in reader.events() if event["event"] in ("phase", "search_end")
              and event.get("cell") == name][:2]  # fmt: skip
    rows = pd.read_parquet(reader.folder / "server")
    rows = rows[rows["t_mono_s"].between(*search) & (rows["running"] == SCRIPT.max_num_seqs)]
    seconds = rows["t_mono_s"].iloc[-1] - rows["t_mono_s"].iloc[0]
    return (rows["generation_tok"].iloc[-1] - rows["generation_tok"].iloc[0]) / seconds


def test_the_rate_is_the_share_asked_for_of_what_saturates_each_cell(repeats):
    for name, factor in (("1x", 1), ("2x", 2)):
        definition = definitions(repeats[0])[name]
        kind, _, rate = definition["arrival"].partition(":")
        assert kind == "poisson"
        assert float(rate) == pytest.approx(SHARE * saturated_tps(repeats[0], name) / (100 * factor), rel=0.15)
        assert 0.5 < float(rate) / (SHARE * SATURATION_PER_S / factor) < 1.05
        assert float(rate) == pytest.approx(
            SHARE * definition["plateau_tps_tok_per_s"] / definition["mean_output_tok"], rel=1e-4
        )
        assert "0.5 of the" in definition["binding"]


def test_only_the_first_repeat_searches_and_both_have_the_same_open_loop(repeats):
    searched = [sum(event["event"] == "search_end" for event in reader.events()) for reader in repeats]
    assert searched == [2, 0]
    first, second = (definitions(reader) for reader in repeats)
    for name in ("1x", "2x"):
        assert first[name]["arrival"] == second[name]["arrival"]
        assert first[name]["concurrency"] == second[name]["concurrency"]


def test_requests_of_both_repeats_were_sent_when_due_at_about_that_rate(repeats):
    for reader in repeats:
        requests = pd.read_parquet(reader.folder / "requests")
        for name, definition in definitions(reader).items():
            due_s = requests[requests["cell"] == name]["scheduled_mono_s"].dropna().sort_values()
            rate = float(definition["arrival"].partition(":")[2])
            expected = rate * (due_s.iloc[-1] - due_s.iloc[0])
            assert due_s.size == pytest.approx(expected, abs=4 * expected**0.5)
