import json

import numpy as np
import pytest

from estimator.nodes import load_profile
from harness.console.calibrate_node import print_calibration
from harness.errors import ConfigError, MeasurementError, StoreError
from harness.power.base import DeviceIdentity, DeviceSample
from harness.studies import calibrate_node as study
from harness.studies.calibrate_node import CalibrationOptions, calibrate_node

GPUS = {"gpu_name": "NVIDIA H100 80GB HBM3", "gpu_count": 8, "gpu_limit_w": 700.0}


def write_record(path, loads=(600, 2000, 3500, 5200), slope=1.22, seconds=60):
    rng = np.random.default_rng(3)
    lines, t_s = ["t_s,gpu_w,node_w,level"], 0
    for level, load_w in enumerate(loads):
        for second in range(seconds):
            gpu_w = load_w + rng.normal(0, 20)
            node_w = 1600 + slope * gpu_w + rng.normal(0, 15) - 500 * np.exp(-second / 3)
            lines.append(f"{t_s},{gpu_w:.1f},{node_w:.0f},{level}")
            t_s += 1
    path.write_text("\n".join(lines) + "\n")
    return path


def options(tmp_path, **changes):
    plain = {
        "meter": None, "record": None, "levels": 3, "seconds": 60.0, "settle": 20.0, "command": (),
        "gpu_power": "nvml", "p_max_kw": None, "meter_accuracy_pct": None, "name": None, "out": tmp_path / "mine.yaml",
    }  # fmt: skip
    return CalibrationOptions(**{**plain, **GPUS, **changes})


def test_a_record_becomes_a_profile_that_loads(tmp_path, capsys):
    record = write_record(tmp_path / "record.csv")
    document = calibrate_node(options(tmp_path, record=record, meter_accuracy_pct=3.0), print)
    json.dumps(document, allow_nan=False)
    assert document["schema"] == "inference-energy/calibrate-node/1"
    assert document["boundary"] == "node"
    profile = load_profile(tmp_path / "mine.yaml")
    assert abs(profile.slope - 1.22) < 2 * profile.u_slope
    assert abs(profile.offset_kw - 1.6) < 2 * profile.u_offset_kw
    assert (profile.name, profile.gpu_count, profile.simulated) == ("mine", 8, False)
    # 3% rectangular of the slope is its least uncertainty: measuring longer does not reduce it
    assert profile.u_slope >= 0.03 / 3**0.5 * profile.slope
    assert "accuracy is included" in profile.source
    assert profile.calibrated_gpu_uuids == ()  # a record does not say whose readings they are
    print_calibration(document)
    printed = capsys.readouterr().out
    assert "P_node = (" in printed
    assert "is the line at the GPUs' power limit" in printed


def test_an_unknown_accuracy_makes_every_uncertainty_unknown_and_is_said(tmp_path, capsys):
    document = calibrate_node(options(tmp_path, record=write_record(tmp_path / "record.csv")), print)
    assert [document[key] for key in ("meter_cov", "u_offset_w", "u_slope", "correlation")] == [None] * 4
    assert any("accuracy is unknown" in note and "--meter-accuracy" in note for note in document["notes"])
    profile = load_profile(tmp_path / "mine.yaml")
    assert (profile.u_offset_kw, profile.u_slope, profile.u_idle_kw) == (None, None, None)
    assert "unknown, and so are the uncertainties" in profile.source
    print_calibration(document)
    assert "the standard uncertainties are unknown" in capsys.readouterr().out


