"""The long-lived exporter from the command line, with servers that come and go and GPUs that fail."""

import json
import os
import signal
import urllib.request

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.server.launch import free_port
from tests.cli.command import ROOT, ended, start_harness
from tests.fakes import nvml_library
from tests.fakes.nvml_library import GPU_IS_LOST, Failure, Scenario
from tests.fakes.scripted_engine import Script
from tests.fakes.server_process import server_process
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(180)

SCRIPT = Script(tok_per_s=2_000, tick_s=0.005)


class Exporter:
    """A running exporter."""

    def __init__(self, cwd, env, *words):
        self.address = f"127.0.0.1:{free_port('127.0.0.1')}"
        words = ("exporter", "--metrics-address", self.address, *words)
        self.process = start_harness(*words, cwd=cwd, env={"PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env})

    def sum(self, name, **labels):
        """Return the sum of a metric's samples with these labels, or None where there is none."""
        assert self.process.poll() is None, ended(self.process).err
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except OSError:
            return None
        found = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def kill(self):
        """End it, if a test failed before it ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def complete(url, tokens):
    body = json.dumps({"model": "scripted", "prompt": [1, 2, 3], "max_tokens": tokens}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def test_it_counts_on_over_the_restart_of_a_server_and_ends_in_order(tmp_path):
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    exporter = Exporter(tmp_path, dict(os.environ), "--power", "simulated", "--url", url)
    try:
        until(lambda: exporter.sum("harness_server_up") == 0, "the exporter to see no server", 60)
        with server_process(SCRIPT, port):
            until(lambda: exporter.sum("harness_generated_tokens_total") == 0, "the server")
            complete(url, 300)
            until(lambda: exporter.sum("harness_generated_tokens_total") == 300, "its tokens")
        until(lambda: exporter.sum("harness_server_up") == 0, "the server to be away")
        assert exporter.sum("harness_generated_tokens_total") is None
        before_j = exporter.sum("harness_energy_joules_total")
        with server_process(SCRIPT, port):
            complete(url, 40)
            until(lambda: exporter.sum("harness_generated_tokens_total") == 340, "tokens of both")
            assert exporter.sum("harness_finished_requests_total") == 2
            assert exporter.sum("harness_server_restarts_total") == 1
            assert exporter.sum("harness_energy_joules_total") > before_j
            exporter.process.send_signal(signal.SIGINT)
            done = ended(exporter.process, 20)
    finally:
        exporter.kill()
    assert (done.code, done.out) == (0, "")
    assert "was restarted" in done.err
    assert done.err.count("is away") == done.err.count("answers again") == 2
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(nvml_library.compiler() is None, reason="no C compiler to build the stand-in driver with")
def test_a_lost_gpu_is_told_and_the_others_go_on_until_no_sensor_can_be_read(tmp_path):
    lost = Failure("*", GPU_IS_LOST, after_s=4.0, gpu=1)
    driver = nvml_library.environment(nvml_library.build(tmp_path), Scenario(gpus=2, failures=(lost,)))
    exporter = Exporter(tmp_path, {**os.environ, **driver})
    gone, left = nvml_library.uuid(1), nvml_library.uuid(0)
    try:
        until(lambda: exporter.sum("harness_device_up") == 2, "both GPUs", 60)
        assert exporter.sum("harness_node_power_watts") is not None
        until(lambda: exporter.sum("harness_device_up", device=gone) == 0, "the loss")
        assert exporter.sum("harness_power_watts", device=gone) is None
        assert exporter.sum("harness_node_power_watts") is None
        before_j = exporter.sum("harness_energy_joules_total", device=left)
        until(lambda: exporter.sum("harness_energy_joules_total", device=left) > before_j, "the other to go on")
        (sampler,) = psutil.Process(exporter.process.pid).children()
        sampler.kill()
        done = ended(exporter.process, 30)
    finally:
        exporter.kill()
    assert done.code == 7, done.err
    assert f"{gone} is lost" in done.err
    assert "The process that reads NVML ended." in done.err
    assert "Traceback" not in done.err
