"""Which of vLLM's arguments are the harness's own to give: another value would measure something else than planned."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from harness.errors import ConfigError

_PLACED = "the harness places servers on GPUs and charges the GPUs of each to it, by --tensor-parallel and --replicas"
_PLACE = (
    "use --tensor-parallel N (GPUs a server) and --replicas N; or start the server yourself and measure it by --url"
)
_FOUND = "the harness looks for the server at http://127.0.0.1:PORT"
_STORED = "the server's command is stored in the run folder, which is meant to be shared"

# Patterns of options, why they are refused, and what to do instead.
_OWN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("--tensor-p*", "-tp", "--pipeline-*", "-pp", "--data-p*", "-dp*", "--prefill-context-*", "-pcp",
         "--nnodes", "-n"),
        _PLACED, _PLACE,
    ),
    (("--device-ids",), _PLACED, "choose GPUs with --gpu"),
    (("--model",), "whether a model fits, and its prediction, follow from --model", "use --model"),
    (("--host", "--uds", "--ssl*"), _FOUND, "leave it out; or start the server yourself and measure it by --url"),
    (("--api-key",), f"every request would need it, and {_STORED}", "leave it out: the server is on loopback alone"),
    (("--hf-token",), _STORED, "set HF_TOKEN in the environment"),
    (("--download-dir",), "the harness looks for weights, and room for them, in the hub's cache", "set HF_HUB_CACHE"),
    (("--config",), "what the file sets is not seen here", "give its options each with --server-arg"),
    (("--disable-log-stats",), "tokens are counted by the server's metrics, which it turns off", "leave it out"),
)  # fmt: skip


def refuse_own(arguments: Sequence[str]) -> None:
    """Raise ``ConfigError`` if an argument for vLLM is one that the harness gives, or relies on, itself.

    An option is ``--a=1`` or ``--a 1``, with ``_`` for ``-`` as vLLM takes it; the patterns allow for names cut short.
    """
    for word in arguments:
        option = word.partition("=")[0]
        for patterns, why, fix in _OWN:
            if any(fnmatchcase(option.replace("_", "-"), pattern) for pattern in patterns):
                raise ConfigError(f"server_arg = {option} cannot be used", why=why, fix=fix)
