"""The live view as a person meets it: in a terminal, until the end or until Ctrl-C; and what --quiet leaves.

All runs go on at once, since they mostly wait.
"""

import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from estimator.throughput.tps import TpsModel
from tests.cli.command import Ended, ended, environment, start_harness
from tests.cli.terminal import InTerminal
from tests.fakes.scripted_engine import Script
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(300)

END_S = 120
WORDS = (
    "--concurrency", "8", "--multiplier", "3", "--power", "simulated", "--linger", "0", "--idle", "1",
    "--metrics-address", "none", "--tps-model", "tps.json",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    complete: InTerminal
    interrupted: InTerminal
    codes: dict[str, int]
    hung_up: Path
    quiet: Ended


@pytest.fixture(scope="module")
def runs(vllm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    TpsModel(
        model="scripted", form="constant", coef=(7.0,), cov=None, residual_sd_log=None, dof=0,
        cap_tok_per_s=None, n_rows=1, gpus=1, input_range_tok=(1, 1), output_range_tok=(1, 1), source="made up",
    ).save(folder / "tps.json")  # fmt: skip
    env = environment(vllm, Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4))
    complete = InTerminal("stress", *WORDS, "--budget", "4", cwd=folder, env=env)
    interrupted = InTerminal("stress", *WORDS, "--budget", "300", cwd=folder, env=env, columns=120, rows=40)
    (folder / "lost").mkdir()
    lost = InTerminal("stress", *WORDS, "--tps-model", "../tps.json", "--budget", "300", cwd=folder / "lost", env=env)
    quiet = start_harness("stress", *WORDS, "--budget", "2", "--quiet", "--json", cwd=folder, env=env)
    try:
        for terminal in (interrupted, lost):
            until(lambda terminal=terminal: "▶ measure 1/2" in terminal.text, "the measurement to be shown", END_S)
        interrupted.process.send_signal(signal.SIGINT)
        lost.hang_up()
        terminals = {"interrupted": interrupted, "complete": complete, "lost": lost}
        codes = {name: terminal.ended(END_S) for name, terminal in terminals.items()}
        yield Runs(complete, interrupted, codes, folder / "lost", ended(quiet, END_S))
    finally:
        for process in (complete.process, interrupted.process, lost.process, quiet):
            process.kill()


def test_the_view_shows_each_phase_in_its_turn(runs):
    frames = ["\n".join(frame) for frame in runs.complete.frames()]
    places = [
        next((i for i, frame in enumerate(frames) if words in frame), None)
        for words in ("▶ idle    · predict    · measure 0/2", "✓ idle    ✓ predict    ▶ measure 1/2", "▶ measure 2/2")
    ]
    assert None not in places, frames
    assert places == sorted(places)


def test_every_frame_has_the_size_of_the_terminal_and_names_simulated_power(runs):
    for terminal, columns, rows in ((runs.complete, 80, 24), (runs.interrupted, 120, 40)):
        frames = [frame for frame in terminal.frames() if not frame[0].startswith("starting")]
        assert len(frames) > 3
        assert {len(frame) for frame in frames} == {rows}
        assert max(len(line) for frame in frames for line in frame) <= columns
        assert all("SIMULATED POWER" in frame[1] for frame in frames)


def test_figures_of_the_load_are_shown(runs):
    text = "\n".join(line for frame in runs.complete.frames() for line in frame)
    assert re.search(r"running 4 of 8 █████░░░░░  waiting 4 ", text)
    assert re.search(r"TPS +\d,\d{3} tok/s over \d+ s", text)
    assert re.search(r"node \d+\.\d W \[simulated; node modelled", text)
    assert re.search(r"Wh/query +1x [\d.e-]+, predicted [\d.e-]+ \(simulated, node_modelled x PUE\)", text)


def test_at_the_end_the_terminal_holds_the_lines_and_the_result(runs):
    assert runs.codes["complete"] in (0, 8)
    left = runs.complete.left_behind()
    order = [
        "run folder: results/runs/",
        "measuring 1x",
        "measuring 3x",
        "! simulated power",
        "│ verdict",
        "run folder: ",
    ]
    places = [left.index(order[0])]
    for words in order[1:]:
        places.append(left.index(words, places[-1] + 1))
    assert "\x1b[?1049" not in left
    assert runs.complete.text.rindex("\x1b[?25h") > runs.complete.text.rindex("\x1b[?25l")


def test_ctrl_c_leaves_the_partial_result_and_the_cursor(runs):
    assert runs.codes["interrupted"] == 130
    left = runs.interrupted.left_behind()
    assert "PARTIAL RESULT" in left
    assert "Traceback" not in runs.interrupted.text
    assert runs.interrupted.text.rindex("\x1b[?25h") > runs.interrupted.text.rindex("\x1b[?25l")


def test_a_lost_terminal_ends_the_run_in_order_and_keeps_what_was_measured(runs):
    assert runs.codes["lost"] == 130
    (run,) = (runs.hung_up / "results" / "runs").iterdir()
    assert json.loads((run / "manifest.json").read_text())["status"] == "partial"
    assert [cell["name"] for cell in json.loads((run / "result.json").read_text())["cells"]] == ["1x"]


def test_quiet_leaves_the_result_alone(runs):
    assert runs.quiet.code in (0, 8)
    assert runs.quiet.err == ""
    assert [cell["name"] for cell in json.loads(runs.quiet.out)["cells"]] == ["1x", "3x"]


def test_a_stretch_shows_its_joules_on_one_line_that_is_gone_at_the_end_and_none_with_quiet(vllm, tmp_path):
    words = ("measure", "--seconds", "2", "--power", "simulated")
    shown, quiet = (InTerminal(*words, *more, cwd=tmp_path, env=environment(vllm)) for more in ((), ("--quiet",)))
    assert (shown.ended(END_S), quiet.ended(END_S)) == (0, 0)
    line = r"\d\.\d s  [\d.]+ J, mean [\d.]+ W \(simulated, gpu\)"
    assert re.search(rf"{line}\r\x1b\[2K", shown.text)
    assert not re.search(line, quiet.text)
    assert "SIMULATED: these joules are invented" in quiet.text
