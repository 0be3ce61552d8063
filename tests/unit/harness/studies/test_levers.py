"""Levers between runs made by hand: two devices of 200 W each, two servers of 400 tok/s each before the lever."""

import dataclasses
import json
import math

import pytest

from harness.errors import ConfigError
from harness.studies.described import server_arguments
from harness.studies.levers import lever_document
from tests.unit.harness.synthetic_run import MULTIPLIED, PLAIN, SyntheticRun

ARGV = ["python", "-m", "vllm", "--model", "m", "--host", "127.0.0.1", "--max-num-seqs=64"]
FP8 = "--kv-cache-dtype=fp8"


def run(folder, *, faster=1.0, argv=(), port=1, **manifest):
    """Write a run whose servers are ``faster`` and have ``argv`` besides."""
    cells = tuple(dataclasses.replace(cell, rate=cell.rate * faster) for cell in (PLAIN, MULTIPLIED))
    made = SyntheticRun(cells)
    for server in made.manifest["servers"]:
        server["argv"] = [*ARGV, "--port", str(port), *argv]
    made.manifest |= manifest
    return made.write(folder)


@pytest.fixture
def before(tmp_path):
    return run(tmp_path / "a")


def alphas(document):
    return [(cell["alpha_tps"]["value"], cell["alpha_energy"]["value"]) for cell in document["cells"]]


def test_alpha_is_the_gain_in_throughput_and_in_energy_of_every_shared_cell(before, tmp_path):
    document = lever_document(before, run(tmp_path / "b", faster=1.5, argv=[FP8], port=2), "kv-dtype")
    assert [cell["workload"] for cell in document["cells"]] == ["traditional", "traditional 8x"]
    for tps, energy in alphas(document):
        assert tps == pytest.approx(1.5, rel=1e-6)
        assert energy == pytest.approx(1.5, rel=1e-6)  # the power is the same
    assert document["settings"] == [{"key": "server.--kv-cache-dtype", "before": "absent", "after": "fp8"}]
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))


def test_alpha_stands_beside_the_papers_range(before, tmp_path):
    document = lever_document(before, run(tmp_path / "b", faster=1.5, argv=[FP8]), "any")
    assert document["lever"] == "kv-dtype"
    assert (document["paper"]["low"], document["paper"]["high"]) == (1.7, None)
    assert {cell["alpha_tps"]["against_paper"] for cell in document["cells"]} == {"below"}


def test_a_single_run_a_side_says_what_its_interval_leaves_out(before, tmp_path):
    document = lever_document(before, run(tmp_path / "b", argv=[FP8]), "kv-dtype")
    assert {cell["alpha_tps"]["interval_basis"] for cell in document["cells"]} == {"within_windows"}
    assert any("what a restart changes" in note for note in document["notes"])


def test_the_interval_of_a_single_runs_gain_holds_the_tokens_at_the_edges_of_both_windows(before, tmp_path):
    document = lever_document(before, run(tmp_path / "b", faster=1.5, argv=[FP8]), "kv-dtype")
    alpha = document["cells"][0]["alpha_tps"]
    tokens = [8 * math.sqrt(2 / 3) / (rate * 26) for rate in (800, 1200)]  # 16 in flight; windows of 26 s without noise
    assert math.log(alpha["ci95"][1] / alpha["value"]) == pytest.approx(1.959964 * math.hypot(*tokens), rel=1e-3)


def test_runs_metered_differently_are_refused(tmp_path):
    def metered(folder, name, **more):
        meter = {"name": name, "boundary": "node", "gain_rel_u": 0.01, "power_lag_s": 0.0, "period_s": 2.0,
                 "device_uuids": [f"{name}:0"], "notes": []}  # fmt: skip
        return run(folder, boundary="node", meters=[meter], **more)

    first, second = metered(tmp_path / "a", "ipmi"), metered(tmp_path / "b", "redfish", argv=[FP8])
    with pytest.raises(ConfigError, match="metered differently"):
        lever_document(first, second, "kv-dtype")


