"""What is reported of a cell's devices, from rows and states made by hand, and what it does to the verdict."""

import json

import numpy as np
import pandas as pd
import pytest

from harness.analysis.devices import Stretch, device_results, states_around
from harness.analysis.energy import DeviceEnergy
from harness.analysis.run import analyse_run
from results.schema import CellResult
from tests.unit.harness.synthetic_run import DEVICES, PLAIN, SyntheticRun

COLUMNS = (
    "uuid", "t_mono_s", "throttle_reasons", "temperature_c", "sm_clock_mhz", "memory_clock_mhz", "utilization_ratio",
    "memory_used_b", "xid",
)  # fmt: skip
LOAD = Stretch(start_s=0.0, end_s=30.0, window_s=(10.0, 20.0))


def frame(*rows):
    return pd.DataFrame([{"uuid": "a", **row} for row in rows], columns=COLUMNS).fillna(np.nan).infer_objects()


def state(**changes):
    known = {"ecc_corrected": 5, "ecc_uncorrected": 0, "power_limit_w": 700.0, "pids": [20], "xids_watched": True}
    return {"uuid": "a", **known, **changes}


def event(*states, own=(20,), host_pids=True):
    return {"devices": list(states), "own_pids": None if own is None else list(own), "host_pids": host_pids}


def result(power=(), before=None, after=None, launch=None, stretch=LOAD, energy=None):
    states = states_around(launch, before, after)
    (found,) = device_results(() if energy is None else (energy,), ("a",), "nvml", frame(*power), stretch, states)
    return found


def test_conditions_are_those_of_the_readings_in_the_window():
    power = [
        {"t_mono_s": 9.0, "temperature_c": 90.0, "throttle_reasons": 0x40, "memory_used_b": 9, "sm_clock_mhz": 900.0},
        {"t_mono_s": 10.0, "temperature_c": 60.0, "throttle_reasons": 0x4, "memory_used_b": 5, "sm_clock_mhz": 1700.0},
        {"t_mono_s": 20.0, "temperature_c": 70.0, "throttle_reasons": 0x1, "memory_used_b": 7, "sm_clock_mhz": 1800.0},
        {"t_mono_s": 15.0},
        {"t_mono_s": 15.0, "uuid": "b", "temperature_c": 99.0},
    ]
    found = result(power)
    assert (found.temperature_max_c, found.memory_max_b, found.sm_clock_mean_mhz) == (70.0, 7, 1750.0)
    assert (found.throttled_share, found.throttled_by_cause) == (0.5, {"gpu_idle": 0.5, "sw_power_cap": 0.5})
    assert found.utilization_mean_ratio is None
    assert (found.boundary, found.source, found.reasons) == ("gpu", "nvml", ())


def test_energy_is_given_by_counter_and_by_integral_with_their_difference():
    energy = DeviceEnergy("a", 1000.0, 1010.0, 1000.0, "counter", 100.0, 120.0, ("power_gap",))
    found = result(energy=energy)
    assert (found.mean_w, found.joules_counter, found.joules_integral) == (100.0, 1000.0, 1010.0)
    assert found.integral_difference_rel == pytest.approx(0.01)
    assert found.reasons == ("power_gap",)


@pytest.mark.parametrize(("counter_j", "integral_j"), [(None, 1.0), (1.0, None), (None, None)])
def test_one_of_the_two_energies_alone_has_no_difference(counter_j, integral_j):
    energy = DeviceEnergy("a", counter_j, integral_j, counter_j or integral_j, None, None, None, ())
    assert result(energy=energy).integral_difference_rel is None


def test_a_source_that_tells_only_watts_leaves_everything_else_unknown_and_not_zero():
    energy = DeviceEnergy("a", 1000.0, None, 1000.0, "counter", 100.0, None, ())
    found = result([{"t_mono_s": 15.0}], energy=energy).model_dump()
    told = {"uuid", "source", "boundary", "mean_w", "joules_counter", "foreign_processes_why", "reasons"}
    assert {name for name, value in found.items() if value is not None} == told
    assert found["reasons"] == ()


