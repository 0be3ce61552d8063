"""Which power source and meters a plan opens."""

import pytest

from harness import plan as plan_module
from harness import sensing
from harness.config import load_config
from harness.errors import ConfigError, NodeError
from harness.live.state import LiveState
from harness.manifest import REPLAYED_LABEL, SIMULATED_LABEL, new_manifest
from harness.plan import make_plan
from harness.power.combined import Combined
from harness.sensing import open_source
from results.store import RunWriter
from tests.unit.harness.plans import gpus

TRACE = """t_s,uuid,power_w,energy_j,boundary,source
0,GPU-9,300,,gpu,{source}
0,psu,900,,node,ipmi
500,psu,900,,node,ipmi
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE.format(source="nvml"))
    return path


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    monkeypatch.setattr(plan_module, "nvml_unavailable_reason", lambda: "there is none in this test")
    monkeypatch.setattr(plan_module, "unreadable_gpus", lambda: None)


def plan_with(**config):
    return make_plan(load_config({"url": ("http://127.0.0.1:1",), **config}, None))


def test_a_replayed_trace_is_the_power_of_the_run_and_labelled_so(trace, tmp_path):
    plan = plan_with(power=f"replay:{trace}")
    assert (plan.boundary, plan.profile) == ("gpu", None)  # whose GPUs were recorded is not known
    source, driver, _ = open_source(plan, LiveState())
    assert (source.name, driver) == ("replay of nvml and trace.csv", None)
    manifest = new_manifest(plan, RunWriter(tmp_path / "run"), source, driver, ())
    assert REPLAYED_LABEL in manifest.labels
    assert manifest.power.gain_rel_u is None


@pytest.mark.parametrize("option", [{"power": "replay:nope.csv"}, {"node_meter": ("replay:nope.csv",)}])
def test_a_recording_that_cannot_be_read_is_refused_with_the_plan(option):
    with pytest.raises(ConfigError, match=r"nope\.csv"):
        plan_with(**option)


def test_a_replay_of_simulated_power_stays_simulated(trace, tmp_path):
    trace.write_text(TRACE.format(source="simulated"))
    plan = plan_with(power=f"replay:{trace}")
    source, driver, _ = open_source(plan, LiveState())
    manifest = new_manifest(plan, RunWriter(tmp_path / "run"), source, driver, ())
    assert SIMULATED_LABEL in manifest.labels


def test_the_node_share_of_a_replay_counts_the_recorded_gpus(trace):
    plan = plan_with(power=f"replay:{trace}", node_profile="hgx-h100")
    assert plan.node_share == 1 / 8


def test_a_node_meter_makes_the_node_the_boundary_and_is_described_in_the_manifest(trace, tmp_path):
    plan = plan_with(node_meter=(f"replay:{trace}",))
    assert plan.boundary == "node"
    source, driver, warnings = open_source(plan, LiveState())
    assert isinstance(source, Combined)
    assert source.name == "simulated"
    manifest = new_manifest(plan, RunWriter(tmp_path / "run"), source, driver, warnings)
    (meter,) = manifest.meters
    assert (meter.name, meter.boundary, meter.device_uuids) == ("replay of ipmi and trace.csv", "node", ("psu",))
    source.close()


def test_a_meter_of_processors_does_not_make_the_node_the_boundary():
    assert plan_with(node_meter=("rapl",)).boundary == "node_modelled"


def test_the_metered_boundary_without_a_meter_is_refused():
    with pytest.raises(NodeError, match="needs a meter"):
        plan_with(boundary="node")


def test_where_one_meter_cannot_be_opened_the_others_are_closed(monkeypatch, trace):
    closed = []

    class Meter:
        def close(self):
            closed.append(self)

    def open_one(name):
        if name == "ipmi":
            raise NodeError("ipmitool was not found.")
        return Meter()

    monkeypatch.setattr(sensing, "open_meter", open_one)
    with pytest.raises(NodeError, match="ipmitool"):
        open_source(plan_with(node_meter=("redfish", "ipmi")), LiveState())
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"power": "wind"}, "replay:FILE"),
        ({"power": "replay:"}, "replay:FILE"),
        ({"node_meter": ("sundial",)}, "is no meter"),
        ({"allocation": "fair"}, "allocation"),
    ],
)
def test_unknown_sources_meters_and_allocations_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config, None)


@pytest.mark.parametrize(("allocation", "refused"), [("share", True), ("marginal", True), ("whole", False)])
def test_a_part_of_a_metered_node_without_a_profile_must_be_charged_whole(monkeypatch, allocation, refused):
    eight = gpus(8, name="NVIDIA New GPU")
    monkeypatch.setattr(plan_module, "nvml_unavailable_reason", lambda: None)
    monkeypatch.setattr(plan_module, "list_gpus", lambda: eight)
    config = {"node_meter": ("ipmi",), "gpu": ("0", "1"), "allocation": allocation}
    if refused:
        with pytest.raises(NodeError, match="needs a node profile"):
            plan_with(**config)
    else:
        assert plan_with(**config).node_share == 0.25
