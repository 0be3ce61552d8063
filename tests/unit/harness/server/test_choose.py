import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import NodeError
from harness.server import choose
from harness.server.choose import cached_weights_b, choose_model, does_not_fit, place_model, serve_profiles

GIB = 1024**3
H100_B = 85_520_809_984  # what NVML reports of an H100 SXM5


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    give_disk(monkeypatch, 10**13)
    return tmp_path / "hub"


def give_disk(monkeypatch, free_b):
    monkeypatch.setattr(choose.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free_b)))


def put_weights(hub, model, *sizes_b):
    """Lie sparse weight files into the cache as a download would: blobs, and links to them in a snapshot."""
    repo = hub / f"models--{model.replace('/', '--')}"
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, size_b in enumerate(sizes_b):
        blob = repo / "blobs" / str(number)
        blob.touch()
        os.truncate(blob, size_b)
        (repo / "snapshots" / "abc" / f"model-{number}.safetensors").symlink_to(blob)


@pytest.mark.parametrize(
    ("weights_b", "tensor_parallel", "memory_b"),
    [(671e9, 8, H100_B), (405e9, 8, H100_B), (70.6e9, 1, H100_B), (70.6e9, 2, H100_B), (1.2e9, 1, 6 * GIB)],
)
def test_weights_fit_where_nine_tenths_of_the_memory_less_four_gib_hold_them(weights_b, tensor_parallel, memory_b):
    fits = weights_b / tensor_parallel <= 0.9 * memory_b - 4 * GIB
    assert (does_not_fit("m", weights_b, tensor_parallel, memory_b) is None) == fits


def test_a_refusal_shows_its_arithmetic():
    # 671 GB / 8 = 83.9 GB; 0.9 x 85.5 GB - 4.3 GB = 72.7 GB
    text = does_not_fit("DeepSeek-R1", 671e9, 8, H100_B)
    assert all(part in text for part in ("671 GB", "83.9 GB", "85.5 GB", "90%", "4.3 GB", "72.7 GB"))


def test_a_cached_model_is_preferred_even_where_a_better_one_would_have_to_be_downloaded(hub):
    put_weights(hub, "Qwen/Qwen3-8B", 10**9, 2 * 10**9)
    chosen = choose_model(8, H100_B)
    assert (chosen.model, chosen.tensor_parallel) == ("Qwen/Qwen3-8B", 1)
    assert "in the local cache" in chosen.why


def test_a_cached_model_may_be_gated(hub):
    put_weights(hub, "meta-llama/Llama-3.1-405B-Instruct-FP8", 10)
    assert choose_model(8, H100_B).model == "meta-llama/Llama-3.1-405B-Instruct-FP8"


def test_a_cached_model_that_does_not_fit_is_passed_over(hub):
    put_weights(hub, "deepseek-ai/DeepSeek-R1", 10)
    assert choose_model(8, H100_B).model != "deepseek-ai/DeepSeek-R1"


def independent_choice(gpus, memory_b):
    room_b = 0.9 * memory_b - 4 * GIB
    for profile in serve_profiles():
        sizes = [size for size in profile.tensor_parallel if size <= gpus]
        size = next((n for n in sizes if profile.parameters_b * 1e9 * profile.bytes_per_parameter / n <= room_b), None)
        if size and not profile.gated:
            return profile.model, size
    return None


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
@pytest.mark.parametrize("memory_b", [12 * GIB, 24 * GIB, 48 * GIB, H100_B, 141 * GIB, 180 * GIB])
def test_without_a_cache_the_best_ungated_model_that_fits_is_chosen(gpus, memory_b):
    chosen = choose_model(gpus, memory_b)
    assert (chosen.model, chosen.tensor_parallel) == independent_choice(gpus, memory_b)
    assert "no licence stands in the way" in chosen.why


def test_where_nothing_fits_the_smallest_model_is_refused_with_its_arithmetic():
    with pytest.raises(NodeError, match="no shipped serve profile fits 1 GPU") as error:
        choose_model(1, 4 * GIB)
    assert "Qwen3-0.6B has 1 GB of weights" in str(error.value)
    assert "--model" in error.value.fix


def test_a_named_model_takes_the_first_width_that_fits():
    assert place_model("Qwen/Qwen3-8B", None, 8, H100_B).tensor_parallel == 1


@pytest.mark.parametrize(("gpus", "most"), [(2, 2), (3, 2), (4, 4), (8, 8)])
def test_how_many_of_several_gpus_a_model_of_unknown_size_gets_is_asked(gpus, most):
    with pytest.raises(NodeError, match="the size of someone/unknown is not known before its download") as error:
        place_model("someone/unknown", None, gpus, H100_B)
    assert error.value.fix.endswith(f"--tensor-parallel 1 to {most}")


