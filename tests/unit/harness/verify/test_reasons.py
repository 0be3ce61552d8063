"""Each reason is worked out from the raw record: take it out of a result, or put one in, and a named rule fails.

One run holds a cell for every fault, so that it is analysed once; what the fault is stands in the shape of its rows.
"""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.job import write_result_files
from harness.verify import sensing, steady, verdicts
from harness.verify.evidence import read_evidence
from harness.verify.judged import DOUBTFUL, FATAL
from harness.verify.rules import RULES, apply_rules
from harness.verify.series import Series
from results.store import RunWriter
from tests.unit.harness.synthetic_run import Cell, SyntheticRun

PERIOD_S = 50
CELL = SimpleNamespace(definition={"min_window_s": 26.0})
RNG = np.random.default_rng(3)
READING = ("power_w", "energy_j")


def counts(rate_share):
    """Add tokens to a counter of 400 tok/s: the integral, by the seconds since the cell began, of a share of that."""

    def change(row, s):
        row["generation_tok"] += 400 * (rate_share(min(s, 32.0)) - rate_share(4.0)) if s > 4 else 0.0

    return change


def alternates(row, s):
    """Count a little too early and too late in turn: nothing lasts, so that no ramp is as good as another."""
    row["generation_tok"] += 0.3 * (-1) ** round(2 * s) if 4 < s < 31.5 else 0.0


def collapses(row, s):
    row["generation_tok"] -= 400 * min(max(s - 18, 0), 5)
    row["kv_usage_ratio"] *= 0.1 if 18 <= s <= 23 else 1.0


def noise(tokens):
    def change(row, s):
        row["generation_tok"] += tokens * RNG.normal() if 4 < s < 31.5 else 0.0

    return change


SERVED = {
    "steady": alternates,
    "level_shift": counts(lambda s: 0.1 * max(0.0, s - 26)),
    "drift": counts(lambda s: 0.1 * (s - 4) ** 2 / 60),
    "cohorts_in_step": counts(lambda s: 0.2 * math.sin(math.pi * s) / math.pi),
    "autocorrelation_too_long": counts(lambda s: -0.01 * 10 / (2 * math.pi) * math.cos(2 * math.pi * s / 10)),
    "ramp_not_over": counts(lambda s: -0.02 * max(0.0, 26 - s) ** 2 / 2),
    "rate_collapses": collapses,
    "precision_not_reached": noise(60),
    "steadiness_unproven": noise(12),
    "window_too_short": lambda row, s: None,
    "no_steady_state": counts(lambda s: 0.1 * max(0.0, s - 26)),
}  # fmt: skip
"""What happens to a scrape so many seconds after its cell began."""


def stands(row, s):
    row["energy_j"] -= 200 * (min(max(s - 12, 0), 6))


def resets(row, s):
    row["energy_j"] -= 1e6 if s > 20 else 0.0


def disagrees(row, s):
    row["power_w"] *= 0.9


def fails(row, s):
    if round(10 * s) % 10 == 0:
        row |= dict.fromkeys(READING) | {"error": "power_w: unknown error; energy_j: unknown error"}


def stops(row, s):
    if s > 20:
        row |= dict.fromkeys(READING)


def gaps(row, s):
    if 18 < s < 20:
        row |= dict.fromkeys(READING)


def is_lost(row, s):
    if 20 < s < 20.5:
        row |= dict.fromkeys(READING) | {"error": "gpu_lost"}


SENSED = {
    "sensor_stuck": stands, "counter_reset": resets, "counter_integral_disagree": disagrees, "sensor_error": fails,
    "power_gap": gaps,
    "gpu_lost": is_lost, "window_not_covered": stops,
}  # fmt: skip
"""What happens to a reading of one of two GPUs; readings that stop do not come back."""


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    names = [*SERVED, *SENSED]
    starts_s = {name: 100.0 + PERIOD_S * number for number, name in enumerate(names)}
    run = SyntheticRun(tuple(Cell(name, start_s=start_s, role="ladder") for name, start_s in starts_s.items()))
    run.prediction = None
    for row in run.server:
        number, s = divmod(row["t_mono_s"] - 100, PERIOD_S)
        SERVED.get(names[int(number)], SERVED["steady"])(row, s)
    for row in run.power:
        number, s = divmod(row["t_mono_s"] - 100, PERIOD_S)
        if number >= 0 and names[int(number)] in SENSED and row["uuid"] == "gpu-a":
            SENSED[names[int(number)]](row, s)
    for event in run.events:
        if event.get("cell") == "window_too_short" and event["event"] == "cell_start":
            event["definition"]["min_window_s"] = 28.0
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    folder = run.write(tmp_path_factory.mktemp("reasons") / "run")
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.seal()
    return read_evidence(folder)


def test_a_run_that_names_every_fault_passes_every_rule(evidence):
    found = apply_rules(evidence)
    assert [(rule.id, rule.detail) for rule in found if rule.status == "fail"] == []


