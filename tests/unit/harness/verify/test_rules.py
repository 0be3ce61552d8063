"""A run made by hand passes every rule; each way of tampering with it fails exactly the rules that it breaks."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import StoreError
from harness.job import write_result_files
from harness.studies.verify import verification_document
from harness.verify import record
from harness.verify.evidence import Evidence
from results.store import HASHES_FILE, RunWriter
from results.tables import TABLES
from tests.unit.harness.synthetic_run import PLAIN, SyntheticRun

FROM_ENERGY = {"joules_per_token", "wh_per_query", "ratio", "split", "energy_ratio"}
FROM_WATTS = FROM_ENERGY | {"watts", "device_figures", "uncertainty_parts", "interval"}
UNNEEDED = {
    "simulated", "meters", "config_limited", "client", "goodput", "prefix_cache", "tasks", "tasks_completed",
    "wh_per_task", "sweep", "sweep_knee", "sweep_exponents",
}  # fmt: skip
COPIES = {"cell_files", "cells_csv"}
"""Fail whenever the result alone is changed, which a forger may change as well."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Write a run as ``stress`` leaves it: prediction stored first, result made from the record, sealed."""
    return write(SyntheticRun(), tmp_path_factory.mktemp("runs") / "clean")


def write(run, folder):
    first = next(number for number, event in enumerate(run.events) if event["event"] == "cell_start")
    run.events.insert(first, {"event": "prediction_stored", "t_mono_s": 99.0, "t_wall_s": 1.7e9 + 99})
    for event in run.events:
        event.setdefault("t_wall_s", 1.7e9 + event["t_mono_s"])
    run.write(folder)
    writer = RunWriter.reopened(folder)
    write_result_files(writer)
    writer.seal()
    return folder


@pytest.fixture
def copied(clean, tmp_path):
    folder = tmp_path / "copy"
    for path in sorted(clean.rglob("*")):
        target = folder / path.relative_to(clean)
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    return folder


def statuses(folder):
    return {rule["id"]: rule["status"] for rule in verification_document(folder)["rules"]}


def failed(folder):
    return {name for name, status in statuses(folder).items() if status == "fail"}


def reseal(folder):
    """Do as a forger would who knows of the hashes."""
    RunWriter.reopened(folder).seal()


def edit_json(folder, name, change):
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


def edit_rows(folder, table, change):
    (part,) = (folder / table).glob("part-*.parquet")
    rows = pq.read_table(part).to_pandas()
    changed = change(rows)
    rows = rows if changed is None else changed
    pq.write_table(pa.Table.from_pandas(rows, schema=TABLES[table], preserve_index=False), part)


def test_a_clean_run_passes_every_rule_that_applies(clean):
    document = verification_document(clean)
    assert [rule for rule in document["rules"] if rule["status"] == "fail"] == []
    unneeded = {rule["id"] for rule in document["rules"] if rule["status"] == "not_applicable"}
    assert unneeded == UNNEEDED
    assert (document["passed"], document["failed"]) == (len(document["rules"]) - len(UNNEEDED), 0)
    assert document["schema"] == "inference-energy/verification/1"


def test_a_changed_byte_is_found_and_its_file_named(copied):
    text = (copied / "summary.txt").read_bytes()
    (copied / "summary.txt").write_bytes(text[:-2] + b"!" + text[-1:])
    (rule,) = [rule for rule in verification_document(copied)["rules"] if rule["status"] == "fail"]
    assert (rule["id"], rule["detail"]) == ("hashes", "summary.txt has changed")


