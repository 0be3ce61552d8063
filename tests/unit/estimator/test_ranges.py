import pytest

from estimator.ranges import parse_log_normal, parse_range


@pytest.mark.parametrize(
    ("text", "ends"),
    [("0.5-1.0", (0.5, 1.0)), (" 1 - 2 ", (1, 2)), ("1e-3-2E-3", (0.001, 0.002)), (".5-.5", (0.5, 0.5)), ("3", (3, 3))],
)
def test_a_range_has_two_ends_and_a_value_is_both(text, ends):
    assert parse_range(text) == ends


@pytest.mark.parametrize("text", ["", "a", "1-2-3", "nan", "nan-nan", "inf", "-1", "-2--1", "1,5", "1-"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="neither a number nor a range"):
        parse_range(text)


def test_a_falling_range_is_refused():
    with pytest.raises(ValueError, match="'2-1' falls"):
        parse_range("2-1")


@pytest.mark.parametrize("text", ["0-1", "0", "1-1e999"])
def test_a_log_normal_needs_positive_and_finite_percentiles(text):
    with pytest.raises(ValueError, match="0 < p5 <= p95 < infinity"):
        parse_log_normal(text)
