"""The main job from the command line to the run folder, with a scripted server in the place of vLLM.

Three runs go on at once, since they mostly wait: one to its end, one interrupted, one killed.
"""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from estimator.throughput.tps import TpsModel
from results.schema import RESULT_SCHEMA, Manifest, RunResult, StoredPrediction
from results.store import RunReader
from tests.cli.command import ROOT, Ended, ended, environment, processes_naming, run_harness, start_harness
from tests.fakes.scripted_engine import Script
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(480)

SCRIPT = Script(tok_per_s=800, tick_s=0.005, max_num_seqs=4)
EIGHT_IN_FLIGHT = ("--concurrency", "8", "--multiplier", "3", "--power", "simulated", "--linger", "0")
START_S = 120


@dataclass(frozen=True)
class Finished:
    """A run that has ended: how, and what it left."""

    ended: Ended
    folder: Path

    @property
    def reader(self) -> RunReader:
        return RunReader(self.folder)

    @property
    def manifest(self) -> Manifest:
        return Manifest.model_validate(self.reader.json("manifest.json"))

    def event_names(self) -> list[str]:
        return [str(event["event"]) for event in self.reader.events()]


@dataclass(frozen=True)
class Runs:
    complete: Finished
    interrupted: Finished
    killed: Finished


class Going:
    """A run under way."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process, self._out = process, out

    @property
    def folder(self) -> Path:
        (folder,) = self._out.iterdir()
        return folder

    def measures(self) -> bool:
        """Return whether the first compared cell is under load and some readings are on disk."""
        assert self.process.poll() is None, ended(self.process).err
        folders = list(self._out.iterdir()) if self._out.is_dir() else []
        events = folders[0] / "events.jsonl" if folders else None
        if events is None or not events.is_file() or '"filled"' not in events.read_text():
            return False
        return all(any((folders[0] / table).glob("part-*.parquet")) for table in ("power", "server"))


def tps_model(folder: Path) -> Path:
    """Write a TPS model, which spares a run its calibration."""
    model = TpsModel(
        model="scripted", form="constant", coef=(7.0,), cov=None, residual_sd_log=None, dof=0,
        cap_tok_per_s=None, n_rows=1, gpus=1, input_range_tok=(1, 1), output_range_tok=(1, 1), source="made up",
    )  # fmt: skip
    model.save(folder / "tps.json")
    return folder / "tps.json"


@pytest.fixture(scope="module")
def runs(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("runs")
    env = environment(vllm, SCRIPT)
    with ExitStack() as stack:

        def start(name: str, *words: str) -> Going:
            out = folder / name
            words = ("stress", *EIGHT_IN_FLIGHT, "--out", str(out), *words)
            process = stack.enter_context(start_harness(*words, cwd=folder, env=env))
            stack.callback(process.kill)
            return Going(process, out)

        endless = ("--budget", "300", "--tps-model", str(tps_model(folder)), "--metrics-address", "none")
        complete = start("complete", "--budget", "4", "--drain", "--json", "--metrics-address", "127.0.0.1:0")
        interrupted = start("interrupted", *endless, "--json")
        killed = start("killed", *endless)
        for going, number in ((interrupted, signal.SIGINT), (killed, signal.SIGKILL)):
            until(going.measures, "the measurement to begin", START_S)
            going.process.send_signal(number)
        yield Runs(
            *(Finished(ended(going.process, START_S), going.folder) for going in (complete, interrupted, killed))
        )


@pytest.fixture(scope="module")
def document(runs: Runs) -> dict[str, Any]:
    """What the complete run printed, which must be one JSON document and nothing else."""
    parsed: dict[str, Any] = json.loads(runs.complete.ended.out)
    return parsed


def test_a_complete_run_succeeds(runs: Runs) -> None:
    assert runs.complete.ended.code == 0, runs.complete.ended.err
    assert "Traceback" not in runs.complete.ended.err
    assert runs.complete.manifest.status == "complete"
    assert runs.complete.manifest.failure is None


def test_where_standard_error_is_no_terminal_progress_is_plain_lines(runs: Runs) -> None:
    lines = runs.complete.ended.err.splitlines()
    assert all(re.fullmatch(r" *\d+\.\d s  .+", line) for line in lines), lines
    for words in (
        "run folder: ",
        "loaded idle for ",
        "calibrating TPS",
        "prediction stored",
        "measuring 1x",
        "measuring 3x",
    ):
        assert any(line.partition(" s  ")[2].startswith(words) for line in lines), words


def test_json_on_stdout_is_one_document_of_the_schema(document: dict[str, Any]) -> None:
    assert document["schema"] == RESULT_SCHEMA
    assert set(document) == {field.alias or name for name, field in RunResult.model_fields.items()}
    result = RunResult.model_validate(document)
    assert [cell.name for cell in result.cells] == ["1x", "3x"]
    assert {cell.concurrency for cell in result.cells} == {8}
    assert len(result.calibration_cells) == 4
    assert result.idle is not None
    assert result.bare_idle is None
    assert "simulated" in str(result.bare_idle_unknown)
    assert result.energy_ratio is not None


def test_every_cell_has_figures_and_a_prediction_beside_them(document: dict[str, Any]) -> None:
    for cell in RunResult.model_validate(document).cells:
        assert cell.verdict != "invalid"
        assert cell.wh_per_query is not None
        assert cell.predicted_wh_per_query is not None
        assert cell.ratio == pytest.approx(cell.wh_per_query.mean / cell.predicted_wh_per_query.mean)
        assert cell.ttft_s is not None


def test_throughput_is_the_scripted_one(document: dict[str, Any]) -> None:
    """Four sequences run at a time: four times the rate of one, less what passes between two requests."""
    for cell in document["cells"]:
        assert 0.75 <= cell["tps_tok_per_s"] / (SCRIPT.max_num_seqs * SCRIPT.tok_per_s) <= 1.02
        assert cell["queue_share"] >= 0.8


def test_drained_cells_account_for_every_token_of_the_servers_counter(document: dict[str, Any]) -> None:
    for cell in document["cells"]:
        tokens = cell["tokens"]
        assert tokens["consistent"] is True
        assert tokens["unfinished_limit_tok"] == 0
        assert tokens["counter_tok"] == tokens["usage_completed_tok"] > 0
    assert all(cell["tokens"]["consistent"] for cell in document["calibration_cells"])


def test_the_run_folder_is_complete(runs: Runs) -> None:
    folder = runs.complete.folder
    files = ("manifest.json", "prediction.json", "events.jsonl", "cells.csv", "summary.txt", "result.json")
    for name in (*files, "server-0.log", "cells/1x.json", "cells/3x.json", "cells/calibration-0.json"):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("*.tmp"))
    for table in ("power", "server", "requests"):
        assert list((folder / table).glob("part-*.parquet"))
        assert len(runs.complete.reader.table(table)) > 10
    assert list(pd.read_csv(folder / "cells.csv")["name"][:2]) == ["1x", "3x"]
    assert "1x small" in (folder / "summary.txt").read_text()


def test_what_is_stored_is_what_was_printed(runs: Runs, document: dict[str, Any]) -> None:
    assert runs.complete.reader.json("result.json") == document
    for cell in document["cells"]:
        assert runs.complete.reader.json(f"cells/{cell['name']}.json") == cell


def test_compare_repeats_the_document_from_the_folder_alone(
    runs: Runs, document: dict[str, Any], vllm: Path, tmp_path: Path
) -> None:
    again = run_harness("compare", str(runs.complete.folder), "--json", cwd=tmp_path, env=environment(vllm))
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out) == document


FILE_CLOCK_S = 1.0
"""A file's time is that of the kernel's last tick, and may lie before the clock's: far, where ticks are lost."""


