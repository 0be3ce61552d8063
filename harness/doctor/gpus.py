"""What the driver's answers mean for a measurement. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.doctor.finding import Finding
from harness.doctor.probe import DriverFacts, GpuFacts, Probe

Gpus = Sequence[GpuFacts]

_NO_JOULES = "no joules of a GPU: --power auto then simulates them, which is no measurement; tokens and times still are"
_USAGE = (
    "that too is the mean of a second, except on A100, A30 and GPUs before Ampere, where it is the present power; the "
    "lag is undone accordingly"
)


def gpu_findings(probe: Probe, nvidia_devices: int | None, *, host_pids: bool) -> Iterator[Finding]:
    """Yield what was found of the GPUs; ``nvidia_devices`` counts NVIDIA's display devices on the PCI bus."""
    if probe.driver is None:
        yield _no_driver(probe, nvidia_devices)
        return
    driver, gpus = probe.driver, probe.driver.gpus
    yield _driver(driver)
    yield _models(gpus, nvidia_devices)
    yield _mig(gpus)
    whole = [gpu for gpu in gpus if not gpu.mig]
    if not whole:
        return
    yield from _joules(whole)
    yield _instant(whole)
    yield _throttling(whole)
    yield _other_readings(whole, driver.no_events)
    yield _processes(whole, host_pids=host_pids)
    yield _persistence(whole)
    yield _power_limit(whole)
    yield _ecc(whole)


def numbers(gpus: Gpus) -> str:
    """Name GPUs by number, runs of them as a range: "GPUs 0-3, 7"."""
    runs: list[list[int]] = []
    for index in sorted(gpu.index for gpu in gpus):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    text = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"GPU{'s' if len(gpus) > 1 else ''} {text}"


def _said(gpus: Gpus, what: Callable[[GpuFacts], Any]) -> str:
    """Say what GPUs answer: once if all answer alike, else for each group of them."""
    groups: dict[str, list[GpuFacts]] = {}
    for gpu in gpus:
        groups.setdefault(str(what(gpu)), []).append(gpu)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{numbers(group)}: {text}" for text, group in groups.items())


def _each(gpus: Gpus, command: str) -> str:
    """Return a command for some GPUs at once, their numbers in place of {}."""
    return command.format(",".join(str(gpu.index) for gpu in gpus))


def _only(gpus: Gpus) -> tuple[str, ...]:
    """Return the run that uses these GPUs alone, if there are any."""
    return (f"harness stress --gpu {' --gpu '.join(str(gpu.index) for gpu in gpus)}",) if gpus else ()


def _no_driver(probe: Probe, nvidia_devices: int | None) -> Finding:
    if probe.no_driver is None:
        return Finding(
            "gpu.driver", "NVIDIA driver", "unknown", "it did not answer in time, or its library failed", _NO_JOULES,
            ("nvidia-smi", "sudo dmesg | grep -iE 'nvrm|xid'"), stress="cannot_run",
        )  # fmt: skip
    found = f"{probe.no_driver.what} {_sentence(probe.no_driver.why)}".strip()
    if nvidia_devices == 0:
        return Finding(
            "gpu.driver", "NVIDIA driver", "missing", f"{found} No NVIDIA device is on the PCI bus.", _NO_JOULES
        )
    fix = ("nvidia-smi", f"# {probe.no_driver.fix}")
    if nvidia_devices is None:
        unseen = f"{found} The PCI bus cannot be seen."
        return Finding("gpu.driver", "NVIDIA driver", "missing", unseen, _NO_JOULES, fix)
    return Finding(
        "gpu.driver", "NVIDIA driver", "missing", f"{found} {nvidia_devices} NVIDIA device(s) on the PCI bus.",
        "no joules of a GPU, and harness stress stops rather than simulate them unasked",
        (*fix, "harness stress --power simulated"), stress="needs_option",
    )  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def _driver(driver: DriverFacts) -> Finding:
    cuda = "unknown" if driver.cuda is None else f"{driver.cuda[0]}.{driver.cuda[1]}"
    found = f"driver {driver.version}, NVML {driver.nvml}, CUDA up to {cuda}"
    return Finding("gpu.driver", "NVIDIA driver", "ok", found)


def _models(gpus: Gpus, nvidia_devices: int | None) -> Finding:
    names = {gpu.name for gpu in gpus}
    counts = ", ".join(f"{sum(gpu.name == name for gpu in gpus)} x {name}" for name in sorted(names))
    sizes = _said(
        gpus, lambda gpu: "memory unknown" if not gpu.memory_total_b else f"{gpu.memory_total_b / 1e9:.0f} GB"
    )
    found = f"{counts}, {sizes}"
    if len(names) > 1:
        return Finding(
            "gpu.models", "GPUs", "limits", found,
            "one server over unlike GPUs runs at the pace of the slowest, and the node profile of the first is taken "
            "for all: measure alike GPUs together",
            _only([gpu for gpu in gpus if gpu.name == gpus[0].name]),
        )  # fmt: skip
    if nvidia_devices and nvidia_devices > len(gpus):
        return Finding(
            "gpu.models", "GPUs", "limits", f"{found}; {nvidia_devices} NVIDIA devices on the PCI bus",
            "GPUs that this process does not see draw power too: a node meter includes them and a node profile "
            "charges their share to nobody", ("nvidia-smi -L", "docker run --gpus all ..."),
        )  # fmt: skip
    return Finding("gpu.models", "GPUs", "ok", found)


