"""``harness verify`` as a person and a program see it."""

import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.job import write_result_files
from results.store import HASHES_FILE, RunWriter
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun


@pytest.fixture
def folder(tmp_path):
    run = SyntheticRun(cells=(PLAIN,))
    run.prediction = None
    folder = run.write(tmp_path / "run")
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.seal()
    return folder


def test_a_run_in_order_exits_with_0_and_prints_every_rule(folder):
    answer = CliRunner().invoke(app, ["verify", str(folder)])
    assert answer.exit_code == 0, answer.output
    assert "0 failed" in answer.output
    assert "n.a." in answer.output


def test_a_failed_rule_exits_with_8_and_is_one_document(folder):
    (folder / "summary.txt").write_text("")
    answer = CliRunner().invoke(app, ["verify", str(folder), "--json"])
    document = json.loads(answer.stdout)
    assert answer.exit_code == 8
    assert document["schema"] == "inference-energy/verification/1"
    assert document["failed"] == 1
    (found,) = [rule for rule in document["rules"] if rule["status"] == "fail"]
    assert found.keys() == {"id", "rule", "status", "detail"}
    assert (found["id"], found["detail"]) == ("hashes", "summary.txt has changed")


def test_what_failed_is_printed_with_its_figures(folder):
    (folder / "cells.csv").write_text("")
    answer = CliRunner().invoke(app, ["verify", str(folder)])
    assert "FAIL hashes: cells.csv has changed" in answer.output


def test_a_run_that_goes_on_has_no_hashes_until_it_ends_again(folder):
    writer = RunWriter.reopened(folder)
    assert not (folder / HASHES_FILE).exists()
    writer.event("phase", phase="measure")
    writer.seal()
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0


def test_the_help_states_the_exit_codes():
    answer = CliRunner().invoke(app, ["verify", "--help"])
    assert "8 if any did" in " ".join(answer.output.replace("│", " ").split())
