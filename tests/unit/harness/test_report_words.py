"""The report's words for codes that the measurement gives out."""

import pytest

from harness.analysis import boundaries, devices, energy, judge, objections, saturation, steady
from harness.load import health
from harness.power import conditions
from results.report.reasons import REASONS, UNCERTAINTY_PARTS, reason_words
from tests.paths import ROOT

CODES = judge.INVALID_REASONS | energy.FATAL_REASONS | energy.SUSPECT_REASONS | {
    objections.DRIFT, objections.LEVEL_SHIFT, objections.COHORTS_IN_STEP, objections.RATE_COLLAPSES,
    objections.STEADINESS_UNPROVEN, steady.WINDOW_TOO_SHORT, steady.AUTOCORRELATION_TOO_LONG, steady.RAMP_NOT_OVER,
    steady.PRECISION_NOT_REACHED, judge.SATURATION_UNPROVEN, saturation.CONFIG_LIMITED, boundaries.NO_READING,
    boundaries.STALE, conditions.HARDWARE_THROTTLED, conditions.XID_ERROR, conditions.POWER_LIMIT_CHANGED,
    conditions.FOREIGN_PROCESSES, devices.GPU_UNUSED, health.CLIENT_BOUND,
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_reason_code_has_words(code):
    assert reason_words(code) == REASONS[code]
    assert REASONS[code].endswith(".")


def test_there_are_no_words_for_codes_that_nothing_gives_out():
    source = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    assert [code for code in REASONS if f'"{code}"' not in source] == []


def test_an_unknown_code_says_so():
    assert "no words" in reason_words("some_later_code")


@pytest.mark.parametrize("part", sorted(UNCERTAINTY_PARTS))
def test_parts_of_uncertainty_are_random_or_systematic(part):
    assert UNCERTAINTY_PARTS[part][0] in ("random", "systematic")
