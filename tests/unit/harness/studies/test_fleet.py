import json
import math

import pytest

from harness.errors import ConfigError, StoreError, WorkloadError
from harness.studies.fleet import figure_3_panels, fleet_document, write_figure_3
from harness.studies.fleet_options import FleetInputs, FleetOptions

KEYS = ["p5", "p25", "p50", "p75", "p95", "mean"]


def document(**given):
    return fleet_document(FleetOptions(**({"long_share": 0.1, "preset": "oviedo2026-v2", "samples": 2e4} | given)))


def test_the_document_is_the_contracts_and_json():
    made = document()
    assert made["schema"] == "inference-energy/fleet/1"
    assert list(made["gwh_per_day"]) == list(made["wh_per_query"]) == list(made["monte_carlo_se_wh"]) == KEYS
    assert list(made["gwh_per_day"].values())[:5] == sorted(list(made["gwh_per_day"].values())[:5])
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_the_total_is_the_product_and_the_sum_of_its_parts():
    made = document()
    parts = made["parts"]
    traditional, long = parts["traditional"], parts["long"]
    total = made["gwh_per_day"]["mean"]
    assert total == pytest.approx(traditional["gwh_per_day"] + long["gwh_per_day"])
    assert total == pytest.approx(
        parts["beta"]["mean"] * (9e8 * traditional["mean_wh_per_query"] + 1e8 * long["mean_wh_per_query"]) / 1e9
    )
    assert (traditional["queries_per_day"], long["queries_per_day"]) == pytest.approx((9e8, 1e8))
    assert parts["beta"]["mean"] == pytest.approx(1.33, abs=0.005)
    assert parts["beta"]["mean"] == pytest.approx(
        parts["beta"]["load_shape"]["value"] * parts["beta"]["redundancy"]["mean"] * parts["beta"]["network"]["mean"]
    )
    of_models = sum(each["share_of_queries"] * each["mean_wh_per_query"] for each in traditional["models"])
    assert of_models == pytest.approx(0.9 * traditional["mean_wh_per_query"])


def test_the_total_grows_with_the_queries_and_nothing_else_does():
    one, ten = document(queries=1e9), document(queries=1e10)
    assert ten["gwh_per_day"] == pytest.approx({key: 10 * value for key, value in one["gwh_per_day"].items()})
    assert ten["wh_per_query"] == one["wh_per_query"]


@pytest.mark.parametrize(("share", "absent"), [(0.0, "long"), (1.0, "traditional")])
def test_a_kind_of_query_that_is_not_served_is_absent_not_zero(share, absent):
    parts = document(long_share=share)["parts"]
    assert parts[absent] is None
    assert parts[{"long": "traditional", "traditional": "long"}[absent]] is not None


def test_each_part_of_beta_can_be_given_and_says_so():
    given = document(load_shape="0.2-0.4", idle_kw=2.0, peak_kw=10.0, redundancy="1.05-1.25", network="1.2")
    beta = given["parts"]["beta"]
    assert beta["load_shape"]["value"] == pytest.approx((2 + 8 * 0.3) / (0.3 * 10))
    assert (beta["redundancy"]["p5"], beta["redundancy"]["p95"]) == pytest.approx((1.05, 1.25))
    assert beta["network"]["mean"] == 1.2
    assert {beta[part]["source"] for part in ("load_shape", "redundancy", "network")} == {"given"}
    stated = document()["parts"]["beta"]
    assert {stated[part]["source"] for part in ("load_shape", "redundancy", "network")} == {
        "stated: Oviedo et al., S.V"
    }

    def spread(made):
        return made["gwh_per_day"]["p95"] / made["gwh_per_day"]["p5"]

    assert spread(given) > 1.01 * spread(document())


def test_interventions_divide_the_energy_by_their_gains_together():
    plain, gained = document(), document(gains=("hardware", "1.5-3"))
    factor = gained["parts"]["interventions"]["mean_energy_factor"]
    assert gained["gwh_per_day"]["mean"] == pytest.approx(factor * plain["gwh_per_day"]["mean"])
    one_over = [
        math.exp((math.log(p95 / p5) / 3.2897072539) ** 2 / 2) / math.sqrt(p5 * p95)
        for p5, p95 in ((1.5, 2.5), (1.5, 3))
    ]
    assert factor == pytest.approx(math.prod(one_over))


def test_water_and_carbon_are_absent_unless_asked_for():
    made = document()
    assert made["water_l_per_day"] is None
    assert made["carbon_t_per_day"] is None


def test_water_and_carbon_follow_the_energy_and_state_their_boundary():
    made = document(water_l_per_kwh="0.5", carbon_g_per_kwh="300-500")
    gwh = made["gwh_per_day"]
    assert {key: made["water_l_per_day"][key] for key in KEYS} == pytest.approx({k: 0.5e6 * gwh[k] for k in KEYS})
    carbon = made["carbon_t_per_day"]
    assert carbon["p50"] == pytest.approx(math.sqrt(300 * 500) * gwh["p50"])
    assert carbon["p95"] / carbon["p5"] > gwh["p95"] / gwh["p5"]
    assert "meter" in carbon["boundary"]
    assert "meter" in made["water_l_per_day"]["boundary"]


def test_one_model_can_be_the_whole_fleet():
    made = document(model="Mixtral 8x22B", long_share=0.0)
    assert [each["model"] for each in made["parts"]["traditional"]["models"]] == ["Mixtral 8x22B"]
    assert made["gwh_per_day"]["mean"] < 0.3 * document(long_share=0.0)["gwh_per_day"]["mean"]