def test_errors_and_limits_are_those_of_the_whole_load_around_the_window():
    power = [{"t_mono_s": -1.0, "xid": 13}, {"t_mono_s": 5.0, "xid": 79}, {"t_mono_s": 31.0, "xid": 43}]
    after = state(ecc_corrected=9, ecc_uncorrected=1, power_limit_w=450.0)
    found = result(power, event(state()), event(after), event(state(pids=[])))
    assert (found.ecc_corrected, found.ecc_uncorrected, found.power_limit_w) == (4, 1, 450.0)
    assert found.xids == (79,)
    assert set(found.reasons) == {"ecc_uncorrected", "xid_error", "power_limit_changed"}
    assert found.foreign_processes is False


def test_xids_that_nobody_watched_for_are_unknown_and_not_none():
    watched, unwatched = event(state()), event(state(xids_watched=False))
    assert result(before=watched, after=watched).xids == ()
    assert result(before=unwatched, after=unwatched).xids is None


def test_a_cell_without_a_window_still_tells_of_errors_under_its_load():
    stretch = Stretch(0.0, 30.0, None)
    found = result([{"t_mono_s": 5.0, "xid": 79, "temperature_c": 60.0}], event(state()), event(state()), None, stretch)
    assert (found.xids, found.temperature_max_c, found.mean_w) == ((79,), None, None)


def test_a_load_that_was_cut_short_has_no_state_after_it_and_unknown_growth():
    found = result(before=event(state()))
    assert (found.ecc_corrected, found.ecc_uncorrected, found.power_limit_w) == (None, None, 700.0)


@pytest.mark.parametrize(
    ("launch", "before", "after", "foreign"),
    [
        (event(state(pids=[])), event(state()), event(state(pids=[20, 21]), own=(20, 21)), False),
        (event(state(pids=[7])), event(state(pids=[7, 20])), event(state()), True),
        (event(state(pids=[])), event(state()), event(state(pids=[20, 30])), True),
        (event(state(pids=[])), event(state(pids=[900]), host_pids=False), event(state(pids=[900])), None),
        (None, event(state(), own=None), event(state(), own=None), None),
        (event(state(pids=None)), event(state(pids=None)), event(state(pids=None)), None),
    ],
    ids=["ours", "before launch", "came meanwhile", "container", "url", "not listed"],
)
def test_others_on_a_device_are_told_from_the_servers_by_the_lists_before_and_after(launch, before, after, foreign):
    assert result(before=before, after=after, launch=launch).foreign_processes is foreign


def busy(ratio):
    return [{"t_mono_s": at_s, "utilization_ratio": ratio} for at_s in (12.0, 18.0)]


@pytest.mark.parametrize(
    ("power", "pids", "own", "host_pids", "unused"),
    [
        (busy(0.0), [20], None, True, True),
        (busy(0.4), [], None, True, False),
        ([*busy(0.0), {"t_mono_s": 15.0, "utilization_ratio": 0.01}], [20], None, True, False),
        (busy(0.0), [20], (20,), True, False),
        (busy(0.0), [], (20,), True, True),
        (busy(0.4), [], (20,), True, False),
        (busy(0.0), [], (20,), False, False),
        ([], [], (20,), True, True),
        ([], [], None, True, True),
        ([], [20], None, True, False),
        ([], [], None, False, False),
        ([], None, None, True, False),
    ],
    ids=[
        "never busy", "busy", "busy once", "a replica that waits", "launched beside it", "launched beside it, busy",
        "launched in a container", "launched beside it, use not told", "no process", "a process",
        "a container that sees none", "not listed",
    ],
)  # fmt: skip
def test_a_gpu_that_did_nothing_for_the_servers_is_unused(power, pids, own, host_pids, unused):
    around = event(state(pids=pids), own=own, host_pids=host_pids)
    assert ("gpu_unused" in result(power, around, around).reasons) == unused
    idle = Stretch(0.0, 30.0, (10.0, 20.0), loaded=False)
    assert "gpu_unused" not in result(power, around, around, stretch=idle).reasons


# Through a whole run ------------------------------------------------------------------------------------


