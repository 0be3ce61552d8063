import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ConfigError


def run(*words):
    return CliRunner().invoke(app, ["reproduce", *words])


def test_json_is_one_document_with_a_ratio_and_a_note_for_every_claim():
    result = run("--samples", "1000", "--seed", "3", "--workers", "1", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["samples_per_model"], document["seed"]) == (1000, 3)
    for entry in document["claims"]:
        assert {"id", "published", "ours", "ratio", "note"} <= set(entry)


def test_without_json_a_person_reads_how_much_is_reproduced_first():
    result = run("--samples", "1000")
    assert result.exit_code == 0
    assert "computed claims" in result.stdout.splitlines()[0]


def test_negative_samples_are_one_error():
    result = run("--samples", "-1")
    assert isinstance(result.exception, ConfigError)
    assert "samples = -1" in str(result.exception)


@pytest.mark.parametrize("words", [("--seed", "-1"), ("--workers", "0"), ("--samples", "many")])
def test_options_outside_their_range_are_refused(words):
    assert run(*words).exit_code == 2
