import json
import math

import pytest

from estimator.power.power_fit import fit_power
from estimator.presets import get_preset
from harness.console.estimates import print_estimates
from harness.errors import ConfigError, WorkloadError
from harness.studies.estimates import EstimateOptions, estimate_document
from tests.unit.estimator import scalar_loop
from tests.unit.harness.plans import constant_tps

SAMPLES = 50_000


def document(**given):
    return estimate_document(EstimateOptions(**{"samples": SAMPLES, "seed": 1, "workers": 1} | given))


def only(**given):
    (estimate,) = document(**given)["estimates"]
    return estimate


def test_the_document_names_its_schema_and_how_it_was_drawn():
    made = document(model="baseline", samples=100)
    assert {key: made[key] for key in made if key not in ("estimates", "preset_parameters")} == {
        "schema": "inference-energy/estimate/1", "samples_per_model": 100, "seed": 1,
    }  # fmt: skip
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_an_estimate_says_what_it_is_of_and_its_quantiles_rise():
    estimate = only(model="DeepSeek-R1", samples=1_000)
    assert {key: estimate[key] for key in ("model", "regime", "workload", "preset", "boundary", "power_model")} == {
        "model": "DeepSeek-R1", "regime": "traditional", "workload": None, "preset": "corrected",
        "boundary": "node x PUE", "power_model": "independent",
    }  # fmt: skip
    assert list(estimate["wh_per_query"]) == ["p5", "p25", "p50", "p75", "p95", "mean"]
    assert list(estimate["monte_carlo_se_wh"]) == ["p5", "p25", "p50", "p75", "p95", "mean"]
    quantiles = list(estimate["wh_per_query"].values())[:5]
    assert quantiles == sorted(quantiles)


@pytest.mark.parametrize("preset", ["oviedo2025-v1", "oviedo2026-v2", "corrected"])
def test_every_parameter_of_the_preset_says_where_it_comes_from(preset):
    parameters = document(model="Mixtral 8x22B", preset=preset, samples=100)["preset_parameters"]
    assert {"power_share_p5", "pue_p95", "input_tok", "median_output_tok.traditional", "p_max_kw.10"} <= set(parameters)
    assert {each["provenance"] for each in parameters.values()} <= {"stated", "read", "inferred"}
    assert all(each["source"] and each["unit"] for each in parameters.values())
    assert (parameters["pue_p95"]["provenance"] == "inferred") == (preset == "oviedo2025-v1")


def test_more_samples_shrink_the_monte_carlo_error_as_the_root_of_their_number():
    few, many = (only(model="DeepSeek-R1", samples=n)["monte_carlo_se_wh"] for n in (10_000, 1_000_000))
    for key in few:
        assert few[key] / many[key] == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize(("samples", "unknown"), [(1, {"p5", "p25", "p50", "p75", "p95", "mean"}), (10, {"p5", "p95"})])
def test_an_error_that_so_few_samples_cannot_tell_is_unknown_not_small(samples, unknown, capsys):
    made = document(model="DeepSeek-R1", samples=samples)
    errors = made["estimates"][0]["monte_carlo_se_wh"]
    assert {key for key, error in errors.items() if error is None} == unknown
    print_estimates(made)
    assert "±?" in capsys.readouterr().out


def test_a_trimmed_pool_says_so_and_carries_the_untrimmed_quantiles_beside():
    trimmed, whole = only(model="baseline", preset="oviedo2026-v2"), only(model="baseline", preset="corrected")
    assert trimmed["trimmed"]
    assert not whole["trimmed"]
    assert "untrimmed_wh_per_query" not in whole
    assert trimmed["untrimmed_wh_per_query"] == whole["wh_per_query"]
    assert trimmed["wh_per_query"]["p95"] < whole["wh_per_query"]["p95"]


def test_without_pue_the_mean_falls_by_the_mean_pue():
    with_pue, without = (only(model="DeepSeek-R1", boundary=name, samples=400_000) for name in ("node-pue", "node"))
    pue = get_preset("corrected").pue()
    assert without["boundary"] == "node"
    assert with_pue["wh_per_query"]["mean"] / without["wh_per_query"]["mean"] == pytest.approx(pue.mean, rel=0.01)


def test_the_gpu_boundary_takes_the_share_of_the_gpus_power_limit():
    node, gpu = (only(model="Llama 3.1 405B", boundary=name) for name in ("node", "gpu"))
    assert gpu["wh_per_query"]["p50"] / node["wh_per_query"]["p50"] == pytest.approx(8 * 0.7 / 11.3, rel=1e-3)
    assert any("power limits" in note for note in gpu["notes"])


def test_gains_divide_the_energy_and_multiply_with_each_other():
    plain, gained = only(model="Llama 3.1 405B"), only(model="Llama 3.1 405B", gains=("hardware", "2-2"))
    assert gained["wh_per_query"]["p50"] == pytest.approx(
        plain["wh_per_query"]["p50"] / math.sqrt(1.5 * 2.5) / 2, rel=0.02
    )
    assert gained["interventions"] == ["hardware", "2-2"]


