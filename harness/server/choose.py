"""Choose what to serve on a GPU node: which model fits, on how many GPUs each, how many times."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from harness.errors import NodeError

USABLE_MEMORY_SHARE = 0.90
"""vLLM's own default for --gpu-memory-utilization."""

MINIMUM_WORKSPACE_B = 4 * 1024**3
"""Per GPU, for activations and a KV cache that can hold anything at all."""


class ServeProfile(BaseModel):
    """A model this harness knows how to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    parameters_b: float
    bytes_per_parameter: float
    gated: bool
    tensor_parallel: tuple[int, ...]

    @property
    def weights_b(self) -> float:
        """Size of the weights in bytes."""
        return self.parameters_b * 1e9 * self.bytes_per_parameter


@dataclass(frozen=True)
class ModelChoice:
    """What to serve on how many GPUs, and the sentence that says why."""

    model: str
    tensor_parallel: int
    why: str


@cache
def serve_profiles() -> tuple[ServeProfile, ...]:
    """Return the shipped profiles, best first."""
    text = resources.files("harness.server").joinpath("serve_profiles.yaml").read_text(encoding="utf-8")
    return TypeAdapter(tuple[ServeProfile, ...]).validate_python(yaml.safe_load(text))


def does_not_fit(name: str, weights_b: float, tensor_parallel: int, gpu_memory_b: int) -> str | None:
    """Return the arithmetic by which the weights do not fit, or ``None`` if they do."""
    each_b = weights_b / tensor_parallel
    room_b = USABLE_MEMORY_SHARE * gpu_memory_b - MINIMUM_WORKSPACE_B
    if each_b <= room_b:
        return None
    return (
        f"{name} has {weights_b / 1e9:.0f} GB of weights: {each_b / 1e9:.1f} GB on each of {tensor_parallel} GPU(s), "
        f"but a GPU of {gpu_memory_b / 1e9:.1f} GB leaves {USABLE_MEMORY_SHARE:.0%} of that less "
        f"{MINIMUM_WORKSPACE_B / 1e9:.1f} GB of workspace = {room_b / 1e9:.1f} GB"
    )


def choose_model(gpu_count: int, gpu_memory_b: int) -> ModelChoice:
    """Return the best shipped profile that fits: one already in the local cache first, else an ungated one."""
    fitting = [
        (profile, tensor_parallel)
        for profile in serve_profiles()
        if (tensor_parallel := _first_fit(profile, gpu_count, gpu_memory_b)) is not None
    ]
    cached = [pair for pair in fitting if cached_weights_b(pair[0].model) is not None]
    ungated = [pair for pair in fitting if not pair[0].gated]
    for pairs, why in (
        (cached, "its weights are in the local cache"),
        (ungated, "no licence stands in the way"),
    ):
        if pairs:
            profile, tensor_parallel = pairs[0]
            reason = f"best shipped profile that fits {gpu_count} x {gpu_memory_b / 1e9:.0f} GB, and {why}"
            return ModelChoice(profile.model, tensor_parallel, reason + _to_download(profile.model, profile.weights_b))
    raise NodeError(
        f"no shipped serve profile fits {gpu_count} GPU(s) of {gpu_memory_b / 1e9:.1f} GB",
        why=does_not_fit(serve_profiles()[-1].model, serve_profiles()[-1].weights_b, 1, gpu_memory_b) or "",
        fix="name a smaller model with --model",
    )


def place_model(model: str, tensor_parallel: int | None, gpu_count: int, gpu_memory_b: int) -> ModelChoice:
    """Return how to serve a model the user named; raises ``NodeError`` with the arithmetic if it cannot fit.

    The same model is served on as many GPUs before its download as after it: a profile's size counts before that of
    the files, and where only they could tell it, the user is asked.
    """
    profile = next((known for known in serve_profiles() if known.model == model), None)
    weights_b = profile.weights_b if profile else cached_weights_b(model)
    options: Sequence[int] = (tensor_parallel,) if tensor_parallel else _widths(profile, gpu_count)
    if tensor_parallel and tensor_parallel > gpu_count:
        raise NodeError(
            f"--tensor-parallel {tensor_parallel} needs {tensor_parallel} GPUs, this node has {gpu_count}",
            fix=f"use --tensor-parallel {gpu_count} or less",
        )
    if weights_b is None:
        if len(options) > 1:
            raise NodeError(
                f"the size of {model} is not known before its download, nor how many of {gpu_count} GPUs it needs",
                fix=f"say how many GPUs each server gets: --tensor-parallel 1 to {options[-1]}",
            )
        why = "given; its size is not known here, so whether it fits, on the GPUs and on the disk, is not checked"
        return ModelChoice(model, options[-1], why)
    refusal = None
    for width in options:
        refusal = does_not_fit(model, weights_b, width, gpu_memory_b)
        if refusal is None:
            why = f"given; {weights_b / 1e9:.0f} GB of weights fit{_to_download(model, weights_b)}"
            return ModelChoice(model, width, why)
    raise NodeError(
        f"{model} cannot run on this node",
        why=refusal or "",
        fix="use more or larger GPUs, or a smaller model",
    )


def _widths(profile: ServeProfile | None, gpu_count: int) -> list[int]:
    """Tensor-parallel sizes to try: the profile's that exist here, else powers of two from 1 to the whole node."""
    listed = [width for width in profile.tensor_parallel if width <= gpu_count] if profile else []
    return listed or [2**power for power in range(gpu_count.bit_length()) if 2**power <= gpu_count]


