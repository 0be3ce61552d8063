"""Name the likely cause of a server's death from its log: from the exception it died of, where it tells one.

A healthy start logs missing files too (libraries of other accelerators), so what stands elsewhere proves nothing.
"""

from __future__ import annotations

import re
from itertools import takewhile
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
        r"unrecognized arguments|invalid choice|expected one argument|argument --\S+: ",
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


_REFUSED = re.compile(
    r"validation errors? for|chat template|max_model_len|max_num_batched_tokens|max_num_seqs|quantization|kv cache"
    r"|num_gpu_blocks|block_size"
)
"""What an exception names that argues with the arguments; a healthy log names all of it too."""
_HEAD = re.compile(r"^(?:\([^()]*pid=\d+\) )?(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) [\d-]+ [\d:]+ \[[^\]]*\] ?)?")
_RAISED = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)(?:: |$)|^\S+: error: ")
_CONSEQUENCE = re.compile(r"EngineDeadError|Engine core initialization failed|CancelledError|BrokenPipeError")
_HARMLESS = re.compile("cannot open shared object file")
_OTHER_MATTER = re.compile(r"^(?:Traceback|During handling|The above exception|INFO|WARNING|DEBUG)\b")
_MESSAGE_LINES, _SHOWN = 8, 300


def likely_cause(log_text: str) -> tuple[str, str] | None:
    """Return (cause with the server's own words, what to do), or ``None`` where the log tells none.

    The first known cause, most specific first, that the exception it died of shows; without one, that the log shows.
    """
    words = engine_error(log_text)
    looked_at = words or "\n".join(line for line in log_text.splitlines() if not _HARMLESS.search(line))
    own_words = f": {words[:_SHOWN]}" if words else ""
    for pattern, cause, fix in _CAUSES:
        if re.search(pattern, looked_at.lower()):
            return cause + own_words, fix
    if words is None:
        return None
    if _REFUSED.search(words.lower()):
        return (
            f"vLLM refuses its arguments for this model{own_words}",
            "change what the error names among --server-arg and the other server options; the model itself was found",
        )
    return f"not recognised{own_words}", "read the whole log"


def engine_error(log_text: str) -> str | None:
    """Return the message of the last exception that is no mere consequence of another process's death, on one line."""
    lines = [_HEAD.sub("", line).rstrip() for line in log_text.splitlines()]
    causes = [n for n, line in enumerate(lines) if _RAISED.match(line) and not _CONSEQUENCE.search(line)]
    if not causes:
        return None
    first = causes[-1]
    message = takewhile(lambda line: not _OTHER_MATTER.match(line), lines[first + 1 : first + _MESSAGE_LINES])
    return " ".join(line.strip() for line in (lines[first], *message) if line)


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last ``count`` non-empty lines of a log that may still be growing."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-count:])
