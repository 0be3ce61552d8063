"""A real Prometheus scrapes a run and an exporter with the shipped configuration, and answers the shipped questions."""

import math
import subprocess

import pytest

from tests.fakes.waiting import until
from tests.prometheus import real_prometheus
from tests.prometheus.conftest import GPU_W, GPUS, PUE, SCRIPT
from tests.prometheus.expressions import OLDER_NAMES, compared, dashboard, filled, names, panel_expressions, rules

pytestmark = pytest.mark.timeout(300)

NODE_W = 1600 * GPUS / 8 + 1.22 * GPUS * GPU_W
NAMED = 'prometheus_sd_discovered_targets{name="scrape", config="vllm"}'
P_MAX_W = 11_300 * GPUS / 8


def of(instance, **labels):
    return "{" + ",".join(f'{name}="{value}"' for name, value in {"instance": instance, **labels}.items()) + "}"


def test_every_target_of_the_shipped_configuration_is_scraped(scene):
    up = {labels["job"]: value for labels, value in scene.prometheus.query("min by (job) (up)", scene.loaded_s)}
    assert up == {"harness": 1, "vllm": 1, "prometheus": 1, "dcgm": 0}


def test_a_server_that_the_run_and_the_exporter_name_is_found_and_scraped_once(scene):
    assert scene.prometheus.value(NAMED, scene.loaded_s) == 2
    ((labels, up),) = scene.prometheus.query('up{job="vllm"}', scene.loaded_s)
    assert (labels["instance"], labels["url"], up) == (scene.vllm.removeprefix("http://"), scene.vllm, 1)
    told = scene.prometheus.query(f'harness_server_info{{server="0", url="{scene.vllm}"}}', scene.loaded_s)
    assert {labels["instance"] for labels, _ in told} == {scene.run, scene.node}


def test_a_run_withdraws_its_servers_before_its_end(scene):
    """What Prometheus was told last it keeps: of the exporter, which was ended, the server that is still there."""
    until(lambda: scene.prometheus.value(NAMED) == 1, "the end of a run's servers to be known", 15)


@pytest.mark.parametrize(("title", "unit", "expr"), panel_expressions())
def test_every_expression_of_every_panel_returns_data_with_its_source_and_boundary(scene, title, unit, expr):
    series = scene.prometheus.query(expr, scene.loaded_s)
    assert series, title
    assert all(math.isfinite(value) for _, value in series)
    if unit in ("watt", "joule", "watth"):
        assert all(labels["source"] and labels["boundary"] for labels, _ in series)


@pytest.mark.parametrize("record", [rule["record"] for rule in rules("record")])
def test_every_recording_rule_records(scene, record):
    series = scene.prometheus.query(record, scene.loaded_s)
    assert series
    assert all(math.isfinite(value) for _, value in series)


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda rule: rule["alert"])
def test_what_every_alert_watches_has_data(scene, alert):
    if 'boundary!="gpu"' in alert["expr"]:  # no meter stands beside these GPUs
        alert = alert | {"expr": alert["expr"].replace('boundary!="gpu"', 'boundary!="node"')}
    assert scene.prometheus.query(compared(alert["expr"]), scene.loaded_s)


