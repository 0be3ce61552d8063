import math

import numpy as np
import pytest
import yaml

from estimator.nodes import (
    NodeProfile,
    load_profile,
    profile_for_gpu,
    profile_for_published_gpu,
    shipped_profiles,
)
from harness.power.simulated import PEAK_W

H100 = load_profile("hgx-h100")


def test_a_loaded_h100_node_agrees_with_the_wall_measurement_under_a_power_cap():
    # Eight GPUs at 450 W: MLPerf v4.0 reports about 5.9 kW at the wall.
    assert H100.node_watts(8 * 450) == pytest.approx(5900, rel=0.02)


def test_node_power_is_the_share_of_the_offset_plus_the_slope_times_gpu_power():
    assert H100.node_watts(1000, share=0.5) == pytest.approx(0.5 * 1600 + 1.22 * 1000)


def test_node_uncertainty_is_the_spread_of_correlated_offset_and_slope():
    rng = np.random.default_rng(2)
    cov = [[170.0**2, -0.8 * 170 * 0.05], [-0.8 * 170 * 0.05, 0.05**2]]
    offset_w, slope = rng.multivariate_normal([1600, 1.22], cov, 100_000).T
    assert H100.node_watts_std(4000) == pytest.approx(np.std(offset_w + slope * 4000), rel=0.02)
    assert H100.node_watts_std(2000, 0.5) == pytest.approx(np.std(0.5 * offset_w + slope * 2000), rel=0.02)


def test_fully_anticorrelated_terms_that_cancel_leave_no_uncertainty():
    profile = H100.model_copy(update={"correlation": -1.0, "u_offset_kw": 0.1, "u_slope": 0.1})
    assert profile.node_watts_std(1000) == pytest.approx(0, abs=1e-6)


def test_a_share_of_the_node_scales_its_maximum():
    assert H100.share(2) == 0.25
    assert H100.p_max_share_kw(0.25) == pytest.approx(11.3 / 4)


@pytest.mark.parametrize("gpus_used", [0, -1, 9])
def test_a_share_outside_one_to_all_gpus_is_refused(gpus_used):
    with pytest.raises(ValueError, match="has 8 GPUs"):
        H100.share(gpus_used)


@pytest.mark.parametrize(
    ("gpu_name", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "hgx-h100"),
        ("Simulated accelerator", "simulated-node"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H200", None),
        ("NVIDIA A100-SXM4-80GB", None),
        ("", None),
    ],
)
def test_a_gpu_name_finds_its_own_profile_or_none(gpu_name, profile):
    found = profile_for_gpu(gpu_name)
    assert (found.name if found else None) == profile


def test_only_the_simulated_node_says_that_it_is_simulated():
    assert {profile.name: profile.simulated for profile in shipped_profiles()} == {
        "hgx-h100": False,
        "simulated-node": True,
    }
    assert "not a measurement" in load_profile("simulated-node").source


def test_the_simulated_node_is_consistent_from_idle_to_maximum():
    node = load_profile("simulated-node")
    assert node.node_watts(30) == pytest.approx(1000 * node.p_idle_kw)
    assert node.node_watts_std(200) == 0
    assert node.gpu_limit_w == PEAK_W


def test_the_limit_of_an_h100_is_that_of_its_datasheet():
    assert H100.gpu_limit_w == 700
    assert "datasheet" in H100.source


@pytest.mark.parametrize("gpu_name", ["H100", "NVIDIA H100"])
def test_a_published_name_that_leaves_the_variant_open_states_the_one_assumed(gpu_name):
    profile, assumption = profile_for_published_gpu(gpu_name)
    assert profile == H100
    assert f"the table says only {gpu_name!r}: taken to be the SXM5 module" in assumption


def test_an_exact_gpu_name_assumes_nothing_and_an_unknown_one_has_no_profile():
    assert profile_for_published_gpu("NVIDIA H100 80GB HBM3") == (H100, "")
    assert profile_for_published_gpu("NVIDIA H100 PCIe") is None
    assert profile_for_published_gpu("B200") is None


def test_a_profile_file_loads_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(H100.model_dump(mode="json") | {"name": "mine"}))
    assert load_profile(path) == load_profile(str(path)) == H100.model_copy(update={"name": "mine"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"gpu_name_patterns": ["("]}, "not a regular expression"),
        ({"correlation": 1.5}, "correlation"),
        ({"slope": math.nan}, "slope"),
        ({"p_max_kw": -1}, "p_max_kw"),
    ],
)
def test_a_wrong_profile_file_is_refused_with_its_path_and_field(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(H100.model_dump(mode="json") | change))
    with pytest.raises(ValueError, match=message) as error:
        load_profile(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["name: [", "just text"])
