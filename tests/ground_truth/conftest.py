from pathlib import Path

import pytest

from tests.fakes import nvml_library


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in driver library of a current driver."""
    return _built(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in of a driver older than field values, MIG, clock event reasons and today's lists of processes."""
    missing = (
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    )
    return _built(tmp_path_factory.mktemp("old_nvml"), without=missing)


def _built(directory: Path, without: tuple[str, ...] = ()) -> Path:
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler (gcc or cc) to build the stand-in for the NVIDIA driver")
    return nvml_library.build(directory, without=without)