def test_prometheus_evaluates_every_rule_without_an_error(scene):
    groups = scene.prometheus.get("rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]}
    assert len(health) >= 25
    assert set(health.values()) == {("ok", "")}


def test_every_metric_that_the_dashboard_or_a_rule_names_is_known_to_prometheus(scene):
    expressions = [expr for _, _, expr in panel_expressions()]
    expressions += [rule["expr"] for kind in ("record", "alert") for rule in rules(kind)]
    expressions += [filled(each["expr"]) for each in dashboard()["annotations"]["list"]]
    named = set().union(*map(names, expressions))
    assert len(named) > 40
    assert named - OLDER_NAMES - set(scene.prometheus.get("label/__name__/values")) == set()


def test_the_variables_of_the_dashboard_find_their_instances(scene):
    found = {}
    for variable in dashboard()["templating"]["list"][1:]:
        metric = variable["query"]["query"].removeprefix("label_values(").split(",")[0]
        found[variable["name"]] = {labels["instance"] for labels, _ in scene.prometheus.query(metric, scene.loaded_s)}
    assert found == {"instance": {scene.run, scene.node}, "vllm": {scene.vllm.removeprefix("http://")}}


def test_the_phases_of_the_run_are_annotations_in_their_order(scene):
    (phases, _) = dashboard()["annotations"]["list"]
    assert phases["titleFormat"] == "{{phase}}"
    data = scene.prometheus.get(
        "query_range", query=filled(phases["expr"]), start=scene.began_s, end=scene.ended_s, step=1
    )
    first_s = {series["metric"]["phase"]: series["values"][0][0] for series in data["result"]}
    order = sorted(first_s, key=first_s.__getitem__)
    assert [phase for phase in order if phase in ("idle", "measure", "done")] == ["idle", "measure", "done"]
    assert all(value == "1" for series in data["result"] for _, value in series["values"])


@pytest.mark.parametrize("who", ["run", "node"])
def test_watts_are_those_of_the_gpus_and_of_the_node_model(scene, who):
    instance = getattr(scene, who)
    ask = scene.prometheus.value
    assert ask(f"sum(harness_power_watts{of(instance)})", scene.loaded_s) == pytest.approx(GPUS * GPU_W)
    assert ask(f"harness_node_power_watts{of(instance)}", scene.loaded_s) == pytest.approx(NODE_W)
    assert ask(f"harness_node_power_max_watts{of(instance)}", scene.loaded_s) == pytest.approx(P_MAX_W)
    assert ask(f"instance:harness_node_power:ratio{of(instance)}", scene.loaded_s) == pytest.approx(NODE_W / P_MAX_W)
    gpu_w, node_w, facility_w = (
        ask(f"instance:harness_energy_watts:rate1m{of(instance, boundary=boundary)}", scene.loaded_s)
        for boundary in ("gpu", "node_modelled", "node_modelled x PUE")
    )
    assert node_w / gpu_w == pytest.approx(NODE_W / (GPUS * GPU_W), rel=0.01)
    assert facility_w / node_w == pytest.approx(PUE)


@pytest.mark.parametrize(("counter", "watts"), [("energy", GPUS * GPU_W), ("node_energy", NODE_W)])
def test_energy_counters_grow_by_the_watts(scene, counter, watts):
    growth = f"sum(rate(harness_{counter}_joules_total{of(scene.node)}[8s]))"
    assert scene.prometheus.value(growth, scene.loaded_s) == pytest.approx(watts, rel=0.05)


def test_joules_a_token_are_watts_over_tokens_a_second(scene):
    ask, labels = scene.prometheus.value, of(scene.node, boundary="node_modelled x PUE")
    per_token_j = ask(f"instance:harness_token_energy_joules:rate1m{labels}", scene.loaded_s)
    watts = ask(f"instance:harness_energy_watts:rate1m{labels}", scene.loaded_s)
    tok_per_s = ask(f"instance:harness_generated_tokens:rate1m{of(scene.node)}", scene.loaded_s)
    assert per_token_j == pytest.approx(watts / tok_per_s)
    tok_per_s = ask(f"sum(rate(harness_generated_tokens_total{of(scene.node)}[8s]))", scene.loaded_s)
    counted_tok_per_s = ask("sum(rate(vllm:generation_tokens_total[8s]))", scene.loaded_s)
    assert tok_per_s == pytest.approx(counted_tok_per_s, rel=0.2)  # both scrape once a second
    assert 0.4 < tok_per_s / (SCRIPT.max_num_seqs * SCRIPT.tok_per_s) < 1.1


def test_watt_hours_a_query_are_joules_a_token_times_its_tokens(scene):
    ask, boundary = scene.prometheus.value, "node_modelled x PUE"
    run_j = ask(f"instance:harness_token_energy_joules:rate1m{of(scene.run, boundary=boundary)}", scene.loaded_s)
    cell = of(scene.run, boundary=boundary, cell="3x")
    wh = ask(f"instance:harness_cell_query_energy_watt_hours:rate1m{cell}", scene.loaded_s)
    assert wh == pytest.approx(3 * 40 * run_j / 3600)
    node_j = ask(f"instance:harness_token_energy_joules:rate5m{of(scene.node, boundary=boundary)}", scene.loaded_s)
    tokens = ask(f"instance:harness_finished_request_tokens:rate5m{of(scene.node)}", scene.loaded_s)
    wh = ask(
        f"instance:harness_finished_query_energy_watt_hours:rate5m{of(scene.node, boundary=boundary)}", scene.loaded_s
    )
    assert wh == pytest.approx(tokens * node_j / 3600)
    assert 40 < tokens < 3 * 40


def test_the_exporter_counts_every_token_and_request_of_a_load_that_is_not_its_own(scene):
    for ours, theirs in (
        ("harness_generated_tokens_total", "vllm:generation_tokens_total"),
        ("harness_prompt_tokens_total", "vllm:prompt_tokens_total"),
        ("harness_finished_requests_total", 'sum(vllm:request_success_total{finished_reason="length"})'),
    ):
        counted = scene.prometheus.value(f"{ours}{of(scene.node)}", scene.ended_s)
        assert counted == scene.prometheus.value(theirs, scene.ended_s) > 0


def test_predicted_and_measured_energy_are_those_that_are_stored(scene):
    ask = scene.prometheus.query
    predicted = {
        labels["stat"]: value
        for labels, value in ask('harness_query_energy_joules{cell="3x",kind="predicted"}', scene.loaded_s)
    }
    stored = scene.prediction["cells"]["3x"]
    assert predicted == {stat: pytest.approx(3600 * stored[f"{stat}_wh"]) for stat in ("mean", "p5", "p50", "p95")}
    plain = next(cell for cell in scene.result["cells"] if cell["name"] == "1x")
    measured = {
        labels["stat"]: value
        for labels, value in ask('harness_query_energy_joules{cell="1x",kind="measured"}', scene.loaded_s)
    }
    assert measured["mean"] == pytest.approx(3600 * plain["wh_per_query"]["mean"])
    ratio = scene.prometheus.value('cell:harness_query_energy:ratio{cell="1x"}', scene.loaded_s)
    assert ratio == pytest.approx(plain["ratio"])


def test_heat_and_the_power_cap_are_counted_as_throttling(scene):
    shares = {
        (labels["device"], labels["cause"]): value
        for labels, value in scene.prometheus.query(
            f"rate(harness_gpu_throttled_seconds_total{of(scene.node)}[8s])", scene.loaded_s
        )
    }
    throttled = {key[1] for key, share in shares.items() if share > 0.9}
    assert throttled == {"sw_power_cap", "hw_thermal_slowdown"}
    assert {device for device, _ in shares} == {f"GPU-00000000-0000-0000-0000-{index:012d}" for index in range(GPUS)}


def test_counter_and_integral_of_one_sensor_agree(scene):
    differences = scene.prometheus.query("device:harness_integral_difference:ratio_rate5m", scene.loaded_s)
    assert len(differences) == 2 * GPUS
    assert all(abs(value) < 0.03 for _, value in differences)


@pytest.mark.skipif(real_prometheus.PROMTOOL is None, reason="no promtool is installed")
@pytest.mark.parametrize("who", ["run", "node"])
def test_promtool_finds_nothing_to_mend_in_what_is_exported(scene, who):
    text = getattr(scene, f"{who}_text")
    checked = subprocess.run(
        [real_prometheus.PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert "harness_query_energy_joules" in text or who == "node"


def test_the_exporter_says_what_it_exports_and_ends_in_order(scene):
    assert "power: nvml, boundary gpu, 2 device(s)" in scene.exporter_log
    assert f"node: modelled by the profile hgx-h100, {GPUS / 8:.0%} of it" in scene.exporter_log
    assert "asked to end" in scene.exporter_log
    assert "Traceback" not in scene.exporter_log