@pytest.mark.parametrize(
    "kind",
    ["manifest.json", "prediction.json", "events.jsonl", "power", "server", "requests", "cells/1x.json", "cells.csv"],
)
def test_one_other_byte_in_any_kind_of_file_is_found(copied, kind):
    path = next(copied.glob(f"{kind}/part-*.parquet"), copied / kind)
    content = bytearray(path.read_bytes())
    place = next(n for n in range(len(content) // 2, len(content)) if chr(content[n]).isdigit())
    content[place] ^= 1  # a digit becomes another
    path.write_bytes(content)
    (found,) = record.hashes(Evidence(copied, {}, {}, None, [], None, None, ()))[:1]
    assert (found.ok, found.text) == (False, f"{path.relative_to(copied)} has changed")


def test_a_missing_file_and_an_added_table_part_are_found(copied):
    (copied / "cells.csv").unlink()
    (copied / "power" / "part-00009.parquet").write_bytes((copied / "power" / "part-00000.parquet").read_bytes())
    (copied / "chart.png").write_bytes(b"drawn later")
    found = next(rule for rule in verification_document(copied)["rules"] if rule["id"] == "hashes")
    assert found["detail"] == "cells.csv is missing; power/part-00009.parquet was added to a table"


def test_a_file_drawn_beside_the_tables_later_changes_nothing(copied):
    (copied / "chart.png").write_bytes(b"drawn later")
    assert failed(copied) == set()


def test_a_run_that_has_ended_fails_without_its_hashes(copied):
    (copied / HASHES_FILE).unlink()
    assert failed(copied) == {"hashes"}


def test_a_run_that_was_killed_is_not_judged_by_hashes(tmp_path):
    run = SyntheticRun()
    run.manifest["status"] = "running"
    folder = write(run, tmp_path / "run")
    (folder / HASHES_FILE).unlink()
    assert statuses(folder)["hashes"] == "not_applicable"
    assert failed(folder) == set()


def add_tokens(rows):
    """Count 4,000 tokens more from within the plain cell's window on; the multiplied cell only starts higher."""
    rows.loc[(rows["t_mono_s"] > 120) & (rows["server"] == 0), "generation_tok"] += 4000


def lower_counter(rows):
    """Let the energy counter of one device run 10% slow from before the plain cell to before the next."""
    during = rows["t_mono_s"].clip(95, 150) - 95
    rows["energy_j"] -= (rows["uuid"] == "gpu-a") * 0.1 * 200 * during


def lower_power(rows):
    rows.loc[rows["t_mono_s"] > 95, "power_w"] *= 0.9


def raise_idle(rows):
    rows["energy_j"] -= 10 * (90 - rows["t_mono_s"].clip(70, 90))


def drop_request(rows):
    return rows.drop(rows[rows["cell"] == "1x"].index[-1])


def slow_first_tokens(rows):
    rows.loc[rows["streamed"], "first_mono_s"] += 0.05


def queue(rows):
    rows.loc[rows["t_mono_s"] < 150, "waiting"] = 3.0


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        (
            "server",
            add_tokens,
            FROM_ENERGY
            | {"tps", "tps_error", "tokens", "random_error", "changes", "window_size", "uncertainty_parts"}
            | {"window_choice", "steadiness", "verdict"},
        ),
        ("power", lower_counter, FROM_WATTS | {"counter_integral", "ratio_interval", "sensor_reasons", "verdict"}),
        ("power", lower_power, {"counter_integral", "device_figures", "sensor_reasons", "verdict"}),
        ("power", raise_idle, {"idle", "sensor_reasons"}),
        ("requests", drop_request, {"requests", "tokens"}),
        ("requests", slow_first_tokens, {"latencies"}),
        ("server", queue, {"gauges"}),
    ],
)
def test_changed_rows_fail_the_rules_on_what_they_feed(copied, table, change, expected):
    edit_rows(copied, table, change)
    reseal(copied)
    assert failed(copied) == expected


def in_cell(**figures):
    return lambda result: result["cells"][0].update(figures)


