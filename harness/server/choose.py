"""Choose what to serve on a GPU node: which model fits, on how many GPUs each, how many times."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
    text = resources.files("harness.server").joinpath("serve_profiles.yaml").read_text()
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
            return ModelChoice(profile.model, tensor_parallel, reason)
    raise NodeError(
        f"no shipped serve profile fits {gpu_count} GPU(s) of {gpu_memory_b / 1e9:.1f} GB",
        why=does_not_fit(serve_profiles()[-1].model, serve_profiles()[-1].weights_b, 1, gpu_memory_b) or "",
        fix="name a smaller model with --model",
    )


def place_model(model: str, tensor_parallel: int | None, gpu_count: int, gpu_memory_b: int) -> ModelChoice:
    """Return how to serve a model the user named; raises ``NodeError`` with the arithmetic if it cannot fit."""
    profile = next((known for known in serve_profiles() if known.model == model), None)
    weights_b = cached_weights_b(model) or (profile.weights_b if profile else None)
    options: Sequence[int] = (tensor_parallel,) if tensor_parallel else _widths(profile, gpu_count)
    if tensor_parallel and tensor_parallel > gpu_count:
        raise NodeError(
            f"--tensor-parallel {tensor_parallel} needs {tensor_parallel} GPUs, this node has {gpu_count}",
            fix=f"use --tensor-parallel {gpu_count} or less",
        )
    if weights_b is None:
        why = "given; its size is not known here, so whether it fits is not checked"
        return ModelChoice(model, options[-1], why)
    refusal = None
    for width in options:
        refusal = does_not_fit(model, weights_b, width, gpu_memory_b)
        if refusal is None:
            return ModelChoice(model, width, f"given; {weights_b / 1e9:.0f} GB of weights fit")
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
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return sorted(hub.glob(f"models--{model.replace('/', '--')}/snapshots/*"))
