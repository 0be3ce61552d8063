"""What the operating system and a container leave a run: files, clock, disk, processors, memory, process ids."""

from __future__ import annotations

import os
import re
import resource
import shutil
import tempfile
import time
from pathlib import Path

from harness.doctor.clock import WallClock, wall_clock
from harness.doctor.finding import Finding
from harness.doctor.node import Node
from harness.metrics.address import parse_address
from harness.open_files import FILES_BESIDES_REQUESTS, attainable
from harness.server.launch import is_taken

POWER_ROW_B = 80
"""Bytes that a reading of one GPU takes in a run folder; a test writes some and counts."""

READINGS_HZ = 10
ENOUGH_REQUESTS = 4_096
ENOUGH_DISK_B = 2e9
PROBE_B = 8 * 2**20
SLOWEST_DISK_B_PER_S = 10e6
ENOUGH_SHM_B = 1 * 2**30
_NO_MEMORY_LIMIT_B = 2**60  # cgroup v1 writes about 2**63 for none


def metrics_port(node: Node) -> Finding:
    """Look whether the address of the harness's own metrics is free."""
    host, port = parse_address(node.metrics_address)
    if not is_taken(port, host):
        return Finding("load.metrics_port", f"port {port}", "ok", "free; harness stress serves its metrics there")
    return Finding(
        "load.metrics_port", f"port {port}", "limits", f"{node.metrics_address} is taken: perhaps by another run",
        "harness stress stops at its start unless its metrics go elsewhere; two runs at once spoil each other's "
        "figures",
        (f"harness stress --metrics-address {host}:{port + 1}", f"ss -ltnp 'sport = :{port}'"), stress="needs_option",
    )  # fmt: skip


def open_files(soft: int | None = None, hard: int | None = None) -> Finding:
    """Set the limit of open files against the requests in flight: each takes one in its client."""
    if soft is None or hard is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    title, limit = "open files", attainable(soft, hard)
    if limit == resource.RLIM_INFINITY:
        return Finding("load.open_files", title, "ok", "no limit")
    raised = f"{limit:,}, which a run gives itself (soft limit here {soft:,})" if limit > soft else f"{limit:,}"
    room = max(0, limit - FILES_BESIDES_REQUESTS)
    found = f"limit {raised}: about {room:,} requests in flight a client process"
    if room >= ENOUGH_REQUESTS:
        return Finding("load.open_files", title, "ok", found)
    return Finding(
        "load.open_files", title, "limits", found,
        "a search that goes beyond ends the run; several clients share the load",
        ("harness stress --clients 4", "docker run --ulimit nofile=65536 ...", "# else: /etc/security/limits.conf"),
    )  # fmt: skip


def clock(node: Node, wall: WallClock | None = None) -> Finding:
    """Tell the step of the monotonic clock and whether the wall clock is kept to others'."""
    resolution_s = time.get_clock_info("monotonic").resolution
    wall = wall or wall_clock(node)
    monotonic = f"monotonic steps of {resolution_s * 1e9:.0f} ns"
    only = "durations and joules use the monotonic clock and do not suffer; "
    if wall.synchronised is None:
        return Finding(
            "node.clock", "clock", "unknown", f"{monotonic}; wall clock: {wall.source}",
            f"{only}whether times fit logs of other machines (Prometheus, a controller) cannot be told",
            ("timedatectl status",),
        )  # fmt: skip
    if not wall.synchronised:
        return Finding(
            "node.clock", "clock", "limits", f"{monotonic}; wall clock not synchronised ({wall.source})",
            f"{only}joining a run with logs of other machines (Prometheus, a controller) may be off",
            ("sudo timedatectl set-ntp true", "chronyc tracking"),
        )  # fmt: skip
    within = "" if wall.max_error_s is None else f" to within {wall.max_error_s:.3g} s"
    return Finding("node.clock", "clock", "ok", f"{monotonic}; wall clock synchronised{within} ({wall.source})")


