import os
from pathlib import Path
from statistics import median

import pytest

from tests.fakes.nvml_library import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    NO_PERMISSION,
    UNKNOWN,
    Failure,
    Scenario,
    uuid,
)
from tests.ground_truth.scenarios import Outcome, Run, finish, run_all, start

DEFAULT = Scenario()
NO_POWER = (
    Failure("185"),
    Failure("nvmlDeviceGetPowerUsage"),
    Failure("nvmlDeviceGetTotalEnergyConsumption"),
    Failure("83"),
)

REFUSED = {
    "mig mode": Run(Scenario(mig=True)),
    "mig uuid": Run(DEFAULT, gpus=("MIG-41b36413-0000-0000-0000-000000000000",)),
    "unknown uuid": Run(DEFAULT, gpus=("GPU-nowhere",)),
    "no gpu": Run(Scenario(gpus=0)),
    "not loaded": Run(Scenario(failures=(Failure("nvmlInitWithFlags", DRIVER_NOT_LOADED),))),
    "no permission": Run(Scenario(failures=(Failure("nvmlInitWithFlags", NO_PERMISSION),))),
    "lost": Run(Scenario(failures=(Failure("*", GPU_IS_LOST),))),
    "no power": Run(Scenario(failures=NO_POWER)),
}
READ = {
    "default": Run(Scenario(gpus=2, pids=(4321, 1234))),
    "entry fails": Run(Scenario(failures=(Failure("185", UNKNOWN),))),
    "entry fails on GA100": Run(Scenario(capability=8.0, failures=(Failure("185", UNKNOWN),))),
    "no capability": Run(Scenario(failures=(Failure("185"), Failure("nvmlDeviceGetCudaComputeCapability")))),
    "counter call fails": Run(Scenario(failures=(Failure("nvmlDeviceGetTotalEnergyConsumption"),))),
    "no counter": Run(Scenario(failures=(Failure("nvmlDeviceGetTotalEnergyConsumption"), Failure("83")))),
    "module": Run(Scenario(module_extra_w=150.0)),
    "no persistence": Run(Scenario(persistence=False)),
    "bare": Run(
        Scenario(
            failures=tuple(
                Failure(call)
                for call in (
                    "185",
                    "186",
                    "nvmlDeviceGetMigMode",
                    "nvmlDeviceGetPersistenceMode",
                    "nvmlDeviceGetTemperatureV",
                    "nvmlDeviceGetUtilizationRates",
                    "nvmlDeviceGetTemperature",
                    "nvmlDeviceGetClockInfo",
                    "nvmlDeviceGetMemoryInfo",
                    "nvmlDeviceGetEnforcedPowerLimit",
                    "nvmlDeviceGetCurrentClocksEventReasons",
                    "nvmlDeviceGetCurrentClocksThrottleReasons",
                    "nvmlDeviceGetComputeRunningProcesses_v3",
                    "nvmlDeviceGetTotalEccErrors",
                    "nvmlSystemGetCudaDriverVersion_v2",
                )
            )
        )
    ),
    # 23.456 W fits every type, unsigned short included
    **{f"type {kind}": Run(Scenario(field_type=kind, mean_w=23.456)) for kind in range(7)},
    "type 99": Run(Scenario(field_type=99)),
}


@pytest.fixture(scope="module")
def outcomes(nvml: Path) -> dict[str, Outcome]:
    return run_all(nvml, REFUSED | READ, at_once=10)


@pytest.fixture(scope="module")
def old_driver(old_nvml: Path) -> Outcome:
    return run_all(old_nvml, {"old": Run(Scenario(pids=(77,)))})["old"]


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("mig mode", "is in MIG mode", "disable MIG"),
        ("mig uuid", "is in MIG mode", "use the whole GPU"),
        ("unknown uuid", "no GPU GPU-nowhere", "name one of these"),
        ("no gpu", "no GPU to measure", "nvidia-smi -L"),
        ("not loaded", "driver is not loaded", "modprobe nvidia"),
        ("no permission", "may not be used", "--gpus all"),
        ("lost", "A GPU is lost", "dmesg"),
        ("no power", "neither power nor energy", "another GPU"),
    ],
)
def test_a_gpu_that_cannot_be_measured_is_refused_with_what_to_do(outcomes, name, what, fix):
    outcome = outcomes[name]
    assert outcome.status == 3
    assert what in outcome.printed["what"]
    assert fix in outcome.printed["fix"]
    assert outcome.printed["why"]


def test_a_missing_driver_library_is_refused_with_what_to_do():
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    env = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    run = Run(DEFAULT)
    with start(run, env) as process:
        outcome = finish(run, process)
    assert outcome.status == 3
    assert "libnvidia-ml.so.1" in outcome.printed["what"]
    assert "install the driver" in outcome.printed["fix"]
    assert "--power simulated" in outcome.printed["fix"]


def test_devices_are_identified_by_uuid_index_bus_memory_and_limit(outcomes):
    assert outcomes["default"].printed["devices"] == [
        {
            "uuid": uuid(i),
            "name": "NVIDIA H100 80GB HBM3",
            "index": i,
            "pci_bus_id": f"00000000:1{i}:00.0",
            "memory_total_b": 80 * 2**30,
            "power_limit_w": 700.0,
            "persistence_mode": True,
        }
        for i in range(2)
    ]


def test_every_reading_is_in_si_units(outcomes):
    row = outcomes["default"].printed["first_rows"][1]
    assert row["power_w"] == 400.0
    assert 2e6 <= row["energy_j"] < 2.01e6
    assert (row["utilization_ratio"], row["memory_used_b"]) == (0.97, 60 * 2**30)
    assert (row["temperature_c"], row["sm_clock_mhz"], row["throttle_reasons"]) == (61, 1755, 4)
    assert (row["memory_clock_mhz"], row["power_instant_w"], row["xid"]) == (2619, 400.0, None)
    assert (row["source"], row["boundary"], row["error"]) == ("nvml", "gpu", None)


