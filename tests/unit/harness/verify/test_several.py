"""Sweeps, repeats, and folders of runs: each run is checked, and what was made of them together."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import StoreError
from harness.job import write_result_files
from harness.repeats import REPEATS_FILE, repeats_document
from harness.studies.sweeps import SWEEP_FILE, sweep_document
from harness.studies.verify import verification_document
from harness.verify import swept
from harness.verify.evidence import read_evidence
from harness.verify.repeated import apply_group_rules, repeats_of
from results.store import RunWriter
from tests.unit.harness import report_runs
from tests.unit.harness.synthetic_run import MULTIPLIED, PLAIN, Cell, SyntheticRun


def finished(run, folder):
    """Write a run as one that has ended, its prediction stored first."""
    first = next(number for number, event in enumerate(run.events) if event["event"] == "cell_start")
    run.events.insert(first, {"event": "prediction_stored", "t_mono_s": 99.0})
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    run.write(folder)
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    return writer


def swept_run():
    """A ladder of two rungs, and a grid of three lengths whose energy per token falls."""
    ladder = [Cell(f"ladder-{n}", start_s=100 + 100 * k, rate=rate, role="ladder") for k, (n, rate) in
              enumerate([(1, 200.0), (2, 400.0)])]  # fmt: skip
    lengths = [(100, 400.0), (200, 390.0), (400, 350.0)]
    grid = [Cell(f"grid-50x{tok}", start_s=300 + 100 * k, rate=rate, output_tok=tok, median_tok=tok, role="grid",
                 workload=f"fixed:50x{tok}") for k, (tok, rate) in enumerate(lengths)]  # fmt: skip
    run = SyntheticRun((*ladder, *grid))
    rungs = iter((1, 2, 16, 16, 16))
    for event in run.events:
        if event["event"] == "cell_start":
            event["definition"]["concurrency"] = next(rungs)
    run.prediction = None
    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    run = swept_run()
    folder = run.write(tmp_path_factory.mktemp("sweep") / "run")
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.write_json(SWEEP_FILE, sweep_document(folder))
    writer.seal()
    return folder


def test_a_sweep_is_checked_with_what_was_made_of_its_cells(sweep):
    found = {rule["id"]: rule for rule in verification_document(sweep)["rules"]}
    assert {
        name: found[name]["status"] for name in ("sweep", "sweep_knee", "sweep_exponents", "hashes")
    } == dict.fromkeys(("sweep", "sweep_knee", "sweep_exponents", "hashes"), "pass")
    assert [rule for rule in found.values() if rule["status"] == "fail"] == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda sweep: sweep["ladder"]["cells"][0].update(watts=1.0), swept.lines),
        (lambda sweep: sweep["grid"]["cells"][2].update(wh_per_query=1.0), swept.lines),
        (lambda sweep: sweep["grid"]["cells"].pop(), swept.lines),
        (lambda sweep: sweep["ladder"]["knee"].update(concurrency=1), swept.ladder),
        (lambda sweep: sweep["ladder"]["unsaturated_cost"].update(joules_per_tok_ratio=3.0), swept.ladder),
        (lambda sweep: sweep["ladder"]["unsaturated_cost"].update(ci95=[1.0, 4.0]), swept.ladder),
        (lambda sweep: sweep["grid"]["energy_exponents"][0].update(exponent=2.0), swept.exponents),
        (lambda sweep: sweep["grid"]["energy_exponents"][0].update(ci95=[0.0, 2.0]), swept.exponents),
    ],
)
def test_a_changed_sweep_fails(sweep, change, rule):
    evidence = read_evidence(sweep)
    assert all(check.ok for check in rule(evidence))
    told = json.loads((sweep / SWEEP_FILE).read_text())
    forged = json.loads(json.dumps(told))
    change(forged)
    (sweep / SWEEP_FILE).write_text(json.dumps(forged))
    try:
        assert not all(check.ok for check in rule(evidence))
    finally:
        (sweep / SWEEP_FILE).write_text(json.dumps(told, indent=2) + "\n")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Three repeats that differ in throughput, with noise of their own."""
    folder, folders = tmp_path_factory.mktemp("repeats"), []
    for number, factor in enumerate((1.0, 1.02, 0.99), 1):
        cells = (PLAIN, Cell(**{**vars(MULTIPLIED), "rate": MULTIPLIED.rate * factor}))
        run, rng = SyntheticRun(cells), np.random.default_rng(number)
        for row in run.server:
            row["generation_tok"] += 6 * rng.normal() if 4 < row["t_mono_s"] % 100 < 31.5 else 0.0
        writer = finished(run, folder / f"repeat-{number}")
        writer.seal()
        folders.append(writer.folder)
    (folder / REPEATS_FILE).write_text(json.dumps(repeats_document(folders, 3)))
    return folder


