"""How a run begins and ends where the power cannot be read, or the disk is full."""

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import pytest

from harness import job
from harness.errors import NodeError, StoreError
from harness.instruments import Instruments
from harness.manifest import new_manifest
from harness.stress import run_stress
from harness.sweep import Sweep, run_sweep
from harness.sweep_config import sweep_config
from results.store import HASHES_FILE, RunWriter
from results.tables import TABLES
from tests.unit.harness.plans import plan_of
from tests.unit.harness.synthetic_run import SyntheticRun

ROW = dict.fromkeys(TABLES["power"].names) | {"t_mono_s": 1.0, "t_wall_s": 1.7e9, "uuid": "simulated"}


@pytest.fixture
def run(tmp_path):
    return RunWriter(tmp_path / "runs" / "run")


@pytest.fixture
def run_job(run, monkeypatch):
    """Run a job in ``run`` whose servers are none: ``measure`` alone."""

    @asynccontextmanager
    async def opened(plan, run, manifest, live, source, say):
        yield SimpleNamespace(bench=SimpleNamespace(instruments=Instruments(run, live, source)))

    monkeypatch.setattr(job, "_opened", opened)
    plan = plan_of(metrics_address="none")

    def start(measure):
        async def measured(_):
            measure()

        asyncio.run(job.run_job(plan, run, partial(new_manifest, plan, run), measured, print))

    return start


def stored(run):
    manifest = json.loads((run.folder / "manifest.json").read_text())
    return manifest["status"], manifest["failure"]


def test_a_disk_that_is_full_while_measuring_ends_the_run_as_failed_with_the_reason(run, run_job):
    (run.folder / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left on device") as caught:
        run_job(lambda: run.event("cell_start"))
    assert caught.value.fix == "free disk space and run again"
    assert stored(run) == ("failed", str(caught.value))
    assert (run.folder / HASHES_FILE).is_file()


def test_rows_that_no_longer_fit_the_disk_make_the_run_failed_and_its_other_files_are_written(run, run_job):
    (run.folder / "power" / "part-00000.parquet.tmp").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left on device") as caught:
        run_job(lambda: run.add("power", [ROW]))
    status, failure = stored(run)
    assert status == "failed"
    assert "No space left" in failure
    assert {path.name for path in run.folder.iterdir()} >= {"result.json", "summary.txt", HASHES_FILE}
    assert caught.value.exit_code == 6


@pytest.fixture
def no_sensor(monkeypatch):
    def refuse(*_):
        raise NodeError("the meter is away")

    monkeypatch.setattr(job, "open_source", refuse)


def test_a_sensor_that_cannot_be_opened_is_named_and_leaves_no_folder(no_sensor, tmp_path):
    plan = plan_of(out=tmp_path / "runs")
    with pytest.raises(NodeError, match="the meter is away"):
        asyncio.run(run_stress(plan, print))
    sweep = Sweep(sweep_config({"grid": "8x8", "power": "simulated"}), plan, RunWriter(tmp_path / "runs" / "sweep"))
    with pytest.raises(NodeError, match="the meter is away"):
        asyncio.run(run_sweep(sweep, print))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_sweep_that_cannot_go_on_stays_as_it_was(no_sensor, tmp_path):
    folder = SyntheticRun().write(tmp_path / "sweep")
    RunWriter.reopened(folder).seal()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sweep = Sweep(sweep_config({"grid": "8x8", "power": "simulated"}), plan_of(), RunWriter.reopened(folder))
    with pytest.raises(NodeError, match="the meter is away"):
        asyncio.run(run_sweep(sweep, print))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