def test_driver_versions_and_processes_are_reported(outcomes):
    printed = outcomes["default"].printed
    assert printed["driver"] == "driver 550.54.15, NVML 12.550.54.15, CUDA 12.4"
    assert printed["pids"] == {uuid(0): [1234, 4321], uuid(1): [1234, 4321]}
    assert (printed["notes"], printed["power_lag_s"]) == ([], 0.5)


def test_an_entry_that_fails_inside_a_successful_call_falls_back_with_a_note(outcomes):
    printed = outcomes["entry fails"].printed
    assert printed["first_rows"][0]["power_w"] == 400.0
    assert printed["notes"] == [
        f"NVML on {uuid(0)}: power_w is from nvmlDeviceGetPowerUsage (field NVML_FI_DEV_POWER_AVERAGE: UNKNOWN)"
    ]


@pytest.mark.parametrize(
    ("name", "power_lag_s"), [("entry fails", 0.5), ("entry fails on GA100", 0.0), ("no capability", 0.0)]
)
def test_power_usage_is_an_average_on_gpus_newer_than_ga100_only(outcomes, name, power_lag_s):
    printed = outcomes[name].printed
    assert printed["power_lag_s"] == power_lag_s
    assert any("no compute capability" in note for note in printed["notes"]) == (name == "no capability")


def test_the_energy_counter_is_read_as_a_field_where_its_call_is_missing(outcomes):
    printed = outcomes["counter call fails"].printed
    assert 1e6 <= printed["first_rows"][0]["energy_j"] < 1.01e6
    assert printed["notes"] == [
        f"NVML on {uuid(0)}: energy_j is from field NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION "
        "(nvmlDeviceGetTotalEnergyConsumption: NOT_SUPPORTED)"
    ]


def test_without_an_energy_counter_a_note_says_that_power_is_integrated(outcomes):
    printed = outcomes["no counter"].printed
    assert printed["window"]["devices"][0]["method"] == "integral"
    assert printed["window"]["devices"][0]["counter_j"] is None
    assert printed["notes"] == [
        f"NVML on {uuid(0)}: no energy counter: energy comes from integrated power only "
        "(nvmlDeviceGetTotalEnergyConsumption: NOT_SUPPORTED; "
        "field NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: NOT_SUPPORTED)"
    ]


def test_of_a_module_with_a_cpu_only_the_power_of_the_gpu_is_read(outcomes):
    printed = outcomes["module"].printed
    assert printed["first_rows"][0]["power_w"] == 400.0
    (note,) = printed["notes"]
    assert "module" in note
    assert "only the GPU's power is read" in note


def test_persistence_mode_is_told(outcomes):
    assert outcomes["no persistence"].printed["devices"][0]["persistence_mode"] is False
    assert outcomes["bare"].printed["devices"][0]["persistence_mode"] is None


def test_a_reading_tells_how_long_ago_the_counter_stepped(outcomes):
    """Mostly, since a busy machine may keep the sampling from seeing it step."""
    bounds_s = [
        device["edge_bound_j"] / run.scenario.mean_w
        for name, run in READ.items()
        for device in outcomes[name].printed["window"]["devices"]
        if device["edge_bound_j"] is not None
    ]
    assert len(bounds_s) > 10
    assert min(bounds_s) > 0
    assert median(bounds_s) < 2 * DEFAULT.update_s


def test_what_a_gpu_does_not_support_is_none_with_a_note_and_no_error(outcomes):
    printed = outcomes["bare"].printed
    row = printed["first_rows"][0]
    missing = (
        "utilization_ratio",
        "memory_used_b",
        "temperature_c",
        "sm_clock_mhz",
        "memory_clock_mhz",
        "throttle_reasons",
        "power_instant_w",
    )
    assert [row[field] for field in missing] == [None] * len(missing)
    assert (row["power_w"], row["error"]) == (400.0, None)
    assert len(printed["notes"]) == len(missing) + 1
    assert printed["devices"][0]["memory_total_b"] is None
    assert printed["devices"][0]["power_limit_w"] is None
    assert printed["pids"] == {uuid(0): None}
    assert printed["driver"].endswith("CUDA unknown")


@pytest.mark.parametrize("kind", range(7))
def test_a_field_is_decoded_by_its_value_type(outcomes, kind):
    printed = outcomes[f"type {kind}"].printed
    assert printed["first_rows"][0]["power_w"] == pytest.approx(23.456)
    assert printed["notes"] == []


def test_a_field_of_an_unknown_type_is_not_guessed(outcomes):
    printed = outcomes["type 99"].printed
    assert "ARGUMENT_VERSION_MISMATCH" in printed["notes"][0]
    assert printed["first_rows"][0]["power_w"] == 400.0


def test_a_driver_without_newer_functions_is_read_through_older_ones(old_driver):
    printed = old_driver.printed
    assert old_driver.status == 0
    assert printed["first_rows"][0]["power_w"] == 400.0
    assert printed["first_rows"][0]["throttle_reasons"] == 4
    assert [note.split(": ")[1].split(" (")[0] for note in printed["notes"]] == [
        "power_w is from nvmlDeviceGetPowerUsage",
        "no instantaneous power",
        "throttle_reasons is from nvmlDeviceGetCurrentClocksThrottleReasons",
    ]
    assert all("FUNCTION_NOT_FOUND" in note for note in printed["notes"])
    assert printed["power_lag_s"] == 0.5
    assert printed["pids"] == {uuid(0): [77]}