def test_every_repeat_is_checked_and_the_repeats_together(group):
    answer = CliRunner().invoke(app, ["verify", str(group), "--json"])
    document = json.loads(answer.stdout)
    assert (answer.exit_code, document["schema"]) == (0, "inference-energy/verifications/1"), [
        rule for part in (document, *document["runs"]) for rule in part["rules"] if rule["status"] == "fail"
    ]
    assert [rule["status"] for rule in document["rules"]] == ["pass"] * 4
    assert document["passed"] == 4 + sum(run["passed"] for run in document["runs"])
    assert len(document["runs"]) == 3


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda doc: doc["runs"][0]["verdicts"].update({"1x": "invalid"}), "repeats_runs"),
        (lambda doc: doc["cells"][1]["tps_tok_per_s"].update(u_run_rel=0.5), "repeats_spread"),
        (lambda doc: doc["cells"][0]["wh_per_query"].update(u_between_rel=0.5), "repeats_spread"),
        (lambda doc: doc["cells"][0].update(standard_uncertainty_of_the_mean_rel=0.001), "repeats_spread"),
        (lambda doc: doc["cells"][0].update(n=5), "repeats_spread"),
        (lambda doc: doc["energy_ratio"].update(measured=13.0), "repeats_ratio"),
        (lambda doc: doc["energy_ratio"].update(measured_ci95=[1.0, 20.0]), "repeats_ratio"),
        (lambda doc: doc["energy_ratio"].update(exponent_ci95=[1.0, 2.0]), "repeats_ratio"),
    ],
)
def test_a_changed_document_of_repeats_fails(group, tmp_path, change, failed):
    document = json.loads((group / REPEATS_FILE).read_text())
    change(document)
    (tmp_path / REPEATS_FILE).write_text(json.dumps(document))
    runs = [read_evidence(path) for path in sorted(group.glob("repeat-*"))]
    found = apply_group_rules(repeats_of(tmp_path, runs))
    assert [finding.id for finding in found if finding.status == "fail"] == [failed]


def test_a_folder_of_runs_without_a_document_of_repeats_has_their_rules_alone(group):
    (group / REPEATS_FILE).rename(group / "elsewhere")
    try:
        answer = CliRunner().invoke(app, ["verify", str(group)])
    finally:
        (group / "elsewhere").rename(group / REPEATS_FILE)
    assert answer.exit_code == 0
    assert f"3 runs in {group}" in answer.output.replace("\n", "")
    assert "repeats_runs" not in answer.output


def test_a_run_that_ended_before_its_first_load_is_verified_like_any_other(tmp_path):
    folder = report_runs.cell_less(tmp_path / "run")
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.seal()
    document = verification_document(folder)
    found = {rule["id"]: rule["status"] for rule in document["rules"]}
    assert document["failed"] == 0, [rule for rule in document["rules"] if rule["status"] == "fail"]
    assert (found["hashes"], found["simulated"], found["idle"]) == ("pass", "pass", "pass")


def test_a_run_that_cannot_be_read_fails_and_the_others_of_its_folder_are_verified(group, tmp_path):
    for path in sorted(group.rglob("*")):
        target = tmp_path / path.relative_to(group)
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    (tmp_path / "repeat-2" / "result.json").unlink()
    answer = CliRunner().invoke(app, ["verify", str(tmp_path), "--json"])
    document = json.loads(answer.stdout)
    first, second, third = document["runs"]
    assert answer.exit_code == 8
    assert (first["failed"], third["failed"], document["failed"]) == (0, 0, 2)
    (unread,) = second["rules"]
    assert (second["path"], second["failed"], unread["status"]) == (str(tmp_path / "repeat-2"), 1, "fail")
    assert "result.json" in unread["detail"]
    (together,) = document["rules"]
    assert (together["status"], together["detail"]) == ("fail", "repeat-2 cannot be read")
    printed = CliRunner().invoke(app, ["verify", str(tmp_path)]).output.replace("\n", "")
    assert f"FAIL readable: cannot verify the run {tmp_path / 'repeat-2'}" in printed


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match=r"no manifest\.json and no run folders"):
        verification_document(tmp_path)
