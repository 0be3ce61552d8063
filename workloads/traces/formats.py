"""The formats of traces by name: ``azure:FILE``, ``mooncake:FILE``, ``sharegpt:FILE@TOKENIZER`` ..."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from workloads.traces import azure, burstgpt, mooncake, sharegpt, vllm_custom
from workloads.traces.stream import Chunk, WorkloadFileError, unreadable
from workloads.traces.tokens import ApproximateCounter, TokenCounter, TokenizerCounter


class TimedReader(Protocol):
    """Reads a format that holds token counts, and times where they are asked for."""

    def __call__(self, path: Path, *, times: bool) -> Iterator[Chunk]:
        """Yield the requests."""
        ...


TextReader = Callable[[Path, TokenCounter], Iterator[Chunk]]

TIMED: Mapping[str, TimedReader] = MappingProxyType(
    {"azure": azure.read_azure, "mooncake": mooncake.read_mooncake, "burstgpt": burstgpt.read_burstgpt}
)
OF_TEXTS: Mapping[str, TextReader] = MappingProxyType(
    {"sharegpt": sharegpt.read_sharegpt, "vllm": vllm_custom.read_vllm}
)
DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "azure": "Requests to LLM services in Azure, as recorded",
        "mooncake": "Requests to Kimi, as recorded by Mooncake",
        "burstgpt": "Requests to ChatGPT and GPT-4, as recorded by BurstGPT",
        "sharegpt": "The first two turns of shared conversations",
        "vllm": "Prompts and output lengths of a custom dataset of vllm bench",
    }
)
TRACE_NAMES = (*(f"{kind}:FILE" for kind in TIMED), *(f"{kind}:FILE[@TOKENIZER]" for kind in OF_TEXTS))
RECORDED = "as recorded in the file"

_HEAD_B = 4_096


@dataclass(frozen=True)
class Trace:
    """A file of a known format, not yet read; ``counter`` counts the tokens of texts."""

    kind: str
    path: Path
    counter: TokenCounter

    @property
    def name(self) -> str:
        """What it is called: its format and its file."""
        return f"{self.kind}:{self.path.name}"

    @property
    def has_times(self) -> bool:
        """Tell whether it says when each request came."""
        return self.kind in TIMED

    @property
    def token_counts(self) -> str:
        """Where its token counts come from, in words."""
        return RECORDED if self.has_times else self.counter.how

    def chunks(self, *, times: bool = False) -> Iterator[Chunk]:
        """Yield its requests in the order of the file, with ``times`` where it has them.

        Raises ``WorkloadFileError`` where the file is unreadable or has a malformed row, naming that row.
        """
        if self.has_times:
            return TIMED[self.kind](self.path, times=times)
        return OF_TEXTS[self.kind](self.path, self.counter)


def find_trace(text: str) -> Trace | None:
    """Return the trace that ``text`` names, or ``None`` if it names no format of traces.

    Raises ``WorkloadFileError`` where it names a format but no file, or a tokenizer that cannot be read.

    >>> find_trace("azure:hour.csv").path.name, find_trace("traditional")
    ('hour.csv', None)
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in DESCRIPTIONS:
        return None
    file, at, tokenizer = rest.rpartition("@") if kind in OF_TEXTS and "@" in rest else (rest, "", "")
    if not file or (at and not tokenizer):
        raise WorkloadFileError(f"{text!r} names no file: give {' or '.join(_forms(kind))}")
    return Trace(kind, Path(file), TokenizerCounter(Path(tokenizer)) if at else ApproximateCounter())


def _forms(kind: str) -> list[str]:
    return [name for name in TRACE_NAMES if name.startswith(f"{kind}:")]


def recognised(path: Path) -> Trace:
    """Return a file as the trace that it looks like; raises ``WorkloadFileError`` where it looks like none."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_B).decode("utf-8-sig", "replace").lstrip()
    except OSError as error:
        raise unreadable(path, error) from error
    return Trace(_kind_of(path, head), path, ApproximateCounter())


def _kind_of(path: Path, head: str) -> str:
    if head.startswith("["):
        return "sharegpt"
    columns = {name.strip().strip('"') for name in head.partition("\n")[0].split(",")}
    marks = {"azure": azure.INPUT, "burstgpt": burstgpt.INPUT, "mooncake": mooncake.INPUT, "vllm": vllm_custom.PROMPT}
    for kind, mark in marks.items():
        if mark in columns or (head.startswith("{") and f'"{mark}"' in head):
            return kind
    raise WorkloadFileError(f"{path} looks like no trace known here; say which it is: {', '.join(TRACE_NAMES)}")
