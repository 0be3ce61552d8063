import pytest

from harness.analysis.judge import INVALID_REASONS, Saturation, verdict


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ((), "valid"),
        (("drift",), "suspect"),
        (("window_too_short", "power_gap"), "suspect"),
        (("saturation_unproven",), "suspect"),
        (("a reason of tomorrow",), "suspect"),
        (("drift", "token_count_mismatch"), "invalid"),
        (("interrupted",), "invalid"),
        (("no_window",), "invalid"),
        (("gpu_lost",), "invalid"),
    ],
)
def test_the_worst_reason_decides_the_verdict(reasons, expected):
    assert verdict(reasons) == expected


def test_exactly_the_reasons_that_spoil_a_figure_invalidate():
    assert {
        "gpu_lost", "counter_reset", "sensor_stuck", "sensor_error", "window_not_covered", "no_tokens", "no_window",
        "too_many_errors", "lengths_not_forced", "token_count_mismatch", "interrupted", "server_lost",
        "no_steady_state", "ecc_uncorrected", "usage_incomplete",
    } == INVALID_REASONS  # fmt: skip


@pytest.mark.parametrize(
    ("tps", "plateau", "queue_share", "proven"),
    [
        (95, 100, 0.0, True),
        (94.9, 100, 0.0, False),
        (130, 100, None, True),
        (10, 100, 0.95, True),
        (10, 100, 0.94, False),
        (10, None, 1.0, True),
        (10, None, 0.5, False),
        (10, None, None, False),
    ],
)
def test_saturation_is_proven_by_the_plateau_or_by_the_queue(tps, plateau, queue_share, proven):
    assert Saturation(tps, plateau, queue_share).proven == proven
