import os
import stat

import pytest

from harness.doctor.meters import hwmon, ipmi, rapl, redfish
from harness.doctor.node import Node
from tests.fakes.redfish_server import PASSWORD, USER, all_chassis, chassis, serve
from tests.unit.harness.doctor.facts import check_fixes

DCMI = "Instantaneous power reading: 1234 Watts\nPower reading state is: activated"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def node(tmp_path):
    return Node(root=tmp_path, environ={"PATH": str(tmp_path / "bin")})


@pytest.fixture
def ipmitool(tmp_path, monkeypatch):
    """Put a controller and a stand-in for ipmitool on the node; returns a function that gives it its shell lines."""
    write(tmp_path, {"dev/ipmi0": "", "bin/ipmitool": ""})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    script = tmp_path / "bin" / "ipmitool"

    def say(lines):
        script.write_text(f"#!/bin/sh\n{lines}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    return say


def looked(meter, node):
    finding = meter(node)
    check_fixes(finding)
    return finding


@pytest.mark.parametrize("meter", [rapl, hwmon, ipmi])
def test_a_meter_that_is_not_there_names_the_driver_to_load(meter, node):
    finding = looked(meter, node)
    assert (finding.status, finding.stress) == ("missing", "runs")
    assert any("sudo modprobe" in command for command in finding.fix)


@pytest.mark.parametrize("meter", [rapl, hwmon, ipmi])
def test_in_a_virtual_machine_no_command_is_offered_that_cannot_help(meter, node):
    write(node.root, {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu sse hypervisor avx"})
    finding = looked(meter, node)
    assert finding.fix == ()
    assert "virtual machine" in finding.meaning


def test_rapl_is_found_with_its_domains(node):
    zone = "sys/class/powercap/intel-rapl:0"
    write(node.root, {f"{zone}/name": "package-0", f"{zone}/energy_uj": 5, f"{zone}/max_energy_range_uj": 99})
    finding = looked(rapl, node)
    assert (finding.status, finding.found) == ("ok", "package-0; no DRAM domain")


def test_rapl_without_rights_is_there_and_gets_the_commands_that_grant_them(node, monkeypatch):
    zone = node.root / "sys/class/powercap/intel-rapl:0"
    write(zone, {"name": "package-0", "energy_uj": 5, "max_energy_range_uj": 99})
    read = type(zone).read_text

    def refuse(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(type(zone), "read_text", refuse)
    finding = looked(rapl, node)
    assert finding.status == "limits"
    assert finding.fix[0].startswith("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")
    assert "/etc/udev/rules.d/" in finding.fix[1]


def test_the_acpi_power_meter_is_read(node):
    write(node.root / "sys/class/hwmon/hwmon0", {"name": "power_meter", "power1_average": 812_000_000})
    finding = looked(hwmon, node)
    assert finding.status == "ok"
    assert "812 W" in finding.found
    assert "--node-meter hwmon" in finding.meaning


def test_sensors_of_parts_need_a_choice(node):
    write(node.root / "sys/class/hwmon/hwmon0", {"name": "psu", "power1_input": 400_000_000, "power1_label": "in"})
    finding = looked(hwmon, node)
    assert (finding.status, finding.found) == ("limits", "this machine has psu/in")


def test_a_controller_that_tells_its_power_is_a_meter(node, ipmitool):
    ipmitool(f"echo '{DCMI}'")
    finding = looked(ipmi, node)
    assert finding.status == "ok"
    assert "1234 W" in finding.found


def test_a_controller_without_dcmi_power_is_none(node, ipmitool):
    ipmitool("echo 'DCMI request failed because: Invalid command' >&2; exit 1")
    finding = looked(ipmi, node)
    assert finding.status == "missing"
    assert "Invalid command" in finding.found


def test_a_controller_without_the_command_that_asks_it_needs_the_command(node):
    write(node.root, {"dev/ipmi0": ""})
    finding = looked(ipmi, node)
    assert (finding.status, finding.fix) == ("missing", ("sudo apt-get install ipmitool",))


def test_a_controller_that_this_user_may_not_ask_needs_rights(node, ipmitool, monkeypatch):
    ipmitool("exit 99")
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not str(path).endswith("ipmi0"))
    finding = looked(ipmi, node)
    assert finding.status == "limits"
    assert finding.fix == (f'sudo setfacl -m "u:$USER:rw" {node.root}/dev/ipmi0',)
    assert "switch the node off" in finding.meaning


def test_a_controller_on_the_network_is_unknown_until_it_is_named(node):
    finding = looked(redfish, node)
    assert (finding.status, finding.stress) == ("unknown", "runs")
    assert "HARNESS_REDFISH_URL=" in finding.fix[0]


@pytest.mark.parametrize(("password", "status"), [(PASSWORD, "ok"), ("wrong-word", "missing")])
def test_a_controller_on_the_network_is_asked_and_the_session_ended(node, password, status):
    power = {"PowerControl": [{"PowerConsumedWatts": 2345}]}
    with serve(all_chassis(chassis("node", "RackMount", power=power))) as controller:
        environ = {
            **node.environ, "HARNESS_REDFISH_URL": controller.url, "HARNESS_REDFISH_USER": USER,
            "HARNESS_REDFISH_PASSWORD": password,
        }  # fmt: skip
        finding = looked(redfish, Node(root=node.root, environ=environ))
    assert finding.status == status, finding
    assert ("2345 W" in finding.found) == (status == "ok")
    assert controller.sessions == set()
    assert password not in repr(finding)
