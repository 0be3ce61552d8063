import json
import math

import pytest

from harness.errors import ConfigError, WorkloadError
from harness.studies.estimates import estimate_document
from tests.unit.harness.plans import constant_tps

SAMPLES = 50_000


def document(**given):
    return estimate_document(
        **{
            "model": None, "tps_model": None, "regime": "traditional", "preset_name": "corrected",
            "node_profile": "hgx-h100", "samples": SAMPLES, "seed": 1,
        }
        | given
    )  # fmt: skip


def test_the_document_names_its_schema_and_how_it_was_drawn():
    made = document(model="baseline", samples=100)
    assert {key: made[key] for key in made if key != "estimates"} == {
        "schema": "inference-energy/estimate/1", "samples_per_model": 100, "seed": 1,
    }  # fmt: skip
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_an_estimate_says_what_it_is_of_and_its_quantiles_rise():
    estimate = document(model="DeepSeek-R1", samples=1_000)["estimates"][0]
    assert {key: estimate[key] for key in estimate if key != "wh_per_query"} == {
        "model": "DeepSeek-R1", "regime": "traditional", "preset": "corrected", "boundary": "node x PUE",
    }  # fmt: skip
    assert list(estimate["wh_per_query"]) == ["p5", "p25", "p50", "p75", "p95", "mean"]
    quantiles = list(estimate["wh_per_query"].values())[:5]
    assert quantiles == sorted(quantiles)


def test_the_corrected_baseline_has_the_known_median():
    estimate = document(model="baseline")["estimates"][0]
    assert estimate["wh_per_query"]["p50"] == pytest.approx(0.315, rel=0.03)


def test_without_a_model_all_models_and_their_pool_are_estimated():
    names = [estimate["model"] for estimate in document(samples=100)["estimates"]]
    assert sorted(names) == [
        "DeepSeek-R1", "Llama 3.1 405B", "Llama 3.1 70B", "Llama-3.1 Nemotron Ultra 253B", "Mixtral 8x22B", "baseline",
    ]  # fmt: skip


def test_a_throughput_model_is_estimated_on_its_share_of_the_node(tmp_path):
    path = tmp_path / "tps.json"
    constant_tps(1_000.0, gpus=2).save(path)
    estimate = document(tps_model=path, samples=200_000)["estimates"][0]
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
        document(model="DeepSeek-R1", regime=regime, samples=1_000)["estimates"][0]["wh_per_query"]["p50"]
        for regime in ("traditional", "test-time")
    )
    assert test_time > 5 * traditional


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"model": "DeepSek-R1"}, WorkloadError, "did you mean 'DeepSeek-R1'"),
        ({"preset_name": "corected"}, WorkloadError, "did you mean 'corrected'"),
        ({"regime": "agentic"}, ConfigError, "unknown regime 'agentic'"),
        ({"tps_model": "none.json"}, WorkloadError, "No such file"),
        ({"model": "DeepSeek-R1", "tps_model": "a.json"}, ConfigError, "exclude each other"),
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
