import json

import pytest

from harness.errors import ConfigError
from harness.power.replay import ENDED, ReplaySource, load_recording
from results.store import RunWriter

CSV = """t_s,uuid,power_w,energy_j,boundary,source
10.0,GPU-a,100,1000,gpu,nvml
10.0,GPU-b,50,,gpu,nvml
10.5,node,900,,node,ipmi
11.0,GPU-a,120,1110,gpu,nvml
11.0,GPU-b,,,gpu,nvml
12.0,GPU-a,140,1240,gpu,nvml
"""


class Clock:
    now_s = 500.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(CSV)
    return path


def test_readings_come_back_at_their_own_times_and_are_held_between(trace):
    clock = Clock()
    source = ReplaySource(load_recording(trace), clock=clock)
    seen = []
    for after_s in (0.0, 0.9, 1.0, 1.5, 2.0):
        clock.now_s = 500.0 + after_s
        a, b = source.read()
        seen.append((a.power_w, a.energy_j, b.power_w))
    assert seen == [(100, 1000, 50), (100, 1000, 50), (120, 1110, None), (120, 1110, None), (140, 1240, None)]


def test_the_end_of_the_recording_is_an_error_and_not_a_held_value(trace):
    clock = Clock()
    source = ReplaySource(load_recording(trace), clock=clock)
    clock.now_s += 2.001
    assert {(sample.power_w, sample.error) for sample in source.read()} == {(None, ENDED)}


def test_an_empty_reading_carries_its_reason(trace):
    clock = Clock()
    source = ReplaySource(load_recording(trace), clock=clock)
    clock.now_s += 1
    assert source.read()[1].error == "the recording has no reading here"


def test_speed_shortens_the_time_and_is_noted(trace):
    clock = Clock()
    source = ReplaySource(load_recording(trace), speed=10, clock=clock)
    clock.now_s += 0.15
    assert source.read()[0].power_w == 120
    assert any("10 times" in note for note in source.notes)


def test_boundaries_of_one_file_share_its_time_axis(trace):
    clock = Clock()
    source = ReplaySource(load_recording(trace, "node"), clock=clock)
    assert source.boundary == "node"
    assert source.read()[0].error == "the recording of this device has not begun"
    clock.now_s += 0.5
    assert source.read()[0].power_w == 900


def test_the_label_names_the_recording_and_its_sensor(trace):
    source = ReplaySource(load_recording(trace))
    assert source.name == "replay of nvml and trace.csv"
    assert any("not measured now" in note for note in source.notes)


def test_a_run_folder_replays_with_what_is_known_of_its_sensor(tmp_path):
    run = RunWriter(tmp_path / "run")
    rows = [(0, 10.0), (1, 20.0)]
    run.add(
        "power",
        [
            {
                "t_mono_s": 70.0 + t,
                "t_wall_s": 0.0,
                "late_s": 0.0,
                "source": "simulated",
                "boundary": "gpu",
                "uuid": "x",
            }
            | {"power_w": watts, "energy_j": watts, "error": None}
            for t, watts in rows
        ],
    )
    run.flush()
    run.write_text("manifest.json", json.dumps({"power": {"boundary": "gpu", "gain_rel_u": 0.03, "power_lag_s": 0.5}}))
    clock = Clock()
    source = ReplaySource(load_recording(tmp_path / "run"), clock=clock)
    assert (source.name, source.gain_rel_u, source.power_lag_s) == ("replay of simulated and run", 0.03, 0.5)
    clock.now_s += 1
    assert source.read()[0].power_w == 20.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_s,uuid,power_w\n0,a,1\n", "no column energy_j"),
        (CSV.replace("120", "much"), "line 5: power_w = 'much'"),
        (CSV.replace("11.0,GPU-a", ",GPU-a"), "line 5: t_s"),
        (CSV.replace("120", "-1"), "line 5: power_w"),
        (CSV.replace("10.0,GPU-b", "10.0,"), "line 3: uuid is missing"),
        (CSV.replace("gpu", "rack"), "no readings at the boundary gpu"),
        ("", "cannot be replayed"),
    ],
)
def test_a_broken_recording_is_refused_with_its_place(tmp_path, text, message):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recording(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no manifest"):
        load_recording(tmp_path)
