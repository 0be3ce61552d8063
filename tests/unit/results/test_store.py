import errno
import json
import math
import os
import resource
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import store
from results.store import HASHES_FILE, RunReader, RunWriteError, RunWriter, StoredRunError, write_whole
from results.tables import TABLES


def power_row(t_s, uuid="gpu-0", power_w=1.0):
    row = dict.fromkeys(TABLES["power"].names) | {"late_s": 0.0, "source": "s", "boundary": "gpu"}
    return row | {"t_mono_s": t_s, "t_wall_s": t_s, "uuid": uuid, "power_w": power_w}


@pytest.fixture
def run(tmp_path):
    writer = RunWriter(tmp_path / "a" / "run")
    writer.write_json("manifest.json", {})
    return writer


def test_rows_come_back_in_the_order_they_were_added_whatever_the_flushes(run):
    for first in range(0, 250, 10):
        run.add("power", [power_row(float(first + step)) for step in range(10)])
        if first % 20 == 0:
            run.flush()
    run.flush()
    assert RunReader(run.folder).table("power")["t_mono_s"].tolist() == [float(n) for n in range(250)]


def test_more_than_ten_parts_keep_their_order(run):
    for number in range(12):
        run.add("power", [power_row(float(number))])
        run.flush()
    assert len(list((run.folder / "power").iterdir())) == 12
    assert RunReader(run.folder).table("power")["t_mono_s"].tolist() == [float(n) for n in range(12)]


def test_missing_figures_stay_missing_and_never_become_zero(run):
    run.add("power", [power_row(1.0) | {"power_w": None, "error": "gpu_lost"}])
    run.flush()
    table = RunReader(run.folder).table("power")
    assert math.isnan(table["power_w"][0])
    assert (table["error"][0], table["throttle_reasons"].isna()[0]) == ("gpu_lost", True)


@pytest.mark.parametrize(("since_s", "left"), [(5.0, [4.0, 5.0, 6.0, 7.0]), (5.5, [6.0, 7.0]), (9.0, [])])
def test_parts_that_end_before_a_time_stay_unread(run, since_s, left):
    for first in range(0, 8, 2):
        run.add("power", [power_row(float(first)), power_row(first + 1.0)])
        run.flush()
    table = RunReader(run.folder).table("power", since_s=since_s)
    assert table["t_mono_s"].tolist() == left
    assert list(table.columns) == TABLES["power"].names


def test_requests_are_cut_by_when_they_ended(run):
    row = dict.fromkeys(TABLES["requests"].names)
    for end_s in (10.0, 20.0):
        run.add("requests", [row | {"send_mono_s": 1.0, "end_mono_s": end_s}])
        run.flush()
    assert RunReader(run.folder).table("requests", since_s=15.0)["end_mono_s"].tolist() == [20.0]


def test_columns_that_an_older_part_lacks_are_missing_and_those_it_has_beyond_are_left_out(run):
    old = pa.table({"t_mono_s": [1.0], "uuid": ["a"], "once_known": [7]})
    pq.write_table(old, run.folder / "power" / "part-00000.parquet")
    table = RunReader(run.folder).table("power")
    assert list(table.columns) == TABLES["power"].names
    assert (table["uuid"][0], math.isnan(table["power_w"][0])) == ("a", True)


def test_nothing_unflushed_is_seen_and_a_flush_without_rows_writes_nothing(run):
    run.add("power", [power_row(1.0)])
    reader = RunReader(run.folder)
    assert reader.table("power").empty
    run.flush()
    run.flush()
    assert len(reader.table("power")) == 1
    assert [path.name for path in (run.folder / "power").iterdir()] == ["part-00000.parquet"]


def test_a_table_without_rows_is_empty_with_its_columns(run):
    for name, schema in TABLES.items():
        assert list(RunReader(run.folder).table(name).columns) == schema.names


def test_parts_can_be_read_while_the_writer_goes_on(run):
    stop, seen, reader = threading.Event(), [], RunReader(run.folder)

    def write():
        for number in range(60):
            run.add("power", [power_row(float(2 * number)), power_row(float(2 * number + 1))])
            run.flush()
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        seen.append(reader.table("power")["t_mono_s"].tolist())
    writer.join()
    assert all(times == [float(n) for n in range(len(times))] and len(times) % 2 == 0 for times in seen)
    assert len(reader.table("power")) == 120


def test_flushes_from_several_threads_lose_no_row(run, monkeypatch):
    write_table, nobody = store.pq.write_table, threading.Event()

    def slowly(table, path):
        nobody.wait(0.002)  # lets another thread in
        write_table(table, path)

    monkeypatch.setattr(store.pq, "write_table", slowly)

    def write(thread):
        for number in range(30):
            run.add("power", [power_row(float(number), uuid=f"gpu-{thread}")])
            run.flush()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.flush()
    table = RunReader(run.folder).table("power")
    assert table.groupby("uuid").size().to_dict() == {f"gpu-{number}": 30 for number in range(4)}


def test_a_write_that_fails_half_way_leaves_no_part_behind(run, monkeypatch):
    def half(table, path):
        path.write_bytes(b"PAR1 and then the disk was full")
        raise OSError("no space left")

    monkeypatch.setattr(store.pq, "write_table", half)
    run.add("power", [power_row(1.0)])
    with pytest.raises(OSError, match="no space"):
        run.flush()
    assert RunReader(run.folder).table("power").empty


