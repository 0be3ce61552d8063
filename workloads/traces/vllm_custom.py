"""The custom dataset of ``vllm bench serve``: JSON lines of ``{"prompt": TEXT, "output_tokens": N}``.

Only lengths are taken: the prompt is counted, not sent. No chat template is put around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workloads.traces.documents import read_line_blocks
from workloads.traces.stream import Chunk, usable
from workloads.traces.tokens import TokenCounter

PROMPT, OUTPUT = "prompt", "output_tokens"


def read_vllm(path: Path, counter: TokenCounter) -> Iterator[Chunk]:
    """Yield one request a line; raises ``WorkloadFileError`` naming a line without a text or a number."""
    for block in read_line_blocks(path, [PROMPT, OUTPUT], "a vLLM custom dataset"):
        prompts = block.columns[PROMPT].tolist()
        block.refuse(PROMPT, np.array([not isinstance(each, str) for each in prompts]), "a text is needed")
        yield usable(None, counter.count(prompts, prompt=True), block.tokens(OUTPUT))
