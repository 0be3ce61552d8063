import json

import pytest

from estimator.queries import montecarlo
from estimator.reproduction.claims import load_claims
from harness.errors import ConfigError
from harness.studies.reproduce import ReproduceOptions, reproduce_document

KEYS = {
    "id", "where", "text", "kind", "unit", "boundary", "published", "bound", "preset", "quantity",
    "ours", "ours_se", "ours_boundary", "ratio", "verdict", "note",
}  # fmt: skip


def made(seed=0, samples=2_000, workers=1):
    return reproduce_document(ReproduceOptions(samples=samples, seed=seed, workers=workers))


@pytest.fixture(scope="module")
def document():
    return made()


@pytest.fixture(scope="module")
def entries(document):
    return {entry["id"]: entry for entry in document["claims"]}


def test_the_document_names_its_schema_and_is_json(document):
    assert document["schema"] == "inference-energy/reproduce/1"
    assert (document["samples_per_model"], document["seed"]) == (2_000, 0)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_every_claim_has_every_key(document):
    assert len(document["claims"]) == len(load_claims())
    for entry in document["claims"]:
        assert KEYS <= set(entry) <= KEYS | {"ours_untrimmed"}, entry["id"]


def test_a_ratio_is_ours_over_published_for_each_end(document):
    for entry in document["claims"]:
        if entry["ours"] is None:
            assert entry["ratio"] is None
            assert entry["note"]
            continue
        figures = [
            entry[key] if isinstance(entry[key], list) else [entry[key]] for key in ("ours", "published", "ratio")
        ]
        for ours, published, ratio in zip(*figures, strict=True):
            assert ratio == pytest.approx(ours / published)


def test_sampled_values_carry_an_error_and_exact_ones_none(entries):
    assert 0 < entries["traditional-p50"]["ours_se"] < 0.02
    assert len(entries["levers-single"]["ours_se"]) == 2
    assert entries["gwh-baseline"]["ours_se"] is None
    assert entries["beta-total"]["ours_se"] is None


def test_untrimmed_quartiles_lie_outside_the_trimmed_ones(entries):
    for regime in ("traditional", "test-time"):
        assert entries[f"{regime}-p25"]["ours_untrimmed"] < entries[f"{regime}-p25"]["ours"]
        assert entries[f"{regime}-p75"]["ours_untrimmed"] > entries[f"{regime}-p75"]["ours"]
    assert "ours_untrimmed" not in entries["llama-405b-p50"]


def test_the_summary_counts_the_computed_claims(document):
    computed = [entry["verdict"] for entry in document["claims"] if entry["kind"] == "computed"]
    by_verdict = {name: count for name, count in document["summary"].items() if name != "computed"}
    assert document["summary"]["computed"] == len(computed) == sum(by_verdict.values())
    assert all(computed.count(verdict) == count for verdict, count in by_verdict.items())


def test_references_stand_in_the_table_with_their_boundaries(entries):
    boundaries = {
        "mlenergy-405b-fp8": "GPU only",
        "ai-energy-score-70b-fp8": "not stated",
        "iea-mixtral": "not stated",
        "epoch-gpt-4o": "heuristic from FLOPs",
        "altman-chatgpt": "not stated",
        "google-gemini": "full stack",
    }
    assert {name: entries[name]["boundary"] for name in boundaries} == boundaries
    assert {entries[name]["kind"] for name in boundaries} == {"reference"}
    assert {entries[name]["ours_boundary"] for name in boundaries} == {"node x PUE"}


def test_the_answer_does_not_depend_on_the_workers(monkeypatch):
    monkeypatch.setattr(montecarlo, "BLOCK", 500)
    assert made(workers=1) == made(workers=3)


def test_a_seed_gives_one_document_and_another_seed_another(document):
    assert made() == document
    assert made(seed=1)["claims"] != document["claims"]


@pytest.mark.parametrize("samples", [0, -1, 1, 999])
def test_too_few_samples_are_refused(samples):
    with pytest.raises(ConfigError, match=f"samples = {samples}"):
        made(samples=samples)