def test_power_in_proportion_to_throughput_raises_the_energy_of_a_node_that_runs_fast():
    """S.IV by hand for a model of constant throughput: it always draws 0.9 P_max."""
    independent, proportional = (
        only(model="Llama-3.1 Nemotron Ultra 253B", power_model=name, samples=400_000)["wh_per_query"]["p50"]
        for name in ("independent", "proportional")
    )
    assert proportional / independent == pytest.approx(0.9 / 0.6, rel=0.01)


def test_measured_pairs_of_throughput_and_power_replace_the_assumed_power(tmp_path):
    """By hand: 2 kW + 5,200 tok/s x 1 W per tok/s = 7.2 kW, whatever the assumed share of P_max."""
    path = tmp_path / "power.json"
    pairs = fit_power(
        [2000, 4000, 6000], [4.0, 6.0, 8.0], model="m", gpus=8, boundary="node_modelled", source="made up"
    )
    pairs.save(path)
    estimate = only(
        model="Llama-3.1 Nemotron Ultra 253B", workload="fixed:500x300", power_model=str(path), boundary="node"
    )
    assert estimate["wh_per_query"]["p50"] == pytest.approx(7.2 / 3.6 * 300 / 5200, rel=1e-3)
    assert any("2,000 to 6,000 tok/s" in note for note in estimate["notes"])


def test_pairs_measured_on_another_number_of_gpus_are_refused(tmp_path):
    path = tmp_path / "power.json"
    fit_power([1, 2, 3], [1, 2, 3], model="m", gpus=2, boundary="node", source="made up").save(path)
    with pytest.raises(WorkloadError, match=r"of 2 GPU\(s\), the throughput of DeepSeek-R1 of 10"):
        document(model="DeepSeek-R1", power_model=str(path))


def test_pairs_of_gpu_power_alone_are_refused(tmp_path):
    path = tmp_path / "power.json"
    fit_power([1, 2, 3], [1, 2, 3], model="m", gpus=8, boundary="gpu", source="made up").save(path)
    with pytest.raises(WorkloadError, match="GPUs alone"):
        document(model="Llama 3.1 405B", power_model=str(path))


def test_a_workload_replaces_the_regime_and_the_multiplier_lengthens_it():
    plain, long = (only(model="Llama-3.1 Nemotron Ultra 253B", workload="fixed:500x100", multiplier=m) for m in (1, 15))
    assert (plain["regime"], plain["workload"]) == (None, "fixed:500x100")
    assert long["wh_per_query"]["p50"] == pytest.approx(15 * plain["wh_per_query"]["p50"], rel=1e-3)
    assert (
        only(model="DeepSeek-R1", workload="traditional")["wh_per_query"] == only(model="DeepSeek-R1")["wh_per_query"]
    )


