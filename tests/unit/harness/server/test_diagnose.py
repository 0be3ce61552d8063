import pytest

from harness.server.diagnose import last_lines, likely_cause

LOGS = [
    ("OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use", "port"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out of memory"),
    ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "out of memory"),
    (
        "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory",
        "out of memory",
    ),
    (
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (9.1 GiB).",
        "out of memory",
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: x)\n\nCannot access gated repo for url "
        "https://huggingface.co/meta-llama/x/resolve/main/config.json.\nAccess to model meta-llama/x is restricted.",
        "gated",
    ),
    ("OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://x", "gated"),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: x)\n\nRepository Not Found for "
        "url: https://huggingface.co/api/models/qwen/qwne. Please make sure you specified the correct `repo_id` and "
        "`repo_type`.\nIf you are trying to access a private or gated repo, make sure you are authenticated.",
        "bad model",
    ),
    (
        "OSError: qwne is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/"
        "models'\nIf this is a private repository, make sure to pass a token having permission to this repo",
        "bad model",
    ),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "bad model"),
    ("OSError: /models/x does not appear to have a file named config.json.", "bad model"),
    ("api_server.py: error: unrecognized arguments: --max-modle-len 5", "does not know an argument"),
    ("api_server.py: error: argument --dtype: invalid choice: 'float13'", "does not know an argument"),
    ("/usr/bin/python: Error while finding spec: ModuleNotFoundError: No module named 'vllm'", "not installed"),
    ("RuntimeError: operator torchvision::nms does not exist", "not installed"),
    ("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace", "engine died"),
]


@pytest.mark.parametrize(("log", "cause"), LOGS, ids=[log[:40] for log, _ in LOGS])
def test_a_log_excerpt_names_its_cause_and_what_to_do(log, cause):
    found = likely_cause(f"INFO 11-20 10:00:00 starting\n{log}\nINFO shutting down")
    assert found is not None
    assert cause in found[0]
    assert found[1]


@pytest.mark.parametrize("log", ["", "INFO: Application startup complete."])
def test_a_log_without_a_known_cause_names_none(log):
    assert likely_cause(log) is None


def test_the_specific_cause_wins_over_the_dead_engine_it_led_to():
    log = "CUDA out of memory\nRuntimeError: Engine core initialization failed. See root cause above."
    assert likely_cause(log)[0] == "out of memory"


def test_the_last_lines_leave_out_empty_ones_and_survive_bytes_that_are_no_text(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"1\n\n2\n  \n3 \xff\n4 not yet end")
    assert last_lines(log, 3) == "2\n3 \ufffd\n4 not yet end"
    assert last_lines(log).splitlines()[0] == "1"