def test_a_lag_that_was_not_left_out_is_told(tmp_path):
    record = write_record(tmp_path / "record.csv", seconds=30)
    document = calibrate_node(options(tmp_path, record=record, settle=0.0), print)
    assert any("drifted" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"loads": (5000, 5100, 5200, 5300)}, "do not spread"), ({"slope": 0.1}, "meter does not react")],
)
def test_levels_that_give_no_line_are_refused_and_write_no_profile(tmp_path, changes, message):
    record = write_record(tmp_path / "record.csv", **changes)
    with pytest.raises(MeasurementError, match=message):
        calibrate_node(options(tmp_path, record=record), print)
    assert not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either --meter"),
        ({"meter": "ipmi", "record": "x"}, "either --meter"),
        ({"meter": "wattmeter"}, "is no meter"),
        ({"meter": "ipmi", "levels": 1}, "at least 2 loads"),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        calibrate_node(options(tmp_path, **changes), print)


@pytest.mark.parametrize("changes", [{"gpu_name": None}, {"gpu_count": None}])
def test_unknown_gpus_must_be_named(tmp_path, changes):
    with pytest.raises(ConfigError, match="GPUs are unknown"):
        calibrate_node(options(tmp_path, record=write_record(tmp_path / "r.csv"), **changes), print)


def test_a_profile_file_that_would_not_load_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.yaml"):
        calibrate_node(options(tmp_path, record=tmp_path / "r.csv", out=tmp_path / "profile.json"), print)


@pytest.mark.parametrize("out", ["a-file/mine.yaml", "folder.yaml", "taken.yaml"])
def test_what_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch, out):
    (tmp_path / "a-file").touch()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "taken.csv").mkdir()  # where the record would go
    monkeypatch.setattr(study, "open_meter", lambda text: pytest.fail("the meter was opened"))
    with pytest.raises(StoreError, match="cannot write"):
        calibrate_node(options(tmp_path, meter="ipmi", out=tmp_path / out), print)


class Node:
    """A source whose power follows the level that a file holds."""

    power_lag_s, counter_lag_s, period_s, gain_rel_u, notes = 0.0, 0.0, 0.02, 0.01, ("a note",)

    def __init__(self, file, boundary, watts):
        self.name = self.boundary = boundary
        self.file, self.watts, self.reads = file, watts, 0
        self.devices = (DeviceIdentity(boundary, boundary),)

    def read(self):
        self.reads += 1
        level = float(self.file.read_text() or 0) if self.file.exists() else 0.0
        return (DeviceSample(self.boundary, power_w=self.watts(600 + 1000 * level) + self.reads % 3),)

    def close(self):
        """Nothing to release."""


def test_a_live_calibration_finds_the_line_and_keeps_its_record(tmp_path, monkeypatch):
    file = tmp_path / "level"
    monkeypatch.setattr("harness.calibrate_node.GPU_PERIOD_S", 0.02)
    monkeypatch.setattr(study, "open_meter", lambda text: Node(file, "node", lambda gpu_w: 1600 + 1.22 * gpu_w))
    monkeypatch.setattr(study, "_gpu_source", lambda text: Node(file, "gpu", lambda gpu_w: gpu_w))
    command = ("sh", "-c", f"printf {{level}} > {file}; exec sleep 60")
    measured = options(tmp_path, meter="ipmi", seconds=1.0, settle=0.6, command=command)
    document = calibrate_node(measured, lambda text: None)
    assert document["slope"] == pytest.approx(1.22, abs=0.01)
    assert document["offset_w"] == pytest.approx(1600, abs=20)
    assert document["meter_cov"] is not None  # the meter states its gain
    assert [level["level"] for level in document["levels"]] == [0, 1, 2, 3]
    assert "a note" in document["notes"]
    profile = load_profile(tmp_path / "mine.yaml")
    assert profile.calibrated_gpu_uuids == ("gpu",)
    assert (profile.gpu_gain_rel_u(0.03, ["gpu"]), profile.gpu_gain_rel_u(0.03, ["other"])) == (0.0, 0.03)
    again = calibrate_node(options(tmp_path, record=tmp_path / "mine.csv", settle=0.6, out=tmp_path / "b.yaml"), print)
    assert again["slope"] == pytest.approx(document["slope"], rel=1e-12)
