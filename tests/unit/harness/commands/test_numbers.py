"""Options that take a number refuse what is none."""

import pytest
from typer.testing import CliRunner

from harness.cli import app


@pytest.mark.parametrize("number", ["inf", "nan"])
@pytest.mark.parametrize(
    "words",
    [
        ["measure", "--power", "simulated", "--seconds"],
        ["exporter", "--power", "simulated", "--metrics-address", "127.0.0.1:0", "--seconds"],
        ["calibrate-node", "--out", "p.yaml", "--seconds"],
        ["calibrate-node", "--out", "p.yaml", "--settle"],
    ],
)
def test_a_time_that_is_not_finite_is_refused(words, number):
    answer = CliRunner().invoke(app, [*words, number])
    assert answer.exit_code == 2
    assert f"Invalid value for '{words[-1]}'" in answer.output