def _first_fit(profile: ServeProfile, gpu_count: int, gpu_memory_b: int) -> int | None:
    for width in profile.tensor_parallel:
        fits = does_not_fit(profile.model, profile.weights_b, width, gpu_memory_b) is None
        if width <= gpu_count and fits:
            return width
    return None


def _to_download(model: str, weights_b: float) -> str:
    """Return in words what of a model is still to be downloaded, "" for nothing; raises ``NodeError`` without room."""
    if cached_weights_b(model) is not None:
        return ""
    left_b, hub = max(0.0, weights_b - downloaded_b(model)), hub_cache()
    free_b = shutil.disk_usage(next(folder for folder in (hub, *hub.parents) if folder.is_dir())).free
    said = f"{left_b / 1e9:.0f} GB to download to {hub}, where {free_b / 1e9:.0f} GB are free"
    if left_b > free_b:
        raise NodeError(
            f"the disk has no room for the weights of {model}",
            why=said,
            fix="free space there, set HF_HUB_CACHE to a folder on a larger disk, or name a smaller model with --model",
        )
    return f"; {said}"


def downloaded_b(model: str) -> int:
    """Return the bytes on the disk of what the hub's cache holds of a model, unfinished downloads included."""
    total_b = 0
    for file in _in_cache(model).glob("blobs/*"):
        with suppress(FileNotFoundError):  # a download that ends renames its file
            total_b += file.stat().st_blocks * 512
    return total_b


def cached_weights_b(model: str) -> int | None:
    """Return the bytes of a model's weights on this disk, a folder's or the hub cache's, or ``None`` if not there."""
    folders = [Path(model)] if Path(model).is_dir() else list(_cache_snapshots(model))
    for folder in folders:
        files = [file for file in folder.glob("*.safetensors") if file.is_file() and not _is_second_copy(file)]
        if files and len(files) >= max(map(_files_in_all, files)):
            return sum(file.stat().st_size for file in files)
    return None


def _is_second_copy(file: Path) -> bool:
    """Mistral's repositories hold the same weights once more under this name."""
    return file.name.startswith("consolidated")


def _files_in_all(file: Path) -> int:
    """Return how many files the weights consist of, by the name of one of them: a download may be unfinished."""
    numbered = re.search(r"-of-(\d+)$", file.stem)
    return int(numbered[1]) if numbered else 1


def _cache_snapshots(model: str) -> list[Path]:
    return sorted(_in_cache(model).glob("snapshots/*"))


def _in_cache(model: str) -> Path:
    return hub_cache() / f"models--{model.replace('/', '--')}"


def hub_cache() -> Path:
    """Return the folder of the hub's cache, found as the hub's own library finds it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", cache / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser().absolute()