def _mig(gpus: Gpus) -> Finding:
    split = [gpu for gpu in gpus if gpu.mig]
    if not split:
        unknown = [gpu for gpu in gpus if gpu.mig is None]
        return Finding("gpu.mig", "MIG", "ok", f"not offered by {numbers(unknown)}" if unknown else "off on every GPU")
    others = [gpu for gpu in gpus if not gpu.mig]
    return Finding(
        "gpu.mig", "MIG", "limits" if others else "missing", f"on: {numbers(split)}",
        "NVML tells the power of the whole GPU, which its instances share, so such a GPU is refused; to turn MIG off "
        "ends whatever its instances run",
        (_each(split, "sudo nvidia-smi -i {} -mig 0"), *_only(others)),
        stress="needs_option" if others else "cannot_run",
    )  # fmt: skip


def _joules(gpus: Gpus) -> Iterator[Finding]:
    """Yield the findings of the two readings that carry joules, and their absence."""
    without = [gpu for gpu in gpus if not gpu.carries_joules]
    yield _reading(
        gpus, "gpu.energy_counter", "energy counter", "energy_j",
        "joules are then integrated from power at 10 Hz: what happens between readings is missed and the check of "
        "counter against integral falls away", "the same counter by another call",
    )  # fmt: skip
    yield _reading(
        gpus, "gpu.power_average", "power, 1 s average", "power_w",
        "joules then come from the counter alone, unchecked by an integral, and there is no trace of watts", _USAGE,
    )  # fmt: skip
    if without:
        others = _only([gpu for gpu in gpus if gpu.carries_joules])
        yield Finding(
            "gpu.joules", "neither of them", "missing", f"{numbers(without)}: neither power nor energy",
            "such a GPU cannot be measured and is refused", (*others, "harness stress --power simulated"),
            stress="needs_option",
        )  # fmt: skip


def _reading(gpus: Gpus, finding_id: str, title: str, field: str, absence: str, replaced: str = "") -> Finding:
    """Return whether every GPU gives a reading, by its best call, by another, or not."""
    found = _said(gpus, lambda gpu: _way(gpu, field))
    if any(gpu.ways.get(field) is None for gpu in gpus):
        return Finding(finding_id, title, "limits", found, absence, _NEWER_DRIVER)
    if any(field in gpu.refusals for gpu in gpus):
        return Finding(finding_id, title, "ok", found, replaced)
    return Finding(finding_id, title, "ok", found)


_NEWER_DRIVER = ("nvidia-smi --query-gpu=driver_version,name --format=csv  # newer drivers may offer it",)


def _way(gpu: GpuFacts, field: str) -> str:
    way, refused = gpu.ways.get(field), gpu.refusals.get(field)
    if way is None:
        return f"missing ({refused})"
    return f"{way} (in place of {refused})" if refused else way


def _instant(gpus: Gpus) -> Finding:
    return _reading(
        gpus, "gpu.power_instant", "power, present", "power_instant_w",
        "traces show the 1 s average alone; no joule depends on it",
    )  # fmt: skip


def _throttling(gpus: Gpus) -> Finding:
    return _reading(
        gpus, "gpu.throttle_reasons", "throttle reasons", "throttle_reasons",
        "a machine that heat slows down cannot be told from a healthy one: no cell can be marked hardware_throttled",
        "the older name of the same call",
    )  # fmt: skip


_OTHERS = {
    "utilization_ratio": "utilisation", "memory_used_b": "memory use", "temperature_c": "temperature",
    "sm_clock_mhz": "SM clock", "memory_clock_mhz": "memory clock",
}  # fmt: skip


def _other_readings(gpus: Gpus, no_events: str | None) -> Finding:
    def missing(gpu: GpuFacts) -> str:
        return ", ".join(name for field, name in _OTHERS.items() if gpu.ways.get(field) is None) or "none"

    lacking = [] if all(missing(gpu) == "none" for gpu in gpus) else [_said(gpus, missing)]
    lacking += [f"XID errors ({no_events})"] if no_events else []
    if not lacking:
        return Finding("gpu.readings", "other readings", "ok", f"{', '.join(_OTHERS.values())}, XID errors")
    meaning = "these columns stay empty; no joule depends on them"
    if no_events:
        meaning = "these stay empty; a fault of the driver during a cell is not noticed (xid_error)"
    return Finding("gpu.readings", "other readings", "limits", f"missing: {'; '.join(lacking)}", meaning, _NEWER_DRIVER)