def only(evidence, name, reasons):
    """Return the evidence of one cell, with these reasons and the verdict that follows from them alone."""
    (cell,) = [cell for cell in evidence.cells if cell.name == name]
    verdict = "invalid" if set(reasons) & FATAL else "suspect" if reasons else "valid"
    reported = json.loads(json.dumps(cell.reported)) | {"reasons": sorted(reasons), "verdict": verdict}
    return replace(evidence, cells=(replace(cell, reported=reported),), result=evidence.result | {"idle": None})


def reasons_of(evidence, name):
    return next(set(cell.reported["reasons"]) for cell in evidence.cells if cell.name == name)


def failed(evidence):
    rules = [rule for rule in RULES if rule.id in {"steadiness", "sensor_reasons", "verdict", "known_reasons"}]
    return {rule.id for rule in rules if rule.find(evidence).status == "fail"}


@pytest.mark.parametrize("code", [code for code in (*SERVED, *SENSED) if code != "steady"])
def test_a_reason_that_is_left_out_fails_its_rule_and_the_verdict(evidence, code):
    reasons = reasons_of(evidence, code)
    assert code in reasons
    rule = "sensor_reasons" if code in sensing.CODES else "steadiness"
    assert failed(only(evidence, code, reasons)) == set()
    assert failed(only(evidence, code, reasons - {code})) == {rule, "verdict"}


@pytest.mark.parametrize("code", [*steady.CODES, *sensing.CODES])
def test_a_reason_that_does_not_hold_fails_its_rule_and_the_verdict(evidence, code):
    rule = "sensor_reasons" if code in sensing.CODES else "steadiness"
    reasons = reasons_of(evidence, "steady")
    assert code not in reasons
    assert failed(only(evidence, "steady", reasons | {code})) == {rule, "verdict"}


def test_a_sensors_fault_must_be_said_of_its_device_and_of_no_other(evidence):
    forged = only(evidence, "sensor_stuck", reasons_of(evidence, "sensor_stuck"))
    (stuck, sound) = forged.cells[0].reported["devices"]
    assert "sensor_stuck" in stuck["reasons"]
    stuck["reasons"].remove("sensor_stuck")
    assert failed(forged) == {"sensor_reasons"}
    stuck["reasons"].append("sensor_stuck")
    sound["reasons"].append("sensor_stuck")
    assert failed(forged) == {"sensor_reasons"}


@pytest.mark.parametrize(
    "change",
    [
        {"ended": "budget_spent"},
        {"start_mono_s": 106.5},
        {"end_mono_s": 131.5},
        {"end_mono_s": 131.5, "ended": "budget_spent"},
    ],
)
def test_a_window_that_begins_or_ends_elsewhere_than_the_rule_chooses_fails(evidence, change):
    forged = only(evidence, "steady", reasons_of(evidence, "steady"))
    (rule,) = [rule for rule in RULES if rule.id == "window_choice"]
    window = forged.cells[0].reported["window"]
    assert (window["start_mono_s"], window["end_mono_s"], window["ended"]) == (106.0, 132.0, "precision_reached")
    assert rule.find(forged).status == "pass"
    window |= change
    assert rule.find(forged).status == "fail"


@pytest.mark.parametrize(
    ("name", "wander", "growth", "expected"),
    [
        ("kv_usage", 0.3, 0.0, set()),
        ("kv_usage", 0.0, 0.03, {"drift"}),
        ("throughput", 0.3, 0.0, {"steadiness_unproven"}),
        ("throughput", 0.0, 0.03, {"drift"}),
        ("throughput", 0.0, 0.005, set()),
    ],
)
def test_kv_usage_must_not_be_shown_to_move_and_throughput_be_shown_not_to(name, wander, growth, expected):
    rng, size = np.random.default_rng(1), 200
    moved = 0.5 * (1 + wander * rng.normal(size=size)) + growth * np.linspace(-0.5, 0.5, size)
    still = np.full(size, 0.5)
    tokens, kv = (moved / 0.5, still) if name == "throughput" else (still, moved)
    answers = steady.objections(CELL, *[Series(np.ones(size), tokens, None, kv, 4.0)] * 2)
    codes = ("drift", "steadiness_unproven")
    assert {code for code in codes if answers[code] == steady.YES} == expected
    assert all(len(answers[code]) == 1 for code in codes)


def test_every_reason_is_worked_out_and_one_that_is_not_is_named(evidence):
    cell = evidence.cells[0]
    assert set(verdicts.derived(evidence, cell)) == FATAL | DOUBTFUL
    forged = only(evidence, "steady", reasons_of(evidence, "steady") | {"tired"})
    texts = [check.text for check in verdicts.verdict(forged, forged.cells[0])]
    assert "taken as reported: tired" in texts
    assert failed(forged) == {"known_reasons"}