def stored_run(launch=(), before=None, after=None, mask=0x4, xid=None):
    """A run whose one cell has states around its load; ``mask`` holds in all readings, ``xid`` comes at 110 s."""
    run = SyntheticRun(cells=(PLAIN,))

    def devices(changes):
        return [state(uuid=uuid, **(changes or {})) for uuid in DEVICES]

    first = next(n for n, stored in enumerate(run.events) if stored["event"] == "cell_start")
    stop = next(n for n, stored in enumerate(run.events) if stored["event"] == "load_stop")
    common = {"cell": "1x", "own_pids": [20], "host_pids": True}
    run.events.insert(stop + 1, {"event": "devices_after", "t_mono_s": 132.1, "devices": devices(after), **common})
    run.events.insert(first + 1, {"event": "devices_before", "t_mono_s": 100.3, "devices": devices(before), **common})
    idle = next(n for n, stored in enumerate(run.events) if stored["event"] == "idle_start")
    for name, at_s in (("devices_after", 89.9), ("devices_before", 70.1)):
        run.events.insert(idle + 1, {"event": name, "t_mono_s": at_s, "devices": devices({}), **common})
    there = devices({"pids": list(launch)})
    run.events.insert(0, {"event": "devices_before_launch", "t_mono_s": 66.0, "devices": there, **common})
    for row in run.power:
        row |= {"throttle_reasons": mask, "temperature_c": 61.0}
    at = next(row for row in run.power if row["t_mono_s"] > 110)
    at["xid"] = xid
    return run


@pytest.mark.parametrize(
    ("changes", "verdict", "code"),
    [
        ({}, "valid", None),
        ({"mask": 0x40}, "suspect", "hardware_throttled"),
        ({"after": {"power_limit_w": 450.0}}, "suspect", "power_limit_changed"),
        ({"xid": 43}, "suspect", "xid_error"),
        ({"launch": (7,), "before": {"pids": [7, 20]}}, "suspect", "foreign_processes"),
        ({"after": {"ecc_corrected": 9}}, "valid", None),
        ({"after": {"ecc_uncorrected": 1}}, "invalid", "ecc_uncorrected"),
    ],
)
def test_what_a_device_went_through_decides_with_the_rest_on_the_verdict(tmp_path, changes, verdict, code):
    (cell,) = analyse_run(stored_run(**changes).write(tmp_path / "run")).cells
    assert (cell.verdict, cell.reasons) == (verdict, () if code is None else (code,))
    assert [device.uuid for device in cell.devices] == list(DEVICES)
    assert {device.temperature_max_c for device in cell.devices} == {61.0}
    assert cell == CellResult.model_validate(json.loads(cell.model_dump_json()))


def test_a_run_that_stored_no_states_says_that_they_are_unknown(tmp_path):
    (cell,) = analyse_run(SyntheticRun(cells=(PLAIN,)).write(tmp_path / "run")).cells
    for device in cell.devices:
        assert (device.ecc_uncorrected, device.power_limit_w, device.xids) == (None, None, None)
        assert (device.foreign_processes, device.throttled_share) == (None, None)
        assert "does not list" in device.foreign_processes_why
        assert device.mean_w == pytest.approx(200.0)


def test_the_states_of_an_idle_phase_are_those_within_it(tmp_path):
    run = SyntheticRun(cells=(PLAIN,))
    common = {"cell": "", "own_pids": [20], "host_pids": True}
    limits = {"devices_before_launch": (66.0, 100.0), "devices_before": (70.0, 200.0), "devices_after": (90.0, 300.0)}
    for name, (at_s, limit_w) in limits.items():
        devices = [state(uuid=uuid, power_limit_w=limit_w) for uuid in DEVICES]
        run.events.append({"event": name, "t_mono_s": at_s, "devices": devices, **common})
    run.events.sort(key=lambda stored: stored["t_mono_s"])
    idle = analyse_run(run.write(tmp_path / "run")).idle
    assert {device.power_limit_w for device in idle.devices} == {300.0}
    assert idle.reasons == ("power_limit_changed",)
