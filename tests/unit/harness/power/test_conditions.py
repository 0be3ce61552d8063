import pytest

from harness.power.base import DeviceState, PowerRow
from harness.power.conditions import conditions, other_use, throttle_names, throttling, use_beside_servers


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0x0, ()),
        (0x1, ("gpu_idle",)),
        (0x4 | 0x40, ("sw_power_cap", "hw_thermal_slowdown")),
        (0x80 | 0x8, ("hw_slowdown", "hw_power_brake")),
        (1 << 40 | 0x20, ("sw_thermal_slowdown", "bit_0x10000000000")),
    ],
)
def test_clock_event_bits_are_named_and_unknown_ones_keep_their_number(mask, names):
    assert throttle_names(mask) == names


def test_shares_of_throttling_are_by_cause_and_of_the_readings_that_tell():
    throttled = throttling([0x0, 0x4, 0x4 | 0x20, 0x1, None])
    assert throttled.by_cause == {"gpu_idle": 0.25, "sw_power_cap": 0.5, "sw_thermal_slowdown": 0.25}
    assert throttled.share == 0.5
    assert throttled.hardware_share == 0.25


@pytest.mark.parametrize("chosen", [0x1, 0x2, 0x100])
def test_idling_and_chosen_clocks_are_no_throttling(chosen):
    assert throttling([chosen]).share == 0.0


def test_an_unknown_cause_is_throttling_of_some_kind():
    assert throttling([1 << 20]).share == 1.0


@pytest.mark.parametrize("masks", [[], [None, None]])
def test_without_a_mask_throttling_is_unknown_and_not_zero(masks):
    throttled = throttling(masks)
    assert (throttled.share, throttled.hardware_share, throttled.by_cause) == (None, None, {})


def row(**fields):
    return PowerRow("a", t_mono_s=0.0, t_wall_s=0.0, late_s=0.0, source="s", boundary="gpu", **fields)


UNCHANGED = DeviceState("a", 5, 0, 700.0, ())


def test_conditions_sum_up_what_was_read_and_leave_the_rest_unknown():
    rows = [
        row(temperature_c=60.0, sm_clock_mhz=1700.0, memory_used_b=5, utilization_ratio=0.5),
        row(temperature_c=70.0, sm_clock_mhz=1800.0, memory_used_b=7),
        row(),
    ]
    seen = conditions(rows, UNCHANGED, UNCHANGED)
    assert (seen.temperature_max_c, seen.sm_clock_mean_mhz, seen.memory_max_b) == (70.0, 1750.0, 7)
    assert (seen.utilization_mean_ratio, seen.memory_clock_mean_mhz) == (0.5, None)
    assert (seen.ecc_corrected, seen.ecc_uncorrected, seen.xids, seen.reasons) == (0, 0, (), ())


@pytest.mark.parametrize(
    ("masks", "xid", "after", "reasons"),
    [
        ([0x4] * 20, None, UNCHANGED, ()),
        ([0x40] + [0] * 19, None, UNCHANGED, ()),
        ([0x40] * 2 + [0] * 18, None, UNCHANGED, ("hardware_throttled",)),
        ([0] * 20, 79, UNCHANGED, ("xid_error",)),
        ([0] * 20, None, DeviceState("a", 9, 0, 700.0, ()), ()),
        ([0] * 20, None, DeviceState("a", 5, 1, 700.0, ()), ("ecc_uncorrected",)),
        ([0] * 20, None, DeviceState("a", 5, 0, 450.0, ()), ("power_limit_changed",)),
        ([0] * 20, None, DeviceState("a"), ()),
    ],
)
def test_what_makes_a_window_doubtful(masks, xid, after, reasons):
    rows = [row(throttle_reasons=mask) for mask in masks] + [row(xid=xid)]
    assert conditions(rows, UNCHANGED, after).reasons == reasons


@pytest.mark.parametrize("after", [DeviceState("a"), DeviceState("a", ecc_corrected=4, ecc_uncorrected=0)])
def test_a_count_that_fell_or_was_not_read_grew_by_an_unknown_number(after):
    assert conditions([], UNCHANGED, after).ecc_corrected is None


@pytest.mark.parametrize(
    ("before", "after", "own", "host_pids", "foreign", "why"),
    [
        ((), (), (), True, False, "none before or after"),
        ((7,), (7,), (), True, True, "there before: 7"),
        ((7,), (7,), (), False, True, "there before: 7"),
        ((), (8, 9), (8, 9), True, False, "only ours"),
        ((), (8, 9), (8,), True, True, "came meanwhile: 9"),
        ((), (8,), (8,), False, None, "container"),
        (None, (8,), (), True, None, "does not list"),
        ((), None, (), True, None, "does not list"),
    ],
)
def test_others_on_a_gpu_are_told_from_ours_or_said_to_be_unknown(before, after, own, host_pids, foreign, why):
    use = other_use(before, after, own, host_pids=host_pids)
    assert use.foreign is foreign
    assert why in use.why


OURS = (20, 21)


@pytest.mark.parametrize(
    ("before", "seen", "own", "host_pids", "foreign", "why"),
    [
        ((), (20,), OURS, True, False, "only the servers'"),
        ((), (20, 30), OURS, True, True, "came after launch: 30"),
        ((7,), (7, 20), OURS, True, True, "there before launch and still: 7"),
        ((7,), (7, 20, 30), OURS, True, True, "there before launch and still: 7; came after launch: 30"),
        ((7,), (20,), OURS, True, False, "only the servers'"),
        (None, (20,), OURS, True, False, "only the servers'"),
        ((7,), (7, 900), OURS, False, True, "there before launch and still: 7"),
        ((), (900,), OURS, False, None, "ours are a container's"),
        ((7,), (900,), OURS, False, None, "has gone"),
        (None, (900,), OURS, False, None, "is not known"),
        ((), (20,), None, True, None, "already ran"),
        ((), None, OURS, True, None, "does not list"),
        ((), (), OURS, True, None, "not even the server's"),
        (None, (), (), False, False, "none"),
        (None, (7,), (), False, True, "listed: 7"),
    ],
)
def test_processes_beside_the_servers_are_foreign_where_they_can_be_told_apart(
    before, seen, own, host_pids, foreign, why
):
    use = use_beside_servers(before, seen, own, host_pids=host_pids)
    assert use.foreign is foreign
    assert why in use.why
