"""The one schema of a stress run: flags, YAML file and defaults meet here.

A flag beats the file, the file beats the default. ``None`` means: decided from what the node has, and printed
in the plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from estimator.nodes import Allocation
from estimator.problems import message
from harness.errors import ConfigError
from harness.load.arrival_names import check_arrival
from harness.metrics.address import check_address
from harness.power.meter_names import check_meter
from harness.server.arguments import refuse_own
from harness.stress_options import LARGEST_MULTIPLIER, STRESS_OPTIONS


def _field(name: str, **limits: Any) -> Any:
    option = STRESS_OPTIONS[name]
    return Field(option.default, description=option.description, **limits)


def _power_source(text: str) -> str:
    kind, _, file = text.partition(":")
    if text not in ("auto", "nvml", "simulated") and not (kind == "replay" and file):
        raise ValueError("give auto, nvml, simulated or replay:FILE")
    return text


def _prompts(text: str) -> str:
    kind, _, file = text.partition(":")
    if text != "random" and not (kind == "text" and file):
        raise ValueError("give random or text:FILE")
    return text


class StressConfig(BaseModel):
    """Everything ``harness stress`` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str | None = _field("model")
    tensor_parallel: int | None = _field("tensor_parallel", ge=1)
    replicas: int | None = _field("replicas", ge=1)
    gpu: tuple[str, ...] = _field("gpu")
    server_arg: tuple[str, ...] = _field("server_arg")
    url: tuple[str, ...] = _field("url")
    workload: str | None = _field("workload")
    prompts: Annotated[str, AfterValidator(_prompts)] = _field("prompts")
    multiplier: float = _field("multiplier", gt=0, le=LARGEST_MULTIPLIER)
    concurrency: Literal["auto"] | int = _field("concurrency")
    budget: float | None = _field("budget", gt=0)
    order: Literal["ab", "abba"] = _field("order")
    repeats: int = _field("repeats", ge=1)
    stream_share: float = _field("stream_share", ge=0, le=1)
    arrival: Annotated[str, AfterValidator(check_arrival)] = _field("arrival")
    clients: int = _field("clients", ge=1, le=64)
    slo_ttft_s: float | None = _field("slo_ttft_s", gt=0)
    slo_itl_s: float | None = _field("slo_itl_s", gt=0)
    precision: float = _field("precision", gt=0, lt=1)
    min_window: float | None = _field("min_window", gt=0)
    idle: float | None = _field("idle", gt=0)
    ready_timeout: float = _field("ready_timeout", gt=0)
    keep_server: bool = _field("keep_server")
    power: Annotated[str, AfterValidator(_power_source)] = _field("power")
    node_meter: tuple[Annotated[str, AfterValidator(check_meter)], ...] = _field("node_meter")
    boundary: Literal["auto", "gpu", "node_modelled", "node"] = _field("boundary")
    allocation: Allocation = _field("allocation")
    node_profile: str | None = _field("node_profile")
    pue: float | None = _field("pue", ge=1)
    tps_model: Path | None = _field("tps_model")
    metrics_address: Annotated[str, AfterValidator(check_address)] = _field("metrics_address")
    linger: float | None = _field("linger", ge=0)
    drain: bool = _field("drain")
    out: Path = _field("out")
    seed: int = _field("seed", ge=0)


def load_config(flags: Mapping[str, Any], file: Path | None) -> StressConfig:
    """Merge ``flags`` over the YAML ``file`` over the defaults; ``ConfigError`` lists every problem at once."""
    return validated({**read_config_file(file), **flags})


def validated(merged: Mapping[str, Any]) -> StressConfig:
    """Return the configuration that keys and values give; ``ConfigError`` lists every problem at once."""
    try:
        config = StressConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(
            "the configuration cannot be used: " + "; ".join(_explain(item) for item in error.errors()),
            fix="harness stress --help lists every option with its meaning",
        ) from None
    _check_together(config)
    return config


def read_config_file(file: Path | None) -> dict[str, Any]:
    """Return the keys and values of a YAML file, or none without a file; raises ``ConfigError`` if it cannot."""
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}", why=error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    return f"{key} = {item['input']!r}: {message(item)}"


def refuse_user(urls: Sequence[str]) -> None:
    """Raise ``ConfigError`` if the address of a server holds a user or a password."""
    if any("@" in urlsplit(url).netloc for url in urls):
        raise ConfigError(
            "url holds a user or a password",
            why="addresses of servers are stored in run folders and told in the metrics, which are meant to be shared",
            fix="give http://HOST:PORT of a server on this node or of a tunnel to it",
        )


def _check_together(config: StressConfig) -> None:
    if isinstance(config.concurrency, int) and config.concurrency < 1:
        raise ConfigError(f"concurrency = {config.concurrency}: at least one request must be in flight")
    if (config.workload or "").startswith("task:") and config.arrival != "closed":
        raise ConfigError(
            f"arrival = {config.arrival}: tasks are replayed in a closed loop",
            why="the next step of a task is due when the one before has ended",
            fix="leave --arrival out",
        )
    refuse_user(config.url)
    refuse_own(config.server_arg)
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
