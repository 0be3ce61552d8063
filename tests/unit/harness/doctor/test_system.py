import resource
import socket
from dataclasses import asdict

import pytest

from harness.doctor import system
from harness.doctor.clock import WallClock, wall_clock
from harness.doctor.node import Node
from harness.power.base import PowerRow
from results.store import RunWriter
from tests.unit.harness.doctor.facts import check_fixes

GB = 10**9


@pytest.fixture
def node(tmp_path):
    return Node(root=tmp_path, environ={}, out=tmp_path / "results" / "runs", host_pids=lambda: True)


def write(node, files):
    for name, text in files.items():
        path = node.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def looked(finding):
    check_fixes(finding)
    return finding


@pytest.mark.parametrize(
    ("soft", "hard", "status", "found"),
    [
        (65_536, 65_536, "ok", "limit 65,536: about 65,336 requests"),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", "no limit"),
        (1_024, 1_048_576, "ok", "limit 65,536, which a run gives itself (soft limit here 1,024): about 65,336"),
        (1_024, resource.RLIM_INFINITY, "ok", "about 65,336 requests in flight a client process"),
        (1_024, 4_096, "limits", "limit 4,096, which a run gives itself (soft limit here 1,024): about 3,896"),
        (1_024, 1_024, "limits", "limit 1,024: about 824 requests in flight a client process"),
    ],
)
def test_open_files_are_set_against_requests_in_flight(soft, hard, status, found):
    finding = looked(system.open_files(soft, hard))
    assert finding.status == status
    assert found in finding.found
    assert ("harness stress --clients 4" in finding.fix) == (status == "limits")


def test_a_taken_address_of_the_metrics_needs_an_option():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = looked(system.metrics_port(Node(metrics_address=f"127.0.0.1:{port}")))
    assert (finding.status, finding.stress) == ("limits", "needs_option")
    assert finding.fix[0] == f"harness stress --metrics-address 127.0.0.1:{port + 1}"


@pytest.mark.parametrize(
    ("wall", "status"),
    [
        (WallClock(True, "adjtimex", 0.02), "ok"),
        (WallClock(False, "timedatectl"), "limits"),
        (WallClock(None, "nobody"), "unknown"),
    ],
)
def test_the_wall_clock_matters_only_beside_other_machines(node, wall, status):
    finding = looked(system.clock(node, wall))
    assert finding.status == status
    assert finding.found.startswith("monotonic steps of 1 ns")
    assert status == "ok" or "do not suffer" in finding.meaning


