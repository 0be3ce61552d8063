"""A snapshot holds what the live state knows, in figures that arithmetic gives, and nothing it does not know."""

import pytest

from estimator.nodes import load_profile
from harness.console.snapshot import facts_of, take
from harness.live.course import Course
from harness.live.programme import stress_steps, sweep_steps
from harness.live.state import LiveState
from harness.sweep_config import sweep_config
from tests.unit.harness.console.live_moments import GPU_W, NOW_S, SECOND_LOOK, TOK_PER_S, measuring, plan_on, power_row


def snapshot(count=0, **kinds):
    live, plan = measuring(count, **kinds)
    return take(live, facts_of(plan, "stress"), ["a line"], NOW_S)


def test_the_moment_of_a_cell_under_load():
    shot = snapshot(8)
    assert (shot.phase, shot.cell, shot.cell_of) == ("measure", "15x", (2, 2))
    assert (shot.phase_elapsed_s, shot.phase_left, shot.run_left) == (30, (12, 50), (12, 50))
    assert (shot.elapsed_s, shot.next_look_in_s, shot.ends_early) == (200, 12, True)
    assert (shot.running, shot.waiting, shot.kv_usage_ratio, shot.concurrency) == (60, 3, 0.42, 64)
    assert shot.tps == pytest.approx((TOK_PER_S, 10))
    assert shot.looks[-1] == SECOND_LOOK
    assert (shot.client_lag_p99_s, shot.client_cpu_share) == (0.001, pytest.approx(0.12))


def test_watts_are_lifted_to_the_boundary_and_divided_by_throughput():
    profile = load_profile("hgx-h100")
    shot = snapshot(8)
    assert shot.gpu_watts == pytest.approx((8 * GPU_W, 10))
    assert shot.node_watts == pytest.approx(1_000 * profile.offset_kw + profile.slope * 8 * GPU_W)
    assert shot.joules_per_tok_now == pytest.approx(shot.node_watts / TOK_PER_S)
    assert [gpu.name for gpu in shot.gpus] == [f"GPU {n}" for n in range(8)]
    assert {gpu.limit_w for gpu in shot.gpus} == {700.0}


def test_heat_and_failed_requests_and_other_labels_are_warnings_a_power_cap_is_none():
    assert snapshot(8).warnings == ()
    live, plan = measuring(8, hot=(3,))
    live.requests["error"], live.labels = 100, ("whether anything else used the GPUs is unknown",)
    warnings = take(live, facts_of(plan, "stress"), (), NOW_S).warnings
    assert warnings == (
        "GPU 3: hw_thermal_slowdown",
        "100 of 2,395 requests failed: over 1% makes a cell invalid",
        "whether anything else used the GPUs is unknown",
    )


def test_the_list_of_phases_says_what_is_behind_left_out_under_way_and_to_come():
    live, plan = LiveState(), plan_on(0)
    live.course = Course(stress_steps(plan, plan.visits, settled=False))
    for phase, cell in (("launch", ""), ("search", "1x")):
        live.enter(phase, cell)
    listed = [(phase.name, phase.state, phase.count) for phase in take(live, facts_of(plan, "stress")).phases]
    assert listed == [
        ("launch", "done", ""), ("idle", "left_out", ""), ("search", "now", "1/2"), ("calibrate", "to_come", "0/?"),
        ("predict", "to_come", ""), ("measure", "to_come", "0/2"),
    ]  # fmt: skip
    for phase in ("predict", "done"):
        live.enter(phase, "")
    shot = take(live, facts_of(plan, "stress"))
    assert [phase.state for phase in shot.phases] == ["done", "left_out", "done", "left_out", "done", "left_out"]


def test_a_sweep_lists_its_ladder_and_its_grid():
    plan = plan_on(0)
    live = LiveState(course=Course(sweep_steps(sweep_config({"grid": ["8x16,32"]}), plan)))
    for name in ("ladder-1", "ladder-2"):
        live.enter("measure", name)
    shot = take(live, facts_of(plan, "sweep"))
    assert [(phase.name, phase.count) for phase in shot.phases][2:] == [("ladder", "2/?"), ("grid", "0/2")]
    assert shot.cell_of == (2, None)
    live.enter("search", "grid-8x16")
    live.enter("measure", "grid-8x16")
    assert [(phase.name, phase.count) for phase in take(live, facts_of(plan, "sweep")).phases][3] == ("grid", "1/2")


def test_before_anything_is_known_nothing_is_zero():
    shot = take(LiveState(), facts_of(plan_on(0), "stress"))
    unknown = (shot.running, shot.kv_usage_ratio, shot.tps, shot.gpu_watts, shot.node_watts, shot.joules_per_tok_now)
    assert unknown == (None,) * 6
    assert shot.throttled_s is None
    assert shot.run_left == (0, 0)
    assert shot.phase_left == (0, None)


def test_before_a_server_is_scraped_watts_are_those_of_the_latest_reading():
    live = LiveState()
    live.power_read([power_row(n, NOW_S, simulated=False) for n in range(2)])
    assert take(live, facts_of(plan_on(2), "stress")).gpu_watts == (2 * GPU_W, 0)