def test_one_run_cannot_be_set_against_one_that_differs_in_more(before, tmp_path):
    other = run(tmp_path / "b", argv=[FP8, "--enforce-eager"], server_version="0.2")
    with pytest.raises(ConfigError) as error:
        lever_document(before, other, "kv-dtype")
    assert "differ in more than kv-dtype: server.--enforce-eager: 'absent' became True" in error.value.what
    assert "server_version: '0.1' became '0.2'" in error.value.what


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model": "test/other"}, "model"),
        ({"versions": {"vllm": "2"}}, "versions.vllm"),
        ({"config": {"multiplier": 3.0}}, "config.multiplier"),
        ({"workload": {"name": "small"}}, "workload.name"),
        ({"devices": [{"uuid": u, "name": "Test GPU", "power_limit_w": 1.0} for u in ("gpu-a", "gpu-b")]},
         "devices.power_limit_w"),
        ({"host": {"cores": 3}}, "host.cores"),
    ],
)  # fmt: skip
def test_any_other_difference_is_named(before, tmp_path, change, key):
    with pytest.raises(ConfigError, match=f"differ in more than kv-dtype: {key}"):
        lever_document(before, run(tmp_path / "b", argv=[FP8], **change), "kv-dtype")


def test_what_changes_no_measurement_is_no_difference(before, tmp_path):
    free = {"config": {"out": "elsewhere", "metrics_address": "none", "linger": 3, "server_arg": [FP8], "seed": 4}}
    assert lever_document(before, run(tmp_path / "b", argv=[FP8], **free), "kv-dtype")["lever"] == "kv-dtype"


def test_runs_without_a_difference_are_refused(before, tmp_path):
    with pytest.raises(ConfigError, match="do not differ in anything"):
        lever_document(before, run(tmp_path / "b"), "any")


def test_runs_that_differ_in_another_setting_than_said_are_refused(before, tmp_path):
    with pytest.raises(ConfigError, match="do not differ in speculation"):
        lever_document(before, run(tmp_path / "b", argv=[FP8]), "speculation")


def test_an_unknown_lever_is_refused_with_the_nearest(before, tmp_path):
    with pytest.raises(ConfigError, match="speculation"):
        lever_document(before, run(tmp_path / "b", argv=[FP8]), "speculatoin")


def test_servers_that_already_ran_are_refused_because_their_settings_are_unknown(before, tmp_path):
    made = SyntheticRun()
    with pytest.raises(ConfigError, match="already ran"):
        lever_document(before, made.write(tmp_path / "b"), "any")


def test_a_changed_power_cap_is_a_lever_of_its_own_without_a_range(tmp_path):
    def capped(limit):
        return {"devices": [{"uuid": u, "name": "Test GPU", "power_limit_w": limit} for u in ("gpu-a", "gpu-b")]}

    document = lever_document(
        run(tmp_path / "a", **capped(700.0)), run(tmp_path / "b", faster=0.9, **capped(500.0)), "power-cap"
    )
    assert document["paper"] is None
    assert alphas(document)[0] == pytest.approx((0.9, 0.9), rel=1e-6)


def test_prefix_caching_on_against_off_is_one_lever_without_a_range_of_the_paper(tmp_path):
    off = run(tmp_path / "a", argv=["--no-enable-prefix-caching"])
    on = run(tmp_path / "b", faster=1.25, argv=["--enable-prefix-caching"])
    document = lever_document(off, on, "prefix-cache")
    assert alphas(document)[0] == pytest.approx((1.25, 1.25), rel=1e-6)
    assert document["paper"] is None
    assert {setting["key"] for setting in document["settings"]} == {
        "server.--enable-prefix-caching", "server.--no-enable-prefix-caching",
    }  # fmt: skip


def test_joules_of_the_gpus_alone_are_lifted_through_the_other_runs_node(before, tmp_path):
    gpu = run(tmp_path / "b", argv=[FP8], boundary="gpu", node_profile=None, node_share=1.0)
    document = lever_document(before, gpu, "kv-dtype")
    assert document["boundary"] == "node_modelled"
    assert alphas(document)[0][1] == pytest.approx(1.0, rel=1e-6)
    assert any("lifted through the node profile eight-gpus" in note for note in document["notes"])


def test_two_runs_of_the_gpus_alone_stay_at_that_boundary(tmp_path):
    gpu = {"boundary": "gpu", "node_profile": None, "node_share": 1.0}
    document = lever_document(run(tmp_path / "a", **gpu), run(tmp_path / "b", argv=[FP8], **gpu), "kv-dtype")
    assert document["boundary"] == "gpu"


def test_different_node_shares_are_refused(before, tmp_path):
    with pytest.raises(ConfigError, match="different node profiles"):
        lever_document(before, run(tmp_path / "b", argv=[FP8], node_share=0.5), "kv-dtype")


