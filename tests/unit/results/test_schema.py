import json

import pytest
from pydantic import ValidationError

from results import schema
from results.schema import CellDefinition, Document, Manifest, RequestCount, RunResult, StoredPrediction

SUMMARY = {
    "id": "r", "path": "/r", "status": "complete", "started_wall_s": 0, "model": "m", "server_version": None,
    "power_source": "nvml", "boundary": "gpu", "node_profile": None, "prediction": "none", "labels": [],
}  # fmt: skip
RESULT = {"run": SUMMARY, "idle": None, "cells": [], "calibration_cells": [], "energy_ratio": None}
MANIFEST = {
    "id": "r", "status": "running", "started_wall_s": 0, "config": {}, "workload": {}, "versions": {}, "host": {},
    "devices": [], "boundary": "gpu", "node_profile": None, "node_share": 1, "servers": [],
    "power": {"name": "nvml", "boundary": "gpu", "gain_rel_u": 0.03, "power_lag_s": 0.5, "notes": []},
    "pue": {"mean": 1.2, "source": "assumed"},
}  # fmt: skip
PREDICTION = {"created_wall_s": 0, "tps_source": "none", "label": ""}
VERSIONED = [
    (RunResult, RESULT, "inference-energy/result/1"),
    (Manifest, MANIFEST, "inference-energy/manifest/1"),
    (StoredPrediction, PREDICTION, "inference-energy/prediction/1"),
]
DOCUMENTS = [
    kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, Document) and kind != Document
]


@pytest.mark.parametrize(("kind", "content", "version"), VERSIONED)
def test_every_stored_document_names_its_schema_and_version(kind, content, version):
    assert kind.model_validate(content).model_dump(mode="json", by_alias=True)["schema"] == version


@pytest.mark.parametrize(("kind", "content", "version"), VERSIONED)
def test_a_document_survives_being_stored_and_read(kind, content, version):
    document = kind.model_validate(content)
    text = json.dumps(document.model_dump(mode="json", by_alias=True), allow_nan=False)
    assert kind.model_validate(json.loads(text)) == document


@pytest.mark.parametrize(("kind", "content", "version"), VERSIONED)
def test_a_document_of_another_version_is_refused(kind, content, version):
    with pytest.raises(ValidationError, match="schema"):
        kind.model_validate(content | {"schema": version.removesuffix("1") + "2"})


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_an_unknown_key_is_refused(kind):
    with pytest.raises(ValidationError, match="colour\n  Extra inputs are not permitted"):
        kind.model_validate({"colour": "red"})


def test_a_document_cannot_be_changed():
    count = RequestCount(completed=1, aborted=0, errors=0)
    with pytest.raises(ValidationError, match="frozen"):
        count.completed = 2


def test_the_result_is_plain_json_with_the_schema_first():
    document = RunResult.model_validate(RESULT).to_json()
    assert next(iter(document)) == "schema"
    assert json.loads(json.dumps(document)) == document


def test_a_role_outside_the_known_ones_is_refused():
    with pytest.raises(ValidationError, match="role"):
        CellDefinition.model_validate({"role": "warm-up"})
