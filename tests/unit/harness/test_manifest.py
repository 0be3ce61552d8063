import math
from dataclasses import replace

import pytest

from harness.errors import StoreError
from harness.manifest import SIMULATED_LABEL, create_run_folder, new_manifest
from harness.power.simulated import SimulatedSource
from tests.unit.harness.plans import plan_of


@pytest.fixture
def manifest(tmp_path):
    def make(plan, warnings=()):
        return new_manifest(plan, create_run_folder(tmp_path, "w"), SimulatedSource(lambda: 0.0), None, warnings)

    return make


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path):
    folders = {create_run_folder(tmp_path / "runs", "traditional").folder for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() and "traditional" in folder.name for folder in folders)


def test_a_place_that_cannot_hold_runs_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot create the run folder") as error:
        create_run_folder(tmp_path / "file", "w")
    assert "--out" in error.value.fix


def test_a_simulated_run_is_labelled_so(manifest):
    made = manifest(plan_of())
    assert (made.labels, made.power.name, made.status) == ((SIMULATED_LABEL,), "simulated", "running")
    assert "not measured" in made.power.notes[0]


def test_warnings_follow_the_label_so_that_a_reader_sees_both(manifest):
    assert manifest(plan_of(), ("a warning",)).labels == (SIMULATED_LABEL, "a warning")


def test_the_pue_is_the_mean_of_the_assumed_one_unless_it_was_measured(manifest):
    sigma = math.log(1.40 / 1.05) / (2 * 1.6448536)
    assumed = manifest(plan_of()).pue
    assert assumed.mean == pytest.approx(math.sqrt(1.05 * 1.40) * math.exp(sigma**2 / 2), rel=1e-6)
    assert assumed.source.startswith("assumed")
    measured = manifest(plan_of(pue=1.12)).pue
    assert (measured.mean, "measured" in measured.source) == (1.12, True)


def test_what_another_person_needs_to_repeat_the_run_is_there(manifest):
    made = manifest(plan_of(seed=5))
    assert made.config["seed"] == 5
    assert {"harness", "python", "numpy", "aiohttp"} <= set(made.versions)
    assert made.host["cores"] >= 1
    assert made.host["memory_b"] > 0
    assert [device["uuid"] for device in made.devices] == ["simulated-0"]
    assert made.node_profile["name"] == "simulated-node"


def test_what_of_a_trace_is_replayed_stands_with_its_workload(manifest):
    assert "arrivals" not in manifest(plan_of()).workload
    arrivals = {"requests": 5, "of": 9, "rule": "the first", "recorded_rate_per_s": 1.0, "rate_per_s": 2.0}
    made = manifest(replace(plan_of(), arrivals=arrivals)).workload
    assert (made["name"], made["arrivals"]) == ("traditional", arrivals)