@pytest.mark.parametrize(("width", "gpus"), [(None, 1), (1, 8), (4, 8)])
def test_a_model_of_unknown_size_is_placed_where_there_is_no_choice_and_it_is_said_that_it_is_not_checked(width, gpus):
    placed = place_model("someone/unknown", width, gpus, H100_B)
    assert placed.tensor_parallel == (width or 1)
    assert "not checked" in placed.why


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8"])
def test_the_second_run_serves_a_model_on_as_many_gpus_as_the_first(hub, model):
    first = place_model(model, None, 8, H100_B)
    put_weights(hub, model, int(1.25 * next(p for p in serve_profiles() if p.model == model).weights_b))
    assert place_model(model, None, 8, H100_B).tensor_parallel == first.tensor_parallel


def test_what_must_be_downloaded_is_said_with_the_room_there_is(hub, monkeypatch):
    """8.2 billion parameters of two bytes: 16.4 GB."""
    give_disk(monkeypatch, 20e9)
    said = f"16 GB to download to {hub}, where 20 GB are free"
    assert place_model("Qwen/Qwen3-8B", None, 8, H100_B).why.endswith(said)
    assert choose_model(1, 24 * GIB).why.endswith(said)
    put_weights(hub, "Qwen/Qwen3-8B", 16_400_000_000)
    assert "download" not in place_model("Qwen/Qwen3-8B", None, 8, H100_B).why


def test_a_download_that_the_disk_cannot_hold_is_refused(hub, monkeypatch):
    give_disk(monkeypatch, 500e9)
    with pytest.raises(NodeError, match="no room for the weights of deepseek-ai/DeepSeek-R1") as error:
        choose_model(8, 141 * GIB)
    assert error.value.why == f"671 GB to download to {hub}, where 500 GB are free"
    assert "HF_HUB_CACHE" in error.value.fix


def test_a_download_that_is_half_done_needs_room_for_the_other_half_alone(hub, monkeypatch):
    blobs = hub / "models--Qwen--Qwen3-0.6B" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a.incomplete").write_bytes(bytes(1_000_000))
    give_disk(monkeypatch, 1.2e9 - 0.9e6)
    assert place_model("Qwen/Qwen3-0.6B", None, 1, H100_B).tensor_parallel == 1
    give_disk(monkeypatch, 1.2e9 - 1.2e6)
    with pytest.raises(NodeError, match="no room"):
        place_model("Qwen/Qwen3-0.6B", None, 1, H100_B)


@pytest.mark.parametrize(("weights_b", "width"), [(60e9, 1), (100e9, 2), (300e9, 8)])
def test_a_cached_model_of_any_name_takes_the_fewest_gpus_that_hold_it(hub, weights_b, width):
    put_weights(hub, "someone/unknown", int(weights_b))
    assert place_model("someone/unknown", None, 8, H100_B).tensor_parallel == width
    assert width >= math.ceil(weights_b / (0.9 * H100_B - 4 * GIB))


def test_more_tensor_parallel_than_gpus_is_refused():
    with pytest.raises(NodeError, match="needs 4 GPUs, this node has 2"):
        place_model("Qwen/Qwen3-8B", 4, 2, H100_B)


def test_a_width_the_user_gave_is_the_only_one_tried():
    assert place_model("Qwen/Qwen3-32B-FP8", 4, 8, H100_B).tensor_parallel == 4
    with pytest.raises(NodeError, match="cannot run on this node"):
        place_model("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", 1, 8, 48 * GIB)


def test_the_weights_of_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "mine").mkdir()
    for name, size_b in (("a.safetensors", 700), ("b.safetensors", 300), ("other.bin", 5_000)):
        (tmp_path / "mine" / name).write_bytes(bytes(size_b))
    assert cached_weights_b(str(tmp_path / "mine")) == 1_000


def test_a_download_that_has_only_begun_is_no_cached_model(hub):
    put_weights(hub, "Qwen/Qwen3-8B")
    (hub / "models--Qwen--Qwen3-8B" / "snapshots" / "abc" / "model.safetensors").symlink_to(hub / "missing")
    assert cached_weights_b("Qwen/Qwen3-8B") is None


def test_a_download_of_which_a_part_is_missing_is_no_cached_model(hub):
    put_weights(hub, "Qwen/Qwen3-8B")
    snapshot = hub / "models--Qwen--Qwen3-8B" / "snapshots" / "abc"
    for number in (1, 2):
        assert cached_weights_b("Qwen/Qwen3-8B") is None
        (snapshot / f"model-{number:05d}-of-00002.safetensors").write_bytes(bytes(50))
    assert cached_weights_b("Qwen/Qwen3-8B") == 100


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "{home}/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/y"}, "/y/hub"),
        ({"HF_HOME": "/y", "HF_HUB_CACHE": "~/models"}, "{home}/models"),
    ],
)
def test_the_cache_is_where_the_hubs_own_library_has_it(monkeypatch, environment, folder):
    """As https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables says."""
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(choose.hub_cache()) == folder.format(home=Path.home())


def test_the_cache_folder_can_be_named_on_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    put_weights(tmp_path / "elsewhere", "a/b", 12, 30)
    assert cached_weights_b("a/b") == 42