def in_part(part, **figures):
    return lambda result: result["cells"][0][part].update(figures)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (in_cell(tps_tok_per_s=900.0), {"tps"}),
        (in_cell(watts=1.0), {"watts"}),
        (in_cell(ratio=1.0), {"ratio", "split"}),
        (in_cell(verdict="suspect"), {"verdict"}),
        (
            in_cell(verdict="invalid", reasons=["drift", "no_steady_state"]),
            {"steadiness", "verdict", "energy_ratio", "ratio_verdict"},
        ),
        (in_cell(verdict="suspect", reasons=["tired"]), {"known_reasons"}),
        (in_cell(verdict="suspect", reasons=["client_bound"]), {"reasons", "verdict"}),
        (in_cell(verdict="suspect", reasons=["saturation_unproven"]), {"saturation", "verdict"}),
        (in_cell(boundary="gpu"), {"boundaries"}),
        (in_cell(power_source="redfish"), {"boundaries"}),
        (in_cell(queue_share=1.0), {"gauges"}),
        (in_cell(concurrency=8), {"cells"}),
        (in_cell(joules_per_tok_ci95=[0.1, 0.2]), {"joules_per_token", "random_error", "ratio_interval"}),
        (in_part("wh_per_query", mean=0.02, ci95=None), {"wh_per_query", "interval", "ratio_interval"}),
        (in_part("wh_per_query", standard_uncertainty_rel=0.001), {"uncertainty"}),
        (in_part("predicted_wh_per_query", mean=0.03), {"prediction_reported"}),
        (in_part("split", power=0.5), {"split"}),
        (in_part("requests", completed=1), {"requests"}),
        (in_part("tokens", usage_completed_tok=1), {"tokens"}),
        (in_part("ttft_s", p50_s=0.2), {"latencies"}),
        (lambda result: result["cells"][0]["window"]["changes"]["power"].update(change=0.015), {"changes"}),
        (lambda result: result["cells"][0]["window"]["changes"]["kv_usage"].update(unit="of_mean"), {"changes"}),
        (lambda result: result["idle"].update(watts=1.0), {"idle"}),
        (lambda result: result["energy_ratio"].update(measured=13.0), {"energy_ratio"}),
        (lambda result: result["cells"].pop(), {"cells", "energy_ratio", "ratio_verdict", "figures"}),
        (lambda result: result["cells"][0].update(surprise=1), {"schemas", "figures"}),
    ],
)  # fmt: skip
def test_a_changed_result_fails_the_rules_on_that_figure(copied, change, expected):
    edit_json(copied, "result.json", change)
    reseal(copied)
    found = failed(copied)
    assert found - COPIES == expected
    assert bool(found & COPIES) == changes_cells(copied)


def changes_cells(folder):
    """Tell whether the files of the cells still say what the result says."""
    cells = {cell["name"]: cell for cell in json.loads((folder / "result.json").read_text())["cells"]}
    return cells != {path.stem: json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")}


def scale_predicted_mean(prediction):
    prediction["cells"]["1x"]["mean_wh"] *= 1.1


def scale_prediction_with_its_inputs(prediction):
    prediction["cells"]["1x"]["mean_wh"] *= 1.1
    prediction["cells"]["1x"]["reference"]["node_power_kw"] *= 1.1


def idle_beside_the_load(prediction):
    """A quarter of a node by ``whole``: three quarters of its idle 2.7 kW stand beside 0.4 to 0.9 of 2 kW."""
    cell = prediction["cells"]["1x"]
    cell |= {"node_power_kw": {"p5": 0.8, "p95": 1.8}, "constant_power_kw": 2.025}
    sigma = math.log(1.8 / 0.8) / (2 * 1.6448536269514722)
    power_kw = 1.2 * math.exp(sigma**2 / 2) + 2.025
    cell["mean_wh"] *= power_kw / cell["reference"]["node_power_kw"]
    cell["reference"] = cell["reference"] | {"node_power_kw": power_kw}


@pytest.mark.parametrize(("allocation", "fails"), [("whole", set()), ("marginal", {"prediction"})])
def test_idle_power_in_a_prediction_is_that_of_the_allocation(tmp_path, allocation, fails):
    run = SyntheticRun()
    run.manifest["allocation"] = allocation
    idle_beside_the_load(run.prediction)
    assert failed(write(run, tmp_path / "run")) == fails


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (scale_predicted_mean, {"prediction", "prediction_reported", "ratio", "energy_ratio"}),
        (scale_prediction_with_its_inputs, {"prediction_reported", "ratio", "split", "energy_ratio"}),
        (lambda prediction: prediction.update(created_wall_s=1.7e9 + 500), {"prediction_first"}),
    ],
)
def test_a_changed_prediction_is_found(copied, change, expected):
    edit_json(copied, "prediction.json", change)
    reseal(copied)
    assert failed(copied) == expected


def test_a_prediction_that_differs_from_what_was_stored_fails(tmp_path):
    run = SyntheticRun()
    run.events.append({"event": "prediction_stored", "t_mono_s": 99.5, "sha256": "0" * 64})
    folder = write(run, tmp_path / "run")
    assert failed(folder) == {"prediction_first"}


def test_a_prediction_stored_after_its_cell_started_fails(copied):
    lines = (copied / "events.jsonl").read_text().splitlines(keepends=True)
    stored = next(line for line in lines if "prediction_stored" in line)
    (copied / "events.jsonl").write_text("".join([*(line for line in lines if line != stored), stored]))
    reseal(copied)
    assert failed(copied) == {"prediction_first"}