def test_an_invalid_cell_has_no_alpha_but_a_reason(before, tmp_path):
    made = SyntheticRun()
    made.manifest["servers"][0]["argv"] = [*ARGV, FP8]
    for row in made.requests:
        if row["cell"] == "1x":
            row["outcome"] = "error"
    document = lever_document(before, made.write(tmp_path / "b"), "kv-dtype")
    plain, multiplied = document["cells"]
    assert (plain["alpha_tps"], plain["alpha_energy"], plain["why_missing"]) == (None, None, "invalid: 1x")
    assert multiplied["alpha_tps"] is not None


def test_groups_of_repeated_runs_give_welchs_interval(tmp_path):
    """Rates of 800, 816 and 784 tok/s against 1.5 times those: ln TPS has one variance on both sides."""

    def group(name, faster, argv=()):
        folder = tmp_path / name
        rates = (1.0, 1.02, 0.98)
        runs = [run(folder / f"r{n}", faster=faster * rate, argv=argv) for n, rate in enumerate(rates)]
        listed = {"runs": [{"folder": each.name} for each in runs], "repeats_asked": 3}
        (folder / "repeats.json").write_text(json.dumps(listed))
        return folder

    document = lever_document(group("a", 1.0), group("b", 1.5, [FP8]), "kv-dtype")
    alpha = document["cells"][0]["alpha_tps"]
    logs = [math.log(rate) for rate in (1.0, 1.02, 0.98)]
    mean = sum(logs) / 3
    variance = sum((value - mean) ** 2 for value in logs) / 2
    half = 2.776445 * math.sqrt(2 * variance / 3)  # Student's t, 4 degrees of freedom
    assert (alpha["interval_basis"], alpha["runs"]) == ("between_runs", 6)
    assert alpha["ci95"] == pytest.approx((1.5 * math.exp(-half), 1.5 * math.exp(half)), rel=1e-4)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["--a", "1", "--b"], {"--a": "1", "--b": True}),
        (["--a=1", "--a=2"], {"--a": "2"}),
        (["--max_num_seqs", "4"], {"--max-num-seqs": "4"}),
        (["--model", "m", "--port=3", "--host", "h"], {}),
        (["--x", "--y", "2"], {"--x": True, "--y": "2"}),
        (["python", "-m", "vllm.entrypoints", "--x"], {"--x": True}),
        (["-q", "fp8", "-tp", "2"], {"--quantization": "fp8", "--tensor-parallel-size": "2"}),
        (
            ["-q=fp8", "-pp=2", "-dp", "4"],
            {"--quantization": "fp8", "--pipeline-parallel-size": "2", "--data-parallel-size": "4"},
        ),
        (["-O3"], {"--optimization-level": "3"}),
        (["-O=3"], {"--optimization-level": "3"}),
        (["-O", "3"], {"--optimization-level": "3"}),
        (["--cudagraph-capture-sizes", "1", "2", "4", "--z"], {"--cudagraph-capture-sizes": "1 2 4", "--z": True}),
        (["--seed", "-1", "--y"], {"--seed": "-1", "--y": True}),
        (["-cc.cudagraph_mode", "FULL"], {"--compilation-config.cudagraph_mode": "FULL"}),
        (["-new", "1"], {"-new": "1"}),
    ],
)
def test_server_arguments_are_read_as_vllm_reads_them(argv, options):
    assert server_arguments([argv]) == options


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["-q", "fp8"], []),
        (["-O0"], []),
        (["--cudagraph-capture-sizes", "1", "2"], ["--cudagraph-capture-sizes", "1", "256"]),
        (["-tp", "2"], ["-tp", "4"]),
    ],
)
def test_a_second_setting_that_differs_is_never_overlooked(before, tmp_path, one, other):
    """Runs that differ in two settings are refused, however short or long vLLM lets them be written."""
    first, second = (run(tmp_path / name, argv=[FP8, *argv]) for name, argv in (("b", one), ("c", other)))
    with pytest.raises(ConfigError, match="differ in more than kv-dtype"):
        lever_document(before, first, "kv-dtype")
    assert len(lever_document(first, second, "any")["settings"]) == 1


def test_servers_with_different_arguments_show_both():
    assert server_arguments([["--a=1"], ["--a=2"]]) == {"--a": ["1", "2"]}