def test_a_file_that_is_no_profile_is_refused(tmp_path, text):
    path = tmp_path / "broken.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match="cannot read node profile"):
        load_profile(path)


def test_a_missing_profile_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read node profile"):
        load_profile(tmp_path / "none.yaml")


def test_an_unknown_profile_name_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'hgx-h100'"):
        load_profile("hgx-h200")


def test_every_field_of_a_profile_is_described():
    assert all(field.description for field in NodeProfile.model_fields.values())


@pytest.mark.parametrize("used", [1, 3, 8])
def test_allocations_agree_with_counting_the_whole_node(used):
    node = load_profile("hgx-h100")
    share, gpu_sum_w = node.share(used), 600.0 * used
    idle_gpu_w = (2550 - 1600) / (1.22 * 8)  # what one idle GPU draws for the node to draw 2.55 kW
    whole_w = 1600 + 1.22 * (gpu_sum_w + (8 - used) * idle_gpu_w)
    assert node.node_watts(gpu_sum_w, share, "whole") == pytest.approx(whole_w)
    assert node.node_watts(gpu_sum_w, share, "marginal") == pytest.approx(whole_w - 2550)
    assert node.node_watts(gpu_sum_w, share, "share") == pytest.approx(used / 8 * 1600 + 1.22 * gpu_sum_w)
    for allocation in ("share", "marginal", "whole"):
        expected_w = node.node_watts(gpu_sum_w, share, allocation)
        assert node.metered_watts(whole_w, share, allocation) == pytest.approx(expected_w)


@pytest.mark.parametrize(
    ("allocation", "used", "expected_kw"),
    [
        ("share", 2, 2.825),
        ("whole", 2, 11.3 - 6 / 8 * (11.3 - 2.55)),
        ("marginal", 2, 2 / 8 * (11.3 - 2.55)),
        ("share", 8, 11.3),
        ("whole", 8, 11.3),
        ("marginal", 8, 8.75),
    ],
)
def test_the_predicted_maximum_is_allocated_in_the_same_way(allocation, used, expected_kw):
    node = load_profile("hgx-h100")
    assert node.p_max_share_kw(node.share(used), allocation) == pytest.approx(expected_kw)


def test_the_error_of_allocated_idle_power_is_unknown_unless_the_profile_tells_it():
    node = H100.model_copy(update={"u_idle_kw": None})
    assert node.allocated_idle_std_w(0.25, "share") == 0
    assert node.allocated_idle_std_w(1.0, "whole") == 0
    assert node.allocated_idle_std_w(0.25, "whole") is None
    told = node.model_copy(update={"u_idle_kw": 0.1})
    assert told.allocated_idle_std_w(0.25, "whole") == pytest.approx(75)
    assert told.allocated_idle_std_w(0.25, "marginal") == pytest.approx(25)


def test_the_shipped_idle_power_holds_what_was_published_of_it_within_twice_its_uncertainty():
    assert (H100.p_idle_kw, H100.u_idle_kw) == (2.55, 0.1)
    for published_kw in (2.43, 2.67, 2.7):
        assert abs(published_kw - H100.p_idle_kw) <= 2 * H100.u_idle_kw


def test_a_model_of_unknown_uncertainty_has_none_and_says_so_in_a_file(tmp_path):
    unknown = {"u_offset_kw": None, "u_slope": None, "correlation": None}
    path = tmp_path / "mine.yaml"
    path.write_text(H100.model_copy(update=unknown).to_yaml())
    assert load_profile(path).node_watts_std(4000) is None
    path.write_text(H100.model_copy(update={"u_slope": None}).to_yaml())
    with pytest.raises(ValueError, match="known together"):
        load_profile(path)


@pytest.mark.parametrize(
    ("calibrated", "used", "expected"),
    [((), ("a", "b"), 0.03), (("b", "a"), ("a", "b"), 0.0), (("a", "b"), ("a",), 0.03), (("a",), ("a", "b"), 0.03)],
)
def test_a_gpus_gain_is_in_the_slope_that_was_fitted_against_these_very_gpus(calibrated, used, expected):
    node = H100.model_copy(update={"calibrated_gpu_uuids": calibrated})
    assert node.gpu_gain_rel_u(0.03, used) == expected
