"""Everything of a stored run that could change what it measures, as nested keys and values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.sweep_config import FREE_KEYS
from results.schema import Manifest

_CONFIG_TOLD_ELSEWHERE = (
    "server_arg", "seed", "repeats", "order", "boundary", "node_profile", "power", "tps_model",
)  # fmt: skip
"""Keys of the configuration that change no measured figure, or that appear resolved among the other keys."""
_ARGUMENTS_TOLD_ELSEWHERE = ("--model", "--host", "--port", "--served-model-name")
_DEVICE_KEYS = ("name", "memory_total_b", "power_limit_w", "uuid")


def described(manifest: Manifest) -> dict[str, Any]:
    """Return model, server arguments and environment, node, devices, versions, workload and options of a run."""
    config = {k: v for k, v in manifest.config.items() if k not in (*FREE_KEYS, *_CONFIG_TOLD_ELSEWHERE)}
    return {
        "config": config,
        "model": manifest.model,
        "server_version": manifest.server_version,
        "server": server_arguments([server.argv for server in manifest.servers]),
        "env": _one_or_list([server.env for server in manifest.servers]),
        "servers": len(manifest.servers),
        "devices": {key: _one_or_list([device.get(key) for device in manifest.devices]) for key in _DEVICE_KEYS},
        "host": manifest.host,
        "versions": manifest.versions,
        "workload": manifest.workload,
        "power": manifest.power.name,
        "pue": manifest.pue.model_dump(),
    }


def server_arguments(argvs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the options of the servers' command lines; where servers differ, a list over them.

    >>> server_arguments([["python", "-m", "vllm", "--max-num-seqs=8", "--enforce-eager"]])
    {'--max-num-seqs': '8', '--enforce-eager': True}
    """
    parsed = [_options(argv) for argv in argvs]
    names = dict.fromkeys(name for options in parsed for name in options)
    return {name: _one_or_list([options.get(name) for options in parsed]) for name in names}


def _options(argv: Sequence[str]) -> dict[str, Any]:
    """Return option and value; an option without one is ``True``; underscores and hyphens are the same to vLLM."""
    found: dict[str, Any] = {}
    for position, word in enumerate(argv):
        if not word.startswith("--"):
            continue
        name, equals, value = word.partition("=")
        follower = argv[position + 1] if position + 1 < len(argv) else "--"
        bare = True if follower.startswith("--") else follower
        found[name.replace("_", "-")] = value if equals else bare
    return {name: value for name, value in found.items() if name not in _ARGUMENTS_TOLD_ELSEWHERE}


def _one_or_list(values: list[Any]) -> Any:
    if not values:
        return None
    if all(value == values[0] for value in values):
        first = values[0]
        return dict(first) if isinstance(first, Mapping) else first
    return values
