"""Compose, Prometheus and Grafana: files that fit each other, nothing open to the network, nothing secret in them."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from deploy.grafana.make_dashboard import as_text
from harness.config import StressConfig
from harness.metrics import discovery
from harness.plan import _timing
from tests.docs.generate.cli import ENVIRONMENT
from tests.paths import ROOT
from tests.prometheus.expressions import DASHBOARD, OLDER_NAMES, dashboard, names, panels
from tests.unit.deploy.commands import check

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
PROVISIONING = DEPLOY / "grafana" / "provisioning"
PANELS = panels()


# Compose ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_a_version_and_every_service_a_health_check(name):
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_listens_on_loopback_alone(name):
    service = SERVICES[name]
    assert service["network_mode"] == "host"
    assert "ports" not in service
    said = str([service.get(key) for key in ("command", "entrypoint", "environment", "healthcheck")])
    assert "0.0.0.0" not in said  # noqa: S104  it is looked for
    listens = {
        "exporter": "--metrics-address 127.0.0.1:9478",
        "harness": "http://127.0.0.1:9477/metrics",
        "prometheus": "--web.listen-address=127.0.0.1:9090",
        "grafana": "'GF_SERVER_HTTP_ADDR': '127.0.0.1'",
        "dcgm-exporter": "'DCGM_EXPORTER_LISTEN': '127.0.0.1:9400'",
    }
    assert listens[name] in said


def test_only_what_always_runs_starts_without_a_profile():
    assert {name: service.get("profiles") for name, service in SERVICES.items() if "profiles" in service} == {
        "harness": ["run"],
        "dcgm-exporter": ["dcgm"],
    }


def test_the_harness_is_called_with_options_that_it_takes():
    _, _, line = SERVICES["exporter"]["entrypoint"]
    words = shlex.split(line.replace("$$VLLM_URL", "http://127.0.0.1:8000").replace(" $$EXPORTER_OPTIONS", ""))
    assert words[:2] == ["exec", "harness"]
    check(words[2:])
    check(SERVICES["harness"]["command"])
    example = re.search(r"such as (--.*)", (DEPLOY / ".env.example").read_text())
    check([*words[2:], *example[1].split()])


@pytest.mark.parametrize("name", ["exporter", "harness"])
def test_the_harness_gets_all_that_it_reads_of_a_controller_but_no_password(name):
    read = {variable for variable in ENVIRONMENT if "REDFISH" in variable} - {"HARNESS_REDFISH_PASSWORD"}
    passed = SERVICES[name]["environment"]
    assert {variable for variable in passed if "REDFISH" in variable} == read
    assert all(passed[variable] == f"${{{variable}:-}}" for variable in read)


def test_the_files_that_the_example_names_are_in_the_folder_that_both_mount_and_git_ignores():
    example = (DEPLOY / ".env.example").read_text()
    named = re.findall(r"[ =](/\w+)", example)
    assert len(named) >= 3
    assert set(named) == {"/config"}
    assert all("./config:/config:ro" in SERVICES[name]["volumes"] for name in ("exporter", "harness"))
    assert (DEPLOY / "config" / ".gitignore").read_text().split()[-2:] == ["*", "!.gitignore"]


def test_meters_that_the_image_cannot_read_are_not_suggested():
    """IPMI needs ipmitool and /dev/ipmi0; neither is in the container."""
    assert re.findall(r"--node-meter (\w+)", (DEPLOY / ".env.example").read_text()) == ["redfish", "redfish"]


def test_every_file_that_is_mounted_exists_and_every_named_volume_is_declared():
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert len(mounts) >= 8
    for source, target, *_ in mounts:
        assert target.startswith("/")
        assert source in volumes or (DEPLOY / source).exists() or source == "../results"


def test_variables_are_named_in_the_example_and_none_has_a_secret_in_it():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert used == set(example)
    assert example["GRAFANA_ADMIN_PASSWORD"] == ""
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_ADMIN_PASSWORD:?")
    assert ".env" in (DEPLOY / ".gitignore").read_text().split()


def test_who_looks_without_signing_in_can_only_look():
    assert SERVICES["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_prometheus_scrapes_the_addresses_that_the_services_listen_on():
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    asked = [each["url"] for each in jobs.pop("vllm")["http_sd_configs"]]
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert targets == {
        "harness": ["127.0.0.1:9477", "127.0.0.1:9478"],
        "dcgm": ["127.0.0.1:9400"],
        "prometheus": ["127.0.0.1:9090"],
    }
    assert asked == [f"http://{target}{discovery.PATH}" for target in targets["harness"]]


def test_a_run_is_asked_for_its_servers_once_more_before_it_ends():
    shortest_s = min(_timing(StressConfig(), on_gpu=on_gpu, pair=True).linger_s for on_gpu in (False, True))
    (vllm,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "vllm")
    assert all(float(each["refresh_interval"].removesuffix("s")) < shortest_s for each in vllm["http_sd_configs"])


def test_no_init_is_asked_for_where_the_process_ids_are_those_of_the_host():
    assert all(service.get("pid") != "host" or "init" not in service for service in SERVICES.values())


# Grafana ------------------------------------------------------------------------------------------------


def test_the_provisioned_data_source_is_the_prometheus_of_the_compose_file():
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["uid"], source["isDefault"]) == ("prometheus", "prometheus", True)
    assert f"--web.listen-address={source['url'].removeprefix('http://')}" in SERVICES["prometheus"]["command"]
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_the_provisioned_dashboards_are_those_that_are_mounted():
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "inference-energy.yml").read_text())["providers"]
    path = provider["options"]["path"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == path
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{path}/{DASHBOARD.name}"


def test_the_dashboard_is_the_one_that_its_panels_make():
    assert DASHBOARD.read_text() == as_text(), "make it anew: python -m deploy.grafana.make_dashboard"


def test_the_dashboard_has_one_identity_and_one_data_source_to_choose():
    document = dashboard()
    assert (document["uid"], document["schemaVersion"]) == ("inference-energy", 39)
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    assert document["templating"]["list"][0] == {
        "type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus",
    }  # fmt: skip
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    every = [*PANELS, *document["annotations"]["list"], *document["templating"]["list"][1:]]
    assert all(each["datasource"] == chosen for each in every)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_has_a_unit_an_explanation_and_named_series(panel):
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["type"] in ("timeseries", "stat", "gauge")
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters))
    assert all("{{" in target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(
    "panel",
    [panel for panel in PANELS if panel["fieldConfig"]["defaults"]["unit"] in ("watt", "joule", "watth")],
    ids=lambda panel: panel["title"],
)
def test_every_legend_with_joules_or_watts_names_source_and_boundary(panel):
    for target in panel["targets"]:
        named = "{{source}}" in target["legendFormat"] and "{{boundary}}" in target["legendFormat"]
        assert named or "{{node_profile}}" in target["legendFormat"]


def test_the_first_panel_says_whether_watts_are_simulated():
    banner = PANELS[0]
    assert "simulated" in banner["title"]
    assert "harness_power_source_info" in banner["targets"][0]["expr"]
    colours = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in banner["fieldConfig"]["overrides"]
    }
    assert colours["^simulated.*"] == "red"


def test_panels_do_not_overlap_and_stay_within_the_page():
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_what_the_dashboard_asks_of_vllm_is_what_vllm_exports():
    vllm = importlib.util.find_spec("vllm")
    if vllm is None or vllm.origin is None:
        pytest.skip("vLLM is not installed")
    source = (Path(vllm.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    asked = {name for panel in PANELS for target in panel["targets"] for name in names(target["expr"])}
    assert asked >= OLDER_NAMES
    theirs = {re.sub("_(total|bucket)$", "", name) for name in asked - OLDER_NAMES if name.startswith("vllm:")}
    assert len(theirs) == 3
    assert {name for name in theirs if f'"{name}"' not in source} == set()
