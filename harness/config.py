"""The one schema of a stress run: flags, YAML file and defaults meet here.

A flag beats the file, the file beats the default. ``None`` means: decided from what the node has, and printed
in the plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import ConfigError


class StressConfig(BaseModel):
    """Everything ``harness stress`` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        None,
        description="Model to serve: a Hugging Face id, a folder, or 'tiny' (random weights, no download).",
    )
    tensor_parallel: int | None = Field(None, ge=1, description="GPUs per replica.")
    replicas: int | None = Field(None, ge=1, description="Servers to launch; the load is spread over them.")
    gpu: tuple[str, ...] = Field((), description="GPU index or UUID to use (repeatable; default: all).")
    server_arg: tuple[str, ...] = Field(
        (), description="Argument passed on to vLLM, e.g. --server-arg=--max-num-seqs=256."
    )
    url: tuple[str, ...] = Field((), description="Running server to use instead of launching one (repeatable).")
    workload: str | None = Field(
        None, description="traditional, test-time, small, fixed:500x2000, azure:FILE or a profile FILE.yaml."
    )
    multiplier: float = Field(15.0, gt=0, description="Output-length multiplier of the second cell.")
    concurrency: Literal["auto"] | int = Field("auto", description="Requests kept in flight, or 'auto' to search.")
    budget: float | None = Field(None, gt=0, description="Seconds of load a cell, after launch; GPU 300, else 35.")
    idle: float | None = Field(None, gt=0, description="Seconds of loaded idle to measure; GPU 60, else 8.")
    ready_timeout: float = Field(1_800.0, gt=0, description="Seconds to wait for a launched server to become ready.")
    keep_server: bool = Field(False, description="Leave the launched server running at the end.")
    power: Literal["auto", "nvml", "simulated"] = Field("auto", description="Power source.")
    boundary: Literal["auto", "gpu", "node_modelled"] = Field("auto", description="Hardware the joules cover.")
    node_profile: str | None = Field(None, description="Node profile: a shipped name or a YAML file.")
    pue: float | None = Field(None, ge=1, description="Measured PUE; without it both sides share Eq. 1's.")
    tps_model: Path | None = Field(None, description="TPS model file written by harness refit.")
    metrics_address: str = Field(
        "127.0.0.1:9477", description="HOST:PORT of the Prometheus metrics; 'none' turns them off."
    )
    linger: float | None = Field(None, ge=0, description="Seconds the metrics outlast the last cell; GPU 15, else 5.")
    drain: bool = Field(False, description="Finish requests in flight at the end of a cell, for exact token counts.")
    out: Path = Field(Path("results/runs"), description="Folder that receives the run folder.")
    seed: int = Field(0, ge=0, description="Seed of every random draw.")


def load_config(flags: Mapping[str, Any], file: Path | None) -> StressConfig:
    """Merge ``flags`` over the YAML ``file`` over the defaults; ``ConfigError`` lists every problem at once."""
    merged = {**(_read(file) if file else {}), **flags}
    try:
        config = StressConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(
            "the configuration cannot be used: " + "; ".join(_explain(item) for item in error.errors()),
            fix="harness stress --help lists every option with its meaning",
        ) from None
    _check_together(config)
    return config


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}", why=error.strerror or str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML", why=str(error)) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold keys and values", fix="write one 'key: value' a line, e.g. multiplier: 15")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def _explain(item: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"][:1])
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, StressConfig.model_fields, n=1, cutoff=0.5)
        return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else "")
    return f"{key} = {item['input']!r}: {item['msg']}"


def _check_together(config: StressConfig) -> None:
    if isinstance(config.concurrency, int) and config.concurrency < 1:
        raise ConfigError(f"concurrency = {config.concurrency}: at least one request must be in flight")
    launch_only = {
        "model": config.model,
        "tensor_parallel": config.tensor_parallel,
        "replicas": config.replicas,
        "server_arg": config.server_arg,
        "keep_server": config.keep_server,
    }
    given = [name for name, value in launch_only.items() if value]
    if config.url and given:
        raise ConfigError(
            f"url and {', '.join(given)} exclude each other",
            why="with url the server already runs, so it cannot be configured from here",
            fix="drop one side",
        )
