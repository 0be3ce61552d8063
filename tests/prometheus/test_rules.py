"""The shipped rules by promtool: their form, and what they make of series made by hand."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.prometheus.expressions import compared, panel_expressions, rules
from tests.prometheus.real_prometheus import CONFIG, PROMTOOL, RULES

UNIT_TESTS = Path(__file__).with_name("rules_test.yml")


def promtool(*words):
    if PROMTOOL is None:
        pytest.skip("no promtool is installed")
    return subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, check=False)


def test_rules_and_configuration_are_what_prometheus_takes():
    for words in (("check", "rules", *RULES), ("check", "config", CONFIG)):
        checked = promtool(*words)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_rules_give_the_figures_and_alerts_that_their_unit_tests_expect():
    tested = promtool("test", "rules", UNIT_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    "told",
    [
        {"time_per_output_token": [0, 0, 10, 20]},
        {"inter_token_latency": [0, 0, 10, 20]},
        {"inter_token_latency": [0, 0, 10, 20], "time_per_output_token": [0, 5, 5, 5]},
    ],
    ids=["older", "today's", "both"],
)
def test_the_median_between_tokens_is_found_under_the_name_of_each_vllm(told, tmp_path):
    """Half of the waits end within 0.4 s by the name that counts."""
    _, _, expr = next(each for each in panel_expressions() if each[0].startswith("Time between tokens"))
    bounds = ("0.1", "0.2", "0.4", "+Inf")
    series = [
        {
            "series": f'vllm:{name}_seconds_bucket{{instance="v", model_name="m", engine="{engine}", le="{bound}"}}',
            "values": f"0+{count}x30",
        }
        for name, counts in told.items()
        for bound, count in zip(bounds, counts, strict=True)
        for engine in (0, 1)
    ]
    asked = {"expr": expr, "eval_time": "2m", "exp_samples": [{"labels": '{model_name="m"}', "value": 0.4}]}
    path = tmp_path / "test.yml"
    path.write_text(
        yaml.safe_dump({"tests": [{"interval": "5s", "input_series": series, "promql_expr_test": [asked]}]})
    )
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = [
        each for group in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for each in group.get("alert_rule_test", ())
    ]
    alerts = {rule["alert"] for rule in rules("alert")}
    assert {each["alertname"] for each in tests if each.get("exp_alerts")} == alerts
    assert {each["alertname"] for each in tests if not each.get("exp_alerts")} == alerts


def test_every_alert_says_what_is_wrong_how_bad_it_is_and_what_it_means():
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
        assert rule["for"]
        assert compared(rule["expr"])


def test_limits_are_those_by_which_cells_are_judged():
    from harness.analysis import energy
    from harness.load import health
    from harness.power import conditions

    limits = {(rule["alert"], rule["labels"].get("limit")): float(rule["expr"].split()[-1]) for rule in rules("alert")}
    assert limits["HarnessGpuThrottled", None] == conditions.MAX_HARDWARE_THROTTLED_SHARE
    assert limits["HarnessClientBound", "event_loop_lag"] == health.MAX_LAG_P99_S
    assert limits["HarnessClientBound", "cpu"] == health.MAX_CPU_SHARE
    assert limits["HarnessSensorErrors", None] == energy.MAX_FAILED_SHARE
    assert limits["HarnessSensorDisagreement", None] == energy.MAX_DISAGREEMENT