_LIST = "nvidia-smi --query-compute-apps=gpu_uuid,pid,process_name,used_memory --format=csv"


def _processes(gpus: Gpus, *, host_pids: bool) -> Finding:
    busy, silent = [gpu for gpu in gpus if gpu.pids], [gpu for gpu in gpus if gpu.pids is None]
    if busy:
        return Finding(
            "gpu.processes", "other processes", "limits",
            _said(busy, lambda gpu: ", ".join(map(str, gpu.pids or ()))) + f" on {numbers(busy)}",
            "their joules are counted as ours and the cells are suspect (foreign_processes)", (_LIST,),
        )  # fmt: skip
    if silent:
        return Finding(
            "gpu.processes", "other processes", "unknown", f"the driver does not list them on {numbers(silent)}",
            "whether somebody else's joules are counted cannot be told", (_LIST,),
        )  # fmt: skip
    if not host_pids:
        return Finding(
            "gpu.processes", "other processes", "unknown", "none listed, which in a container may hide the host's",
            "whether somebody else's joules are counted cannot be told for sure", ("docker run --pid host ...",),
        )  # fmt: skip
    return Finding("gpu.processes", "other processes", "ok", "none on any GPU")


def _persistence(gpus: Gpus) -> Finding:
    off, silent = [gpu for gpu in gpus if gpu.persistence is False], [gpu for gpu in gpus if gpu.persistence is None]
    if off:
        return Finding(
            "gpu.persistence", "persistence mode", "limits", f"off: {numbers(off)}",
            "without a program the driver unloads: bare idle is that of a GPU kept awake by the sampler, and energy "
            "counters start anew", (_each(off, "sudo nvidia-smi -i {} -pm 1"),),
        )  # fmt: skip
    if silent:
        return Finding(
            "gpu.persistence", "persistence mode", "unknown", f"not told by {numbers(silent)}",
            "bare idle may be that of a GPU kept awake by the sampler",
        )  # fmt: skip
    return Finding("gpu.persistence", "persistence mode", "ok", "on")


def _power_limit(gpus: Gpus) -> Finding:
    def limits(gpu: GpuFacts) -> str:
        limit = "unknown" if gpu.limit_w is None else f"{gpu.limit_w:g} W"
        return f"{limit}, default {'unknown' if gpu.default_limit_w is None else f'{gpu.default_limit_w:g} W'}"

    found = _said(gpus, limits)
    changed = [gpu for gpu in gpus if gpu.limit_w and gpu.default_limit_w and gpu.limit_w != gpu.default_limit_w]
    if changed:
        return Finding(
            "gpu.power_limit", "power limit", "limits", found,
            "tokens and joules are those of GPUs at this limit: the run folder records it, and a published figure "
            "must. A limit may be there for the sake of cooling or supply: ask before you lift it",
            tuple(
                _each([gpu for gpu in changed if gpu.default_limit_w == limit_w],
                      f"sudo nvidia-smi -i {{}} -pl {limit_w:g}")
                for limit_w in sorted({gpu.default_limit_w for gpu in changed if gpu.default_limit_w})
            ),
        )  # fmt: skip
    if any(gpu.limit_w is None or gpu.default_limit_w is None for gpu in gpus):
        return Finding(
            "gpu.power_limit", "power limit", "unknown", found, "whether the GPUs are capped cannot be told",
            ("nvidia-smi -q -d POWER",),
        )  # fmt: skip
    return Finding("gpu.power_limit", "power limit", "ok", found)


def _ecc(gpus: Gpus) -> Finding:
    wrong = [gpu for gpu in gpus if gpu.ecc_uncorrected]
    if wrong:
        counts = _said(wrong, lambda gpu: f"{gpu.ecc_uncorrected} uncorrected error(s)")
        return Finding(
            "gpu.ecc", "ECC", "limits", f"{counts} since the driver was loaded on {numbers(wrong)}",
            "memory was wrong before; a cell during which it happens again is invalid (ecc_uncorrected). A reset "
            "clears it and ends all that runs here",
            ("nvidia-smi -q -d ECC", "sudo reboot"),
        )  # fmt: skip
    off, silent = [gpu for gpu in gpus if gpu.ecc is False], [gpu for gpu in gpus if gpu.ecc is None]
    if off:
        return Finding(
            "gpu.ecc", "ECC", "limits", f"off: {numbers(off)}", "memory errors are not noticed",
            (_each(off, "sudo nvidia-smi -i {} -e 1"), "sudo reboot"),
        )  # fmt: skip
    if silent:
        return Finding(
            "gpu.ecc", "ECC", "unknown", f"not told by {numbers(silent)}", "memory errors may not be noticed"
        )
    return Finding("gpu.ecc", "ECC", "ok", "on, no uncorrected error")
