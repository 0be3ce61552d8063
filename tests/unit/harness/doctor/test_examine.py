import os
import threading

import pytest

from harness.doctor import examine as examination
from harness.doctor.examine import ask_driver, examine
from harness.doctor.node import Node
from harness.doctor.probe import Probe
from tests.fakes import importable_vllm
from tests.paths import ROOT


@pytest.fixture
def node(tmp_path):
    packages = importable_vllm.write(tmp_path / "vllm", cuda=None)
    environ = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    return Node(root=tmp_path / "root", environ=environ, out=tmp_path / "runs", host_pids=lambda: True)


def test_a_check_that_hangs_is_itself_a_finding_and_holds_up_no_other(node, monkeypatch):
    released = threading.Event()

    def ipmi(_):
        released.wait()

    monkeypatch.setattr(examination, "CHECK_LIMIT_S", 0.5)
    others = tuple(meter for meter in examination.METERS if meter.__name__ != "ipmi")
    monkeypatch.setattr(examination, "METERS", (*others, ipmi))
    found = {finding["id"]: finding for finding in examine(node)["findings"]}
    released.set()
    assert found["meters.ipmi"]["status"] == "unknown"
    assert found["meters.ipmi"]["found"] == "no answer within 0.5 s"
    assert found["meters.rapl"]["status"] == "missing"
    assert found["server.vllm"]["status"] == "ok"
    assert list(found) == list(dict.fromkeys(found))


@pytest.mark.parametrize("failure", ["time", "crash"])
def test_a_driver_that_hangs_or_crashes_leaves_an_empty_probe(node, monkeypatch, failure):
    if failure == "time":
        monkeypatch.setattr(examination, "PROBE_LIMIT_S", 0.01)
    else:
        node.root.mkdir()
        (node.root / "pynvml.py").write_text("import os; os.abort()")
        node = Node(environ={**node.environ, "PYTHONPATH": f"{node.root}{os.pathsep}{ROOT}"})
    assert ask_driver(node) == Probe()