def disk(node: Node, gpus: int) -> Finding:
    """Look for room and pace where run folders would go, with an unnamed file that leaves nothing behind."""
    title, out = "disk", node.out
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    elsewhere = ("harness stress --out FOLDER",)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            begun_s = time.monotonic()
            probe.write(os.urandom(PROBE_B))
            probe.flush()
            os.fsync(probe.fileno())
            pace_b_per_s = PROBE_B / (time.monotonic() - begun_s)
        free_b = shutil.disk_usage(folder).free
    except OSError as error:
        why = error.strerror or str(error)
        return Finding(
            "node.disk", title, "missing", f"{folder} cannot be written: {why}", "there is nowhere to keep a run",
            elsewhere, stress="needs_option",
        )  # fmt: skip
    hourly_b = POWER_ROW_B * READINGS_HZ * max(1, gpus) * 3600
    found = (
        f"{free_b / 1e9:,.0f} GB free at {folder}, {pace_b_per_s / 1e6:,.0f} MB/s written through; "
        f"power takes {hourly_b / 1e6:.0f} MB an hour"
    )
    if free_b < ENOUGH_DISK_B:
        return Finding(
            "node.disk", title, "limits", found, "a full disk ends a run; what it has is kept", ("df -h", *elsewhere)
        )
    if pace_b_per_s < SLOWEST_DISK_B_PER_S:
        return Finding(
            "node.disk",
            title,
            "limits",
            found,
            "slow writes take time from the load client; use a local disk",
            elsewhere,
        )
    return Finding("node.disk", title, "ok", found)


def processors(node: Node, gpus: int) -> Finding:
    """Count the processors this process may use, and look at their governor."""
    allowed, present = len(os.sched_getaffinity(0)), os.cpu_count() or 0
    quota = _cpu_quota(node)
    usable = allowed if quota is None else min(float(allowed), quota)
    cores = node.path("/sys/devices/system/cpu").glob("cpu[0-9]*")
    names = (node.read(f"/sys/devices/system/cpu/{core.name}/cpufreq/scaling_governor") for core in cores)
    governors = {name for name in names if name}
    governor = f"governor {', '.join(sorted(governors))}" if governors else "governor not told"
    found = (
        f"{allowed} of {present} usable" + (f", a quota of {quota:g}" if quota is not None else "") + f"; {governor}"
    )
    title = "processors"
    if gpus and usable < 2 * gpus:
        return Finding(
            "node.processors", title, "limits", found,
            f"fewer than two for each of {gpus} GPU(s): server and load client starve each other, and cells may be "
            "client_bound",
            (
                "taskset -pc $$",
                "docker run --cpus N ...",
                "sbatch --exclusive ...",
                "# in Kubernetes: raise limits.cpu",
            ),
        )  # fmt: skip
    if not gpus and usable < 2:
        return Finding(
            "node.processors", title, "limits", found, "server and load client share one: cells will be client_bound",
            ("taskset -pc $$", "docker run --cpus N ..."),
        )  # fmt: skip
    if governors - {"performance"}:
        return Finding(
            "node.processors", title, "limits", found,
            "clocks of the CPU follow the load, so that latency and idle watts depend on what ran before",
            ("sudo cpupower frequency-set --governor performance",),
        )  # fmt: skip
    return Finding("node.processors", title, "ok", found)


def memory(node: Node) -> Finding:
    """Tell the memory this process may use: the machine's, or a container's."""
    total_b = _total_memory_b(node)
    limit_b = _memory_limit_b(node)
    total = "unknown" if total_b is None else f"{total_b / 1e9:.0f} GB"
    if limit_b is None or (total_b is not None and limit_b >= total_b):
        return Finding("node.memory", "memory", "ok" if total_b else "unknown", f"{total}, no limit of a container")
    return Finding(
        "node.memory", "memory", "limits", f"{limit_b / 1e9:.1f} GB allowed of {total}",
        "a server that needs more is killed (server_lost)",
        ("docker run --memory SIZE ...", "sbatch --mem 0 ...", "# in Kubernetes: raise limits.memory"),
    )  # fmt: skip


