import pytest

from harness.errors import ConfigError
from harness.sweep_config import load_sweep_config, resumed_config, sweep_config


def test_a_sweep_climbs_at_plain_lengths_unless_told_otherwise():
    config = sweep_config({})
    assert (config.ladder, config.grid, config.stress.multiplier) == ("auto", (), 1.0)


@pytest.mark.parametrize(
    ("given", "cells"),
    [
        ("128x256", ((128, 256),)),
        ("1,2x3,4", ((1, 3), (1, 4), (2, 3), (2, 4))),
        (["1x2", "1,5x2"], ((1, 2), (5, 2))),
    ],
)
def test_a_grid_is_every_input_with_every_output_and_names_no_cell_twice(given, cells):
    assert sweep_config({"grid": given}).grid == cells


@pytest.mark.parametrize(("given", "ladder"), [("auto", "auto"), ("8,1,8", (1, 8)), ([2, 4], (2, 4)), ("16", (16,))])
def test_a_ladder_is_climbed_from_below(given, ladder):
    assert sweep_config({"ladder": given}).ladder == ladder


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"grid": "128"}, "INPUTS x OUTPUTS"),
        ({"grid": "0x5"}, "at least 1 token"),
        ({"ladder": "1,0"}, "concurrencies such as"),
        ({"ladder": "up"}, "concurrencies such as"),
        ({"ladder": "none"}, "nothing to sweep"),
        ({"repeats": 3}, "repeats: not for a sweep"),
        ({"arrival": "poisson:3"}, "arrival: not for a sweep"),
        ({"budgett": 3}, "did you mean 'budget'"),
    ],
)
def test_what_makes_no_sweep_is_refused(given, says):
    with pytest.raises(ConfigError, match=says):
        sweep_config(given)


def test_a_stored_configuration_gives_the_same_sweep_again():
    config = load_sweep_config({"grid": ["1,2x3"], "ladder": "1,4", "budget": 7.0, "server_arg": ["--a=1"]}, None)
    assert sweep_config(config.document()) == config


def test_a_resumed_sweep_refuses_what_changes_a_measurement_and_shows_it(tmp_path):
    stored = sweep_config({"budget": 7.0, "grid": "1x2"}).document()
    file = tmp_path / "sweep.yaml"
    file.write_text("seed: 3\n")
    with pytest.raises(ConfigError) as error:
        resumed_config(stored, {"budget": 8.0, "grid": ["1x3"]}, file)
    assert "budget: 7.0 became 8.0; grid: ['1x2'] became ['1x3']; seed: 0 became 3" in error.value.what


def test_a_resumed_sweep_takes_what_is_given_again_and_what_changes_nothing():
    stored = sweep_config({"budget": 7.0, "grid": "1x2"}).document()
    config = resumed_config(stored, {"budget": 7.0, "metrics_address": "none", "linger": 0.0}, None)
    assert (config.stress.metrics_address, config.stress.budget, config.grid) == ("none", 7.0, ((1, 2),))