def test_tasks_take_the_place_of_the_long_queries():
    made = document(task="agentic-coding", long_share=0.02)
    long = made["parts"]["long"]
    assert long["queries"] == "task agentic-coding"
    assert long["task"]["requests"] == 20
    assert {each["mean_is"] for each in long["models"]} == {"Monte Carlo"}
    assert all(0 < each["mean_se_wh"] < 0.01 * each["mean_wh_per_query"] for each in long["models"])
    assert any("no prefix cache" in note for note in made["notes"])
    assert any("takes no lengths" in note and "Nemotron" in note for note in made["notes"])
    exact_wh = 0.98 * made["parts"]["traditional"]["mean_wh_per_query"] + 0.02 * long["mean_wh_per_query"]
    assert abs(made["wh_per_query"]["mean"] - exact_wh) < 4 * made["monte_carlo_se_wh"]["mean"]


def test_the_same_seed_gives_the_same_document_on_any_number_of_workers():
    assert document(workers=1) == document(workers=3)
    assert document()["wh_per_query"] != document(seed=1)["wh_per_query"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"queries": -1e9}, ConfigError, r"queries = -1e\+09"),
        ({"queries": math.nan}, ConfigError, "queries = nan"),
        ({"queries": 0}, ConfigError, "queries = 0"),
        ({"queries": 1e300}, ConfigError, r"queries = 1e\+300"),
        ({"long_share": 1.5}, ConfigError, "long-share = 1.5"),
        ({"long_share": -0.1}, ConfigError, "long-share = -0.1"),
        ({"long_share": math.nan}, ConfigError, "long-share = nan"),
        ({"samples": 0.0}, ConfigError, "samples = 0"),
        ({"samples": 1e18}, ConfigError, r"samples = 1e\+18"),
        ({"samples": 10.5}, ConfigError, "samples = 10.5"),
        ({"samples": math.inf}, ConfigError, "samples = inf"),
        ({"model": "DeepSek-R1"}, WorkloadError, "did you mean 'DeepSeek-R1'"),
        ({"preset": "corected"}, WorkloadError, "did you mean 'corrected'"),
        ({"task": "agentic"}, WorkloadError, "did you mean 'agentic-coding'"),
        ({"task": "none.yaml"}, WorkloadError, "cannot read the task none.yaml"),
        ({"task": "agentic-coding", "long_share": 0.0}, ConfigError, "there are none"),
        ({"gains": ("modell",)}, ConfigError, "did you mean 'model'"),
        ({"gains": ("3-1.5",)}, ConfigError, "alpha range '3-1.5'"),
        ({"load_shape": "1.0-0.5"}, ConfigError, "load-shape: '1.0-0.5' falls"),
        ({"load_shape": "0-1"}, ConfigError, "0 < low <= high <= 1"),
        ({"idle_kw": 20.0}, ConfigError, "0 <= idle <= peak"),
        ({"peak_kw": math.nan}, ConfigError, "0 <= idle <= peak"),
        ({"redundancy": "0.10"}, ConfigError, "redundancy is a factor on energy of at least 1"),
        ({"network": "12%"}, ConfigError, "network: '12%' is neither a number nor a range"),
        ({"water_l_per_kwh": "-1"}, ConfigError, "water-l-per-kwh: '-1' is neither"),
        ({"carbon_g_per_kwh": "nan"}, ConfigError, "carbon-g-per-kwh: 'nan' is neither"),
        ({"carbon_g_per_kwh": "1e308"}, ConfigError, r"carbon-g-per-kwh: 1e308 is more than 1e\+06"),
        ({"carbon_g_per_kwh": "0"}, ConfigError, "carbon-g-per-kwh: a log-normal needs"),
    ],
)
def test_bad_input_is_one_clear_error(given, error, message):
    with pytest.raises(error, match=message):
        document(**given)


@pytest.mark.parametrize("gains", [(), ("model",)])
def test_the_figure_shows_the_fleet_asked_for_without_and_with_gains(gains):
    options = FleetOptions(long_share=0.1, preset="oviedo2026-v2", gains=gains)
    low, high = figure_3_panels(options, FleetInputs.resolve(options)).values()
    name = gains[0] if gains else "line-of-sight"
    for panel, share in ((low, 0.0), (high, 0.1)):
        *plain, gained = (gwh["mean"] for gwh in panel.values())
        assert plain[-1] == pytest.approx(document(long_share=share)["gwh_per_day"]["mean"])
        assert gained == pytest.approx(document(long_share=share, gains=(name,))["gwh_per_day"]["mean"])
    assert high["traditional"] == low["baseline"]


def test_without_long_queries_the_figure_has_one_panel():
    options = FleetOptions()
    assert list(figure_3_panels(options, FleetInputs.resolve(options))) == ["traditional queries"]


def test_the_figure_is_written_and_its_failure_is_one_clear_error(tmp_path):
    options = FleetOptions(long_share=0.1, task="agentic-coding")
    write_figure_3(options, tmp_path / "three.svg")
    assert "</svg>" in (tmp_path / "three.svg").read_text()
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        write_figure_3(options, tmp_path / "three.pdf")
    with pytest.raises(StoreError, match="cannot write"):
        write_figure_3(options, tmp_path / "none" / "three.png")
