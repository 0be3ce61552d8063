import stat

import pytest

from harness.errors import NodeError
from harness.power import ipmi
from harness.power.ipmi import open_ipmi, parse_reading

ANSWER = """
    Instantaneous power reading:                   1234 Watts
    Minimum during sampling period:                 12 Watts
    Maximum during sampling period:               5678 Watts
    Average power reading over sample period:      999 Watts
    IPMI timestamp:                           Mon Jan  1 00:00:00 2024
    Sampling period:                          00000005 Seconds.
    Power reading state is:                   activated

"""


@pytest.fixture
def ipmitool(tmp_path, monkeypatch):
    """Put a script on PATH that stands in for ipmitool; returns a function that gives it its shell lines."""
    script = tmp_path / "ipmitool"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(lines: str) -> None:
        script.write_text(f"#!/bin/sh\n{lines}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    return write


def says(text):
    return f"cat <<'END'\n{text}\nEND"


def test_the_instantaneous_reading_is_taken_and_not_the_average(ipmitool, tmp_path):
    ipmitool(f'echo "$@" > {tmp_path}/asked\n{says(ANSWER)}')
    source = open_ipmi()
    (sample,) = source.read()
    assert sample.power_w == 1234.0
    assert (tmp_path / "asked").read_text() == "dcmi power reading\n"
    assert (source.boundary, source.gain_rel_u) == ("node", None)
    assert any("statistics period 5 s" in note for note in source.notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ANSWER, (1234.0, 5.0)),
        ("Instantaneous power reading: 7 Watts\nStatistics reporting time period: 1500 milliseconds", (7.0, 1.5)),
        ("Instantaneous power reading: 7 Watts", (7.0, None)),
    ],
)
def test_answers_of_different_controllers_are_read(text, expected):
    assert parse_reading(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ANSWER.replace("activated", "deactivated"), "deactivated"),
        (ANSWER.replace("1234", "0"), "0 W"),
        ("DCMI request failed", "no 'Instantaneous"),
        ("", "no 'Instantaneous"),
    ],
)
def test_an_answer_without_power_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_reading(text)


def test_a_failure_later_is_an_error_of_that_reading(ipmitool):
    ipmitool(says(ANSWER))
    source = open_ipmi()
    ipmitool('echo "Could not open device at /dev/ipmi0" >&2; exit 1')
    (sample,) = source.read()
    assert sample.power_w is None
    assert "Could not open device" in sample.error
    ipmitool(says(ANSWER))
    assert source.read()[0].power_w == 1234.0


def test_missing_rights_are_told_with_a_fix(ipmitool):
    ipmitool('echo "Could not open device at /dev/ipmi0" >&2; exit 1')
    with pytest.raises(NodeError, match="Could not open device") as caught:
        open_ipmi()
    assert "/dev/ipmi0" in caught.value.fix


def test_a_controller_that_hangs_is_given_up(ipmitool, monkeypatch):
    monkeypatch.setattr(ipmi, "TIMEOUT_S", 0.1)
    ipmitool("exec sleep 20")
    with pytest.raises(NodeError, match="no answer within"):
        open_ipmi()


def test_a_machine_without_ipmitool_is_told_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeError, match="ipmitool was not found") as caught:
        open_ipmi()
    assert "install" in caught.value.fix
