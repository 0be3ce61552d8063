"""The rules on devices pass a run that reports truly, and each figure that is changed fails its rule."""

import json

import pytest

from harness.job import write_result_files
from harness.verify.evidence import read_evidence
from harness.verify.rules import RULES
from results.store import RunWriter
from tests.unit.harness.analysis.test_devices import stored_run
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun

OURS = {"devices", "device_figures", "device_states", "device_reasons"}


def written(run, folder):
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    run.write(folder)
    write_result_files(RunWriter.reopened(folder))
    return folder


def statuses(folder):
    evidence = read_evidence(folder)
    return {rule.id: rule.find(evidence).status for rule in RULES if rule.id in OURS}


def failed(folder):
    return {name for name, status in statuses(folder).items() if status == "fail"}


TROUBLE = {
    "launch": (7,),
    "before": {"pids": [7, 20]},
    "after": {"ecc_corrected": 9, "ecc_uncorrected": 1, "power_limit_w": 450.0},
    "mask": 0x44,
    "xid": 43,
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return written(stored_run(**TROUBLE), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def changed(run_folder):
    """Change the reported result for the length of a test."""
    path = run_folder / "result.json"
    before = path.read_text()

    def change(edit, edit_idle=None):
        result = json.loads(before)
        edit(result["cells"][0])
        if edit_idle is not None:
            edit_idle(result["idle"])
        path.write_text(json.dumps(result))
        return run_folder

    yield change
    path.write_text(before)


@pytest.mark.parametrize("own_pids", [None, [20]], ids=["servers that already ran", "launched servers"])
def test_a_gpu_that_did_nothing_beside_the_servers_must_be_called_unused(tmp_path, own_pids):
    run = stored_run()
    for stored in run.events:
        if stored["event"].startswith("devices_"):
            stored["own_pids"] = own_pids
            if own_pids is not None:
                (idle,) = (device for device in stored["devices"] if device["uuid"] == "gpu-b")
                idle["pids"] = []
    for row in run.power:
        row["utilization_ratio"] = 0.0 if row["uuid"] == "gpu-b" else 0.9
    folder = written(run, tmp_path / "run")
    path = folder / "result.json"
    result = json.loads(path.read_text())
    (cell,) = result["cells"]
    assert (cell["verdict"], cell["reasons"]) == ("suspect", ["gpu_unused"])
    assert [device["reasons"] for device in cell["devices"]] == [[], ["gpu_unused"]]
    assert result["idle"]["reasons"] == []
    assert failed(folder) == set()
    cell["reasons"] = cell["devices"][1]["reasons"] = []
    path.write_text(json.dumps(result))
    assert failed(folder) == {"device_reasons"}


def test_a_run_full_of_trouble_that_reports_it_truly_passes(run_folder):
    (cell,) = json.loads((run_folder / "result.json").read_text())["cells"]
    codes = {"hardware_throttled", "ecc_uncorrected", "xid_error", "power_limit_changed", "foreign_processes"}
    assert codes <= set(cell["reasons"])
    assert statuses(run_folder) == dict.fromkeys(OURS, "pass")


@pytest.mark.parametrize(
    ("figure", "value", "rules"),
    [
        ("joules_counter", 1.0, {"device_figures"}),
        ("joules_integral", 1.0, {"device_figures"}),
        ("integral_difference_rel", 0.02, {"device_figures"}),
        ("mean_w", None, {"device_figures"}),
        ("throttled_share", 0.5, {"device_figures"}),
        ("throttled_by_cause", {"sw_power_cap": 1.0}, {"device_figures"}),
        ("throttled_by_cause", None, {"device_figures"}),
        ("temperature_max_c", 40.0, {"device_figures"}),
        ("utilization_mean_ratio", 0.1, {"device_figures"}),
        ("memory_max_b", 1, {"device_figures"}),
        ("ecc_corrected", 0, {"device_states"}),
        ("ecc_uncorrected", 0, {"device_states", "device_reasons"}),
        ("power_limit_w", 700.0, {"device_states"}),
        ("xids", [79], {"device_states", "device_reasons"}),
        ("foreign_processes", False, {"device_states", "device_reasons"}),
        ("reasons", [], {"device_reasons"}),
    ],
)
def test_a_changed_figure_of_a_device_fails_the_rule_on_it(changed, figure, value, rules):
    assert failed(changed(lambda cell: cell["devices"][1].update({figure: value}))) == rules


@pytest.mark.parametrize(
    ("figure", "value", "rule"),
    [
        ("power_limit_w", 1.0, "device_states"),
        ("reasons", [], "device_reasons"),
    ],
)
def test_a_changed_figure_of_a_device_at_idle_fails_the_rule_on_it(changed, figure, value, rule):
    folder = changed(lambda cell: cell, lambda idle: idle["devices"][0].update({figure: value}))
    assert failed(folder) == {rule}


def test_a_device_that_is_left_out_fails(changed):
    assert "devices" in failed(changed(lambda cell: cell["devices"].pop()))


def test_a_cell_that_keeps_a_devices_trouble_to_itself_fails(changed):
    folder = changed(lambda cell: cell["reasons"].remove("foreign_processes"))
    assert failed(folder) == {"device_reasons"}


def test_a_run_of_before_devices_were_reported_is_not_judged_by_them(changed):
    assert set(statuses(changed(lambda cell: cell.pop("devices"), lambda idle: idle.pop("devices"))).values()) == {
        "not_applicable"
    }


@pytest.mark.parametrize("own", [None, [20]])
def test_a_container_or_a_server_that_already_ran_leaves_others_unknown_and_passes(tmp_path, own):
    run = stored_run(launch=(), before={"pids": [900]})
    for event in run.events:
        if event["event"].startswith("devices_"):
            event |= {"own_pids": own, "host_pids": False}
    folder = written(run, tmp_path / "run")
    (cell,) = json.loads((folder / "result.json").read_text())["cells"]
    assert {device["foreign_processes"] for device in cell["devices"]} == {None}
    assert failed(folder) == set()


def test_a_run_without_states_and_conditions_passes(tmp_path):
    assert failed(written(SyntheticRun(cells=(PLAIN,)), tmp_path / "run")) == set()
