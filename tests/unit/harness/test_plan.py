import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import plan as module
from harness.config import StressConfig
from harness.console.plan import plan_lines
from harness.errors import ConfigError, NodeError, ServerError, WorkloadError
from harness.plan import cpu_cores, make_plan
from harness.server import choose
from harness.serving import server_specs
from tests.unit.harness.plans import H100, constant_tps, gpus, plan_of


@pytest.fixture
def node(monkeypatch, tmp_path):
    """Return a function that gives the machine GPUs; at first it has none, and the model cache is empty."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(choose.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**13))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "nvml_unavailable_reason", lambda: "no driver (not installed)")
    monkeypatch.setattr(module, "unreadable_gpus", lambda: None)

    def give(devices):
        monkeypatch.setattr(module, "list_gpus", lambda: devices)
        monkeypatch.setattr(module, "nvml_unavailable_reason", lambda: None)

    return give


def planned(**config):
    return make_plan(StressConfig(**config))


def indices(plan):
    return [tuple(gpu.index for gpu in replica) for replica in plan.replica_gpus]


@pytest.mark.parametrize(
    ("count", "config", "replicas"),
    [
        (4, {}, [(0,), (1,), (2,), (3,)]),
        (4, {"tensor_parallel": 2}, [(0, 1), (2, 3)]),
        (4, {"tensor_parallel": 2, "replicas": 1}, [(0, 1)]),
        (3, {"tensor_parallel": 2}, [(0, 1)]),
        (4, {"replicas": 3}, [(0,), (1,), (2,)]),
    ],
)
def test_replicas_fill_the_node_without_sharing_a_gpu(node, count, config, replicas):
    node(gpus(count))
    plan = planned(model="Qwen/Qwen3-8B", **config)
    assert indices(plan) == replicas
    assert [gpu.index for gpu in plan.devices] == [index for replica in replicas for index in replica]
    assert plan.replicas == len(replicas)


def test_more_replicas_than_the_node_holds_are_refused(node):
    node(gpus(4))
    with pytest.raises(NodeError, match=r"3 replica\(s\) of 2 GPU\(s\) need 6 GPUs, this node has 4"):
        planned(model="Qwen/Qwen3-8B", tensor_parallel=2, replicas=3)


@pytest.mark.parametrize("wanted", [("1", "3"), ("GPU-1", "GPU-3"), ("GPU-3", "1")])
def test_gpus_are_chosen_by_index_or_uuid(node, wanted):
    node(gpus(4))
    assert indices(planned(model="Qwen/Qwen3-8B", gpu=wanted)) == [(1,), (3,)]


def test_a_gpu_that_does_not_exist_is_refused_with_those_that_do(node):
    node(gpus(2))
    with pytest.raises(NodeError, match="not all of these exist") as error:
        planned(gpu=("0", "7"))
    assert "0 (GPU-0), 1 (GPU-1)" in error.value.why


@pytest.mark.parametrize("power", ["auto", "nvml", "simulated"])
def test_gpus_that_nobody_names_are_those_that_cuda_may_use(node, monkeypatch, power):
    node(gpus(8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    plan = planned(model="Qwen/Qwen3-8B", power=power)
    assert indices(plan) == [(6,), (7,)]
    assert "; GPUs by CUDA_VISIBLE_DEVICES=6,7" in lines_of(plan)
    assert [spec.env["CUDA_VISIBLE_DEVICES"] for spec in server_specs(plan, Path("unused"))] == ["6", "7"]
    assert power != "nvml" or plan.node_share == 2 / 8
    named = planned(model="Qwen/Qwen3-8B", power=power, gpu=("1", "6"))
    assert indices(named) == [(1,), (6,)]
    assert "CUDA_VISIBLE_DEVICES" not in lines_of(named)


def test_gpus_that_are_hidden_are_not_used_and_it_is_said_why(node, monkeypatch):
    node(gpus(2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NodeError, match="CUDA_VISIBLE_DEVICES= hides every GPU"):
        planned()
    assert indices(planned(model="Qwen/Qwen3-8B", gpu=("1",))) == [(1,)]


def test_a_model_too_large_for_the_node_is_refused_with_the_arithmetic(node):
    node(gpus(8))
    with pytest.raises(NodeError, match="DeepSeek-R1 cannot run on this node") as error:
        planned(model="deepseek-ai/DeepSeek-R1")
    assert "671 GB of weights: 83.9 GB on each of 8 GPU(s)" in error.value.why


@pytest.mark.parametrize(("used", "share"), [(("0",), 1 / 8), (("0", "1", "2", "3"), 0.5), ((), 1.0)])
def test_the_gpus_used_bear_their_share_of_an_h100_node(node, used, share):
    node(gpus(8))
    plan = planned(model="Qwen/Qwen3-8B", gpu=used)
    assert (plan.profile.name, plan.boundary, plan.node_share) == ("hgx-h100", "node_modelled", share)


def test_hardware_without_a_node_profile_gets_the_gpu_boundary(node):
    node(gpus(1, "NVIDIA A100-SXM4-80GB"))
    plan = planned(model="Qwen/Qwen3-8B")
    assert (plan.profile, plan.boundary, plan.node_share) == (None, "gpu", 1.0)


def test_the_node_boundary_without_a_profile_is_refused(node):
    node(gpus(1, "NVIDIA A100-SXM4-80GB"))
    with pytest.raises(NodeError, match="needs a node profile") as error:
        planned(model="Qwen/Qwen3-8B", boundary="node_modelled")
    assert "A100" in error.value.why
    assert "--node-profile" in error.value.fix


def test_the_gpu_boundary_can_be_asked_for_where_there_is_a_profile(node):
    node(gpus(1))
    assert planned(model="Qwen/Qwen3-8B", boundary="gpu").boundary == "gpu"


def test_a_named_profile_beats_the_one_of_the_gpu(node):
    node(gpus(1, "NVIDIA A100-SXM4-80GB"))
    assert planned(model="Qwen/Qwen3-8B", node_profile="hgx-h100").profile.name == "hgx-h100"


def test_a_profile_that_cannot_be_loaded_is_refused(node):
    with pytest.raises(NodeError, match="node_profile = 'hgx-h1'") as error:
        planned(node_profile="hgx-h1")
    assert "did you mean 'hgx-h100'" in error.value.why


def test_a_profile_smaller_than_the_node_is_refused(node):
    node(gpus(2))
    with pytest.raises(NodeError, match="does not match this node"):
        planned(model="Qwen/Qwen3-8B", node_profile="simulated-node")


def test_without_a_driver_power_is_simulated_and_the_reason_is_kept(node):
    plan = planned()
    assert (plan.power, plan.power_why) == ("simulated", "no NVML here: no driver (not installed)")
    assert (plan.profile.name, plan.node_share, plan.boundary) == ("simulated-node", 1.0, "node_modelled")
    assert (plan.model.model, plan.replica_gpus, plan.workload.name) == ("tiny", ((),), "small")
    assert plan.devices == ()


def test_power_that_was_asked_for_is_not_silently_simulated(node, monkeypatch):
    def fail():
        raise NodeError("The NVIDIA driver is not loaded.")

    monkeypatch.setattr(module, "list_gpus", fail)
    with pytest.raises(NodeError, match="not loaded"):
        planned(power="nvml")


def test_power_is_not_simulated_unasked_where_gpus_are_that_cannot_be_read(node, monkeypatch):
    monkeypatch.setattr(module, "unreadable_gpus", lambda: "A GPU is lost. (it fell off the bus)")
    with pytest.raises(NodeError, match="there are NVIDIA GPUs here, but their power cannot be read") as error:
        planned()
    assert (error.value.why, "--power simulated" in error.value.fix) == ("A GPU is lost. (it fell off the bus)", True)
    assert (planned(power="simulated").power, planned(power="simulated").power_why) == ("simulated", "asked for")


def test_a_driver_that_is_here_is_used(node):
    node(gpus(1))
    plan = planned(model="Qwen/Qwen3-8B")
    assert (plan.power, plan.power_why, plan.workload.name) == ("nvml", "the NVIDIA driver is here", "traditional")


def test_cpu_replicas_have_no_gpus(node):
    assert planned(replicas=2).replica_gpus == ((), ())


def test_running_servers_are_neither_chosen_nor_placed(node):
    node(gpus(8))
    plan = planned(url=("http://a:1", "http://b:2"))
    assert (plan.model, plan.replica_gpus, plan.replicas, len(plan.devices)) == (None, (), 2, 8)


def test_running_servers_need_no_vllm_but_launching_does(node, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert planned(url=("http://a:1",)).replicas == 1
    with pytest.raises(ServerError, match="vLLM is not installed"):
        planned()


def test_the_compared_cells_are_the_plain_and_the_multiplied_one(node):
    assert planned(multiplier=2.5).cells == (("1x", 1.0), ("2.5x", 2.5))


def test_a_multiplier_of_one_is_refused(node):
    with pytest.raises(ConfigError, match="same cell twice"):
        planned(multiplier=1)


@pytest.mark.parametrize(
    ("workload", "error", "message"),
    [("tradtional", ConfigError, "did you mean traditional"), ("azure:none.csv", WorkloadError, "No such file")],
)
def test_a_workload_that_cannot_be_used_is_refused(node, workload, error, message):
    with pytest.raises(error, match=message):
        planned(workload=workload)


def test_a_throughput_model_is_read_from_its_file(node, tmp_path):
    constant_tps(77.0).save(tmp_path / "tps.json")
    assert planned(tps_model=tmp_path / "tps.json").tps_model == constant_tps(77.0)


@pytest.mark.parametrize("content", [None, "{}", "{"])
def test_a_throughput_model_that_cannot_be_read_is_refused(node, tmp_path, content):
    if content is not None:
        (tmp_path / "tps.json").write_text(content)
    with pytest.raises(WorkloadError, match="cannot use the TPS model"):
        planned(tps_model=tmp_path / "tps.json")


def test_a_budget_sets_the_length_of_every_phase_of_load(node):
    timing = planned(budget=100.0, linger=1.0).timing
    assert (timing.budget_s, timing.linger_s) == (100.0, 1.0)
    assert all(0 < part < 50 for part in (timing.warmup_s, timing.rung_s, timing.calibration_s))
    long = planned(budget=1800.0).timing
    assert (long.rung_s, long.calibration_s, long.job_s) == (60.0, 60.0, None)


def test_on_gpus_without_a_budget_cells_get_what_they_need_within_an_hour(node):
    node(gpus(1))
    free, given = (planned(model="Qwen/Qwen3-8B", **config).timing for config in ({}, {"budget": 300.0}))
    assert (free.budget_s, free.job_s) == (300.0, 3600.0)
    assert (given.budget_s, given.job_s) == (300.0, None)


def test_on_a_cpu_the_default_job_stays_short(node):
    free, given = (planned(**config).timing for config in ({}, {"budget": 35.0}))
    assert (free.budget_s, free.job_s) == (35.0, 300.0)
    assert given == replace(free, job_s=None)


def lines_of(plan):
    return "\n".join(plan_lines(plan))


def test_the_plan_says_how_long_requests_take_where_throughput_and_concurrency_are_known():
    """64 requests of 433 tokens at 2,000 tok/s take 13.9 s, and a window of six of them 6 + 8.5 * 13.9 s of load."""
    plan = plan_of(gpus(1), tps_model=constant_tps(2000.0), profile="hgx-h100", concurrency=64)
    request_s = 64 * plan.workload.lengths().mean_output_tok / 2000
    said = lines_of(plan)
    assert f"a request takes {request_s:.3g} s, a valid window {6 + 8.5 * request_s:.0f} s of load, THE BUDGET" in said
    assert said.count("expect window_too_short: --budget") == 2


def test_the_plan_says_how_many_requests_fit_where_the_search_still_has_to_find_their_number():
    """Of 24 s after the warm-up 8.5 requests may take 2.82 s each: 5,647 tokens at 2,000 tok/s, 13 of 433."""
    plan = plan_of(gpus(1), tps_model=constant_tps(2000.0), profile="hgx-h100")
    most = int(24 / 8.5 * 2000 / plan.workload.lengths().mean_output_tok)
    assert f"30 s suffice for up to {most} in flight" in lines_of(plan)


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("NVIDIA H200", {}, "none: Eq. 1 predicts a whole node, and the boundary here is the GPUs alone"),
        (H100, {"arrival": "poisson:2"}, "none: an open loop need not saturate, and Eq. 1's throughput is"),
        (H100, {}, "Eq. 1 with TPS calibrated on this server"),
        (
            H100, {"model": "RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", "tensor_parallel": 8},
            "Eq. 1 with TPS from Supplemental I rows of ",
        ),
        (H100, {"model": None, "url": ("http://a:1",)}, "Eq. 1 with TPS calibrated on this server, unless Suppl"),
    ],
    ids=["no profile", "open loop", "calibrated", "published", "running server"],
)  # fmt: skip
def test_the_plan_says_what_will_be_predicted_before_anything_is_measured(node, name, config, said):
    node(gpus(8, name))
    plan = planned(**{"model": "Qwen/Qwen3-8B", **config})
    assert f"\nprediction    {said}" in lines_of(plan)
    of_a_sweep = "\n".join(plan_lines(plan, "a ladder"))
    assert ("prediction    none" in of_a_sweep) == (said.startswith("none") or "calibrated" in said)


def test_the_plan_asserts_no_scatter_that_nobody_measured():
    said = lines_of(plan_of())
    assert "varies by" not in said
    assert "how far they scatter is measured by the search" in said
    # 24 s: root 24 times 2% / 1.96, and times 2% / (1.96 + 1.28) / root 12 for a change across the window
    assert "scatter by less than 5.0%" in said
    assert "below 0.9%" in said


@pytest.mark.parametrize(
    ("cores", "replicas", "shares"),
    [({0, 1, 2, 3}, 2, ["0,2", "1,3"]), ({4, 6, 8}, 2, ["4,8", "6"]), ({5}, 3, ["5", "5", "5"])],
)
def test_cpu_replicas_share_the_cores_that_this_process_may_use(monkeypatch, cores, replicas, shares):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: cores)
    assert [cpu_cores(number, replicas) for number in range(replicas)] == shares


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (plan_of(gpus(1)), None),
        (plan_of(gpus(1), url=("http://127.0.0.1:8000",)), "the servers ran before this run began"),
        (plan_of(), "simulated power tells nothing of this node at rest"),
        (plan_of(boundary="node", node_meter=("rapl", "ipmi")), None),
        (
            plan_of(boundary="node", node_meter=("rapl", "replay:trace.csv")),
            "simulated power tells nothing of this node at rest",
        ),
    ],
    ids=["sensor", "running server", "simulated", "node meter", "replayed meter"],
)
def test_bare_idle_is_measured_where_something_senses_the_node_before_launch(plan, why):
    assert plan.no_bare_idle == why
    line = next(line for line in plan_lines(plan) if line.startswith("idle"))
    assert ("bare idle 8 s before launch" in line) == (why is None)
    assert why is None or f"bare idle unknown: {why}" in line
