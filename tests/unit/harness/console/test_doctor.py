import io

import pytest
from rich.console import Console

from harness.console.doctor import print_examination
from harness.doctor.examine import document
from harness.doctor.finding import Finding
from harness.doctor.gpus import gpu_findings
from harness.doctor.outlook import profile_finding
from harness.doctor.server import vllm_findings
from tests.unit.harness.doctor.facts import gpu, node_of
from tests.unit.harness.doctor.test_outlook import BUILD, FREE, NO_METERS

SETTINGS = "export HARNESS_REDFISH_URL=https://BMC HARNESS_REDFISH_USER=USER HARNESS_REDFISH_PASSWORD_FILE=FILE"


def printed(width: int, *gpus, colour: bool = False) -> str:
    probe = node_of(*gpus)
    redfish = Finding("meters.redfish", "Redfish", "unknown", "no controller is named", "not known", (SETTINGS,))
    findings = [
        *gpu_findings(probe, None, host_pids=True), redfish, *NO_METERS[1:],
        *vllm_findings(BUILD, probe, running=False), FREE, profile_finding(probe),
    ]  # fmt: skip
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, highlight=False, markup=False)
    print_examination(document(probe, findings), console)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_text_fits_the_terminal_and_commands_stay_in_one_line(width):
    lines = printed(width, gpu(), gpu(1, persistence=False)).splitlines()
    assert any(line.strip() == f"$ {SETTINGS}" for line in lines)
    assert all(len(line.rstrip()) <= width for line in lines if "$ " not in line)


def test_the_answer_comes_before_the_findings_and_each_status_is_a_word():
    text = printed(120, gpu(0, ecc=False), gpu(1, mig=True))
    order = [
        "This node can measure",
        "It cannot measure",
        "harness stress runs here, but needs",
        "GPUs and their driver",
    ]
    assert sorted(order, key=text.index) == order
    assert "✓ ok      NVIDIA driver" in text
    assert "! limits  MIG *" in text
    assert "✗ missing ipmi" in text
    assert "? unknown Redfish" in text
    assert "joules of the GPUs [gpu]: NVML, energy counters of GPU 0" in text
    assert "none of them was run" in text
    assert "ask whoever runs it before you do" in text


def test_a_name_in_brackets_is_printed_and_not_taken_for_a_style():
    assert "[node_modelled]" in printed(120, gpu(), colour=True)
