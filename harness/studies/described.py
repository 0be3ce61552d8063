"""Everything of a stored run that could change what it measures, as nested keys and values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.sweep_config import FREE_KEYS
from results.schema import Manifest

_CONFIG_TOLD_ELSEWHERE = (
    "server_arg", "seed", "repeats", "order", "boundary", "node_profile", "power", "tps_model",
)  # fmt: skip
"""Keys of the configuration that change no measured figure, or that appear resolved among the other keys."""
_ARGUMENTS_TOLD_ELSEWHERE = ("-m", "--model", "--host", "--port", "--served-model-name")
_LONG_NAMES = {
    "-O": "--optimization-level", "-ac": "--attention-config", "-cc": "--compilation-config",
    "-dc": "--diffusion-config", "-dcp": "--decode-context-parallel-size", "-dp": "--data-parallel-size",
    "-dpl": "--data-parallel-size-local", "-ep": "--enable-expert-parallel", "-n": "--nnodes",
    "-pcp": "--prefill-context-parallel-size", "-pp": "--pipeline-parallel-size", "-q": "--quantization",
    "-r": "--node-rank", "-sc": "--speculative-config", "-tp": "--tensor-parallel-size",
}  # fmt: skip
"""What vLLM's short options stand for; others keep the name they were given by."""
_OPTION = re.compile(r"-[A-Za-z]|--.")
_LEVEL = re.compile(r"-O=?(?=.)")
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
    """Return option and value; several values are one text, and an option without any is ``True``."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in argv:
        if not _OPTION.match(word):
            values.append(word)
            continue
        name, equals, value = _LEVEL.sub("-O=", word).partition("=")
        values = found[_long(name)] = [value] if equals else []
    told = {name: " ".join(words) if words else True for name, words in found.items()}
    return {name: value for name, value in told.items() if name not in _ARGUMENTS_TOLD_ELSEWHERE}


def _long(name: str) -> str:
    """Return an option's long name; before a dot, underscores and hyphens are the same to vLLM."""
    head, dot, key = name.partition(".")
    return _LONG_NAMES.get(head, head.replace("_", "-")) + dot + key


def _one_or_list(values: list[Any]) -> Any:
    if not values:
        return None
    if all(value == values[0] for value in values):
        first = values[0]
        return dict(first) if isinstance(first, Mapping) else first
    return values