@pytest.mark.parametrize(
    ("lines", "synchronised"), [("echo yes", True), ("echo no", False), ("echo No bus >&2; exit 1", None), (None, None)]
)
def test_where_the_kernel_refuses_systemd_is_asked(tmp_path, monkeypatch, lines, synchronised):
    monkeypatch.setattr("harness.doctor.clock._kernel", lambda: None)
    if lines is not None:
        script = tmp_path / "timedatectl"
        script.write_text(f"#!/bin/sh\n{lines}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    clock = wall_clock(Node(environ={"PATH": f"{tmp_path}:/bin"}))
    assert clock.synchronised is synchronised


def test_the_kernel_tells_whether_its_clock_is_kept_in_step(node):
    clock = wall_clock(node)
    assert clock.synchronised in (True, False, None)
    assert clock.max_error_s is None or 0 <= clock.max_error_s < 20


def test_the_disk_is_tried_and_nothing_is_left_on_it(node):
    finding = looked(system.disk(node, gpus=8))
    assert finding.status in ("ok", "limits"), finding
    assert "power takes 23 MB an hour" in finding.found
    assert list(node.root.iterdir()) == []


def test_a_folder_that_cannot_be_written_needs_another(node, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(system.tempfile, "TemporaryFile", refuse)
    finding = looked(system.disk(node, gpus=0))
    assert (finding.status, finding.stress) == ("missing", "needs_option")
    assert "Permission denied" in finding.found


def test_a_stored_reading_takes_about_the_bytes_it_is_said_to(tmp_path):
    run = RunWriter(tmp_path / "run")
    for i in range(1_000):
        noise = (i * 7919 % 1000) / 1e6  # digits that do not repeat, so that compression finds none
        row = PowerRow(
            "GPU-0", t_mono_s=i / 10 + noise, t_wall_s=1e9 + i / 10 + noise, late_s=noise, source="nvml",
            boundary="gpu",
            power_w=400 + 1e4 * noise, energy_j=40.0 * i + 1e3 * noise, power_instant_w=390 + 2e4 * noise,
            memory_used_b=10**10 + i, temperature_c=60.0, sm_clock_mhz=1755.0, memory_clock_mhz=2619.0,
            utilization_ratio=0.97, throttle_reasons=4, energy_age_s=0.1 * noise, energy_age_bound_s=noise,
        )  # fmt: skip
        run.add("power", [asdict(row)])
    run.flush()
    bytes_a_row = sum(part.stat().st_size for part in (run.folder / "power").iterdir()) / 1_000
    assert 0.5 < bytes_a_row / system.POWER_ROW_B < 1.5


@pytest.mark.parametrize(
    ("files", "gpus", "status", "said"),
    [
        ({}, 0, "ok", "governor not told"),
        ({"cpu0": "performance", "cpu1": "performance"}, 0, "ok", "governor performance"),
        ({"cpu0": "performance", "cpu1": "powersave"}, 0, "limits", "performance, powersave"),
        ({}, 8, "limits", "2 of "),
    ],
)
def test_processors_are_counted_and_their_governor_named(node, monkeypatch, files, gpus, status, said):
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: {0, 1})
    write(node, {f"sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor": text for cpu, text in files.items()})
    finding = looked(system.processors(node, gpus))
    assert finding.status == status
    assert said in finding.found


V2 = {"proc/self/cgroup": "0::/pod/container"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/job\n1:cpu,cpuacct:/job\n0::/"}
MEMINFO = {"proc/meminfo": "MemTotal:       1000000 kB"}


@pytest.mark.parametrize(
    ("files", "status", "found"),
    [
        (MEMINFO, "ok", "1 GB, no limit of a container"),
        (MEMINFO | V2 | {"sys/fs/cgroup/pod/memory.max": 500_000_000}, "limits", "0.5 GB allowed of 1 GB"),
        (
            MEMINFO | V2 | {"sys/fs/cgroup/pod/container/memory.max": "max", "sys/fs/cgroup/memory.max": 4 * 10**8},
            "limits", "0.4 GB allowed of 1 GB",
        ),
        (MEMINFO | V1 | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": 2**63 - 4096}, "ok", "1 GB, no limit"),
        (MEMINFO | V1 | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": 3 * 10**8}, "limits", "0.3 GB allowed"),
        ({"sys/fs/cgroup/memory.max": 5 * 10**9}, "limits", "5.0 GB allowed of unknown"),
    ],
)  # fmt: skip
def test_a_containers_memory_limit_is_found_in_either_version_of_control_groups(node, files, status, found):
    write(node, files)
    finding = looked(system.memory(node))
    assert finding.status == status
    assert finding.found.startswith(found)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        (V2 | {"sys/fs/cgroup/pod/cpu.max": "max 100000"}, None),
        (V2 | {"sys/fs/cgroup/pod/cpu.max": "150000 100000"}, 1.5),
        (V1 | {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100"}, None),
        (V1 | {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "400", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100"}, 4.0),
    ],
)
def test_a_quota_of_processors_is_found_in_either_version_of_control_groups(node, monkeypatch, files, quota):
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: set(range(16)))
    write(node, files)
    found = looked(system.processors(node, 0)).found
    assert (f"a quota of {quota:g};" in found) if quota else ("quota" not in found)


@pytest.mark.parametrize(
    ("gpus", "total_b", "status"), [(8, 64 * 2**20, "limits"), (1, 64 * 2**20, "ok"), (8, 32 * GB, "ok")]
)
def test_a_server_over_several_gpus_needs_shared_memory(node, monkeypatch, gpus, total_b, status):
    (node.root / "dev" / "shm").mkdir(parents=True)
    usage = type("Usage", (), {"total": total_b})
    monkeypatch.setattr(system.shutil, "disk_usage", lambda _: usage)
    finding = looked(system.shared_memory(node, gpus))
    assert finding.status == status
    assert status == "ok" or "docker run --ipc host ..." in finding.fix


@pytest.mark.parametrize(
    ("files", "environ", "host", "status", "said"),
    [
        ({}, {}, True, "ok", "the host's"),
        ({".dockerenv": ""}, {}, False, "limits", "those of a Docker container"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, "limits", "those of a Kubernetes pod"),
        ({}, {}, False, "limits", "those of a namespace of its own"),
    ],
)
def test_process_ids_that_are_not_the_hosts_are_said_to_be_so(node, files, environ, host, status, said):
    write(node, files)
    finding = looked(system.process_ids(Node(root=node.root, environ=environ, host_pids=lambda: host)))
    assert finding.status == status
    assert said in finding.found
