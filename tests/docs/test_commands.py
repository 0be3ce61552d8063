"""Every command on every page: parsed as the command line parses it, and run, or else marked untested on its page.

Here run those that need nothing but files, and those of other programs; those that measure are run beside this file, in
test_measuring_commands.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import ExitStack

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from harness.cli import app
from harness.config import load_config
from harness.server.launch import free_port
from harness.stress_options import STRESS_OPTIONS
from harness.sweep_config import load_sweep_config
from tests.docs.lines import COMMANDS, FILES_ALONE, LINES, OTHERS, OURS, SENSED, SERVED, split
from tests.docs.pages import PAGES, prose
from tests.fakes.waiting import until
from tests.paths import ROOT, S1_TABLE
from tests.unit.harness.report_runs import sweep
from tests.unit.harness.synthetic_run import SyntheticRun
from tests.unit.harness.verify.full_run import full_run, write_full
from tests.unit.results.published_tables import few_slots, mlenergy_row, table
from tests.unit.workloads.traces.files import AZURE_2023, SHAREGPT
from workloads.spec import load_workload

QUICK = {"estimate": "1e4", "fleet": "1e5"}
"""Samples enough for a test, where a line does not say how many."""
UNTESTED = {"docker", "kubectl", "sbatch", "scancel", "ssh"}
"""Programs of containers, clusters and other machines."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    runs = folder / "results" / "runs"
    (folder / "estimator").symlink_to(ROOT / "estimator")
    write_full(full_run(), runs / "RUN")
    sweep(runs / "SWEEP")
    for name in ("RUN1", "RUN2"):
        shutil.copytree(runs / "SWEEP", folder / name)
    for name, argv in (("A", []), ("B", ["--kv-cache-dtype=fp8"])):
        run = SyntheticRun()
        for server in run.manifest["servers"]:
            server["argv"] = ["vllm", "--port", "8000", *argv]
        run.write(runs / name)
    (folder / "mlenergy_v3_h100.csv").write_text(table(mlenergy_row(), few_slots()))
    for name in ("trace.csv", "AzureLLMInferenceTrace_conv.csv"):
        (folder / name).write_text(AZURE_2023)
    (folder / "conversations.json").write_text(SHAREGPT)
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ["refit", "--table", str(S1_TABLE), "--model", "Llama 3.1 405B", "--out", "tps-model.json"],
            ["import", "mlenergy_v3_h100.csv", "--out", "cells.json"],
        ):
            assert CliRunner().invoke(app, words).exit_code == 0
        yield folder


def test_the_pages_have_commands_and_some_of_each_kind():
    assert len(OURS) > 40
    assert len(FILES_ALONE) > 20
    assert {split(line)[0] for line in OURS} == set(COMMANDS)
    assert {*SERVED, *SENSED} < set(COMMANDS)


@pytest.mark.parametrize("line", OURS, ids=str)
def test_a_command_is_one_that_the_harness_takes(line, folder):
    name, words = split(line)
    given = COMMANDS[name].make_context(name, list(words)).params
    if name in ("stress", "sweep") and not given.get("resume"):
        own = (*STRESS_OPTIONS, *(("ladder", "grid") if name == "sweep" else ()))
        flags = {key: value for key, value in given.items() if key in own and value is not None}
        load = load_config if name == "stress" else lambda *both: load_sweep_config(*both).stress
        workload = load(flags, None).workload
        assert workload is None or load_workload(workload).lengths(1.0).mean_output_tok > 0


@pytest.mark.parametrize("line", FILES_ALONE, ids=str)
def test_a_command_that_needs_only_files_runs(line, folder):
    name, words = split(line)
    words = [word.replace("/models/llama", str(folder)) for word in words]
    if name in QUICK and "--samples" not in words:
        words = [*words, "--samples", QUICK[name]]
    ended = CliRunner().invoke(app, [*name.split(), *words], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.strip()


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_line_is_marked_untested_where_no_test_runs_it_and_nowhere_else(line):
    program = line.program
    run = program == "harness" or program in RUN_HERE
    assert run or program in UNTESTED, f"{line}: run it in a test, or mark it '# untested: needs ...'"
    assert line.comment.startswith("untested: needs ") != run, line


def make(argv, _):
    made = subprocess.run([*argv, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.strip() or made.stderr.strip()


def copy(argv, folder):
    shutil.copytree(ROOT / "deploy", folder / "deploy", dirs_exist_ok=True)
    subprocess.run(argv, cwd=folder, check=True)
    assert (folder / argv[2]).read_text() == (ROOT / argv[1]).read_text()


def prometheus(argv, folder):
    port = free_port("127.0.0.1")
    kept = [word for word in argv if not word.startswith("--storage.tsdb.path=")]
    assert len(kept) == len(argv) - 1
    argv = [*(word.replace(":9090", f":{port}") for word in kept), f"--storage.tsdb.path={folder / 'tsdb'}"]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        said = process.stderr
        until(lambda: "Server is ready" in said.readline(), "Prometheus")


RUN_HERE = {"make": make, "cp": copy, "prometheus": prometheus}
"""How a line of another program is run: ``make`` says what it would do, Prometheus takes another port."""


@pytest.mark.parametrize("line", [line for line in OTHERS if line.program in RUN_HERE], ids=str)
def test_a_command_of_another_program_runs(line, folder):
    program = shutil.which(line.program)
    if program is None:
        pytest.skip(f"{line.program} is not installed")
    RUN_HERE[line.program]([program, *line.words[1:]], folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_within_a_sentence_is_one_that_the_harness_has(page):
    for text in re.findall(r"`harness ([a-z][^`]*)`", prose(page)):
        name = next((name for name in COMMANDS if text.split()[: len(name.split())] == name.split()), None)
        assert name, text
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in text.split() if word.startswith("--")} <= options, text


def test_the_page_of_limits_names_the_claims_that_differ_and_no_others():
    document = json.loads(CliRunner().invoke(app, ["reproduce", "--json", "--samples", "1e5"]).stdout)
    text, readme = ((ROOT / name).read_text() for name in ("docs/limits.md", "README.md"))
    page = " ".join(text.split())

    def claims(verdict):
        return {each["id"] for each in document["claims"] if (each["kind"], each["verdict"]) == ("computed", verdict)}

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)) == claims("differs")
    assert all(f"`{claim}`" in page for claim in claims("not computed"))
    count = document["summary"]
    assert f"{count['computed']} that follow from other claims, {count['within 10%']} agree" in page
    assert f"these {count['differs']} differ" in page
    assert f"{count['limit holds']} are limits that hold, {count['not computed']} cannot be computed" in page
    assert f"Of {count['computed']} claims of the paper that follow from others, {count['differs']} differ" in readme
