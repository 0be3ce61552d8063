import pytest

from harness.config import StressConfig, load_config
from harness.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "stress.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("flags", "text", "multiplier"),
    [
        ({}, None, 15.0),
        ({}, "multiplier: 4", 4.0),
        ({"multiplier": 2.0}, None, 2.0),
        ({"multiplier": 2.0}, "multiplier: 4", 2.0),
        ({}, "", 15.0),
    ],
    ids=["default", "file", "flag", "flag over file", "empty file"],
)
def test_a_flag_beats_the_file_and_the_file_beats_the_default(file, flags, text, multiplier):
    assert load_config(flags, None if text is None else file(text)).multiplier == multiplier


def test_flag_and_file_each_keep_what_only_they_say(file):
    config = load_config({"seed": 7}, file("multiplier: 4\n"))
    assert (config.seed, config.multiplier) == (7, 4.0)


def test_the_file_may_write_keys_as_the_flags_do(file):
    assert load_config({}, file("tensor-parallel: 2\n")).tensor_parallel == 2


@pytest.mark.parametrize(
    ("key", "near"), [("multiplyer", "multiplier"), ("concurency", "concurrency"), ("node_profil", "node_profile")]
)
def test_an_unknown_key_is_refused_with_the_nearest_one(file, key, near):
    with pytest.raises(ConfigError, match=f"unknown key '{key}', did you mean '{near}'"):
        load_config({}, file(f"{key}: 1\n"))


def test_a_key_near_nothing_is_refused_without_a_guess(file):
    with pytest.raises(ConfigError, match="unknown key 'zzzz'") as error:
        load_config({}, file("zzzz: 1\n"))
    assert "did you mean" not in str(error.value)


def test_every_problem_is_listed_at_once(file):
    with pytest.raises(ConfigError) as error:
        load_config({"seed": -1, "pue": 0.5}, file("multiplier: 0\nbudgett: 5\npower: solar\n"))
    assert all(part in error.value.what for part in ("seed = -1", "pue = 0.5", "multiplier = 0", "'budget'", "'solar'"))


@pytest.mark.parametrize("multiplier", [0, 1_000.1, float("inf"), float("nan")])
def test_a_multiplier_beyond_any_length_is_refused(multiplier):
    with pytest.raises(ConfigError, match="multiplier"):
        load_config({"multiplier": multiplier}, None)


@pytest.mark.parametrize(
    "launch_option",
    [{"model": "tiny"}, {"tensor_parallel": 2}, {"replicas": 2}, {"server_arg": ("--x",)}, {"keep_server": True}],
    ids=lambda option: next(iter(option)),
)
def test_a_running_server_cannot_be_given_launch_options(launch_option):
    with pytest.raises(ConfigError, match=f"url and {next(iter(launch_option))} exclude each other"):
        load_config({"url": ("http://localhost:8000",), **launch_option}, None)


