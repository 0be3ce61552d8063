"""Every number that is reported is re-derived: change it, and the rule that says it covers it fails."""

import copy
import json
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest

from harness.verify.covered import coverage, numbers
from harness.verify.evidence import read_evidence
from harness.verify.rules import RULES, apply_rules
from tests.unit.harness.verify.full_run import full_run, write_full

CHANGED_REL = 0.03
FINE = {
    "cells.wh_per_query.uncertainty_parts_rel.random": 0.01, "cells.joules_per_tok_ci95": 0.01,
    "cells.window.autocorrelation_s": 1e-5,
}  # fmt: skip
COARSE = {"cells.meters.difference_rel": 0.2}
"""What a figure is changed by where its rule tells less, or must tell more, than 3%."""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    return read_evidence(write_full(full_run(), tmp_path_factory.mktemp("full") / "run"))


@pytest.fixture(scope="module")
def findings(evidence):
    return apply_rules(evidence)


def test_the_full_run_passes_and_every_number_has_a_rule(findings):
    assert [(found.id, found.detail) for found in findings if found.status == "fail"] == []
    assert {"client", "goodput", "meters", "bare_idle", "interval", "ratio_interval"} <= {
        found.id for found in findings if found.status == "pass"
    }


def leaves(content, place=()):
    """Yield the place of every number in a document, apart from how the rule under test walks it."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(value, (*place, key))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield place


def path_of(place):
    return ".".join("cells" if key == "calibration_cells" else key for key in place if isinstance(key, str))


def changed(evidence, place, rel):
    """Return the evidence with one reported number changed."""
    result = copy.deepcopy(evidence.result)
    at = result
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = at[place[-1]] * (1 + rel) if abs(at[place[-1]]) > 1e-9 else 1.0
    reported = {cell["name"]: cell for cell in result["cells"]}
    cells = tuple(replace(cell, reported=reported[cell.name]) for cell in evidence.cells)
    return replace(evidence, result=result, cells=cells)


def test_a_change_of_any_number_in_any_cell_fails_a_rule_that_covers_it(evidence):
    unnoticed, looked_at = [], 0
    for place in leaves(evidence.result):
        path = path_of(place)
        rel = next((rel for pattern, rel in (FINE | COARSE).items() if fnmatchcase(path, pattern)), CHANGED_REL)
        forged = changed(evidence, place, rel)
        rules = [rule for rule in RULES if any(fnmatchcase(path, pattern) for pattern in rule.covers)]
        looked_at += 1
        if not any(rule.find(forged).status == "fail" for rule in rules):
            unnoticed.append(place)
    assert looked_at > 250
    assert unnoticed == []


def test_a_number_that_no_rule_looks_at_is_named(evidence, findings):
    result = copy.deepcopy(evidence.result)
    result["cells"][1]["surprise"] = {"share": 0.5, "told": True, "parts": [1, 2]}
    found = coverage(replace(evidence, result=result), RULES, findings)
    assert (found.status, found.detail) == (
        "fail", "no rule re-derives cells.surprise.share, cells.surprise.parts",
    )  # fmt: skip


def test_a_rule_that_did_not_apply_covers_nothing(evidence, findings):
    silent = [replace(found, status="not_applicable") if found.id == "tps" else found for found in findings]
    found = coverage(evidence, RULES, silent)
    assert (found.status, found.detail) == ("fail", "no rule re-derives cells.tps_tok_per_s")


def test_numbers_are_found_wherever_they_stand(evidence):
    assert set(numbers(evidence.result)) == {path_of(place) for place in leaves(evidence.result)}
    assert list(numbers(json.loads('{"calibration_cells": [{"x": 1, "y": null, "z": false}]}'))) == ["cells.x"]