def test_the_prediction_is_stored_before_the_first_compared_cell_and_never_changed(runs: Runs) -> None:
    events = runs.complete.reader.events()
    stored = next(event for event in events if event["event"] == "prediction_stored")
    starts = [event for event in events if event["event"] == "cell_start"]
    first = next(event for event in starts if event["definition"]["role"] == "compared")
    path = runs.complete.folder / "prediction.json"
    created = StoredPrediction.model_validate_json(path.read_text()).created_wall_s
    assert stored["t_mono_s"] < first["t_mono_s"]
    assert created - FILE_CLOCK_S <= path.stat().st_mtime <= first["t_wall_s"]
    calibration = [start for start in starts if start["definition"]["role"] == "calibration"]
    assert calibration and all(start["t_mono_s"] < stored["t_mono_s"] for start in calibration)


def test_a_calibration_cell_asks_for_a_window_that_its_budget_holds(runs: Runs) -> None:
    starts = [event["definition"] for event in runs.complete.reader.events() if event["event"] == "cell_start"]
    calibration = [definition for definition in starts if definition["role"] == "calibration"]
    assert {each["min_window_s"] / each["budget_s"] for each in calibration} == {0.5}


ENERGY = re.compile(r"(?i)watts|joules|_wh\b|wh/query|power_w|energy_j")