@pytest.mark.parametrize(
    ("arguments", "named", "fix"),
    [
        (("--tensor-parallel-size=1",), "--tensor-parallel-size", "--tensor-parallel N"),
        (("--max-num-seqs", "64", "--tensor_parallel_size", "1"), "--tensor_parallel_size", "--replicas N"),
        (("-tp=2",), "-tp", "--tensor-parallel N"),
        (("-tp", "2"), "-tp", "--tensor-parallel N"),
        (("--tensor-par", "2"), "--tensor-par", "--tensor-parallel N"),
        (("--pipeline-parallel-size=2",), "--pipeline-parallel-size", "--url"),
        (("-pp", "2"), "-pp", "--url"),
        (("--data_parallel_size=8",), "--data_parallel_size", "--replicas N"),
        (("--data-parallel-size-local=8",), "--data-parallel-size-local", "--replicas N"),
        (("-dp", "8"), "-dp", "--replicas N"),
        (("-dpl=8",), "-dpl", "--replicas N"),
        (("--device-ids=1",), "--device-ids", "--gpu"),
        (("--model=other/model",), "--model", "--model"),
        (("--host", "10.0.0.1"), "--host", "leave it out"),
        (("--ssl-keyfile=a", "--ssl-certfile=b"), "--ssl-keyfile", "--url"),
        (("--api_key=k3y",), "--api_key", "leave it out"),
        (("--hf-token=k3y",), "--hf-token", "HF_TOKEN"),
        (("--download-dir=/data",), "--download-dir", "HF_HUB_CACHE"),
        (("--config=vllm.yaml",), "--config", "--server-arg"),
        (("--disable-log-stats",), "--disable-log-stats", "leave it out"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_argument_of_vllm_that_the_harness_relies_on_is_refused(arguments, named, fix):
    with pytest.raises(ConfigError, match=f"server_arg = {named} cannot be used") as refused:
        load_config({"server_arg": arguments}, None)
    assert fix in refused.value.fix
    assert "k3y" not in str(refused.value)


@pytest.mark.parametrize(
    "argument",
    ["--enable-expert-parallel", "-ep", "-dcp=2", "--device=cuda", "--model-impl=vllm", "--config-format=hf",
     "--max-model-len=-1", "--served-model-name=m", "--port=8000", "--kv-cache-dtype=fp8", "-O3", "--hf-overrides={}"],
)  # fmt: skip
def test_other_arguments_of_vllm_are_passed_on(argument):
    assert load_config({"server_arg": (argument,)}, None).server_arg == (argument,)


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(ConfigError, match="url holds a user or a password") as refused:
        load_config({"url": ("http://me:s3cret@localhost:8000",)}, None)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), (64, 64), (1, 1)])
def test_concurrency_is_a_number_or_a_search(given, kept):
    assert load_config({"concurrency": given}, None).concurrency == kept


@pytest.mark.parametrize("given", [0, -5, "many", 1.5])
def test_a_concurrency_that_is_no_count_is_refused(given):
    with pytest.raises(ConfigError, match="concurrency"):
        load_config({"concurrency": given}, None)


@pytest.mark.parametrize("text", ["just text", "- a\n- b\n", "a: [", "7"])
def test_a_file_that_holds_no_keys_is_refused(file, text):
    with pytest.raises(ConfigError, match=r"stress\.yaml"):
        load_config({}, file(text))


def test_a_file_is_utf_8_and_one_that_is_not_is_refused(tmp_path):
    path = tmp_path / "stress.yaml"
    path.write_bytes("model: mod\u00e8le\n".encode())
    assert load_config({}, path).model == "mod\u00e8le"
    path.write_bytes("model: mod\u00e8le\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"stress\.yaml is not YAML"):
        load_config({}, path)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", ["budget", "multiplier", "linger", "min_window", "idle", "ready_timeout", "slo_ttft_s"])
def test_a_number_that_is_not_finite_is_refused(file, key, number):
    with pytest.raises(ConfigError, match=f"{key} = "):
        load_config({}, file(f"{key}: {number}\n"))


def test_a_missing_file_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config({}, tmp_path / "none.yaml")


def test_every_option_is_described():
    assert all(field.description for field in StressConfig.model_fields.values())


@pytest.mark.parametrize("prompts", ["random", "text:book.txt"])
def test_prompts_are_random_or_of_a_text(prompts):
    assert load_config({"prompts": prompts}, None).prompts == prompts


@pytest.mark.parametrize("prompts", ["text", "text:", "book.txt"])
def test_prompts_of_anything_else_are_refused(prompts):
    with pytest.raises(ConfigError, match="give random or text:FILE"):
        load_config({"prompts": prompts}, None)


def test_tasks_are_for_a_closed_loop():
    with pytest.raises(ConfigError, match="tasks are replayed in a closed loop"):
        load_config({"workload": "task:agentic-coding", "arrival": "poisson:2"}, None)
