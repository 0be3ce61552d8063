import numpy as np
import pandas as pd
import pytest

from harness.analysis.celllog import read_cells, read_idle, read_last_cell, stored_series, sum_over_servers
from results.store import RunReader, RunWriter
from tests.unit.harness.synthetic_run import MULTIPLIED, PLAIN, SyntheticRun


def scrapes(*rows):
    return pd.DataFrame(rows, columns=["t_mono_s", "server", "generation_tok"])


def test_other_servers_are_interpolated_to_the_scrape_times_of_the_first():
    table = scrapes(
        (0.0, 0, 10), (1.0, 0, 20), (2.0, 0, 30), (-0.1, 1, 99), (0.1, 1, 101), (1.1, 1, 201), (2.1, 1, 301)
    )  # fmt: skip
    t_s, total = sum_over_servers(table, "generation_tok")
    assert t_s.tolist() == [0, 1, 2]
    assert total.tolist() == pytest.approx([10 + 100, 20 + 191, 30 + 291])


def test_rows_may_come_in_any_order():
    table = scrapes((1.0, 0, 20), (1.0, 1, 5), (0.0, 1, 3), (0.0, 0, 10))
    _, total = sum_over_servers(table, "generation_tok")
    assert total.tolist() == [13, 25]


def test_failed_scrapes_are_left_out():
    t_s, total = sum_over_servers(scrapes((0.0, 0, 10), (1.0, 0, None), (2.0, 0, 30)), "generation_tok")
    assert (t_s.tolist(), total.tolist()) == ([0, 2], [10, 30])


def test_the_sum_ends_with_the_last_scrape_of_the_server_that_was_lost():
    table = scrapes(*[(float(t), 0, 10 * t) for t in range(6)], *[(float(t), 1, 10 * t) for t in range(3)])
    t_s, total = sum_over_servers(table, "generation_tok")
    assert (t_s.tolist(), total.tolist()) == ([0, 1, 2], [0, 20, 40])


def test_a_server_that_tells_nothing_leaves_no_sum():
    t_s, total = sum_over_servers(scrapes((0.0, 0, 10), (0.1, 1, None), (1.0, 0, 20)), "generation_tok")
    assert (t_s.size, total.size) == (0, 0)


def test_no_scrapes_give_no_sum():
    assert sum_over_servers(scrapes(), "generation_tok")[0].size == 0


def test_the_readings_of_each_device_come_in_time_order_and_in_the_order_asked_for():
    power = pd.DataFrame(
        {
            "t_mono_s": [1.0, 0.0, 0.5], "uuid": ["a", "a", "b"], "power_w": [2.0, 1.0, None],
            "energy_j": [None, 10.0, 7.0], "error": [None, None, "power_w: TIMEOUT"],
        }
    )  # fmt: skip
    b, nothing, a = stored_series(power, ["b", "c", "a"])
    assert (b.uuid, b.errors, b.energy_j.tolist()) == ("b", ("power_w: TIMEOUT",), [7.0])
    assert (nothing.uuid, nothing.t_s.size, nothing.errors) == ("c", 0, ())
    assert (a.t_s.tolist(), a.power_w.tolist()) == ([0.0, 1.0], [1.0, 2.0])
    assert np.isnan(a.energy_j[1])


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return RunReader(SyntheticRun().write(tmp_path_factory.mktemp("runs") / "run"))


def test_cells_come_in_the_order_measured_with_their_definitions_and_times(reader):
    plain, multiplied = read_cells(reader)
    assert (plain.definition.name, multiplied.definition.name) == ("1x", "8x")
    assert (plain.before_s, plain.filled_s, plain.load_stop_s, plain.end_s) == (100, 102, 132, 140)
    assert multiplied.definition.model_dump(include=set(MULTIPLIED.definition())) == MULTIPLIED.definition()


def test_a_cell_has_the_scrapes_from_quiet_to_quiet_and_none_of_another_cell(reader):
    for cell, start_s in zip(read_cells(reader), (100.0, 200.0), strict=True):
        assert (cell.server["t_mono_s"].min(), cell.server["t_mono_s"].max()) == (start_s, start_s + 40)


def test_a_cell_has_power_a_little_beyond_its_edges(reader):
    times = read_cells(reader)[0].power["t_mono_s"]
    assert (times.min(), times.max()) == (pytest.approx(90.2), pytest.approx(150))


def test_a_cell_has_its_own_requests_alone(reader):
    plain, multiplied = read_cells(reader)
    assert (len(plain.requests), len(multiplied.requests)) == (PLAIN.generated_tok // 100, 16)
    assert set(plain.requests["cell"]) == {"1x"}


def test_events_of_one_cell_do_not_leak_into_the_next(tmp_path):
    run = SyntheticRun()
    run.events.insert(4, {"event": "server_lost", "t_mono_s": 125.0})
    run.events = [event for event in run.events if (event["event"], event["t_mono_s"]) != ("filled", 202.0)]
    plain, multiplied = read_cells(RunReader(run.write(tmp_path / "run")))
    assert (plain.server_lost, multiplied.server_lost) == (True, False)
    assert multiplied.filled_s == pytest.approx(200.2)


def test_the_idle_record_is_that_between_its_events(reader):
    idle = read_idle(reader)
    assert (idle.start_s, idle.end_s) == (70, 90)
    assert (idle.power["t_mono_s"].min(), idle.power["t_mono_s"].max()) == (pytest.approx(65), pytest.approx(100))


def test_an_idle_phase_that_was_not_finished_is_none(tmp_path):
    run = SyntheticRun()
    del run.events[1]
    assert read_idle(RunReader(run.write(tmp_path / "run"))) is None


TIMES = {"power": "t_mono_s", "server": "t_mono_s", "requests": "end_mono_s"}


def written_in_parts(run, folder, seconds=20.0):
    """Write a run as its flushes would: a part of each table for every so many seconds."""
    made = {name: getattr(run, name) for name in TIMES}
    for name in TIMES:
        setattr(run, name, [])
    run.write(folder)
    writer = RunWriter.reopened(folder)
    for start_s in np.arange(60.0, 260.0, seconds):
        for name, column in TIMES.items():
            writer.add(name, [row for row in made[name] if start_s <= row[column] < start_s + seconds])
        writer.flush()
    return folder


def test_the_last_cell_is_read_as_it_is_with_all_others_and_from_its_own_parts_alone(tmp_path):
    folder = written_in_parts(SyntheticRun(), tmp_path / "run")
    expected = read_cells(RunReader(folder))[-1]
    for name in TIMES:
        parts = sorted((folder / name).iterdir())
        assert len(parts) >= 3
        parts[0].unlink()  # from long before the cell
    found = read_last_cell(RunReader(folder), MULTIPLIED.name)
    for name in TIMES:
        pd.testing.assert_frame_equal(
            getattr(found, name).reset_index(drop=True), getattr(expected, name).reset_index(drop=True)
        )
    for name in ("definition", "before_s", "filled_s", "load_stop_s", "end_s", "server_lost", "tokens_from_usage"):
        assert getattr(found, name) == getattr(expected, name)