def shared_memory(node: Node, gpus: int) -> Finding:
    """Look at /dev/shm, over which the processes of a tensor-parallel server talk."""
    title, folder = "shared memory", node.path("/dev/shm")  # noqa: S108 - looked at, not written
    if not folder.is_dir():
        return Finding(
            "node.shared_memory", title, "unknown", "there is no /dev/shm",
            "processes of a server over several GPUs talk over it", ("sudo mount -t tmpfs tmpfs /dev/shm",),
        )  # fmt: skip
    size_b = shutil.disk_usage(folder).total
    found = f"{folder} holds {size_b / 1e9:.2g} GB"
    if gpus > 1 and size_b < ENOUGH_SHM_B:
        return Finding(
            "node.shared_memory", title, "limits", found,
            "a server over several GPUs needs more and dies at its start without",
            ("docker run --ipc host ...", "docker run --shm-size 16g ..."),
        )  # fmt: skip
    return Finding("node.shared_memory", title, "ok", found)


def process_ids(node: Node) -> Finding:
    """Tell whether process ids here are the host's, as the driver's are."""
    title = "process ids"
    container = _container(node)
    if node.host_pids():
        return Finding("node.process_ids", title, "ok", f"the host's{f', in {container}' if container else ''}")
    return Finding(
        "node.process_ids", title, "limits", f"those of {container or 'a namespace of its own'}, not the host's",
        "who else computes on a GPU can be told only from those that were there before the launch",
        ("docker run --pid host ...", "# in Kubernetes: hostPID: true"),
    )  # fmt: skip


def _container(node: Node) -> str | None:
    if node.environ.get("KUBERNETES_SERVICE_HOST"):
        return "a Kubernetes pod"
    if node.path("/.dockerenv").exists():
        return "a Docker container"
    return "a container" if node.path("/run/.containerenv").exists() else None


def _total_memory_b(node: Node) -> int | None:
    found = re.search(r"MemTotal:\s*(\d+) kB", node.read("/proc/meminfo") or "")
    return int(found[1]) * 1024 if found else None


def _memory_limit_b(node: Node) -> int | None:
    """Return the tightest limit on the way up the control groups, of either version; None for none."""
    v2 = [node.read(f"{folder}/memory.max") for folder in _groups(node, "", "/sys/fs/cgroup")]
    v1 = [node.read(f"{folder}/memory.limit_in_bytes") for folder in _groups(node, "memory", "/sys/fs/cgroup/memory")]
    limits = [int(text) for text in (*v2, *v1) if text and text.isdigit()]
    return min((limit for limit in limits if limit < _NO_MEMORY_LIMIT_B), default=None)


def _cpu_quota(node: Node) -> float | None:
    """Return the tightest quota in processors, None for none."""
    v2 = [node.read(f"{folder}/cpu.max") for folder in _groups(node, "", "/sys/fs/cgroup")]
    v1 = [
        f"{node.read(f'{folder}/cpu.cfs_quota_us')} {node.read(f'{folder}/cpu.cfs_period_us')}"
        for folder in _groups(node, "cpu", "/sys/fs/cgroup/cpu")
    ]
    quotas = [text.split() for text in (*v2, *v1) if text and len(text.split()) == 2]
    shares = [
        int(quota) / int(period) for quota, period in quotas if quota.isdigit() and period.isdigit() and int(period)
    ]
    return min(shares, default=None)


def _groups(node: Node, controller: str, mount: str) -> list[str]:
    """Return the folder of this process's control group and those above it, as far as they can be seen."""
    for line in (node.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            parts = Path(path).parts[1:]
            return [str(Path(mount, *parts[:depth])) for depth in range(len(parts), -1, -1) if ".." not in parts]
    return [mount]
