import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.server.launch import free_port
from tests.cli.command import Ended, environment, processes_naming, run_harness
from tests.fakes import nvml_library
from tests.fakes.nvml_library import DRIVER_NOT_LOADED, Failure, Scenario
from tests.fakes.scripted_engine import Script

pytestmark = pytest.mark.timeout(240)

QUICK = ("--power", "simulated", "--metrics-address", "none")


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if nvml_library.compiler() is None:
        pytest.skip("no C compiler (gcc or cc) to build the stand-in for the NVIDIA driver")
    return nvml_library.build(tmp_path_factory.mktemp("nvml"))


@contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def check(result: Ended, code: int, *said: str) -> None:
    """Check exit code and message: one error, each of ``said`` in it, nothing on stdout, no traceback."""
    assert "Traceback" not in result.err, result.err
    assert result.code == code, result.err
    assert result.out == ""
    message = " ".join(result.err[result.err.index("error: ") :].split())
    for part in said:
        assert re.search(part, message), f"{part!r} is not in: {message}"


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("multiplyer: 15\n", ["unknown key 'multiplyer', did you mean 'multiplier'"]),
        (
            "multiplier: -1\nbudget: soon\nworkloads: small\npower: magic\n",
            [
                "multiplier = -1",
                "budget = 'soon'",
                "unknown key 'workloads', did you mean 'workload'",
                "power = 'magic'",
            ],
        ),
        ("url: [http://127.0.0.1:1]\nmodel: tiny\n", ["url and model exclude each other"]),
        ("workload: tradtional\n", ["unknown workload 'tradtional'", "did you mean traditional"]),
    ],
)
def test_a_wrong_configuration_is_explained(vllm: Path, tmp_path: Path, yaml: str, said: list[str]) -> None:
    (tmp_path / "run.yaml").write_text(f"out: {tmp_path / 'runs'}\npower: simulated\n" * ("power" not in yaml) + yaml)
    check(run_harness("stress", "--config", "run.yaml", cwd=tmp_path, env=environment(vllm)), 2, *said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--config", "missing.yaml"], 2, ["cannot read the configuration file missing.yaml", "No such file"]),
        (["--model", "/no/such/model"], 2, ["the model folder /no/such/model does not exist"]),
        (["--workload", "azure:missing.csv"], 5, ["cannot read the trace missing.csv", "No such file"]),
        (["--workload", "azure:bad.csv"], 5, [r"bad\.csv: (request 3|line 4|row 3)\b.*ContextTokens.*-7"]),
        (["--out", "a-file/runs"], 6, ["cannot create the run folder a-file/runs", "Not a directory", "--out"]),
        (
            ["--tps-model", "missing.json"],
            5,
            ["cannot use the TPS model missing.json", "No such file", "harness refit"],
        ),
        (["--tps-model", "wrong.json"], 5, [r"cannot use the TPS model wrong\.json", "why: ."]),
        (["--server-arg=--port=eighty"], 2, ["--port in --server-arg", "'eighty' is not a port"]),
        (["--server-arg=--port=8000", "--replicas", "2"], 2, ["2 replicas cannot share one port"]),
    ],
)
def test_an_option_that_cannot_be_used_is_explained(
    vllm: Path, tmp_path: Path, words: list[str], code: int, said: list[str]
) -> None:
    (tmp_path / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n1,10,5\n2,11,6\n3,-7,8\n4,-8,9\n")
    (tmp_path / "wrong.json").write_text('{"schema": "something-else/1", "coef": [1, 2, 3]}\n')
    (tmp_path / "a-file").touch()
    check(run_harness("stress", *QUICK, *words, cwd=tmp_path, env=environment(vllm)), code, *said)


def test_a_taken_address_for_metrics_is_explained(vllm: Path, tmp_path: Path) -> None:
    with listening() as port:
        words = ("stress", "--power", "simulated", "--model", "some/model", "--metrics-address", f"127.0.0.1:{port}")
        result = run_harness(*words, cwd=tmp_path, env=environment(vllm))
    check(result, 2, rf"cannot serve metrics on 127\.0\.0\.1:{port}", "Address already in use", "--metrics-address")


def test_a_taken_port_for_the_server_is_explained(vllm: Path, tmp_path: Path) -> None:
    with listening() as port:
        words = ("stress", *QUICK, f"--server-arg=--port={port}")
        result = run_harness(*words, cwd=tmp_path, env=environment(vllm))
    check(result, 4, rf"port {port} is taken", "why: port in use", "--server-arg")


def test_nothing_listening_at_the_url_is_explained(vllm: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run_harness("stress", *QUICK, "--url", url, cwd=tmp_path, env=environment(vllm))
    check(
        result, 4, f"cannot reach {url}", "Connect call failed|Connection refused", "check that the server runs there"
    )


NO_MODEL = "OSError: nobody/no-such-model is not a local folder and is not a valid model identifier listed on the hub"


@pytest.fixture(scope="module")
def failed_run(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """A run whose server exited at start: how the command ended, and its folder."""
    folder = tmp_path_factory.mktemp("failed")
    env = environment(vllm, Script(exit_code=1, last_words=NO_MODEL))
    result = run_harness("stress", *QUICK, "--model", "nobody/no-such-model", cwd=folder, env=env)
    (run,) = (folder / "results" / "runs").iterdir()
    return result, run


def test_a_model_that_does_not_exist_is_explained(failed_run: tuple[Ended, Path]) -> None:
    result, run = failed_run
    check(result, 4, "the server exited with code 1", NO_MODEL, "why: bad model", "fix: check the model id or folder")
    assert NO_MODEL in (run / "server-0.log").read_text()


def test_a_failed_run_says_so_when_compared(failed_run: tuple[Ended, Path], vllm: Path) -> None:
    _, run = failed_run
    result = run_harness("compare", str(run), cwd=run, env=environment(vllm))
    assert (result.code, result.err) == (0, "")
    assert "FAILED RESULT" in result.out


def test_a_refit_from_too_few_cells_is_explained(failed_run: tuple[Ended, Path], vllm: Path) -> None:
    _, run = failed_run
    result = run_harness("refit", str(run), cwd=run, env=environment(vllm))
    check(result, 5, r"0 usable fixed-length cell\(s\) in 1 run\(s\) are too few", "measure more lengths")
    assert not (run / "tps-model.json").exists()


def test_a_server_that_never_becomes_ready_is_explained_and_ended(vllm: Path, tmp_path: Path) -> None:
    env = environment(vllm, Script(healthy=False))
    result = run_harness("stress", *QUICK, "--model", "some/model", "--ready-timeout", "3", cwd=tmp_path, env=env)
    check(result, 4, "not ready after 3 s", "raise --ready-timeout")
    assert processes_naming(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "scenario", "said"),
    [
        (["--power", "nvml"], Scenario(failures=(Failure("nvmlInitWithFlags", DRIVER_NOT_LOADED),)), ["driver"]),
        (["--power", "nvml"], Scenario(mig=True), ["MIG"]),
        (["--power", "nvml", "--gpu", "7"], Scenario(), ["--gpu 7: not all of these exist", "this node has 0"]),
        (
            ["--power", "nvml", "--boundary", "node_modelled"],
            Scenario(name="NVIDIA Unheard-of"),
            ["the boundary node_modelled needs a node profile", "none is shipped for NVIDIA Unheard-of"],
        ),
    ],
    ids=["no driver", "mig", "no such gpu", "no profile"],
)
def test_a_node_that_cannot_do_it_is_explained(
    vllm: Path, nvml: Path, tmp_path: Path, words: list[str], scenario: Scenario, said: list[str]
) -> None:
    env = environment(vllm, Script(exit_code=1), nvml_library.environment(nvml, scenario))
    result = run_harness("stress", "--metrics-address", "none", *words, cwd=tmp_path, env=env)
    check(result, 3, *said)


@pytest.mark.parametrize(("command", "folder"), [("compare", "."), ("refit", "missing")])
def test_a_folder_that_is_no_run_is_explained(vllm: Path, tmp_path: Path, command: str, folder: str) -> None:
    result = run_harness(command, folder, cwd=tmp_path, env=environment(vllm))
    check(
        result, 6, f"cannot read the run {re.escape(folder)}", "no manifest.json", "give a folder that harness stress"
    )


def test_a_damaged_manifest_is_explained(vllm: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": "inference-energy/manifest/1", "id": ')
    check(run_harness("compare", ".", cwd=tmp_path, env=environment(vllm)), 6, "cannot read")