def test_a_trace_is_estimated_over_its_recorded_lengths(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n1,500,100\n2,500,300\n")
    estimate = only(model="Llama-3.1 Nemotron Ultra 253B", workload=f"azure:{trace}", samples=400_000)
    mean_wh = 1.2168 * 0.6186 * 11.3 / 3.6 * 200 / 5200
    assert estimate["wh_per_query"]["mean"] == pytest.approx(mean_wh, rel=0.005)


def test_a_task_costs_what_its_steps_cost(tmp_path):
    """By hand: 3 steps of 2 samples at a constant 5,200 tok/s."""
    profile = tmp_path / "task.yaml"
    profile.write_text(
        "name: t\ndescription: d\nsource: s\nsteps: 3\nsamples_per_step: 2\ninput_tok: 500\n"
        "median_output_tok: 300\ntool_result_tok: 100\nkept_output_share: 0\ninput_limit_tok: null\n"
    )
    estimate = only(model="Llama-3.1 Nemotron Ultra 253B", task=str(profile), samples=100_000)
    mean_wh = 6 * 1.2168 * 0.6186 * 11.3 / 3.6 * (300 / math.log(2)) / 5200
    assert estimate["wh_per_query"]["mean"] == pytest.approx(mean_wh, rel=0.01)
    assert (estimate["regime"], estimate["workload"], estimate["task"]["requests"]) == (None, None, 6)
    assert any("prefix cache" in note for note in estimate["notes"])


def test_what_lies_outside_the_throughput_data_is_said():
    estimate = only(model="Llama 3.1 405B", regime="test-time")
    mean_tok = 5000 / math.log(2)
    outside = 1 - math.exp(-127.5 / mean_tok) + math.exp(-4096.5 / mean_tok)
    assert estimate["extrapolated_share"] == pytest.approx(outside, abs=1e-6)


@pytest.mark.parametrize("model", ["Llama 3.1 70B", "Mixtral 8x22B"])
def test_the_command_s_median_is_that_of_a_loop_over_single_queries(model):
    loop = scalar_loop.energies_wh(model, "test-time", 50_000, seed=2)
    ours = only(model=model, regime="test-time", samples=1_000_000)
    assert ours["wh_per_query"]["p50"] == pytest.approx(scalar_loop.quantile(loop, 0.5), rel=0.02)


def test_workers_do_not_change_the_answer():
    given = {"model": "baseline", "samples": 3_000_000}
    assert document(**given, workers=1) == document(**given, workers=2)


def test_the_corrected_baseline_has_the_known_median():
    estimate = only(model="baseline")
    assert estimate["wh_per_query"]["p50"] == pytest.approx(0.315, rel=0.03)


def test_without_a_model_all_models_and_their_pool_are_estimated():
    names = [estimate["model"] for estimate in document(samples=100)["estimates"]]
    assert sorted(names) == [
        "DeepSeek-R1", "Llama 3.1 405B", "Llama 3.1 70B", "Llama-3.1 Nemotron Ultra 253B", "Mixtral 8x22B", "baseline",
    ]  # fmt: skip


def test_a_throughput_model_is_estimated_on_its_share_of_the_node(tmp_path):
    path = tmp_path / "tps.json"
    constant_tps(1_000.0, gpus=2).save(path)
    estimate = only(tps_model=path, samples=200_000)
    assert estimate["model"] == f"file {path}"

    def mean(p5, p95):
        sigma = math.log(p95 / p5) / (2 * 1.6448536)
        return math.sqrt(p5 * p95) * math.exp(sigma**2 / 2)

    mean_wh = mean(1.05, 1.40) * mean(0.4, 0.9) * 11.3 / 4 * (300 / math.log(2)) / 1_000 / 3.6
    assert estimate["wh_per_query"]["mean"] == pytest.approx(mean_wh, rel=0.01)


def test_the_same_seed_gives_the_same_document_and_another_seed_another():
    given = {"model": "DeepSeek-R1", "samples": 1_000}
    assert document(**given) == document(**given)
    assert document(**given)["estimates"] != document(**given, seed=2)["estimates"]


def test_a_test_time_query_costs_more_than_a_traditional_one():
    traditional, test_time = (
        only(model="DeepSeek-R1", regime=regime, samples=1_000)["wh_per_query"]["p50"]
        for regime in ("traditional", "test-time")
    )
    assert test_time > 5 * traditional


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"model": "DeepSek-R1"}, WorkloadError, "did you mean 'DeepSeek-R1'"),
        ({"preset": "corected"}, WorkloadError, "did you mean 'corrected'"),
        ({"regime": "agentic"}, ConfigError, "unknown regime 'agentic'"),
        ({"tps_model": "none.json"}, WorkloadError, "cannot read the TPS model .*none.json: No such file"),
        ({"model": "DeepSeek-R1", "tps_model": "a.json"}, ConfigError, "exclude each other"),
        ({"workload": "small", "regime": "traditional"}, ConfigError, "exclude each other"),
        ({"workload": "small", "task": "agentic-coding"}, ConfigError, "exclude each other"),
        ({"task": "agentic"}, WorkloadError, "agentic-coding"),
        ({"task": "agentic-coding", "multiplier": 2.0}, ConfigError, "a task has no multiplier"),
        ({"workload": "smal"}, WorkloadError, "did you mean small"),
        ({"workload": "azure:none.csv"}, WorkloadError, "cannot read the trace none.csv"),
        ({"boundary": "rack"}, ConfigError, "unknown boundary 'rack'"),
        ({"power_model": "cubic"}, ConfigError, "unknown power model 'cubic'"),
        ({"power_model": "none.json"}, WorkloadError, "cannot read the power model none.json: No such file"),
        ({"power_model": "proportional", "boundary": "gpu"}, ConfigError, "of the whole node"),
        ({"gains": ("hardwear",)}, ConfigError, "did you mean 'hardware'"),
        ({"gains": ("half",)}, ConfigError, "alpha as LOW-HIGH"),
        ({"gains": ("3-2",)}, ConfigError, "0 < p5 <= p95"),
        ({"model": ""}, WorkloadError, "unknown Supplemental I model ''"),
        ({"samples": 1e18}, ConfigError, r"samples = 1e\+18"),
        ({"multiplier": 1e30}, ConfigError, r"multiplier = 1e\+30"),
        ({"multiplier": 0.0}, ConfigError, "multiplier = 0"),
        ({"multiplier": float("nan")}, ConfigError, "multiplier = nan"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_nearest_name_or_the_reason(tmp_path, given, error, message):
    if "tps_model" in given:
        given = given | {"tps_model": tmp_path / given["tps_model"]}
    with pytest.raises(error, match=message):
        document(**given)


def test_an_unknown_node_profile_is_refused_where_it_is_needed(tmp_path):
    constant_tps().save(tmp_path / "tps.json")
    with pytest.raises(WorkloadError, match="did you mean 'hgx-h100'"):
        document(tps_model=tmp_path / "tps.json", node_profile="hgx-h10")


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples):
    with pytest.raises(ConfigError, match=f"samples = {samples}"):
        document(model="DeepSeek-R1", samples=samples)
