"""Where a run stands among its steps, and how long the rest may take: sums done by hand."""

import pytest

from harness.live.course import Course, Hold, Span, Step
from harness.live.programme import stress_steps, sweep_steps
from harness.sweep_config import sweep_config
from tests.unit.harness.plans import constant_tps, plan_of

IDLE, CELL = Span(10, 10), Span(26, 30)
HOLD = Hold("1x", began_s=110.0, ends_s=140.0, next_look_s=132.0)


def course_of(*steps):
    return Course(tuple(steps))


@pytest.fixture
def course():
    calibrate = Step("calibrate", "calibration", Span(0, 40), None)
    measures = [Step("measure", name, CELL) for name in ("1x", "3x", "3x-2", "1x-2")]
    return course_of(Step("launch", takes=Span(0, None)), Step("idle", takes=IDLE), calibrate, *measures)


def phases(steps):
    return [step.phase if step.phase != "measure" and step.phase != "search" else step.cell for step in steps]


def test_a_run_not_begun_may_take_what_its_steps_may_take():
    known = course_of(Step("idle", takes=IDLE), Step("measure", "1x", CELL), Step("measure", "3x", CELL))
    assert known.left_of_run(0.0, None) == (62, 70)
    assert known.left_of_step(0.0) == (0, None)


def test_time_unknown_for_one_step_leaves_the_end_unknown_until_it_is_behind(course):
    course.enter("launch", "", 100.0)
    assert course.left_of_run(103.0, None) == (10 + 4 * 26, None)
    course.enter("idle", "", 120.0)
    assert course.left_of_run(124.0, None) == (6 + 4 * 26, 6 + 40 + 4 * 30)


def test_a_step_that_outlasts_its_time_is_about_to_end_and_nothing_is_negative(course):
    course.enter("idle", "", 100.0)
    assert course.left_of_step(150.0) == (0, 0)


def test_a_cell_may_end_at_its_next_look_or_with_its_budget(course):
    course.enter("measure", "1x", 100.0)
    assert course.left_of_cell(112.0, HOLD) == (20, 28)
    assert course.left_of_run(112.0, HOLD) == (20 + 3 * 26, 28 + 3 * 30)
    assert course.began_s(HOLD) == 110.0
    without_look = Hold("1x", 110.0, 140.0, None)
    assert course.left_of_cell(112.0, without_look) == (28, 28)


def test_cells_of_equal_beginnings_are_told_apart(course):
    for position, name in ((3, "1x"), (4, "3x"), (5, "3x-2"), (6, "1x-2")):
        course.enter("measure", name, 100.0)
        assert course.position == position


def test_a_phase_that_was_left_out_is_never_entered(course):
    course.enter("idle", "", 100.0)
    course.enter("measure", "1x", 110.0)
    assert set(course.entered) == {1, 3}


def test_the_cells_of_a_step_are_counted_once_it_has_found_out_how_many_they_are(course):
    course.count_cells("calibrate", 4, 20.0)
    for number in range(3):
        course.enter("calibrate", f"calibration-{number}", 200.0 + 5 * number)
    assert (course.position, course.cell_in_step, course.steps[2].cells) == (2, 3, 4)
    hold = Hold("calibration-2", 210.0, 215.0, None)
    assert course.left_of_cell(212.0, hold) == (3, 3)
    assert course.left_of_run(212.0, hold) == (8 + 4 * 26, 8 + 4 * 30)


def test_a_ladder_that_climbs_by_itself_stays_one_step():
    plan = plan_of(concurrency=4, metrics_address="none")
    course = Course(sweep_steps(sweep_config({"grid": ["8x16"]}), plan))
    for name in ("ladder-1", "ladder-2", "ladder-4", "grid-8x16"):
        course.enter("measure", name, 0.0)
    assert [course.steps[i].listed_as for i in course.entered] == ["ladder", "grid"]


def test_a_stress_run_searches_calibrates_and_predicts_only_where_it_must():
    start = ["launch", "idle"]
    every = stress_steps(plan_of(), plan_of().visits, settled=False)
    assert phases(every) == [*start, "1x", "15x", "calibrate", "predict", "1x", "15x", "done"]
    given = plan_of(concurrency=8, tps_model=constant_tps())
    assert phases(stress_steps(given, given.visits, settled=False)) == [*start, "predict", "1x", "15x", "done"]
    settled = stress_steps(plan_of(), plan_of().visits[::-1], settled=True)
    assert phases(settled) == [*start, "15x", "1x", "done"]


def test_the_steps_take_what_the_plan_gives_them():
    plan = plan_of(concurrency=8)
    steps = {step.phase: step.takes for step in stress_steps(plan, plan.visits, settled=False)}
    assert steps["launch"] == (0, None)
    assert steps["idle"] == (10, 10)
    assert steps["measure"] == (26, 30)
    assert steps["calibrate"] == (0, 40)


def test_a_given_ladder_has_a_step_for_each_concurrency():
    plan = plan_of(concurrency=4)
    steps = sweep_steps(sweep_config({"ladder": "1,16", "grid": ["8x16,32"]}), plan)
    cells = [step.cell for step in steps if step.phase == "measure"]
    assert cells == ["ladder-1", "ladder-16", "grid-8x16", "grid-8x32"]
