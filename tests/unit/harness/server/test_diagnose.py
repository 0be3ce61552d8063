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


BANNER = """/opt/rocm/lib/libamd_smi.so: cannot open shared object file: No such file or directory
Unable to find libamd_smi.so library try installing amd-smi-lib from your package manager
(APIServer pid=2535) INFO 11-23 06:55:24 [api_utils.py:286] non-default args: {'port': 37961, 'model': '/models/tiny'}
(APIServer pid=2535) INFO 11-23 06:55:24 [model.py:1661] Using max model len 32768, CPU KV cache space 4 GiB
(APIServer pid=2535) WARNING 11-23 06:55:24 [system_utils.py:255] Found ulimit of 20000. This can cause fd limit \
errors like `OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n
"""
TRACEBACK = """Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/venv/lib/python3.11/site-packages/pydantic/_internal/_dataclasses.py", line 121, in __init__
    s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)
pydantic_core._pydantic_core.ValidationError: 1 validation error for """
PYDANTIC = "    For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
REAL = {
    "too long a context": (
        TRACEBACK + "ModelConfig\n  Value error, User-specified max_model_len (99999999) is greater than the derived "
        "max_model_len (max_position_embeddings=32768.0 or model_max_length=None in model's config.json).\n" + PYDANTIC,
        "vLLM refuses its arguments", "User-specified max_model_len (99999999) is greater",
    ),
    "a quantization that the model lacks": (
        TRACEBACK + "VllmConfig\n  Value error, Cannot find the config file for awq\n" + PYDANTIC,
        "vLLM refuses its arguments", "Cannot find the config file for awq",
    ),
    "an unknown choice": (
        "                     [--enable-log-requests | --no-enable-log-requests]\n"
        "api_server.py: error: argument --kv-cache-dtype: invalid choice: 'fp13' (choose from 'auto', 'fp8')\n",
        "vLLM does not know an argument", "invalid choice: 'fp13'",
    ),
    "a folder without a model": (
        TRACEBACK + "ModelConfig\n  Value error, Invalid repository ID or local directory specified: '/models/tiny'.\n"
        "Please verify the following requirements:\n1. Provide a valid Hugging Face repository ID.\n" + PYDANTIC,
        "bad model", "Invalid repository ID or local directory specified: '/models/tiny'",
    ),
    "an engine that died at the start": (
        "(EngineCore pid=77) ERROR 11-23 06:55:31 [core.py:1069] Traceback (most recent call last):\n"
        "(EngineCore pid=77) ERROR 11-23 06:55:31 [core.py:1069]     raise ValueError(\n"
        "(EngineCore pid=77) ERROR 11-23 06:55:31 [core.py:1069] ValueError: Unknown attention backend: 'FOO'\n"
        "Traceback (most recent call last):\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n",
        "not recognised", "ValueError: Unknown attention backend: 'FOO'",
    ),
}  # fmt: skip
"""What vLLM 0.32 logs, shortened."""


@pytest.mark.parametrize(("log", "cause", "words"), REAL.values(), ids=REAL)
def test_the_servers_own_error_is_told_with_its_cause_whatever_a_healthy_start_logs(log, cause, words):
    found, fix = likely_cause(BANNER + log)
    assert found.startswith(cause)
    assert words in found
    assert fix


@pytest.mark.parametrize("log", ["", "INFO: Application startup complete.", BANNER])
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