def test_a_file_is_replaced_whole_or_not_at_all(run, monkeypatch):
    run.write_text("summary.txt", "old")

    def crash(_):
        raise OSError("disk full")

    monkeypatch.setattr(store.os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        run.write_text("summary.txt", "new")
    assert (run.folder / "summary.txt").read_text() == "old"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_in_json_and_the_old_file_stays(run, value):
    run.write_json("result.json", {"watts": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("result.json", {"watts": value})
    assert RunReader(run.folder).json("result.json") == {"watts": 1}


def full_disk(path):
    """Have every write to ``path`` meet a full disk."""
    path.symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("power/part-00000.parquet.tmp", lambda run: run.flush()),
        ("events.jsonl", lambda run: run.event("idle_start")),
        ("result.json.tmp", lambda run: run.write_json("result.json", {})),
        ("hashes.json.tmp", lambda run: run.seal()),
    ],
)
def test_a_full_disk_is_named_and_leaves_nothing_half_written(run, file, write):
    run.add("power", [power_row(1.0)])
    full_disk(run.folder / file)
    with pytest.raises(RunWriteError) as caught:
        write(run)
    assert caught.value.errno == errno.ENOSPC
    assert not list(run.folder.rglob("*.tmp"))


def test_an_event_that_fits_the_disk_by_half_is_taken_back(run):
    run.event("idle_start")
    whole = (run.folder / "events.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(RunWriteError, match="No space left"):
            run.event("idle_end")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (run.folder / "events.jsonl").read_bytes() == whole


def test_a_link_is_written_through_and_a_pipe_stays_a_pipe(tmp_path):
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to("real.html")
    write_whole(tmp_path / "link.html", "new")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "page")
        assert os.read(reader, 10) == b"page"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_run_that_cannot_begin_leaves_no_folder_and_one_that_cannot_go_on_stays_sealed(tmp_path, run):
    RunWriter(tmp_path / "new").abandon()
    assert not (tmp_path / "new").exists()
    run.seal()
    hashes = RunReader(run.folder).json(HASHES_FILE)
    RunWriter.reopened(run.folder).abandon()
    assert RunReader(run.folder).json(HASHES_FILE) == hashes


def test_events_come_back_in_order_with_both_clocks(run):
    run.event("cell_start", cell="1x")
    run.event("cell_end")
    events = RunReader(run.folder).events()
    assert [event["event"] for event in events] == ["cell_start", "cell_end"]
    assert events[0]["cell"] == "1x"
    assert events[0]["t_mono_s"] <= events[1]["t_mono_s"]
    assert events[0]["t_wall_s"] > 1.5e9


def test_a_last_event_cut_off_by_a_crash_is_left_out(run):
    run.event("cell_start")
    with (run.folder / "events.jsonl").open("a") as log:
        log.write('{"t_mono_s": 1.0, "event": "cell_')
    assert [event["event"] for event in RunReader(run.folder).events()] == ["cell_start"]


def test_a_run_without_events_has_none(run):
    assert RunReader(run.folder).events() == []


@pytest.mark.parametrize(
    "line", [b'{"event": broken}', b"\xff\xfe", b"7", b'{"t_mono_s": 1.0}', b'{"event": "idle", "t_mono_s": "soon"}']
)
def test_a_damaged_event_is_refused(run, line):
    (run.folder / "events.jsonl").write_bytes(line + b'\n{"event": "cell_end", "t_mono_s": 1.0}\n')
    with pytest.raises(StoredRunError, match=r"events\.jsonl"):
        RunReader(run.folder).events()


def test_a_damaged_part_is_refused(run):
    (run.folder / "power" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoredRunError, match="part-00000"):
        RunReader(run.folder).table("power")


@pytest.mark.parametrize("content", [None, "{", "\xff"])
def test_a_json_file_that_is_missing_or_broken_is_refused(run, content):
    if content is not None:
        (run.folder / "prediction.json").write_text(content, encoding="latin-1")
    with pytest.raises(StoredRunError, match=r"prediction\.json"):
        RunReader(run.folder).json("prediction.json")


def test_a_folder_without_a_manifest_is_no_run(tmp_path):
    with pytest.raises(StoredRunError, match=r"no manifest\.json"):
        RunReader(tmp_path)


def test_an_existing_folder_is_never_written_into(run):
    with pytest.raises(FileExistsError):
        RunWriter(run.folder)


def test_every_part_says_its_schema_version(run):
    run.add("power", [power_row(1.0)])
    run.flush()
    schema = pa.parquet.read_schema(run.folder / "power" / "part-00000.parquet")
    assert schema.metadata[b"table_schema"] == b"1"


def test_json_is_written_for_people_to_read(run):
    path = run.write_json("cells/1x.json", {"watts": 1, "notes": []})
    assert json.loads(path.read_text()) == {"watts": 1, "notes": []}
    assert path.read_text().endswith("}\n")


def test_a_reopened_run_goes_on_after_its_last_part_and_its_last_whole_event(run):
    run.add("power", [power_row(1.0)])
    run.flush()
    run.event("first")
    with (run.folder / "events.jsonl").open("a") as log:
        log.write('{"event": "cut o')
    again = RunWriter.reopened(run.folder)
    again.add("power", [power_row(2.0)])
    again.flush()
    again.event("second")
    reader = RunReader(run.folder)
    assert reader.table("power")["t_mono_s"].tolist() == [1.0, 2.0]
    assert [event["event"] for event in reader.events()] == ["first", "second"]
