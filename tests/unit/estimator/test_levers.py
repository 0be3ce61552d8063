import pytest

from estimator.levers import LEVERS, Lever, find_lever, lever_of


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("weights", 1.5, 2.0), ("kv-dtype", 1.7, None), ("speculation", 2.0, 3.0), ("batch-limit", 1.5, 5.0)],
)
def test_ranges_are_those_of_section_three(name, low, high):
    paper = LEVERS[name].paper
    assert (paper.low, paper.high) == (low, high)
    assert paper.source.startswith("section 3")


@pytest.mark.parametrize("name", ["power-cap", "prefix-cache"])
def test_some_levers_have_no_range_because_the_paper_gives_them_none_of_their_own(name):
    assert LEVERS[name].paper is None
    assert "part of" in LEVERS[name].note


@pytest.mark.parametrize(
    ("name", "alpha", "position"),
    [
        ("weights", 1.49, "below"), ("weights", 1.5, "inside"), ("weights", 2.0, "inside"), ("weights", 2.01, "above"),
        ("kv-dtype", 1.6, "below"), ("kv-dtype", 9.0, "inside"),
    ],
)  # fmt: skip
def test_an_alpha_is_placed_against_the_range(name, alpha, position):
    assert LEVERS[name].paper.position(alpha) == position


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("server.--kv-cache-dtype", "kv-dtype"), ("config.model", "weights"), ("server.--block-size", "--block-size"),
        ("devices.power_limit_w", "power-cap"), ("server.--no-enable-prefix-caching", "prefix-cache"),
    ],
)  # fmt: skip
def test_a_setting_belongs_to_its_lever_or_is_one_of_its_own(key, name):
    lever = lever_of(key)
    assert lever.name == name
    assert lever.allows(key)


def test_a_server_argument_is_a_lever_however_it_is_spelt():
    assert find_lever("--block_size").settings == ("server.--block-size",)
    assert find_lever("--kv-cache-dtype").name == "kv-dtype"


def test_an_unknown_lever_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="speculation"):
        find_lever("speculatoin")


def test_a_lever_without_settings_is_refused():
    with pytest.raises(ValueError, match="no setting"):
        Lever("empty", (), None)