@pytest.mark.parametrize(
    ("shift_s", "rules"), [(-3.0, {"windows"}), (0.1, {"windows"})], ids=["before warm-up", "between scrapes"]
)
def test_a_window_that_is_elsewhere_fails(copied, shift_s, rules):
    def move(result):
        window = result["cells"][0]["window"]
        window["start_mono_s"] += shift_s
        window["duration_s"] -= shift_s

    edit_json(copied, "result.json", move)
    reseal(copied)
    assert rules <= failed(copied)


def test_simulated_power_must_be_said(tmp_path):
    run = SyntheticRun()
    run.manifest["power"]["name"] = "simulated"
    run.manifest["labels"] = ["simulated power: every joule is simulated"]
    for row in run.power:
        row["source"] = "simulated"
    folder = write(run, tmp_path / "run")
    assert statuses(folder)["simulated"] == "pass"
    edit_json(folder, "result.json", lambda result: result["run"].update(labels=[]))
    reseal(folder)
    assert failed(folder) == {"run", "simulated"}


def test_integrated_power_stands_in_where_there_is_no_counter(tmp_path):
    run = SyntheticRun()
    for row in run.power:
        row["energy_j"] = None
    folder = write(run, tmp_path / "run")
    assert failed(folder) == set()
    assert statuses(folder)["counter_integral"] == "not_applicable"
    edit_rows(folder, "power", lower_power)
    reseal(folder)
    assert failed(folder) == FROM_WATTS - {"energy_ratio"}  # a gain cancels in a ratio


def test_power_that_stands_still_in_place_of_a_counter_must_be_named(tmp_path):
    run = SyntheticRun(cells=(PLAIN,))
    for row in run.power:
        row["energy_j"] = None
    folder = write(run, tmp_path / "run")

    def forget(result):
        result["cells"][0]["reasons"].remove("sensor_stuck")

    edit_json(folder, "result.json", forget)
    reseal(folder)
    assert {"sensor_reasons", "verdict"} <= failed(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        verification_document(tmp_path)


def test_a_run_without_its_result_is_refused(copied):
    (copied / "result.json").unlink()
    with pytest.raises(StoreError, match=r"result\.json"):
        verification_document(copied)


def without_counters(run):
    run.events.insert(0, {"event": "no_token_counter", "t_mono_s": 65.0})
    for row in run.server:
        row["generation_tok"] = None


def half_without_counters(run):
    run.events.insert(0, {"event": "no_token_counter", "t_mono_s": 65.0})
    for row in run.server:
        row["generation_tok"] = None if row["server"] == 0 else row["generation_tok"]


def cut_short(run):
    run.events = [event for event in run.events if event["event"] != "cell_end"]


def at_the_gpus(run):
    run.manifest["boundary"], run.prediction = "gpu", None


def lost_gpu(run):
    for row in run.power:
        if row["t_mono_s"] > 110 and row["uuid"] == "gpu-a":
            row |= {"power_w": None, "energy_j": None, "error": "gpu_lost"}


def missing_requests(run):
    run.requests = run.requests[:-5]


def half_a_node_marginal(run):
    run.manifest |= {"allocation": "marginal", "node_share": 0.1}


def metered(run):
    meter = {
        "name": "redfish", "boundary": "node", "gain_rel_u": 0.01, "power_lag_s": 0.0, "period_s": 2.0,
        "device_uuids": ["redfish:0"], "notes": [],
    }  # fmt: skip
    run.manifest |= {"meters": [meter], "boundary": "node"}
    first = run.power[0] | {"source": "redfish", "boundary": "node", "uuid": "redfish:0", "energy_j": None}
    run.power += [
        first | {"t_mono_s": 66.0 + 2 * step, "power_w": 3000.0 + (-1) ** step, "utilization_ratio": None}
        for step in range(90)
    ]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (without_counters, None),
        (half_without_counters, None),
        (cut_short, "invalid"),
        (at_the_gpus, None),
        (lost_gpu, "invalid"),
        (missing_requests, "invalid"),
        (half_a_node_marginal, None),
        (metered, None),
    ],
)
def test_a_run_of_another_kind_that_reports_truly_passes(tmp_path, change, verdict):
    run = SyntheticRun(cells=(PLAIN,))
    change(run)
    folder = write(run, tmp_path / "run")
    (cell,) = json.loads((folder / "result.json").read_text())["cells"]
    assert verdict is None or cell["verdict"] == verdict
    assert failed(folder) == set()
