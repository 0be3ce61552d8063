"""Every command on every page: run where it needs nothing but files, else parsed as the command line parses it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.config import load_config
from harness.stress_options import STRESS_OPTIONS
from harness.sweep_config import load_sweep_config
from tests.docs.generate.cli import commands
from tests.docs.pages import PAGES, shell_lines
from tests.paths import ROOT, S1_TABLE
from tests.unit.harness.report_runs import sweep
from tests.unit.harness.synthetic_run import SyntheticRun
from tests.unit.harness.verify.full_run import full_run, write_full
from tests.unit.results.published_tables import few_slots, mlenergy_row, table
from tests.unit.workloads.traces.files import AZURE_2023
from workloads.spec import load_workload

COMMANDS = commands()
LINES = [line for page in PAGES if page.name != "cli.md" for line in shell_lines(page)]
OURS = [line for line in LINES if line.words[0] == "harness"]
OTHERS = [line for line in LINES if line.words[0] != "harness"]

SERVED = {"stress", "sweep", "measure", "exporter", "calibrate-node", "doctor"}
"""Commands that need a server or a sensor; tests/cli and tests/ground_truth run them with stand-ins."""
QUICK = {"estimate": "1e4", "fleet": "1e5"}
"""Samples enough for a test, where a line does not say how many."""
UNTRIED = {"docker", "kubectl", "sbatch", "scancel"}
"""Programs of containers and clusters: pages that use them say that nobody tried."""
PLAIN = {"cp", "ssh", "prometheus", "promtool"}


def split(line):
    """The name of the command of a line, and the words after it."""
    words = line.words[1:]
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    assert name, f"{line}: no such command"
    return name, words[len(name.split()) :]


RUNNABLE = {
    line.text: line
    for line in OURS
    if split(line)[0] not in {*SERVED, "reproduce"} and not line.comment.startswith("needs ")
}
"""By what they say: a line that stands on two pages runs once. ``reproduce`` is run with the page of limits."""


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
    assert len(RUNNABLE) > 20
    assert {split(line)[0] for line in OURS} == set(COMMANDS)


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


@pytest.mark.parametrize("line", RUNNABLE.values(), ids=str)
def test_a_command_that_needs_only_files_runs(line, folder):
    name, words = split(line)
    if name in QUICK and "--samples" not in words:
        words = [*words, "--samples", QUICK[name]]
    ended = CliRunner().invoke(app, [*name.split(), *words], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.strip()


@pytest.mark.parametrize("line", OTHERS, ids=str)
def test_a_command_of_others_is_known_and_untried_ones_say_so(line):
    words = [word for word in line.words if not re.match(r"[A-Z_]+=", word)]
    program, page = words[0], line.page.read_text().lower()
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif program == "python":
        assert words[1] == "-m"
        assert importlib.util.find_spec(words[2])
    elif program in UNTRIED:
        assert "untested" in page
        assert "nobody has yet" in page
    else:
        assert program in PLAIN


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
