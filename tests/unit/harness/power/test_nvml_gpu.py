import pytest

from harness.power.nvml_gpu import StepWatch


def test_a_counter_not_yet_seen_to_step_has_no_age():
    watch = StepWatch()
    assert watch.age_s(1.0) is None
    watch.saw(5.0, 1.0)
    watch.saw(5.0, 1.1)
    assert watch.age_s(1.2) is None


def test_a_step_lies_midway_between_the_looks_around_it_give_or_take_half():
    watch = StepWatch()
    watch.saw(5.0, 1.00)
    watch.saw(5.0, 1.02)
    watch.saw(6.0, 1.04)
    watch.saw(6.0, 1.06)
    assert watch.age_s(1.06) == (pytest.approx(0.03), pytest.approx(0.01))


def test_a_later_step_takes_the_place_of_the_one_before():
    watch = StepWatch()
    for value, at_s in ((5.0, 1.0), (6.0, 1.1), (7.0, 1.3)):
        watch.saw(value, at_s)
    assert watch.age_s(1.3) == (pytest.approx(0.1), pytest.approx(0.1))


def test_a_counter_that_was_reset_has_stepped_too():
    watch = StepWatch()
    watch.saw(5.0, 1.0)
    watch.saw(0.0, 1.1)
    assert watch.age_s(1.1) == (pytest.approx(0.05), pytest.approx(0.05))