@pytest.mark.parametrize("which", ["complete", "interrupted", "killed"])
def test_every_file_that_carries_joules_says_simulated(runs: Runs, which: str) -> None:
    """All but the prediction, whose joules come from Eq. 1 and from no sensor, simulated or real."""
    finished: Finished = getattr(runs, which)
    texts = [path for path in finished.folder.rglob("*") if path.suffix in {".json", ".jsonl", ".csv", ".txt"}]
    carrying = {path.name: path.read_text() for path in texts if ENERGY.search(path.read_text())}
    carrying.pop("prediction.json")
    assert "manifest.json" in carrying
    assert [name for name, text in carrying.items() if "simulated" not in text] == []
    assert set(finished.reader.table("power")["source"]) == {"simulated"}
    csv = finished.folder / "cells.csv"
    assert not csv.is_file() or set(pd.read_csv(csv)["power_source"]) == {"simulated"}


def test_what_was_printed_opens_with_the_simulation(runs: Runs, vllm: Path, tmp_path: Path) -> None:
    assert "NOT a measurement" in runs.complete.ended.err
    shown = run_harness("compare", str(runs.complete.folder), cwd=tmp_path, env=environment(vllm))
    assert "simulated" in shown.out.splitlines()[0]


@pytest.mark.parametrize("which", ["complete", "interrupted", "killed"])
def test_no_process_of_the_server_survives(runs: Runs, which: str) -> None:
    folder = getattr(runs, which).folder
    until(lambda: processes_naming(folder) == [], "the server to end")


def test_an_interrupted_run_gives_a_partial_result_marked_so(runs: Runs) -> None:
    run = runs.interrupted
    assert run.ended.code == 130, run.ended.err
    assert "Traceback" not in run.ended.err
    assert (run.manifest.status, run.manifest.failure) == ("partial", "interrupted")
    result = RunResult.model_validate_json(run.ended.out)
    assert result.run.status == "partial"
    assert [(cell.name, cell.verdict) for cell in result.cells] == [("1x", "invalid")]
    assert "interrupted" in result.cells[0].reasons
    assert "PARTIAL RESULT" in (run.folder / "summary.txt").read_text()
    assert run.reader.json("result.json") == json.loads(run.ended.out)


def test_an_interrupted_run_keeps_the_requests_it_aborted(runs: Runs) -> None:
    requests = runs.interrupted.reader.table("requests")
    assert (requests["outcome"] == "aborted").sum() == 8
    assert "cell_end" not in runs.interrupted.event_names()


def test_what_a_killed_run_had_written_can_be_read_and_compared(runs: Runs, vllm: Path, tmp_path: Path) -> None:
    run = runs.killed
    assert run.ended.code == -signal.SIGKILL
    assert run.manifest.status == "running"
    assert len(run.reader.table("power")) > 10
    assert len(run.reader.table("server")) > 2
    assert run.event_names()[-1] == "filled"
    shown = run_harness("compare", str(run.folder), cwd=tmp_path, env=environment(vllm))
    assert shown.code == 0, shown.err
    assert "the run did not reach its end" in shown.out
    printed = run_harness("compare", str(run.folder), "--json", cwd=tmp_path, env=environment(vllm))
    (cell,) = RunResult.model_validate_json(printed.out).cells
    assert (cell.name, cell.verdict) == ("1x", "invalid")
    assert "interrupted" in cell.reasons


def test_nothing_is_written_outside_the_run_folder(runs: Runs) -> None:
    assert {path.name for path in runs.complete.folder.parents[1].iterdir()} == {
        "complete",
        "interrupted",
        "killed",
        "tps.json",
    }
    assert not (ROOT / "tps-model.json").exists()
