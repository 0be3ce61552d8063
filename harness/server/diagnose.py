"""Name the likely cause of a server's death from the last lines of its log."""

from __future__ import annotations

import re
from pathlib import Path

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"address already in use|errno 98",
        "port in use",
        "free the port, or let the harness pick a free one by leaving --port out of --server-arg",
    ),
    (
        r"out of memory|no available memory for the cache blocks|free memory on device .* is less than|"
        r"larger than the available kv cache memory|cannot allocate memory",
        "out of memory",
        "use more GPUs (--tensor-parallel), a smaller model or --server-arg=--max-model-len=N, or free the memory",
    ),
    (
        r"cannot access gated repo|access a gated repo|403 client error",  # a mistyped id mentions gated repos too
        "the model is gated",
        "accept its licence on the hub and set HF_TOKEN in the environment, or choose an ungated model",
    ),
    (
        r"repository not found|not a valid model identifier|does not appear to have a file named"
        r"|no such file or directory|can't load the configuration|invalid repository id|repo id must be"
        r"|couldn't connect to|is not a local folder|localentrynotfound",
        "bad model",
        "check the model id or folder given with --model (a private one needs HF_TOKEN), and that the machine can "
        "reach the hub or has it cached",
    ),
    (
        r"unrecognized arguments|invalid choice|expected one argument",
        "vLLM does not know an argument",
        "check --server-arg against the output of: python -m vllm.entrypoints.openai.api_server --help",
    ),
    (
        r"no module named '?vllm|torchvision::nms does not exist",
        "vLLM is not installed in a working state",
        "run: make setup",
    ),
    (
        r"enginedeaderror|engine core initialization failed|enginecore (encountered|died|failed)",
        "the engine died",
        "read the lines above; the first error in the log is the cause",
    ),
)


def likely_cause(log_text: str) -> tuple[str, str] | None:
    """Return (cause, what to do) for the first known cause that ``log_text`` shows, most specific first."""
    lowered = log_text.lower()
    for pattern, cause, fix in _CAUSES:
        if re.search(pattern, lowered):
            return cause, fix
    return None


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last ``count`` non-empty lines of a log that may still be growing."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-count:])
