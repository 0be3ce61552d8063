"""Meters beside the GPUs: opened as a run would open them, read once, closed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable

from harness.doctor.finding import Finding
from harness.doctor.node import Node
from harness.errors import ConfigError, HarnessError
from harness.power.base import PowerSource

_NODE = "joules of the node by meter (boundary node)"
_RAPL_FILES = "/sys/class/powercap/intel-rapl:*/energy_uj /sys/class/powercap/intel-rapl:*/*/energy_uj"
_UDEV_RULE = 'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'


def rapl(node: Node) -> Finding:
    """Look for the counters of CPU packages and DRAM, and for the right to read them."""
    from harness.power.rapl import open_rapl

    title = "RAPL (CPU, DRAM)"
    try:
        source = open_rapl(node.path("/sys/class/powercap"))
    except HarnessError as error:
        without = "no joules of CPUs and DRAM (boundary cpu_dram); those of GPUs and node do not need them"
        if isinstance(error.__cause__, PermissionError):
            return Finding(
                "meters.rapl", title, "limits", f"present, but {error.why}",
                f"{without}. The kernel keeps the counters from users because fine readings can give away secrets of "
                "other programs (CVE-2020-8694): open them only where all users are trusted",
                (f"sudo chmod a+r {_RAPL_FILES}", f"echo '{_UDEV_RULE}' | sudo tee /etc/udev/rules.d/70-rapl.rules"),
            )  # fmt: skip
        return Finding(
            "meters.rapl", title, "missing", _found(error), *_absent(node, without, ("sudo modprobe intel_rapl_msr",))
        )
    domains = ", ".join(device.name.removeprefix("RAPL ") for device in source.devices)
    dram = "" if any(device.uuid.endswith("dram") for device in source.devices) else "; no DRAM domain"
    return Finding(
        "meters.rapl", title, "ok", f"{domains}{dram}",
        "use it with --node-meter rapl; it is never added to a reading of the node, which holds it",
    )  # fmt: skip


def hwmon(node: Node) -> Finding:
    """Look for the ACPI power meter, or other power sensors of the hwmon class."""
    from harness.power.hwmon import open_hwmon

    title = "hwmon sensors"
    try:
        source = open_hwmon("", node.path("/sys/class/hwmon"))
    except ConfigError as error:
        return Finding(
            "meters.hwmon", title, "limits", error.why,
            "no sensor here is a node's by definition: if some together carry it all, name them",
            ("harness stress --node-meter hwmon:NAME/LABEL",),
        )  # fmt: skip
    except HarnessError as error:
        absent = _absent(node, f"no {_NODE} from here", ("sudo modprobe acpi_power_meter",))
        return Finding("meters.hwmon", title, "missing", _found(error), *absent)
    return _works("meters.hwmon", title, source, "hwmon")


def ipmi(node: Node) -> Finding:
    """Look for a management controller, the command that asks it, the rights, and power in its answer."""
    from harness.power.ipmi import open_ipmi

    title, without = "IPMI DCMI", f"no {_NODE} from here"
    devices = [node.path(place) for place in ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")]
    device = next((path for path in devices if path.exists()), None)
    tool = node.which("ipmitool")
    has_tool = "ipmitool is installed" if tool else "ipmitool is not installed"
    install = () if tool else ("sudo apt-get install ipmitool",)
    if device is None:
        fix = (*install, "sudo modprobe ipmi_si && sudo modprobe ipmi_devintf")
        return Finding(
            "meters.ipmi", title, "missing",
            "no /dev/ipmi0 (no management controller, its driver is not loaded, or it is not passed in here); "
            f"{has_tool}",
            *_absent(node, without, fix),
        )  # fmt: skip
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding(
            "meters.ipmi", title, "limits", f"{device} may not be opened by this user; {has_tool}",
            f"{without}; the right to ask the controller is also the right to switch the node off",
            (*install, f'sudo setfacl -m "u:$USER:rw" {device}'),
        )  # fmt: skip
    if tool is None:
        return Finding("meters.ipmi", title, "missing", f"{device} is there, {has_tool}", without, install)
    try:
        source = open_ipmi()
    except HarnessError as error:
        return Finding("meters.ipmi", title, "missing", _found(error), without, ("sudo ipmitool dcmi power reading",))
    return _works("meters.ipmi", title, source, "ipmi")


def redfish(node: Node) -> Finding:
    """Log in to the management controller that the environment names, and ask it for the node's power."""
    title = "Redfish"
    if not node.environ.get("HARNESS_REDFISH_URL"):
        return Finding(
            "meters.redfish", title, "unknown", "no controller is named (HARNESS_REDFISH_URL is not set)",
            f"until one is, whether {_NODE} can come from here is not known",
            ("export HARNESS_REDFISH_URL=https://BMC HARNESS_REDFISH_USER=USER HARNESS_REDFISH_PASSWORD_FILE=FILE",),
        )  # fmt: skip
    from harness.power.redfish import open_redfish

    try:
        source = open_redfish("", node.environ)
    except HarnessError as error:
        fix = (f"# {error.fix}",) if error.fix else ()
        return Finding("meters.redfish", title, "missing", _found(error), f"no {_NODE} from here", fix)
    return _works("meters.redfish", title, source, "redfish")


METERS: tuple[Callable[[Node], Finding], ...] = (redfish, ipmi, hwmon, rapl)


def _absent(node: Node, meaning: str, fix: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return meaning and fix of a meter that is not there; in a virtual machine no command can make it appear."""
    if re.search(r"^flags\s*:.*\bhypervisor\b", node.read("/proc/cpuinfo") or "", re.MULTILINE):
        return f"{meaning}; this is a virtual machine, and the meters are its host's: no command here helps", ()
    return meaning, fix


def _works(finding_id: str, title: str, source: PowerSource, option: str) -> Finding:
    """Return what a meter reads at this moment."""
    try:
        samples = source.read()
    finally:
        source.close()
    read = ", ".join(
        f"{device.name} {sample.error or 'no power'}"
        if sample.power_w is None
        else f"{device.name} {sample.power_w:.0f} W"
        for device, sample in zip(source.devices, samples, strict=True)
    )
    gain = "accuracy not stated" if source.gain_rel_u is None else f"accuracy {source.gain_rel_u:.1%} (standard)"
    found = f"{read}; {gain}"
    if any(sample.power_w is None and sample.energy_j is None for sample in samples):
        return Finding(
            finding_id, title, "limits", found, "it answered, then failed: gaps invalidate figures of the node",
            (f"harness measure --seconds 60 --power {option}",),
        )  # fmt: skip
    return Finding(
        finding_id, title, "ok", found, f"use it with --node-meter {option}: it covers the whole {platform.node()}"
    )


def _found(error: HarnessError) -> str:
    return f"{error.what} ({error.why})" if error.why else error.what
