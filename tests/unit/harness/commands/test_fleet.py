import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ConfigError

QUICK = ("fleet", "--long-share", "0.1", "--samples", "1e4")


def run(*words):
    return CliRunner().invoke(app, [*QUICK, *words])


def test_json_is_one_document_and_nothing_else():
    result = run("--queries", "1e9", "--preset", "oviedo2026-v2", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["gwh_per_day"]["mean"] == pytest.approx(1.7, rel=0.03)
    assert document["samples"] == 10_000


def test_every_option_reaches_the_document():
    result = run(
        "--json", "--model", "Llama 3.1 405B", "--task", "hard-problem", "--load-shape", "0.4-0.8", "--idle-kw", "2",
        "--peak-kw", "10", "--redundancy", "1.2", "--network", "1.3", "--intervention", "hardware", "--alpha", "2-4",
        "--water-l-per-kwh", "0.2-1", "--carbon-g-per-kwh", "400", "--seed", "3", "--workers", "1",
    )  # fmt: skip
    document = json.loads(result.stdout)
    parts = document["parts"]
    assert document["model"] == "Llama 3.1 405B"
    assert parts["long"]["queries"] == "task hard-problem"
    assert {key: parts["beta"]["load_shape"][key] for key in ("low", "high", "idle_kw", "peak_kw")} == {
        "low": 0.4, "high": 0.8, "idle_kw": 2, "peak_kw": 10,
    }  # fmt: skip
    assert (parts["beta"]["redundancy"]["mean"], parts["beta"]["network"]["mean"]) == pytest.approx((1.2, 1.3))
    assert parts["interventions"]["names"] == ["hardware", "2-4"]
    assert document["water_l_per_day"]["l_per_kwh"]["p95"] == 1
    assert document["carbon_t_per_day"]["g_per_kwh"]["p50"] == 400
    assert document["seed"] == 3


def test_a_person_reads_the_total_its_parts_the_references_and_the_notes():
    shown = " ".join(run("--preset", "oviedo2026-v2", "--water-l-per-kwh", "0.5").stdout.split())
    for part in ("1.73", "beta = 1.33", "web searches, 0.3 GWh/day", "30 MW data centre", "PUE applied once", "water"):
        assert part in shown
    assert "carbon" not in shown


def test_the_figure_is_written_beside_the_document(tmp_path):
    result = run("--json", "--figure", str(tmp_path / "three.png"))
    assert json.loads(result.stdout)["schema"] == "inference-energy/fleet/1"
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_prints_nothing_on_stdout():
    result = run("--json", "--queries", "-5")
    assert result.stdout == ""
    assert isinstance(result.exception, ConfigError)
