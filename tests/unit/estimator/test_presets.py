import pytest

from estimator.presets import PRESETS, Parameter, get_preset


@pytest.mark.parametrize("name", ["oviedo2025-v1", "oviedo2026-v2", "corrected"])
def test_each_preset_gives_the_papers_distributions(name):
    preset = get_preset(name)
    assert preset.name == name
    assert preset.power_share().median == pytest.approx(0.6)
    assert preset.p_max_for(8) == 11.3
    assert preset.p_max_for(10) == 14.1
    assert preset.power_share().p95 == pytest.approx(0.9)
    assert preset.pue().p5 == 1.05
    assert preset.p_idle_kw.value == 2.7
    assert preset.lengths("traditional").median_output_tok == pytest.approx(300, abs=1)
    assert preset.lengths("test-time").median_output_tok == pytest.approx(5000, abs=1)
    assert preset.lengths("traditional").mean_input_tok == pytest.approx(500)


@pytest.mark.parametrize(
    ("name", "pue_p95", "provenance", "trimmed"),
    [
        ("oviedo2025-v1", 1.60, "inferred", True),
        ("oviedo2026-v2", 1.40, "stated", True),
        ("corrected", 1.40, "stated", False),
    ],
)
def test_presets_differ_in_pue_and_trimming_and_say_where_both_come_from(name, pue_p95, provenance, trimmed):
    preset = get_preset(name)
    assert (preset.pue_p95.value, preset.pue_p95.provenance) == (pue_p95, provenance)
    assert bool(preset.trimmed.value) is trimmed


def test_every_parameter_names_its_source():
    for preset in PRESETS.values():
        values = [*vars(preset).values(), *preset.median_output_tok.values(), *preset.p_max_kw.values()]
        parameters = [value for value in values if isinstance(value, Parameter)]
        assert len(parameters) == 11
        assert all(parameter.source and parameter.unit for parameter in parameters)


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'oviedo2026-v2'"):
        get_preset("oviedo2026")


def test_a_node_size_without_a_stated_maximum_is_refused():
    with pytest.raises(ValueError, match="nodes of 8, 10 GPUs, not 4"):
        get_preset("corrected").p_max_for(4)
